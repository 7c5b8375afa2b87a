# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a tree with other owners. What it looks like by each way is in tests/integration/test_roots.py."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.host import confined_process
from ansible_collections.nebula.provision.plugins.module_utils.host.confined_process import View
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import BASES, id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import root_copying

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
IDS = id_range(4)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    for path, ids in ((source, BASES), (target, IDS)):
        path.mkdir()
        os.chown(path, ids.start, ids.start)
    return source, target


def made(path: Path, uid: int = 0, mode: int = 0o644, content: bytes = b"x") -> Path:
    path.write_bytes(content)
    os.chown(path, BASES.start + uid, BASES.start + uid)
    path.chmod(mode)
    return path


def copy(source: Path, target: Path, reserve: int = 0, depth: int = 9):
    view = View([IDS, BASES], below=[("source", str(source)), ("target", str(target))], reads=[str(source)])
    arguments = {"what": "root demo", "reserve": reserve, "depth": depth}
    return confined_process.run(root_copying.copy, arguments, view, "root demo", timeout=60)


@needs_root
def test_owners_modes_links_and_holes(trees):
    source, target = trees
    made(source / "su", mode=0o4755)
    os.link(made(source / "user", 1000, 0o600, b"y" * 500000), source / "z-link")
    with made(source / "sparse").open("r+b") as file:
        file.truncate(50 << 20)
    (source / "link").symlink_to("/etc/passwd")
    os.chown(source / "link", BASES.start + 5, BASES.start, follow_symlinks=False)
    assert copy(source, target)["entries"] == 6
    found = {name: (target / name).lstat() for name in os.listdir(target)}
    owners = {name: (status.st_uid - IDS.start, status.st_gid - IDS.start) for name, status in found.items()}
    assert owners == {"su": (0, 0), "user": (1000, 1000), "z-link": (1000, 1000), "sparse": (0, 0), "link": (5, 0)}
    assert stat.S_IMODE(found["su"].st_mode) == 0o4755 and found["user"].st_ino == found["z-link"].st_ino
    assert found["sparse"].st_size == 50 << 20 and found["sparse"].st_blocks < 1000
    assert (target / "user").read_bytes() == b"y" * 500000


@needs_root
@pytest.mark.parametrize("uid", [0, IDS.start, BASES.start + BASES.count])
def test_a_file_of_somebody_else_is_not_of_the_image(uid, trees):
    source, target = trees
    os.chown(made(source / "file"), uid, uid)
    with pytest.raises(ImageRefused, match="'file' of the unpacked image has an owner that it was not given"):
        copy(source, target)


@needs_root
def test_what_ends_it(trees):
    source, target = trees
    (source / "a/b").mkdir(parents=True)
    for path in (source / "a", source / "a/b"):
        os.chown(path, BASES.start, BASES.start)
    with pytest.raises(NoSpace, match="root demo"):
        copy(source, target, reserve=1 << 62)
    with pytest.raises(ImageRefused, match="deeper than 1"):
        copy(source, target, depth=1)


def test_lists_of_who_may_do_what_name_the_same_users():
    head, mine = b"\2\0\0\0", b"\1\0\6\0" + b"\xff" * 4
    named = [b"\2\0\4\0" + (65536 + 7).to_bytes(4, "little"), b"\2\0\4\0" + (7).to_bytes(4, "little")]
    changed = root_copying._of_this_root(b"system.posix_acl_access", head + mine + named[0])
    assert changed == head + mine + named[1]


def test_capabilities_are_of_no_root_until_the_kernel_knows_it():
    third = bytes.fromhex("010000030020000000000000000000000000000000000100")
    changed = root_copying._of_this_root(b"security.capability", third)
    assert changed == bytes.fromhex("0100000200200000000000000000000000000000")
    assert root_copying._of_this_root(b"user.x", b"anything") == b"anything"
