# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of a tree, with the owners that its machine sees. That it reads back as it was is in
tests/integration/test_roots.py."""

from __future__ import annotations

import os
import socket
import tarfile
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.host import confined_process
from ansible_collections.nebula.provision.plugins.module_utils.host.confined_process import View
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_saving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces")
IDS = id_range(4)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "d").mkdir(parents=True)
    (path / "d/file").write_text("content")
    os.link(path / "d/file", path / "d/other")
    (path / "link").symlink_to("/etc/passwd")
    for each in (path, *path.rglob("*")):
        os.chown(each, IDS.start + 3, IDS.start, follow_symlinks=False)
        os.utime(each, ns=(10**9, 10**9), follow_symlinks=False)
    return path


def save(tree: Path, reserve: int = 0, depth: int = 9, length: int = 99, devices: bool = False):
    archive = tree.parent / "archive"
    with archive.open("wb") as file:
        limits = {"depth": depth, "length": length}
        arguments = {"what": "root demo", "reserve": reserve, "devices": devices, **limits}
        view = View([IDS], root=str(tree), reads=[str(tree)])
        return confined_process.run(root_saving.save, arguments, view, "root demo", timeout=60, target=file.fileno())


def test_what_is_in_it(tree):
    done = save(tree)
    assert done == {"entries": 5, "size": (tree.parent / "archive").stat().st_size, "left_out": 0}
    with tarfile.open(tree.parent / "archive") as tar:
        found = [(entry.name, entry.type, entry.linkname, entry.uid, entry.gid, entry.mtime) for entry in tar]
    assert found == [
        (".", tarfile.DIRTYPE, "", 3, 0, 1), ("d", tarfile.DIRTYPE, "", 3, 0, 1),
        ("d/file", tarfile.REGTYPE, "", 3, 0, 1),
        ("d/other", tarfile.LNKTYPE, "d/file", 3, 0, 1), ("link", tarfile.SYMTYPE, "/etc/passwd", 3, 0, 1),
    ]  # fmt: skip
    first = (tree.parent / "archive").read_bytes()
    save(tree)
    assert (tree.parent / "archive").read_bytes() == first


def test_sockets_and_devices_are_left_out(tree):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "s"))
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    assert save(tree)["left_out"] == 2
    with tarfile.open(tree.parent / "archive") as tar:
        assert not {"s", "null"} & set(tar.getnames())


def test_devices_are_there_for_those_who_ask_for_them(tree):
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    os.link(tree / "null", tree / "another")
    os.mknod(tree / "sda", 0o60640, os.makedev(8, 1 << 19))
    for name in ("null", "sda"):
        os.chown(tree / name, IDS.start, IDS.start + 6)
    assert save(tree, devices=True)["left_out"] == 0
    with tarfile.open(tree.parent / "archive") as tar:
        found = {e.name: (e.type, e.devmajor, e.devminor, e.gid) for e in tar if e.ischr() or e.isblk()}
    # By each of its names it is one of its own.
    null = (tarfile.CHRTYPE, 1, 3, 6)
    assert found == {"null": null, "another": null, "sda": (tarfile.BLKTYPE, 8, 1 << 19, 6)}


def test_large_files_and_a_name_of_an_attribute_that_the_form_does_not_have(tree):
    content = os.urandom(5 << 20)
    (tree / "large").write_bytes(content)
    os.chown(tree / "large", IDS.start, IDS.start)
    os.setxattr(tree / "large", "user.a=b", b"1")
    os.setxattr(tree / "large", "user.c", b"2")
    assert save(tree)["left_out"] == 1
    with tarfile.open(tree.parent / "archive") as tar:
        member = tar.getmember("large")
        file = tar.extractfile(member)
        assert file is not None and file.read() == content and member.pax_headers["SCHILY.xattr.user.c"] == "2"


def test_what_ends_it(tree):
    with pytest.raises(NoSpace, match="root demo"):
        save(tree, reserve=1 << 62)
    with pytest.raises(ImageRefused, match="longer than 3 bytes"):
        save(tree, length=3)
    (tree / "d/deeper").mkdir()
    with pytest.raises(ImageRefused, match="deeper than 1"):
        save(tree, depth=1)
