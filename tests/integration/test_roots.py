# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems of containers: unpacked once, copied by each way that a node has, changed, saved, unpacked again,
and removed; after a host's reboot, and after kills."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world
from odd_files import dig

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, ImageRefused, InUse, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.host import kernel_calls, untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import BASES, IdRange, id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_overlay, roots

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
# cap_net_raw=ep, as setcap writes it.
RAW = bytes.fromhex("0100000200200000000000000000000000000000")
NET_RAW = 1 << 13
# An access list: the owner, user 1000, the group, the mask, others.
ACL = b"\2\0\0\0" + b"".join(
    tag.to_bytes(2, "little") + b"\4\0" + number.to_bytes(4, "little")
    for tag, number in ((1, 2**32 - 1), (2, 1000), (4, 2**32 - 1), (16, 2**32 - 1), (32, 2**32 - 1))
)
HOLES = {"GNU.sparse.map": "1048576,4096", "GNU.sparse.size": str(5 * MIB), "GNU.sparse.name": "var/sparse"}
BUSYBOX = Path("/bin/busybox")
WAYS = (roots.OVERLAY, roots.REFLINK, roots.COPY)


def archive(path: Path) -> Path:
    """A root with a bit of everything."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", attributes: Any = None, **more) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.mode = kind, len(content), 0o755 if kind == tarfile.DIRTYPE else 0o644
            entry.mtime = 1_600_000_000.123456789
            entry.pax_headers = {
                f"SCHILY.xattr.{key}": text.decode("latin-1") for key, text in (attributes or {}).items()
            }
            for key, value in more.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(content))

        add("./", tarfile.DIRTYPE, mode=0o755, mtime=1_500_000_000)
        for name in ("bin", "etc", "home", "tmp", "var", "var/empty"):
            add(name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755)
        add("home/user", tarfile.DIRTYPE, mode=0o2750, uid=1000, gid=1000)
        add("home/user/file", content=b"mine\n", uid=1000, gid=1000, mode=0o600)
        add("bin/busybox", content=BUSYBOX.read_bytes(), mode=0o755)
        add("bin/raw", content=BUSYBOX.read_bytes(), mode=0o755, attributes={"security.capability": RAW})
        add("bin/su", content=b"su", mode=0o4755)
        add("bin/sh", tarfile.SYMTYPE, linkname="busybox")
        add("bin/hard", tarfile.LNKTYPE, linkname="bin/su")
        add("etc/passwd", content=b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        add("etc/out", tarfile.SYMTYPE, linkname="/etc/shadow", uid=5, gid=6)
        add("etc/" + "long" * 40, content=b"x")
        add("etc/text", content=b"x", attributes={"user.mine": b"yes"})
        add("etc/\udcff\n\u00fc".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"), content=b"odd")
        add("var/fifo", tarfile.FIFOTYPE, mode=0o620, uid=7)
        add("var/large", content=os.urandom(3 * MIB))
        add("var/empty/none")
        add("sparse", content=b"abcd" * 1024, pax_headers=HOLES)
    return path


def listing(tree: Path, ids: IdRange) -> dict[str, Any]:
    """All that there is to a tree, with the owners that the machine sees."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for top, directories, names in os.walk(tree):
        directories.sort()
        for path in [Path(top), *(Path(top) / name for name in sorted(names + directories))]:
            status = path.lstat()
            name = str(path.relative_to(tree)).encode("utf-8", "surrogateescape").decode("latin-1")
            entry: dict[str, Any] = {"mode": oct(status.st_mode), "mtime": status.st_mtime_ns}
            entry["owner"] = [status.st_uid - ids.start, status.st_gid - ids.start]
            if stat.S_ISLNK(status.st_mode):
                entry["target"] = os.readlink(path)
            if stat.S_ISREG(status.st_mode):
                entry["content"] = hashlib.sha256(path.read_bytes()).hexdigest()
                entry["sparse"] = status.st_blocks * 512 < status.st_size
                entry["first name"] = inodes.setdefault(status.st_ino, name) if status.st_nlink > 1 else name
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            capability = attributes.pop("security.capability", b"")
            if capability:
                entry["capability"] = [capability[:20].hex(), int.from_bytes(capability[20:], "little") - ids.start]
            entry["attributes"] = {key: text.hex() for key, text in attributes.items() if not key.startswith("system.")}
            if "system.posix_acl_access" in attributes:
                entry["named"] = int.from_bytes(attributes["system.posix_acl_access"][16:20], "little") - ids.start
            found[name] = entry
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The listings are alike, or the first things that differ are told."""
    differ = {name: (one.get(name), other.get(name)) for name in {*one, *other} if one.get(name) != other.get(name)}
    assert not differ, sorted(differ.items())[:3]


class Place:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.archive = archive(directory / "archive.tar")
        self.cache = directory / "cache"
        self.machines = 0

    def base(self) -> roots.Base:
        return roots.base(str(self.cache), str(self.archive), "image-1")

    def copy(self, way: str) -> tuple[Path, IdRange]:
        """A machine's root, by no cheaper way than this."""
        self.machines += 1
        tree, ids = self.directory / f"machine-{self.machines}", id_range(self.machines)
        number = self.directory.stat().st_dev
        roots._without_overlay.clear()
        if way != roots.OVERLAY:
            roots._without_overlay[number, number] = "not wanted"
        done = roots.copy(self.base().path, str(tree), ids)
        assert done == roots.RootCopy(way, "" if way == roots.OVERLAY else "not wanted")
        roots._without_overlay.clear()
        return tree, ids


