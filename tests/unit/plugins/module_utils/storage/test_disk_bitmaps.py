# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_bitmaps, disk_saving

OURS = "nebula-0123abcd-20261130T120000Z-abcdef"


@pytest.fixture
def disk(tmp_path: Path) -> DiskFiles:
    path = str(tmp_path / "disk.0")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    return DiskFiles(path, "qcow2")


def add(disk: DiskFiles, name: str) -> None:
    subprocess.run(["qemu-img", "bitmap", "--add", disk.path, name], check=True)


def test_bitmaps_are_seen_and_removed(disk: DiskFiles) -> None:
    assert disk_bitmaps.bitmaps(disk, "a disk") == {}
    add(disk, OURS)
    add(disk, "somebodys")
    assert disk_bitmaps.bitmaps(disk, "a disk") == {OURS: True, "somebodys": True}
    assert disk_bitmaps.remove(disk, lambda name: bool(disk_bitmaps.OURS.fullmatch(name)), "a disk")
    assert disk_bitmaps.bitmaps(disk, "a disk") == {"somebodys": True}
    assert not disk_bitmaps.remove(disk, lambda name: name == OURS, "a disk")


def test_other_formats_have_none(tmp_path: Path) -> None:
    assert disk_bitmaps.bitmaps(DiskFiles(str(tmp_path / "raw"), "raw"), "a disk") == {}


def test_a_disk_with_our_bitmaps_is_reverted(disk: DiskFiles) -> None:
    """QEMU refuses that as long as they are there."""
    disk_saving.create_snapshot(disk, "s1")
    add(disk, OURS)
    plain = subprocess.run(["qemu-img", "snapshot", "-a", "s1", disk.path], check=False, capture_output=True, text=True)
    assert plain.returncode != 0 and "bitmaps" in plain.stderr
    disk_saving.revert(disk, "s1", "a disk")
    assert disk_bitmaps.bitmaps(disk, "a disk") == {}


def test_one_with_somebodys_bitmaps_is_left_as_it_is(disk: DiskFiles) -> None:
    disk_saving.create_snapshot(disk, "s1")
    add(disk, OURS)
    add(disk, "somebodys")
    with pytest.raises(Conflict, match="bitmaps of somebody else, with which it can't go back: somebodys"):
        disk_saving.revert(disk, "s1", "a disk")
    assert disk_bitmaps.bitmaps(disk, "a disk") == {OURS: True, "somebodys": True}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (OURS, True),
        ("nebula-0123abcd-", False),
        ("nebula-0123ABCD-20261130T120000Z-abcdef", False),
        ("backup", False),
        ("", False),
    ],
)
def test_which_are_ours(name: str, ours: bool) -> None:
    assert bool(disk_bitmaps.OURS.fullmatch(name)) is ours


def test_one_that_is_disabled_is_not_relied_on(disk: DiskFiles) -> None:
    """It records nothing of what is written."""
    add(disk, OURS)
    subprocess.run(["qemu-img", "bitmap", "--disable", disk.path, OURS], check=True)
    assert disk_bitmaps.bitmaps(disk, "a disk") == {OURS: False}
