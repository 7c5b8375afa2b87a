# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree is gone through in the order of its names, links are not followed, and what is kept of attributes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from odd_files import dig

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, InUse
from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.host.files import opened
from ansible_collections.nebula.provision.plugins.module_utils.storage import tree_walk


@pytest.fixture(autouse=True)
def back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever walks changes the working directory."""
    monkeypatch.chdir(tmp_path)


def walked(top: Path, depth: int = 10) -> list[bytes]:
    found = []
    for path, name, status in tree_walk.walk(str(top), "root demo", depth):
        # The name is that of the working directory.
        assert os.lstat(name).st_ino == status.st_ino and (path.endswith(name) or not path)
        found.append(path)
    return found


def test_the_order_and_links(tmp_path):
    top = tmp_path / "top"
    (top / "b/d").mkdir(parents=True)
    (top / "a").mkdir()
    (top / "b/c").write_text("x")
    (top / "b/d/e").write_text("x")
    (top / "b/z").symlink_to("/etc")
    (top / "b-").symlink_to("b")
    (top / os.fsdecode(b"\xff\n")).touch()
    os.mkfifo(top / "fifo")
    expected = [b"", b"a", b"b", b"b/c", b"b/d", b"b/d/e", b"b/z", b"b-", b"fifo", b"\xff\n"]
    assert walked(top) == expected
    before = os.listdir("/proc/self/fd")
    for _entry in tree_walk.walk(str(top), "root demo", 10):
        break
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_tree_that_is_too_deep(tmp_path):
    (tmp_path / "top/1/2/3").mkdir(parents=True)
    assert len(walked(tmp_path / "top", 3)) == 4
    with pytest.raises(ImageRefused, match="root demo: it has directories that are deeper than 2"):
        walked(tmp_path / "top", 2)


def test_one_directory_is_open_however_deep_it_is(tmp_path):
    dig(tmp_path, 1500)
    before, most = len(os.listdir("/proc/self/fd")), 0
    found = []
    try:
        for path, _name, _status in tree_walk.walk(str(tmp_path), "root demo", 2000):
            found.append(path)
            most = max(most, len(os.listdir("/proc/self/fd")))
    finally:
        # What removes temporary directories can't.
        os.chdir("/")
        untrusted_trees.remove(str(tmp_path / "d"))
    assert (len(found), len(found[-1]), most - before) == (1501, 2999, 0)


def test_a_directory_that_is_moved_meanwhile(tmp_path):
    (tmp_path / "top/a/b/c").mkdir(parents=True)
    (tmp_path / "top/z").touch()
    seen = []
    with pytest.raises(InUse, match="root demo: a directory was moved while it was read"):
        for path, _name, _status in tree_walk.walk(str(tmp_path / "top"), "root demo", 9):
            seen.append(path)
            if path == b"a/b/c":
                (tmp_path / "top/a/b").rename(tmp_path / "elsewhere")
    assert b"z" not in seen


def test_a_top_that_is_a_link(tmp_path):
    (tmp_path / "top").symlink_to("/etc")
    with pytest.raises(NotADirectoryError):
        walked(tmp_path / "top")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (b"user.x", True), (b"security.capability", True), (b"system.posix_acl_access", True),
        (b"security.selinux", False), (b"trusted.overlay.opaque", False), (b"system.nfs4_acl", False),
        (b"userx", False),
    ],
)  # fmt: skip
def test_attributes_that_are_kept(name, kept):
    assert tree_walk.is_kept(name) is kept


def test_attributes_of_a_file_and_of_a_name(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, "user.x", b"1")
    with opened(path, os.O_RDONLY) as fd:
        assert tree_walk.attributes(fd) == tree_walk.attributes(b"file") == {b"user.x": b"1"}
    (tmp_path / "link").symlink_to("file")
    assert tree_walk.attributes(b"link") == {}


@pytest.mark.parametrize("parts", [[], [0], [3], [1, 4], [0, 1, 2, 3, 4]])
def test_stretches(parts, tmp_path):
    size = 5 * 65536
    with opened(tmp_path / "file", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, size)
        for part in parts:
            os.pwrite(fd, b"x" * 65536, part * 65536)
        os.fsync(fd)
        status = os.fstat(fd)
        assert stat.S_ISREG(status.st_mode)
        covered = {
            at for start, length in tree_walk.data_extents(fd, status) for at in range(start, start + length, 65536)
        }
        assert covered == {part * 65536 for part in parts}


def test_an_empty_file_has_none(tmp_path):
    with opened(tmp_path / "file", os.O_RDWR | os.O_CREAT) as fd:
        assert tree_walk.data_extents(fd, os.fstat(fd)) == []