@contextlib.contextmanager
def place(shares: bool = False) -> Iterator[Place]:
    """An empty directory; nothing is left of it, mounted or running. shares: on a file system whose files can share
    their content."""
    directory = Path(os.environ["NEBULA_WORLD"]) / f"roots-{time.monotonic_ns()}"
    directory.mkdir()
    directory.chmod(0o711)
    before = mounts(), processes()
    disk = directory.with_suffix(".disk")
    if shares:
        with disk.open("wb") as file:
            file.truncate(600 * MIB)
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", disk], check=True)
        subprocess.run(["mount", "-o", "loop", disk, directory], check=True)
        directory.chmod(0o711)
    try:
        found = Place(directory)
        yield found
        for number in range(found.machines + 1):
            roots.remove(str(directory / f"machine-{number}"))
        roots.prune_cache(str(found.cache), [])
        assert sorted(os.listdir(directory)) in (["archive.tar"], ["archive.tar", "cache"])
        assert not found.cache.exists() or os.listdir(found.cache) == []
    finally:
        if shares:
            subprocess.run(["umount", "-d", directory], check=True)
            disk.unlink()
    assert (mounts(), processes()) == before


def mounts() -> list[str]:
    """Without those of network namespaces, which come and go with other tests."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if " /run/netns" not in line]


def processes() -> set[str]:
    return {name for name in os.listdir("/proc") if name.isdigit()}


def privileges(tree: Path, ids: IdRange, program: str) -> int:
    """The capabilities that user 1000 of a container has in a program of its root."""
    words = [
        sys.executable, "-c", (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.host import kernel_calls as k\n"
        "k.unshare(k.NEW_USER | k.NEW_MOUNTS); print(flush=True); os.read(0, 1)\n"
        "os.setgroups([]); os.setresgid(1000, 1000, 1000); os.chroot(sys.argv[2]); os.chdir('/')\n"
        "os.setresuid(1000, 1000, 1000); os.execv(sys.argv[3], ['cat'])\n"),
        str(ROOT / "collections"), str(tree), program,
    ]  # fmt: skip
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if child.stdin is None or child.stdout is None:
            raise AssertionError("it has no pipes")
        child.stdout.readline()
        for kind in ("gid", "uid"):
            Path(f"/proc/{child.pid}/{kind}_map").write_text(ids.line())
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdin.write(b"ready\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"
        status = Path(f"/proc/{child.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


@in_bare_world
def test_unpacked_saved_and_unpacked_it_is_the_same():
    with place() as here:
        first, second = (str(here.directory / f"machine-{number}") for number in (1, 2))
        here.machines = 2
        roots.unpack(str(here.archive), first, id_range(1))
        os.setxattr(first + "/etc/passwd", "system.posix_acl_access", shifted(ACL, id_range(1)))
        os.utime(first + "/etc/passwd", ns=(-(10**9) - 5, -(10**9) - 5))
        saved = roots.save(first, str(here.directory / "saved.tar"), id_range(1))
        assert saved.left_out == 0
        roots.unpack(str(here.directory / "saved.tar"), second, id_range(2))
        before, after = listing(Path(first), id_range(1)), listing(Path(second), id_range(2))
        same(before, after)
        # What was meant is there at all.
        assert after["bin/raw"]["capability"] == [RAW[:3].hex() + "03" + RAW[4:].hex(), 0]
        assert after["etc/passwd"]["named"] == 1000 and after["etc/text"]["attributes"] == {"user.mine": b"yes".hex()}
        assert after["var/sparse"]["sparse"] and after["bin/su"]["first name"] == after["bin/hard"]["first name"]
        assert after["home/user"]["owner"] == [1000, 1000] and after["home/user"]["mode"] == "0o42750"
        # The same tree makes the same archive.
        roots.save(second, str(here.directory / "again.tar"), id_range(2))
        assert (here.directory / "saved.tar").read_bytes() == (here.directory / "again.tar").read_bytes()
        for name in ("saved.tar", "again.tar"):
            (here.directory / name).unlink()


def shifted(acl: bytes, ids: IdRange) -> bytes:
    """As the host has it."""
    return acl[:16] + (ids.start + 1000).to_bytes(4, "little") + acl[20:]


@in_bare_world
def test_what_is_saved_is_read_by_tar_and_by_python():
    with place() as here:
        tree, others = here.directory / "machine-1", here.directory / "machine-2"
        here.machines = 2
        roots.unpack(str(here.archive), str(tree), id_range(1))
        saved = here.directory / "saved.tar"
        roots.save(str(tree), str(saved), id_range(1))
        others.mkdir()
        words = ["tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f", saved, "-C", others]
        subprocess.run(words, check=True)
        ours, theirs = listing(tree, id_range(1)), listing(others, IdRange(0))
        # Its capability is of the host's root, and has no root in it.
        assert ours["bin/raw"].pop("capability") and theirs["bin/raw"].pop("capability")[0] == RAW.hex()
        same(ours, theirs)
        with tarfile.open(saved) as tar:
            found = {entry.name for entry in tar}
            assert {entry.name for entry in tar if entry.mtime < 0} == set()
        assert {"bin/busybox", "var/sparse", "etc/" + "long" * 40} < found
        saved.unlink()


@pytest.mark.parametrize("way", WAYS)
@in_bare_world
def test_copies(way: str) -> None:
    with place(shares=way == roots.REFLINK) as here:
        base = Path(here.base().path)
        whole = listing(base, BASES)
        tree, ids = here.copy(way)
        same(listing(tree, ids), whole)
        assert privileges(tree, ids, "/bin/raw") == NET_RAW and privileges(tree, ids, "/bin/busybox") == 0
        other, others = here.copy(way)
        # What one changes, neither another nor the image has.
        (tree / "etc/passwd").write_text("changed")
        (tree / "home/user/file").unlink()
        (tree / "etc").rename(tree / "etc.new")
        same(listing(other, others), whole)
        same(listing(base, BASES), whole)
        assert (tree / "etc.new/passwd").read_text() == "changed" and not (tree / "home/user/file").exists()
        assert here.base() == roots.Base(str(base), False, here.base().unpacked)
        # Saved, it is as the machine has it.
        changed = listing(tree, ids)
        roots.save(str(tree), str(here.directory / "saved.tar"), ids)
        third = here.directory / "machine-3"
        here.machines = 3
        roots.unpack(str(here.directory / "saved.tar"), str(third), id_range(3))
        same(listing(third, id_range(3)), changed)
        (here.directory / "saved.tar").unlink()
        with pytest.raises(Conflict, match="something is there"):
            roots.copy(str(base), str(tree), ids)
        assert (tree / "etc.new/passwd").read_text() == "changed"
        if way == roots.OVERLAY:
            assert (
                untrusted_trees.bytes_on_disk(f"{other}{root_overlay.LAYERS}")
                < MIB
                < untrusted_trees.bytes_on_disk(str(base))
            )
            assert roots.prune_cache(str(here.cache), []) == []
        elif way == roots.COPY:
            assert untrusted_trees.bytes_on_disk(str(other)) > MIB


@in_bare_world
def test_after_the_host_was_down():
    with place() as here:
        tree, ids = here.copy(roots.OVERLAY)
        name = str(tree)
        (tree / "etc/passwd").write_text("changed")
        assert root_overlay.is_mounted(name) and not roots.mount_again(name)
        subprocess.run(["umount", tree], check=True)
        assert not root_overlay.is_mounted(name) and os.listdir(tree) == []
        # Nobody takes a root whose mount is gone for one that is not there.
        with pytest.raises(Conflict):
            roots.copy(here.base().path, name, ids)
        assert roots.prune_cache(str(here.cache), []) == []
        assert roots.mount_again(name) and not roots.mount_again(name) and root_overlay.is_mounted(name)
        assert (tree / "etc/passwd").read_text() == "changed" and (tree / "bin/su").stat().st_uid == ids.start
        subprocess.run(["umount", tree], check=True)
        (here.cache / "image-1/root").rename(here.cache / "image-1/elsewhere")
        with pytest.raises(NotFound, match="is not on this node"):
            roots.mount_again(name)
        (here.cache / "image-1/elsewhere").rename(here.cache / "image-1/root")
        # Saving mounts it by itself.
        roots.save(name, str(here.directory / "saved.tar"), ids)
        (here.directory / "saved.tar").unlink()
        subprocess.run(["umount", tree], check=True)
        assert roots.remove(name) and not roots.remove(name) and not root_overlay.is_mounted(name)
        assert roots.prune_cache(str(here.cache), []) == ["image-1"]


@in_bare_world
def test_bases_are_kept_while_an_image_or_a_machine_has_them():
    with place() as here:
        tree, _ids = here.copy(roots.OVERLAY)
        copied, _ids = here.copy(roots.COPY)
        roots.base(str(here.cache), str(here.archive), "image-2")
        assert stat.S_IMODE(here.cache.stat().st_mode) == 0o700
        assert roots.prune_cache(str(here.cache), ["image-2"]) == []
        roots.remove(str(tree))
        # One that has its own files could do without, and the next that is made of the image is made sooner.
        assert roots.prune_cache(str(here.cache), ["image-2"]) == []
        roots.remove(str(copied))
        assert roots.prune_cache(str(here.cache), ["image-1", "image-2"]) == []
        assert roots.prune_cache(str(here.cache), ["image-2"]) == ["image-1"]
        assert (
            roots.prune_cache(str(here.cache), []) == ["image-2"]
            and roots.prune_cache(str(here.cache / "missing"), []) == []
        )


def made(here: Place, number: int) -> roots.RootCopy:
    here.machines = max(here.machines, number)
    tree = str(here.directory / f"machine-{number}")
    return roots.make(str(here.cache), str(here.archive), "image-1", tree, id_range(number))


@in_bare_world
def test_a_root_is_made_by_the_cheapest_way_that_its_file_system_has():
    with place() as here:
        roots._useless.clear()
        assert (made(here, 1).way, made(here, 2).way) == (roots.OVERLAY,) * 2
        assert sorted(os.listdir(here.cache)) == ["image-1"]
        with pytest.raises(Conflict):
            made(here, 1)
        for number in (1, 2):
            assert roots.is_there(str(here.directory / f"machine-{number}"))
            roots.remove(str(here.directory / f"machine-{number}"))
            assert not roots.is_there(str(here.directory / f"machine-{number}"))
        assert roots.prune_cache(str(here.cache), []) == ["image-1"] and not here.cache.exists()


@in_bare_world
def test_where_nothing_can_be_shared_no_image_is_unpacked_but_for_its_machine():
    """Overlays are kept away by file systems that are stacked as deep as the kernel stacks them."""
    with place() as here, stacked(here.directory) as deep:
        here.cache = deep / "cache"
        roots._useless.clear()
        tree, ids = deep / "machine", id_range(1)
        # What a run left that could show images, as before its root was moved.
        (deep / "machine.layers/upper").mkdir(parents=True)
        done = roots.make(str(here.cache), str(here.archive), "image-1", str(tree), ids)
        assert done.way == roots.UNPACK and done.why
        assert os.listdir(here.cache) == [] and not (deep / "machine.layers").exists()
        same(listing(tree, ids), listing(here.directory / "machine-0", id_range(0)))
        assert roots.is_there(str(tree)) and roots.remove(str(tree))
        assert roots.prune_cache(str(here.cache), []) == [] and not here.cache.exists()
        roots._useless.clear()


@contextlib.contextmanager
def stacked(directory: Path) -> Iterator[Path]:
    """A directory in two overlays, one on the other, and an unpacked root beside, to compare with."""
    roots.unpack(str(directory / "archive.tar"), str(directory / "machine-0"), id_range(0))
    place = directory / "stack"
    names = [place / name for name in ("lower", "first", "second", "upper1", "work1", "upper2", "work2")]
    for name in names:
        name.mkdir(parents=True)
    lower, first, second, *others = map(str, names)
    points = ((first, lower, *others[:2]), (second, first, *others[2:]))
    try:
        for point, below, upper, work in points:
            options = f"lowerdir={below},upperdir={upper},workdir={work}"
            subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", point], check=True)
        yield Path(second)
    finally:
        for point, *_rest in reversed(points):
            subprocess.run(["umount", point], check=False)
        shutil.rmtree(place)


@in_bare_world
def test_a_trial_that_was_killed_leaves_nothing():
    with place() as here:
        trial = here.cache / ".trial"
        (trial / "root").mkdir(parents=True)
        os.chown(trial / "root", BASES.start, BASES.start)
        assert root_overlay.make(str(trial / "root"), str(trial / "shown"), id_range(0)) == ""
        assert roots.prune_cache(str(here.cache), []) == [] and not here.cache.exists()


@in_bare_world
def test_a_base_whose_making_was_killed_is_made_anew():
    with place() as here:
        home = here.cache / "image-1"
        (home / "root/etc").mkdir(parents=True)
        (home / "root.unpacking").mkdir()
        with pytest.raises(NotFound, match="not whole"):
            roots.copy(str(home / "root"), str(here.directory / "machine-1"), id_range(1))
        assert here.base().made and not here.base().made and sorted(os.listdir(home)) == ["base.json", "root"]
        # An image that is refused leaves nothing.
        (here.directory / "archive.tar").write_bytes(here.archive.read_bytes()[:5000])
        with pytest.raises(ImageRefused):
            roots.base(str(here.cache), str(here.archive), "image-2")
        assert os.listdir(here.cache) == ["image-1"]


@in_bare_world
def test_two_runs_at_once_make_one_base_and_machines_of_their_own():
    with place() as here:
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from ansible_collections.nebula.provision.plugins.module_utils.storage import roots\n"
            "from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range\n"
            "base = roots.base(sys.argv[2], sys.argv[3], 'image-1')\n"
            "print(base.made, roots.copy(base.path, sys.argv[4], id_range(int(sys.argv[5]))).way)\n"
        )
        here.machines = 4
        runs = []
        for number in range(1, 5):
            tree = here.directory / f"machine-{number}"
            words = [str(ROOT / "collections"), str(here.cache), str(here.archive), str(tree), str(number)]
            runs.append(subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True))
        answers = sorted(run.communicate(timeout=120)[0] for run in runs)
        assert answers == ["False overlay\n"] * 3 + ["True overlay\n"]


@in_bare_world
def test_a_copy_that_was_killed_is_removed_by_the_next():
    with place() as here:
        base = here.base().path
        here.machines = 1
        tree = here.directory / "machine-1"
        # What there is after each step of one.
        for steps in range(3):
            (here.directory / "machine-1.layers").mkdir()
            if steps > 0:
                for name in ("upper", "work", "lower"):
                    (here.directory / "machine-1.layers" / name).mkdir()
                tree.mkdir()
            if steps > 1:
                lower = here.directory / "machine-1.layers/lower"
                subprocess.run(["mount", "--bind", base, lower], check=True)
                subprocess.run(["mount", "-t", "tmpfs", "none", tree], check=True)
            assert roots.copy(base, str(tree), id_range(1)).way == roots.OVERLAY and (tree / "etc/passwd").exists()
            assert roots.remove(str(tree))
        (here.directory / "machine-1.unpacking/etc").mkdir(parents=True)
        assert roots.copy(base, str(tree), id_range(1)).way == roots.OVERLAY
        assert not (here.directory / "machine-1.unpacking").exists()


@in_bare_world
def test_a_root_that_is_used_is_not_removed():
    with place() as here:
        tree, _ids = here.copy(roots.OVERLAY)
        user = subprocess.Popen(["sleep", "600"], cwd=tree)
        try:
            with pytest.raises(InUse, match="something uses it"):
                roots.remove(str(tree))
            assert (tree / "etc/passwd").exists()
        finally:
            user.kill()
            user.wait()
        assert roots.remove(str(tree))


@in_bare_world
def test_what_a_guest_has_made_is_saved_without_harm():
    """Sockets, links to the host, names, a tree that is too deep; and a file that only the host's root may read."""
    with place() as here:
        tree, ids = here.copy(roots.OVERLAY)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(str(tree / "var/socket"))
        secret = here.directory / "secret"
        secret.write_text("of the host")
        (tree / "etc/link").symlink_to(secret)
        (tree / "etc/up").symlink_to("../" * 20 + str(secret))
        (tree / "tmp/of-the-host").write_text("x")
        (tree / "tmp/of-the-host").chmod(0o600)
        saved = here.directory / "saved.tar"
        with pytest.raises(Exception, match="Permission denied"):
            roots.save(str(tree), str(saved), ids)
        (tree / "tmp/of-the-host").unlink()
        done = roots.save(str(tree), str(saved), ids)
        assert done.left_out == 1 and b"of the host" not in saved.read_bytes()
        dig(tree / "tmp", 1300, "d" * 50)
        before = hashlib.sha256(saved.read_bytes()).hexdigest()
        with pytest.raises(ImageRefused, match=r"longer than|deeper than"):
            roots.save(str(tree), str(here.directory / "other.tar"), ids)
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == before
        saved.unlink()
        secret.unlink()


