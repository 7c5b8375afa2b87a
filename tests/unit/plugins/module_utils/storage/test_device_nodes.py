# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import IdRange
from ansible_collections.nebula.provision.plugins.module_utils.storage import device_nodes
from ansible_collections.nebula.provision.plugins.module_utils.storage.tar_reader import CHARACTER, DEVICE, Entry

pytestmark = pytest.mark.root
IDS = IdRange(200000, 1000)


def node(name: bytes = b"dev/null", kind: str = CHARACTER, **values: Any) -> dict[str, Any]:
    entry = Entry(kind, name, b"")
    entry.major, entry.minor, entry.mode = 1, 3, 0o666
    for key, value in values.items():
        setattr(entry, key, value)
    return device_nodes.described(entry)


_REST = ((4, 4), (16, 4), (32, 0))


def acl(*entries: tuple[int, ...]) -> bytes:
    """Return a list of tags, rights and, for some, ids as its attribute has it."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *(*each, 2**32 - 1)[:3]) for each in entries)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    (place / "dev").mkdir(parents=True)
    os.utime(place / "dev", ns=(10**18, 10**18))
    (tmp_path / "victim").mkdir()
    return place


def test_they_are_as_they_were(tree: Path) -> None:
    listed = acl((1, 6), (2, 4, 5), *_REST)
    device_nodes.make(
        str(tree),
        [
            node(mtime=123456789),
            node(b"dev/sda \xff", DEVICE, major=8, minor=1 << 19, mode=0o4640, uid=5, gid=999),
            node(b"top", xattrs={b"system.posix_acl_access": listed}, mode=0o640),
        ],
        IDS,
        "disk 0",
    )
    null, disk = (tree / "dev/null").stat(), os.stat(os.fsencode(tree) + b"/dev/sda \xff")
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3) and null.st_mtime_ns == 123456789
    assert stat.S_IMODE(null.st_mode) == 0o666
    assert stat.S_ISBLK(disk.st_mode) and disk.st_rdev == os.makedev(8, 1 << 19)
    assert (stat.S_IMODE(disk.st_mode), disk.st_uid, disk.st_gid) == (0o4640, 200005, 200999)
    assert os.getxattr(tree / "top", "system.posix_acl_access") == acl((1, 6), (2, 4, 200005), *_REST)
    # The directory is as it was before anything was made in it.
    assert (tree / "dev").stat().st_mtime_ns == 10**18


def test_it_has_nothing_of_what_its_directory_gives_to_new_files(tree: Path) -> None:
    """The archive says who may use it: nobody else."""
    default = acl((1, 7), (2, 7, 200005), (4, 7), (16, 7), (32, 0))
    os.setxattr(tree / "dev", "system.posix_acl_default", default)
    device_nodes.make(str(tree), [node(mode=0o660)], IDS, "disk 0")
    assert os.listxattr(tree / "dev/null") == [] and stat.S_IMODE((tree / "dev/null").stat().st_mode) == 0o660
    assert os.getxattr(tree / "dev", "system.posix_acl_default") == default


def test_whom_a_list_names_are_users_and_groups_of_the_machine(tree: Path) -> None:
    listed = acl((1, 6), (2, 4, 999), (4, 4), (8, 6, 0), (16, 6), (32, 0))
    device_nodes.make(str(tree), [node(xattrs={b"system.posix_acl_access": listed})], IDS, "disk 0")
    there = os.getxattr(tree / "dev/null", "system.posix_acl_access")
    assert there == acl((1, 6), (2, 4, 200999), (4, 4), (8, 6, 200000), (16, 6), (32, 0))


@pytest.mark.parametrize(
    "listed",
    [
        acl((1, 6), (2, 4, 1000), *_REST),
        acl((1, 6), (4, 4), (8, 4, 1000), (16, 4), (32, 0)),
        acl((1, 6), (2, 4, 2**32 - 1), *_REST),
        acl((1, 6), (2, 4, 5), *_REST)[:-1],
        acl((1, 6), (64, 4, 5), *_REST),
        b"\x02",
        b"",
        struct.pack("<I", 3) + acl((1, 6), *_REST)[4:],
    ],
)
def test_a_list_that_names_others_or_is_none_is_refused(tree: Path, listed: bytes) -> None:
    with pytest.raises(ImageRefused, match=r"its device node .*dev/null.* can't be made: "):
        device_nodes.make(str(tree), [node(xattrs={b"system.posix_acl_access": listed})], IDS, "disk 0")


def test_nothing_is_looked_at_where_there_are_none() -> None:
    device_nodes.make("/nowhere", [], IDS, "disk 0")


@pytest.mark.parametrize(
    "name",
    [
        b"../victim/x",
        b"dev/../../victim/x",
        b"/dev/nebula-x",
        b"out/x",
        b"loop/x",
        b"dev/..",
        b".",
        b"",
        b"dev/",
        b"gone/x",
    ],
)
def test_none_is_made_out_of_the_tree_or_behind_a_link(tree: Path, name: bytes) -> None:
    """Whoever said so was a process that read a stranger's archive."""
    (tree / "out").symlink_to("../victim")
    (tree / "loop").symlink_to("dev")
    with pytest.raises(ImageRefused, match=r"disk 0: its device node .* can't be made"):
        device_nodes.make(str(tree), [node(name)], IDS, "disk 0")
    assert os.listdir(tree.parent / "victim") == os.listdir(tree / "dev") == []
    assert not os.path.lexists("/dev/nebula-x")


def test_what_has_its_name_stays(tree: Path) -> None:
    (tree / "dev/null").symlink_to("../../victim/x")
    with pytest.raises(ImageRefused, match="File exists"):
        device_nodes.make(str(tree), [node()], IDS, "disk 0")
    assert (tree / "dev/null").is_symlink() and os.listdir(tree.parent / "victim") == []


@pytest.mark.parametrize("owner", [{"uid": 1000}, {"gid": -1}])
def test_it_is_nobody_s_but_the_machine_s(tree: Path, owner: dict[str, int]) -> None:
    with pytest.raises(ImageRefused, match="Operation not permitted"):
        device_nodes.make(str(tree), [node(**owner)], IDS, "disk 0")
    assert os.listdir(tree / "dev") == []


def test_a_tree_that_is_a_link_is_not_entered(tree: Path) -> None:
    other = tree.parent / "other"
    other.symlink_to(tree)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        device_nodes.make(str(other), [node()], IDS, "disk 0")
    assert os.listdir(tree / "dev") == []
