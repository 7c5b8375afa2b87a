# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems that grow with their disks; tests/integration/test_lxc_disks.py grows those of containers, and xfs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.storage import file_system_growth
from ansible_collections.nebula.provision.plugins.module_utils.storage.file_system_growth import MIB

KINDS = [
    ("mkfs.ext2", "-q"),
    ("mkfs.ext3", "-q"),
    ("mkfs.ext4", "-q"),
    ("mkfs.ext4", "-q", "-O", "64bit"),
    ("mkfs.ext4", "-q", "-O", "^64bit"),
    ("mkfs.ext4", "-q", "-b", "4096"),
]


def made(path: Path, size: int, *program: str) -> str:
    path.touch()
    os.truncate(path, size * MIB)
    if program:
        subprocess.run([*program, str(path)], check=True, capture_output=True)
    return str(path)


@pytest.mark.parametrize("program", KINDS)
def test_it_becomes_as_large_as_its_disk_once(program: tuple[str, ...], tmp_path: Path) -> None:
    path = made(tmp_path / "disk", 16, *program)
    subprocess.run(["debugfs", "-w", "-R", "write /etc/hostname kept", path], check=True, capture_output=True)
    assert not file_system_growth.needed(path) and not file_system_growth.grow(path, "disk 2")
    os.truncate(path, 40 * MIB)
    assert file_system_growth.needed(path) and file_system_growth.grow(path, "disk 2")
    assert not file_system_growth.needed(path) and not file_system_growth.grow(path, "disk 2")
    done = subprocess.run(["debugfs", "-R", "cat /kept", path], capture_output=True, check=True)
    assert done.stdout == Path("/etc/hostname").read_bytes()
    assert subprocess.run(["e2fsck", "-f", "-n", path], capture_output=True, check=False).returncode == 0


def test_that_of_xfs_is_seen_to_be_smaller(tmp_path: Path) -> None:
    path = made(tmp_path / "disk", 320, "mkfs.xfs", "-q")
    assert not file_system_growth.needed(path)
    os.truncate(path, 321 * MIB)
    assert file_system_growth.needed(path)


@pytest.mark.parametrize("program", [(), ("mkswap",), ("mkfs.vfat",)])
def test_what_is_none_that_is_known_is_left_alone(program: tuple[str, ...], tmp_path: Path) -> None:
    path = made(tmp_path / "disk", 4, *program)
    os.truncate(path, 8 * MIB)
    before = Path(path).read_bytes()
    assert not file_system_growth.needed(path) and not file_system_growth.grow(path, "disk 2")
    assert Path(path).read_bytes() == before
    (tmp_path / "short").write_bytes(b"XFSB")
    assert not file_system_growth.needed(str(tmp_path / "short"))


def test_a_damaged_one_is_refused_by_name(tmp_path: Path) -> None:
    path = made(tmp_path / "disk", 16, "mkfs.ext4", "-q")
    with Path(path).open("r+b") as file:
        file.seek(2048)
        file.write(b"\xff" * 1024)
    os.truncate(path, 40 * MIB)
    with pytest.raises(Unsupported, match=r"disk 2: making its file system as large as the disk: e2fsck ended with \d"):
        file_system_growth.grow(path, "disk 2")
