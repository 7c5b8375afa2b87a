# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, pipes and directories that somebody planted below nebula_root, before a run and while it goes on: refused or
harmless, and what they lead to has the same content, owner and mode afterwards. Locks that another user of the host
holds on whatever can be opened: nobody waits for them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from in_world import in_world
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.host import files, node_file, vm_log
from ansible_collections.nebula.provision.plugins.module_utils.host.console import console_log
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    datastore_layout,
    final_names,
    importer,
    machine_disks,
    node_image_files,
    uploads,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request
from ansible_collections.nebula.provision.tests.integration.kvm_node import a_node

IDENTITY = "0" * 32
NOBODY = 65534
# Times that a race is run, with a thread that exchanges a file for a link all the while.
RACES = 300


class Victim:
    """A file and a directory of somebody else's, and what they were."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "somebody's"
        self.directory.mkdir(mode=0o750)
        self.file = self.directory / "precious"
        self.file.write_text("root:x:0:0:root:/root:/bin/bash\n" * 100)
        self.file.chmod(0o604)
        os.chown(self.file, NOBODY, NOBODY)
        self.before = self.now()

    def now(self) -> list[object]:
        found: list[object] = [sorted(os.listdir(self.directory))]
        for path in (self.directory, self.file):
            status = path.lstat()
            found.append((status.st_uid, status.st_gid, status.st_mode, status.st_nlink, status.st_ino))
        return [*found, hashlib.sha256(self.file.read_bytes()).hexdigest()]

    def unchanged(self) -> None:
        assert self.now() == self.before


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    if os.geteuid() != 0:
        pytest.skip("owners can be changed by root only")
    return Victim(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "nebula"
    datastore_layout.prepare_directories(str(path), 0, 1)
    return path


def refused(act: Callable[[], object]) -> NebulaError | None:
    try:
        act()
    except NebulaError as error:
        assert str(error)
        return error
    return None


@contextlib.contextmanager
def alive(seconds: int = 20) -> Iterator[None]:
    """A pipe that is waited for would hold the test up for ever."""
    watch = threading.Timer(seconds, lambda: os._exit(3))
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def store(root: Path, victim: Victim, source: Path | None = None) -> None:
    destination = datastore_layout.image_path(str(root), 1, 1)
    given = source or root.parent / "given.raw"
    if source is None:
        given.write_bytes(BOOT.ljust(7168, b"c"))
    with final_names.locked_destination(destination, 0):
        importer.store(Request("image x", str(given), upload=source is not None), destination)


def store_empty(root: Path) -> None:
    with final_names.locked_destination(str(image(root)), 0):
        importer.make_empty(str(image(root)), 1, "qcow2", "")


def image(root: Path) -> Path:
    return Path(datastore_layout.image_path(str(root), 1, 1))


def vm_place(root: Path) -> Path:
    path = root / "datastores/0/7"
    path.mkdir(mode=0o711)
    return path


def base(root: Path) -> str:
    image(root).write_bytes(b"x" * 1024)
    return str(image(root))


def overlay(root: Path, name: str = "") -> None:
    with contextlib.suppress(FileExistsError):
        vm_place(root)
    from injection import FULL

    machine_disks.prepare(
        dataclass_with(FULL, disks=(dataclass_with(FULL.disks[0], source=base(root), format="raw", size=1),)),
        str(root / "datastores/0/7"),
    )


def dataclass_with(thing, **changes):
    import dataclasses

    return dataclasses.replace(thing, **changes)


def chunk(root: Path) -> str:
    path = root.parent / "chunk"
    path.write_bytes(b"chunk" * 100)
    return str(path)


# Where something is planted, and what then happens there.
PLANTS: dict[str, tuple[Callable[[Path], Path], Callable[[Path, Victim], object]]] = {
    "nebula.node": (lambda root: root / node_file.NAME, lambda root, _v: node_file.read(str(root))),
    "nebula.node, written": (
        lambda root: root / node_file.NAME,
        lambda root, _v: node_file.accept(str(root), "c", 1),
    ),
    "vm.json": (
        lambda root: vm_place(root) / machine_record.RECORD,
        lambda root, _v: machine_record.read_record(f"{root}/datastores/0/7"),
    ),
    "vm.log": (lambda root: vm_place(root) / vm_log.NAME, lambda root, _v: log(root)),
    "console.log": (lambda root: vm_place(root) / console_log.NAME, lambda root, _v: listen(root)),
    "console.log, marked": (
        lambda root: vm_place(root) / console_log.NAME,
        lambda root, _v: console_log.mark_start(f"{root}/datastores/0/7/{console_log.NAME}"),
    ),
    "nebula.db": (lambda root: root / "nebula.db", lambda root, _v: Store(str(root), create=True)),
    "image": (image, store),
    "image's lock": (lambda root: Path(f"{image(root)}{final_names.PART}"), store),
    "image's partial file": (lambda root: Path(f"{image(root)}{final_names.NEW}"), store),
    "upload": (
        lambda root: Path(uploads.path_of(f"{root}/datastores/1", IDENTITY)),
        lambda root, _v: uploads.append(f"{root}/datastores/1", IDENTITY, 0, chunk(root)),
    ),
    "upload, taken": (
        lambda root: Path(uploads.path_of(f"{root}/datastores/1", IDENTITY)),
        lambda root, v: store(root, v, Path(uploads.path_of(f"{root}/datastores/1", IDENTITY))),
    ),
    "empty image": (
        lambda root: Path(f"{image(root)}.new"),
        lambda root, _v: store_empty(root),
    ),
    "protected image": (image, lambda root, _v: datastore_layout.protect(str(image(root)), writable=True)),
    "disk.0": (lambda root: vm_place(root) / "disk.0", lambda root, _v: overlay(root)),
    "disk.0 while it is made": (lambda root: vm_place(root) / ".disk.0.tmp", lambda root, _v: overlay(root)),
    "deployment file": (
        lambda root: vm_place(root) / "deployment.0",
        lambda root, _v: files.write_atomically(f"{root}/datastores/0/7/deployment.0", "<domain/>"),
    ),
    "datastore": (
        lambda root: replaced(root / "datastores/1"),
        lambda root, _v: datastore_layout.prepare_directories(str(root)),
    ),
}  # fmt: skip


def replaced(path: Path) -> Path:
    path.rmdir()
    return path


def log(root: Path) -> None:
    told = vm_log.VmLog(f"{root}/datastores/0/7")
    told("VMM", "I", "canary")
    told.save()


def listen(root: Path) -> None:
    heard: list[str] = []
    console_log.ConsoleLog(f"{root}/datastores/0/7/{console_log.NAME}").read(heard.append, heard.clear)
    assert not heard, "what it leads to is not a console"


@pytest.mark.parametrize("kind", ["link to a file", "link to a directory", "dangling link", "pipe", "directory"])
@pytest.mark.parametrize("place", PLANTS)
def test_planted(place: str, kind: str, root: Path, victim: Victim) -> None:
    where, act = PLANTS[place]
    path = where(root)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        target = {"link to a file": victim.file, "link to a directory": victim.directory}
        path.symlink_to(target.get(kind, victim.directory / "not there"))
    with alive():
        error = refused(lambda: act(root, victim))
    victim.unchanged()
    if error is None and kind == "link to a file" and path.is_symlink():
        assert place in ("vm.log", "console.log"), "taken for a file of ours"


@in_world
def test_a_machine_in_a_link() -> None:
    """datastores/0/<id> leads to a directory of somebody else's: nothing is put there, and the next machine is made."""
    with a_node() as given:
        victim = Victim(Path(given.root))
        place = Path(given.root) / "datastores/0"
        place.mkdir(parents=True, mode=0o711)
        for vm_id, target in ((1, victim.directory), (2, "/etc"), (3, victim.directory / "empty")):
            (victim.directory / "empty").mkdir(exist_ok=True)
            (place / str(vm_id)).symlink_to(target)
        victim.before = victim.now()
        etc = os.stat("/etc")
        outcomes = given.carry_out(given.plan(*(given.vm(vm_id) for vm_id in (1, 2, 3, 4))))
        assert [outcome.state for outcome in outcomes] == ["PROLOG_FAILURE"] * 3 + ["RUNNING"]
        assert all("symbolic link" in outcome.error["found"] for outcome in outcomes[:3] if outcome.error)
        ended = given.carry_out(given.plan(*(given.vm(vm_id) for vm_id in (1, 2, 3, 4)), wanted="DONE", hard=True))
        assert ended[3].state == "DONE" and all((place / str(vm_id)).is_symlink() for vm_id in (1, 2, 3))
        victim.unchanged()
        assert (etc.st_mode, etc.st_uid) == (os.stat("/etc").st_mode, os.stat("/etc").st_uid)
        assert not Path("/etc/vm.json").exists()


