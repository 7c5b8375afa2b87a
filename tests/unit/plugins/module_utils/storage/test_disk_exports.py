# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files, disk_exports

MIB = 1 << 20


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "exports"
    monkeypatch.setattr(disk_exports, "PLACE", str(found))
    return found


@pytest.fixture
def disk(tmp_path: Path) -> DiskFiles:
    base, path = str(tmp_path / "base"), str(tmp_path / "disk.0")
    Path(base).write_bytes(b"b" * MIB)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, path, "2M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 64k 64k", path], check=True, capture_output=True)
    return DiskFiles(path, "qcow2", ((base, "raw"),))


def test_disks_are_shown_until_the_block_ends(disk: DiskFiles, place: Path, tmp_path: Path) -> None:
    raw = DiskFiles(str(tmp_path / "raw"), "raw")
    Path(raw.path).write_bytes(b"r" * MIB)
    with disk_exports.shown("1-x", {0: disk, 2: raw}) as sources:
        assert {number: each.size for number, each in sources.items()} == {0: 2 * MIB, 2: MIB}
        assert os.stat(place).st_mode & 0o777 == 0o700
        for number, each in sources.items():
            target = str(tmp_path / f"copy.{number}")
            words = ["qemu-img", "convert", "-f", "raw", "-O", "raw", backup_files.text_of(each.node()), target]
            subprocess.run(words, check=True)
        content = (tmp_path / "copy.0").read_bytes()
        assert content == (b"b" * MIB)[: 64 << 10] + b"\x07" * (64 << 10) + b"b" * (MIB - (128 << 10)) + bytes(MIB)
        assert (tmp_path / "copy.2").read_bytes() == b"r" * MIB
    assert list(place.iterdir()) == []


def test_a_bitmap_is_shown(disk: DiskFiles) -> None:
    subprocess.run(["qemu-img", "bitmap", "--add", disk.path, "b1"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 8 1M 64k", disk.path], check=True, capture_output=True)
    with disk_exports.shown("1-x", {0: disk}, "b1") as sources:
        assert list(backup_files.written_windows(sources[0], "a disk")) == [[(MIB, 64 << 10)]]


def test_what_a_killed_run_left_is_removed(disk: DiskFiles, place: Path) -> None:
    left = place / "1-x" / "disk.7"
    left.parent.mkdir(parents=True)
    left.touch()
    with disk_exports.shown("1-x", {0: disk}):
        assert os.listdir(place / "1-x") == ["disk.0"]


def test_why_a_disk_can_not_be_read(disk: DiskFiles) -> None:
    """Whoever reads gets an error at once, and it says what the program has said."""
    began = time.monotonic()
    with (
        pytest.raises(CommandFailed, match=r"qemu-nbd ended: .*nothing"),
        disk_exports.shown("1-x", {0: disk}, "nothing") as sources,
    ):
        list(backup_files.written_windows(sources[0], "a disk"))
    assert time.monotonic() - began < 20


def test_a_header_that_says_otherwise_is_refused(disk: DiskFiles) -> None:
    with pytest.raises(ImageRefused), disk_exports.shown("1-x", {0: DiskFiles(disk.path, "qcow2")}):
        pass


def test_the_fingerprint_changes_with_what_is_written(disk: DiskFiles) -> None:
    before = disk_exports.fingerprint({0: disk})
    assert before == disk_exports.fingerprint({0: disk})
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 8 1M 64k", disk.path], check=True, capture_output=True)
    assert before != disk_exports.fingerprint({0: disk})
