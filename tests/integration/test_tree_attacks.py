# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of guests that are as deep and as wide as they can be, and guests that exchange directories and links while the
host's root is at work there: each function that goes through such a tree ends, and nothing beside the tree is touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from in_world import in_bare_world
from odd_files import dig

from ansible_collections.nebula.provision.plugins.module_utils.context import directory as tree
from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import guest_tree
from ansible_collections.nebula.provision.plugins.module_utils.host import rsync, untrusted_directories, untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import private_area, template_archive
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import IdRange, id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import OWN, PlannedImage
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    machine_disks,
    mounted_disks,
    node_image_files,
    root_overlay,
    roots,
    uploads,
)
from ansible_collections.nebula.provision.tests.tools.exchanging import exchanging, hostile_pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="guests have other users, which only root can be")
GUEST = 3_000_000
DEPTH, WIDTH = 5000, 100_000
ROUNDS = 300


def deep(place: Path) -> None:
    place.mkdir(parents=True)
    dig(place, DEPTH)


def wide(place: Path) -> None:
    place.mkdir(parents=True)
    fd = os.open(place, os.O_RDONLY)
    for number in range(WIDTH):
        os.close(os.open(f"f{number}", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)


def context(place: Path) -> None:
    tree.write_directory(str(place), {"A": "b"}, owner=GUEST)
    assert os.listdir(place) == ["context.sh"]


def removed(place: Path) -> None:
    assert untrusted_trees.remove(str(place))


def removed_as_a_disk(place: Path) -> None:
    assert machine_disks.remove(str(place.parent))
    assert not place.exists()


def saved(place: Path) -> None:
    archive = place.parent / "saved.tar"
    private_area.save(str(place), str(archive), "saving")
    with tarfile.open(archive) as tar:
        assert sum(1 for _entry in tar) in (DEPTH + 1, WIDTH + 1)
    # tar saves what is deeper than it can unpack: that is said before vzctl begins.
    if Path(place, "f0").exists():
        assert template_archive.check_archive(str(archive), "image") == 0
        return
    with pytest.raises(ImageRefused, match="tar, by which vzctl unpacks it, makes none of more than 4095"):
        template_archive.check_archive(str(archive), "image")
    (place.parent / "tree").mkdir()
    words = ["tar", "--extract", "--file", str(archive), "--directory", str(place.parent / "tree")]
    assert "File name too long" in subprocess.run(words, check=False, capture_output=True, text=True).stderr


def unfinished(place: Path) -> None:
    private = place.parent / "private"
    place.rename(f"{private}.tmp")
    private_area.clear_unfinished(str(private))
    assert not Path(f"{private}.tmp").exists()


def measured(place: Path) -> None:
    assert untrusted_trees.bytes_on_disk(str(place)) >= 0
    with opened(place) as fd:
        assert sum(1 for _each in untrusted_directories.walk(fd)) in (DEPTH, WIDTH)


@contextlib.contextmanager
def opened(place: Path) -> Iterator[int]:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("make", [deep, wide])
@pytest.mark.parametrize("work", [context, removed, removed_as_a_disk, saved, unfinished, measured])
def test_it_ends_however_deep_and_wide_a_tree_is(
    tmp_path: Path, make: Callable[[Path], None], work: Callable[[Path], None]
) -> None:
    place = tmp_path / "machine" / "disk.1"
    make(place)
    try:
        work(place)
    finally:
        # What removes temporary directories can't.
        untrusted_trees.remove(str(tmp_path / "machine"))


def bottom(top: Path) -> int:
    """The innermost of directories that each have the only one in them, or none."""
    fd = os.open(top, os.O_RDONLY)
    while "d" in os.listdir(fd):
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def given(top: Path, user: int) -> None:
    """All of the tree is the user's."""
    os.chown(top, user, user)
    with opened(top) as fd:
        for place, name, _status in untrusted_directories.walk(fd):
            os.chown(name, user, user, dir_fd=place, follow_symlinks=False)


@pytest.mark.parametrize("make", [deep, wide])
def test_a_container_that_is_as_deep_and_wide_is_saved_and_made_again(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    ids, others = id_range(1), id_range(2)
    make(first)
    inner = bottom(first)
    with os.fdopen(os.open("file", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=inner), "wb") as file:
        file.write(b"content")
    os.link("file", "hard", src_dir_fd=inner, dst_dir_fd=inner)
    os.symlink("/etc/shadow", "link", dir_fd=inner)
    os.mkfifo("pipe", dir_fd=inner)
    os.close(inner)
    given(first, ids.start)
    tmp_path.chmod(0o711)
    try:
        saved = roots.save(str(first), str(tmp_path / "saved.tar"), ids)
        assert saved.entries == 5 + (DEPTH if make is deep else WIDTH) and saved.left_out == 0
        # By each way on which a machine gets its root of it.
        roots.unpack(str(tmp_path / "saved.tar"), str(second), others)
        base = roots.base(str(tmp_path / "cache"), str(tmp_path / "saved.tar"), "image-1")
        number = tmp_path.stat().st_dev
        roots._without_overlay[number, number] = "not wanted"
        roots.copy(base.path, str(third), others)
        for tree in (second, third):
            inner = bottom(tree)
            names = {
                name: os.stat(name, dir_fd=inner, follow_symlinks=False) for name in ("file", "hard", "link", "pipe")
            }
            assert {found.st_uid for found in names.values()} == {others.start}
            assert names["file"].st_ino == names["hard"].st_ino and stat.S_ISFIFO(names["pipe"].st_mode)
            assert os.readlink("link", dir_fd=inner) == "/etc/shadow"
            with os.fdopen(os.open("file", os.O_RDONLY, dir_fd=inner), "rb") as file:
                assert file.read() == b"content"
            os.close(inner)
        again = tmp_path / "again.tar"
        roots.save(str(third), str(again), others)
        assert again.read_bytes() == (tmp_path / "saved.tar").read_bytes()
    finally:
        roots._without_overlay.clear()
        for each in os.listdir(tmp_path):
            untrusted_trees.remove(str(tmp_path / each))


def raced_context(place: Path, _out: Path) -> None:
    tree.write_directory(str(place), {"A": "b"}, owner=GUEST)


def raced_removal(place: Path, _out: Path) -> None:
    untrusted_trees.remove(str(place))


def raced_saving(place: Path, out: Path) -> None:
    private_area.save(str(place), str(out), "saving")
    with tarfile.open(out) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            assert content is None or content.read() == b"guest's"


def raced_root_saving(place: Path, out: Path) -> None:
    out.unlink(missing_ok=True)
    roots.save(str(place), str(out), IdRange(GUEST))
    with tarfile.open(out) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            assert content is None or content.read() == b"guest's"


def raced_root_measuring(place: Path, _out: Path) -> None:
    assert untrusted_trees.bytes_on_disk(str(place)) < 1 << 20


def raced_root_removal(place: Path, _out: Path) -> None:
    roots.remove(str(place))


def raced_measuring(place: Path, _out: Path) -> None:
    # What the host has is so large that it would show.
    assert untrusted_trees.bytes_on_disk(str(place)) < 1 << 20


def raced_files(place: Path, _out: Path) -> None:
    with opened(place) as fd:
        entry = guest_tree.Entry("/keys/made/by/us", b"guest's", 0o644, GUEST, GUEST)
        guest_tree.put(fd, entry, True, directories=(GUEST, GUEST))
        guest_tree.get(fd, "/keys/file1", 100)
        guest_tree.remove(fd, "/keys/file2")


RACED = [
    *(raced_context, raced_removal, raced_saving, raced_measuring, raced_files),
    *(raced_root_saving, raced_root_measuring, raced_root_removal),
]


@pytest.mark.parametrize("user", [0, GUEST])
@pytest.mark.parametrize("work", RACED)
def test_a_guest_that_exchanges_names_has_nothing_of_the_host_touched(
    tmp_path: Path, work: Callable[[Path, Path], None], user: int
) -> None:
    host = tmp_path / "host"
    host.mkdir(mode=0o700)
    for number in range(50):
        (host / f"file{number}").write_text("host's", encoding="utf-8")
    os.truncate(host / "file0", 0)
    (host / "file0").write_bytes(b"x" * (4 << 20))

    def state() -> list[tuple[str, int, int, int]]:
        return sorted(
            (path.name, path.stat().st_size, path.stat().st_uid, path.stat().st_mode)
            for path in (host, *host.iterdir())
        )

    before = state()
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o711)
    # To save a root takes a process of its own.
    for attempt in range(ROUNDS // (100 if work is raced_root_saving else 10)):
        machine = tmp_path / f"machine{attempt}"
        place = machine / "disk.1"
        place.mkdir(parents=True)
        inner, link = hostile_pair(place, host, GUEST)
        with exchanging(inner, link, user):
            for _again in range(10):
                # Who exchanges what root is at work on may have the work fail.
                with contextlib.suppress(NebulaError, OSError):
                    work(place, machine / "out.tar")
                if not place.exists():
                    break
        untrusted_trees.remove(str(machine))
        assert state() == before, attempt


# -- files that another user sends -------------------------------------------------------------------------------------
SENDER = 65534
NAME = "5f0d1f0e-91c3-4d3f-8b58-0d1f0e2ac003-2"
CONTENT = b"guest's" * 1000


def hosts_file(tmp_path: Path) -> Path:
    """As long as what is sent, so that its length gives nothing away."""
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o711)
    secret = tmp_path / "secret"
    secret.write_bytes(b"host's!" * 1000)
    secret.chmod(0o600)
    return secret


def shown(path: Path) -> tuple[int, int, int, bytes]:
    found = path.stat()
    return found.st_uid, found.st_mode, found.st_nlink, path.read_bytes()


def of_the_sender(directory: Path, secret: Path) -> tuple[Path, Path]:
    file, link = directory / NAME, directory / "swap"
    file.write_bytes(CONTENT)
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    for path in (file, link):
        os.chown(path, SENDER, SENDER, follow_symlinks=False)
    return file, link


def test_who_sends_images_exchanges_them_for_nothing_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directories in which they arrive and leave belong to the user that the front-end comes as."""
    monkeypatch.setattr(rsync, "USER", pwd.getpwuid(SENDER).pw_name)
    secret, root = hosts_file(tmp_path), tmp_path / "nebula"
    before, kept = shown(secret), 0
    root.mkdir(mode=0o711)
    node_image_files.make_places(str(root))
    incoming, outgoing = root / node_image_files.IN, root / node_image_files.OUT
    image = PlannedImage(OWN, NAME, "demo", f"/front/{NAME}")
    plan = Plan("catalog", 5, "host1", images=(image,))
    check = json.dumps({"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()})
    for _round in range(ROUNDS // 5):
        file, link = of_the_sender(incoming, secret)
        with exchanging(file, link, SENDER):
            for _again in range(5):
                (incoming / f"{NAME}.json").write_text(check, encoding="utf-8")
                node_image_files.check_and_keep(str(root), plan)
                if node_image_files.kept_files(str(root)):
                    break
        there = Path(node_image_files.path_of(str(root), image))
        if there.exists():
            kept += 1
            assert not there.is_symlink() and there.read_bytes() == CONTENT and there.stat().st_uid == 0
            # Back it goes, over what is in its place there.
            inner, away = of_the_sender(outgoing, secret)
            with exchanging(inner, away, SENDER):
                node_image_files._hand_over(str(root), image.local)
                assert node_image_files.returning_lengths(str(root))[NAME] <= max(len(CONTENT), len(str(secret)))
        node_image_files.remove_all(str(root))
        for place in (incoming, outgoing):
            for each in place.iterdir():
                each.unlink()
        assert shown(secret) == before and not (root / node_image_files.CACHE / image.local).exists()
    assert kept


def test_an_upload_is_written_to_no_file_of_the_host(tmp_path: Path) -> None:
    """Nobody but root writes to a datastore; here another user owns one."""
    secret, place = hosts_file(tmp_path), tmp_path / "1"
    before, name, sent = shown(secret), uploads.PREFIX + "0" * 64, 0
    chunk = tmp_path / "chunk"
    chunk.write_bytes(b"sent")
    for _round in range(ROUNDS // 5):
        place.mkdir()
        os.chown(place, SENDER, SENDER)
        file, link = of_the_sender(place, secret)
        file = file.rename(place / name)
        os.truncate(file, len(before[-1]))
        # What another user owns is refused at once.
        os.chown(file, 0, 0)
        with exchanging(file, link, SENDER):
            for _again in range(10):
                with contextlib.suppress(NebulaError, OSError):
                    # It would be the next chunk of the host's file.
                    uploads.append(str(place), "0" * 64, len(before[-1]), str(chunk))
                    sent += 1
        assert shown(secret) == before
        untrusted_trees.remove(str(place))
    assert sent


# -- where disks of containers are mounted -----------------------------------------------------------------------------
UUID = "3d1f6a52-94f2-4cf1-8c3b-5a0c8e1f7b20"


@contextlib.contextmanager
def a_disk_and_a_mount_of_the_host() -> Iterator[tuple[mounted_disks.MountedDisk, Path]]:
    """Where the disk is to be mounted, a version before this one let the container's root write."""
    world = Path(os.environ["NEBULA_WORLD"])
    host, file = world / "host", world / "disk.3"
    host.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", host], check=True)
    (host / "file").write_text("host's", encoding="utf-8")
    with file.open("wb") as empty:
        empty.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", file], check=True)
    disk = mounted_disks.MountedDisk(str(file), mounted_disks.mount_point(UUID, 3), id_range(5))
    place = Path(disk.point).parent
    place.parent.mkdir(mode=0o711, exist_ok=True)
    try:
        yield disk, host
    finally:
        mounted_disks.release(UUID)
        untrusted_trees.remove(str(place))
        subprocess.run(["umount", host], check=True)
        host.rmdir()
        file.unlink()


def owned_by_the_guest(place: Path, host: Path) -> tuple[Path, Path]:
    user = id_range(5).start
    untrusted_trees.remove(str(place))
    place.mkdir(mode=0o700)
    inner, link = hostile_pair(place, host, user, name="3")
    (inner / "file").unlink()
    return inner, link


def looks(host: Path) -> tuple[object, ...]:
    found = host.stat()
    return found.st_mode, found.st_uid, os.listdir(host), (host / "file").stat().st_mode, os.path.ismount(host)


@in_bare_world
def test_a_link_in_the_place_of_a_mounted_disk_is_taken_for_none() -> None:
    with a_disk_and_a_mount_of_the_host() as (disk, host):
        place, before = Path(disk.point).parent, looks(host)
        inner, link = owned_by_the_guest(place, host)
        inner.rmdir()
        link.rename(inner)
        assert not mounted_disks.is_mounted(disk.point) and mounted_disks.device_of(disk.point) is None
        assert not mounted_disks.unmount(disk.point)
        with pytest.raises(InvalidValue, match="it is a link"):
            mounted_disks.mount(disk, "disk 3")
        # From here on nobody else exchanges anything there.
        found = place.lstat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o710, 0, id_range(5).start)
        inner.unlink()
        assert mounted_disks.mount(disk, "disk 3") and not mounted_disks.mount(disk, "disk 3")
        assert looks(host) == before