def locked(path: Path) -> None:
    with files.lock(str(path), timeout=0) as fd:
        os.ftruncate(fd, 0)


def written_log(path: Path) -> None:
    told = vm_log.VmLog(str(path.parent))
    told.path = str(path)
    told("VMM", "I", "canary")
    told.save()


RACED: dict[str, Callable[[Path], object]] = {
    "adopt": lambda path: files.adopt(str(path), 0o600, 0, 0),
    "lock": locked,
    "read": lambda path: files.read_limited(str(path), 1 << 20, follow=False),
    "write": lambda path: files.write_atomically(str(path), "ours", mode=0o600, owner=0, sync=False),
    "log": written_log,
}


@pytest.mark.parametrize("what", RACED)
def test_a_race(what: str, tmp_path: Path, victim: Victim) -> None:
    """Whatever the moment at which the file becomes a link."""
    path = tmp_path / "place" / "file"
    path.parent.mkdir()
    ended = threading.Event()

    def flip() -> None:
        turn = 0
        while not ended.is_set():
            new = path.with_name(f"new{turn % 2}")
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            new.symlink_to(victim.file) if turn % 2 else new.write_text("ours")
            os.rename(new, path)
            turn += 1

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _time in range(RACES):
            refused(lambda: RACED[what](path))
    finally:
        ended.set()
        thread.join()
    victim.unchanged()


