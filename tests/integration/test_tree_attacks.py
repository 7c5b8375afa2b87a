# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of guests that are as deep and as wide as they can be, and guests that exchange directories and links while the
host's root is at work there: each function that goes through such a tree ends, and nothing beside the tree is touched.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import tree
from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import tree as guest_tree
from ansible_collections.nebula.provision.plugins.module_utils.host import beneath, trees
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import private_area, template_archive
from ansible_collections.nebula.provision.plugins.module_utils.model.id_range import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import disks, roots
from ansible_collections.nebula.provision.tests.tools.exchanging import exchanging, hostile_pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="guests have other users, which only root can be")
GUEST = 3_000_000
DEPTH, WIDTH = 5000, 100_000
ROUNDS = 300


def deep(place: Path) -> None:
    place.mkdir(parents=True)
    fd = os.open(place, os.O_RDONLY)
    for _level in range(DEPTH):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def wide(place: Path) -> None:
    place.mkdir(parents=True)
    fd = os.open(place, os.O_RDONLY)
    for number in range(WIDTH):
        os.close(os.open(f"f{number}", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)


def context(place: Path) -> None:
    tree.write(str(place), {"A": "b"}, owner=GUEST)
    assert os.listdir(place) == ["context.sh"]


def removed(place: Path) -> None:
    assert trees.remove(str(place))


def removed_as_a_disk(place: Path) -> None:
    assert disks.remove(str(place.parent))
    assert not place.exists()


def saved(place: Path) -> None:
    archive = place.parent / "saved.tar"
    private_area.save(str(place), str(archive), "saving")
    with tarfile.open(archive) as tar:
        assert sum(1 for _entry in tar) in (DEPTH + 1, WIDTH + 1)
    # tar saves what is deeper than it can unpack: that is said before vzctl begins.
    if Path(place, "f0").exists():
        assert template_archive.screen(str(archive), "image") == 0
        return
    with pytest.raises(ImageRefused, match="tar, by which vzctl unpacks it, makes none of more than 4095"):
        template_archive.screen(str(archive), "image")
    (place.parent / "tree").mkdir()
    words = ["tar", "--extract", "--file", str(archive), "--directory", str(place.parent / "tree")]
    assert "File name too long" in subprocess.run(words, check=False, capture_output=True, text=True).stderr


def unfinished(place: Path) -> None:
    private = place.parent / "private"
    place.rename(f"{private}.tmp")
    private_area.clear_unfinished(str(private))
    assert not Path(f"{private}.tmp").exists()


def measured(place: Path) -> None:
    assert roots.space_taken(str(place)) >= 0
    with opened(place) as fd:
        assert sum(1 for _each in beneath.walk(fd)) in (DEPTH, WIDTH)


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
        trees.remove(str(tmp_path / "machine"))


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
        for place, name, _status in beneath.walk(fd):
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
            trees.remove(str(tmp_path / each))


def raced_context(place: Path, _out: Path) -> None:
    tree.write(str(place), {"A": "b"}, owner=GUEST)


def raced_removal(place: Path, _out: Path) -> None:
    trees.remove(str(place))


def raced_saving(place: Path, out: Path) -> None:
    private_area.save(str(place), str(out), "saving")
    with tarfile.open(out) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            assert content is None or content.read() == b"guest's"


def raced_measuring(place: Path, _out: Path) -> None:
    # What the host has is so large that it would show.
    assert trees.taken(str(place)) < 1 << 20


def raced_files(place: Path, _out: Path) -> None:
    with opened(place) as fd:
        entry = guest_tree.Entry("/keys/made/by/us", b"guest's", 0o644, GUEST, GUEST)
        guest_tree.put(fd, entry, True, directories=(GUEST, GUEST))
        guest_tree.get(fd, "/keys/file1", 100)
        guest_tree.remove(fd, "/keys/file2")


@pytest.mark.parametrize("user", [0, GUEST])
@pytest.mark.parametrize("work", [raced_context, raced_removal, raced_saving, raced_measuring, raced_files])
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
    for attempt in range(ROUNDS // 10):
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
        trees.remove(str(machine))
        assert state() == before, attempt
