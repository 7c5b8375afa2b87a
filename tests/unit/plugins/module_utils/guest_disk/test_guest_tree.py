# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in a guest's tree: links are followed as the guest follows them, and lead nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import guest_tree
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.guest_tree import Entry


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def place(tmp_path: Path, root: int) -> Path:
    return tmp_path / "root"


def test_a_file_is_put_and_read_and_removed(root: int, place: Path) -> None:
    entry = Entry("/etc/deep/a", b"x", 0o640, os.getuid(), os.getgid())
    assert not guest_tree.is_there(root, entry, True) and guest_tree.get(root, "/etc/deep/a", 9) is None
    guest_tree.put(root, entry, True)
    assert guest_tree.is_there(root, entry, True) and guest_tree.get(root, "/etc/deep/a", 9) == b"x"
    assert (place / "etc/deep/a").stat().st_mode & 0o777 == 0o640
    assert guest_tree.remove(root, "/etc/deep/a") and not guest_tree.remove(root, "/etc/deep/a")
    assert not guest_tree.remove(root, "/nowhere/a")


@pytest.mark.parametrize("target", ["../../outside", "/outside", "/../../outside"])
def test_a_link_out_of_the_tree_ends_at_its_root(root: int, place: Path, target: str) -> None:
    (place.parent / "outside").mkdir()
    (place / "link").symlink_to(target)
    guest_tree.put(root, Entry("/link/a", b"x"), False)
    assert os.listdir(place.parent / "outside") == [] and (place / "outside/a").read_bytes() == b"x"


def test_a_path_of_very_many_steps_is_refused_before_descriptors_end(root: int, place: Path) -> None:
    """Each is open until the end, and whoever wrote the path or a link may have meant to take them all."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="more than"):
        guest_tree.put(root, Entry("/d" * 2000 + "/a", b"x"), False)
    (place / "l").symlink_to("d/" * 500)
    with pytest.raises(OSError, match="more than"):
        guest_tree.put(root, Entry("/l/" + "l/" * 9 + "a", b"x"), False)
    # Steps that lead back count as well: they take time.
    with pytest.raises(OSError, match="more than"):
        guest_tree.get(root, "/" + "./../" * 100_000 + "a", 9)
    assert len(os.listdir("/proc/self/fd")) == before
    guest_tree.put(root, Entry("/d" * 100 + "/a", b"x"), False)
    assert guest_tree.get(root, "/d" * 100 + "/a", 9) == b"x"


def test_a_link_in_the_place_of_the_file_is_replaced(root: int, place: Path) -> None:
    victim = place.parent / "victim"
    victim.write_bytes(b"mine")
    (place / "a").symlink_to(victim)
    assert guest_tree.get(root, "/a", 9) is None
    guest_tree.put(root, Entry("/a", b"x"), False)
    assert victim.read_bytes() == b"mine" and (place / "a").read_bytes() == b"x"


def test_a_pipe_is_not_waited_for(root: int, place: Path) -> None:
    os.mkfifo(place / "pipe")
    assert guest_tree.get(root, "/pipe", 9) is None


def test_what_is_there_is_told_without_following_its_last_link(root: int, place: Path) -> None:
    (place / "a").symlink_to("/etc/passwd")
    found = guest_tree.mode_of(root, "/a")
    assert found is not None and os.path.stat.S_ISLNK(found.st_mode)  # type: ignore[attr-defined]
    assert guest_tree.mode_of(root, "/b") is None and guest_tree.mode_of(root, "/b/c") is None


def test_a_link_is_made_in_place_of_what_was_there(root: int, place: Path) -> None:
    (place / "a").write_bytes(b"x")
    guest_tree.link(root, "/a", "/target")
    assert os.readlink(place / "a") == "/target"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_directories_that_are_made_are_whose_they_are_to_be(root: int, place: Path) -> None:
    (place / "there").mkdir()
    guest_tree.put(root, Entry("/there/new/a", b"x", 0o600, 7, 8), True, directories=(7, 8))
    owners = [(path.stat().st_uid, path.stat().st_gid) for path in (place / "there", place / "there/new")]
    assert owners == [(0, 0), (7, 8)]