@pytest.mark.parametrize("how", ["open to all", "another's", "below another's", "behind a link of another's"])
def test_a_root_that_others_could_exchange(how: str, tmp_path: Path, victim: Victim) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o755)
    root = place / "nebula"
    if how == "open to all":
        place.chmod(0o777)
    elif how == "another's":
        root.mkdir()
        os.chown(root, NOBODY, NOBODY)
    elif how == "below another's":
        os.chown(place, NOBODY, NOBODY)
    else:
        (tmp_path / "real").mkdir(mode=0o777)
        (tmp_path / "real").chmod(0o777)
        root.symlink_to(tmp_path / "real")
    with pytest.raises(InvalidValue, match="could put other files in the place of ours"):
        datastore_layout.prepare_root(str(root))


def test_a_datastore_elsewhere_is_an_administrators_right(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    replaced(root / "datastores/1").symlink_to(elsewhere)
    datastore_layout.prepare_directories(str(root))
    store(root, None)
    assert [stat.S_IMODE(elsewhere.stat().st_mode), len(list(elsewhere.iterdir()))] == [0o755, 1]


def test_a_strangers_link_is_not(root: Path, tmp_path: Path, victim: Victim) -> None:
    replaced(root / "datastores/1").symlink_to(victim.directory)
    os.lchown(root / "datastores/1", NOBODY, NOBODY)
    with pytest.raises(InvalidValue, match="a link that user 65534 made"):
        datastore_layout.prepare_directories(str(root))
    victim.unchanged()


@in_world
def test_an_unprivileged_user_can_put_nothing_there() -> None:
    """After a run, as a user without rights: no directory takes a file, and no file of ours can be written."""
    with a_node() as given:
        assert given.one(given.vm(1)).state == "RUNNING"
        Store(given.root, create=True).close()
        datastore_layout.prepare_directories(given.root, 0, 1)
        script = (
            "import os, sys\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "for path in sys.argv[1:]:\n"
            "    if os.access(path, os.W_OK): print(path)\n"
        )
        paths = [given.root, *(str(path) for path in Path(given.root).rglob("*"))]
        assert len(paths) > 8
        done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        for path in (Path(text) for text in paths):
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert not mode & 0o002, path
            if path.is_dir():
                assert mode == 0o711 and path.stat().st_uid == 0, path
    assert not Path(given.root).exists()


# --- locks of other users --------------------------------------------------------------------------------------------
HOLD = r"""
import fcntl, os, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
held = []
for path in sys.stdin.buffer.readline().split(b"\0"):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        continue
    held.append(path)
sys.stdout.buffer.write(b"\0".join(held) + b"\n")
sys.stdout.flush()
sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_somebody(*places: Path) -> Iterator[set[Path]]:
    """All that is there and may be opened, locked by another user; what that is."""
    paths = [each for place in places for each in (place, *place.rglob("*")) if not each.is_symlink()]
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"\0".join(os.fsencode(path) for path in paths) + b"\n")
        process.stdin.flush()
        yield {Path(os.fsdecode(path)) for path in process.stdout.readline().rstrip(b"\n").split(b"\0")}
        process.stdin.close()


@in_world
def test_locks_of_another_user_stop_no_run() -> None:
    world = Path(os.environ["NEBULA_WORLD"])
    media = world / "media"
    media.mkdir()
    media.chmod(0o755)
    source = media / "own.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(source), "1M"], check=True)
    source.chmod(0o644)
    with a_node() as given:
        root = Path(given.root)
        # As a root is that was there before, and what an administrator opens to all.
        for place in (root, root / "transfer", root / "cache", root / "datastores", root / "datastores/1"):
            place.mkdir(exist_ok=True)
            place.chmod(0o755)
        first = given.vm(1)
        given.one(first)
        (root / "datastores/0").chmod(0o755)
        given.directory(first).chmod(0o755)
        with (
            contextlib.closing(Store(given.root, create=True)) as catalog,
            held_by_somebody(root, media, Path("/run")) as held,
            alive(60),
        ):
            assert {root, root / "transfer", root / "cache", given.directory(first), source} <= held
            assert given.one(first, "POWEROFF", hard=True).state == "POWEROFF"
            assert given.one(first).state == "RUNNING"
            assert given.one(given.vm(2)).state == "RUNNING"
            # What is the host's once, and what comes and goes.
            with node_file.lock_host(True), node_image_files._locked(given.root):
                pass
            # Importing an image that all may read, and changing one.
            destination = datastore_layout.image_path(given.root, 1, 1)
            with final_names.locked_destination(destination, 0):
                importer.store(Request("image own", str(source)), destination)
            with image_overlay.begin(image_overlay.locate(str(source), "qcow2", False)):
                pass
            with catalog.transaction() as database:
                database.execute("UPDATE meta SET value = value")
        given.bring(first, given.vm(2), wanted="DONE", hard=True)
        os.unlink(destination)