@in_bare_world
def test_a_container_that_exchanges_where_its_disks_are_mounted_is_shown_nothing_of_the_host() -> None:
    with a_disk_and_a_mount_of_the_host() as (disk, host):
        place, before, mounted = Path(disk.point).parent, looks(host), 0
        for _round in range(ROUNDS // 5):
            inner, link = owned_by_the_guest(place, host)
            with exchanging(inner, link, id_range(5).start):
                for _again in range(3):
                    with contextlib.suppress(NebulaError, OSError):
                        mounted_disks.mount(disk, "disk 3")
                        # It says that the disk is there: what libvirt shows the container is that.
                        assert os.path.ismount(disk.point) and not os.path.islink(disk.point)
                        assert os.listdir(disk.point) == ["lost+found"]
                        mounted += 1
                    with contextlib.suppress(NebulaError, OSError):
                        mounted_disks.release(UUID)
            assert looks(host) == before
            with contextlib.suppress(NebulaError, OSError):
                mounted_disks.unmount(str(inner))
        assert mounted


# -- roots that show their image ---------------------------------------------------------------------------------------
@in_bare_world
def test_a_container_that_exchanges_names_in_an_overlay_has_nothing_of_the_host_touched() -> None:
    world, ids = Path(os.environ["NEBULA_WORLD"]), id_range(6)
    host, machine = world / "host", world / "machine"
    host.mkdir(mode=0o700)
    (host / "file").write_bytes(b"x" * (4 << 20))
    before, saved = ((host / "file").stat(), host.stat().st_mode), 0
    archive = world / "archive.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("./", "etc", "home"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    machine.mkdir()
    machine.chmod(0o711)
    world.chmod(0o711)
    try:
        base = roots.base(str(world / "cache"), str(archive), "image-1").path
        for _round in range(ROUNDS // 60):
            tree = machine / "disk.0"
            assert roots.copy(base, str(tree), ids).way == roots.OVERLAY
            layers = Path(f"{tree}.layers").stat()
            # Beside the mount nobody else gets at what is below it.
            assert (stat.S_IMODE(layers.st_mode), layers.st_uid) == (0o700, 0)
            inner, link = hostile_pair(tree, host, ids.start)
            with exchanging(inner, link, ids.start):
                for _again in range(5):
                    with contextlib.suppress(NebulaError, OSError):
                        out = machine / "out.tar"
                        out.unlink(missing_ok=True)
                        roots.save(str(tree), str(out), ids)
                        with tarfile.open(out) as tar:
                            files = [tar.extractfile(entry) for entry in tar if entry.isfile()]
                            assert {file.read() for file in files if file is not None} <= {b"guest's"}
                        saved += 1
                    with contextlib.suppress(NebulaError, OSError):
                        assert untrusted_trees.bytes_on_disk(f"{tree}{root_overlay.LAYERS}") < 1 << 20
                    # As after a boot of the host.
                    with contextlib.suppress(NebulaError, OSError):
                        root_overlay.unmount(str(tree))
                    roots.mount_again(str(tree))
                while tree.exists():
                    with contextlib.suppress(NebulaError, OSError):
                        roots.remove(str(tree))
            after = (host / "file").stat()
            assert (after.st_size, after.st_uid, after.st_mode, host.stat().st_mode) == (
                before[0].st_size,
                before[0].st_uid,
                before[0].st_mode,
                before[1],
            )
        assert saved
    finally:
        roots.remove(str(machine / "disk.0"))
        roots.prune_cache(str(world / "cache"), [])
        for each in (host, machine, archive):
            untrusted_trees.remove(str(each))