@in_bare_world
def test_a_node_that_cannot_mount_overlays_copies():
    """Here, as the kernel refuses a layer that is on an overlay of an overlay of an overlay."""
    with place() as here:
        base = here.base().path
        deep = here.directory
        mounted = []
        try:
            for number in range(2):
                inner = here.directory / f"o{number}"
                for name in ("upper", "work", "merged"):
                    (inner / name).mkdir(parents=True)
                options = f"lowerdir={deep},upperdir={inner}/upper,workdir={inner}/work"
                if number:
                    options = f"lowerdir={deep}:{here.directory}/cache"
                subprocess.run(["mount", "-t", "overlay", "o", "-o", options, inner / "merged"], check=True)
                mounted.append(inner / "merged")
                deep = inner / "merged"
            tree = here.directory / "o0/merged/machine-1"
            done = roots.copy(base, str(tree), id_range(1))
            assert done.way == roots.COPY and done.why
            same(listing(tree, id_range(1)), listing(Path(base), BASES))
            assert not os.path.lexists(f"{tree}{root_overlay.LAYERS}")
            roots.remove(str(tree))
        finally:
            for path in reversed(mounted):
                kernel_calls.unmount(str(path), kernel_calls.DETACH)
            for number in range(2):
                subprocess.run(["rm", "-r", here.directory / f"o{number}"], check=True)


@in_bare_world
def test_a_process_that_is_killed_while_it_saves_leaves_no_archive():
    with place() as here:
        tree, ids = here.copy(roots.COPY)
        # Something that takes a while.
        with (tree / "var/huge").open("wb") as file:
            for _part in range(200):
                file.write(os.urandom(MIB))
        os.chown(tree / "var/huge", ids.start, ids.start)
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from ansible_collections.nebula.provision.plugins.module_utils.storage import roots\n"
            "from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range\n"
            "roots.save(sys.argv[2], sys.argv[3], id_range(1))\n"
        )
        saved = here.directory / "saved.tar"
        before = processes()
        child = subprocess.Popen([sys.executable, "-c", program, str(ROOT / "collections"), str(tree), str(saved)])
        new = here.directory / "saved.tar.new"
        deadline = time.monotonic() + 60
        while not (new.exists() and new.stat().st_size) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        while processes() - before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert new.exists() and not saved.exists() and processes() <= before
        roots.save(str(tree), str(saved), ids)
        assert not new.exists() and saved.stat().st_size > 200 * MIB
        saved.unlink()
        for path in here.directory.glob("*.part"):
            path.unlink()
