# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of machines that are off, by qemu-img: saved as images and their snapshots, whatever their headers say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import disk_tasks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CRASH,
    CREATE,
    REVERT,
    SAVE_AS,
    DiskTask,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import saving

SECRET = b"of this host alone"


def sh(*argv: object) -> str:
    return subprocess.run([str(word) for word in argv], check=True, capture_output=True, text=True).stdout


def machine(disk: Disk) -> Vm:
    return Vm(1, "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001", "web", "kvm", 1.0, 64, disks=(disk,))


def carry_out(task: DiskTask, path: Path, format: str, state: str = "POWEROFF") -> object:
    disk = Disk(0, "vda", driver=format)
    mark = Mark("catalog", 1, "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001")
    # No driver: what is tested here is refused before, or needs none.
    return disk_tasks.carry_out(task, machine(disk), mark, {0: DiskFiles(str(path), format)}, state, None)  # type: ignore[arg-type]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.raw"
    path.write_bytes(SECRET.ljust(1 << 20, b"\0"))
    return path


@pytest.mark.parametrize("how", ["backing", "data file"])
def test_what_a_header_names_is_not_read(tmp_path: Path, secret: Path, how: str) -> None:
    """The catalog knows of nothing below the disk: a QEMU that was taken over has written that there is."""
    disk, target = tmp_path / "disk.0", tmp_path / "saved"
    if how == "backing":
        sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, disk, "1M")
    else:
        sh("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={secret},data_file_raw=on", disk, "1M")
        secret.write_bytes(SECRET.ljust(1 << 20, b"\0"))
    task = DiskTask(SAVE_AS, "1", 0, CRASH, 1, "saved", str(target), "qcow2")
    if how == "backing":
        carry_out(task, disk, "qcow2")
        found = json.loads(sh("qemu-img", "info", "--output=json", "-f", "qcow2", target))
        assert "backing-filename" not in found
        sh("qemu-img", "convert", "-f", "qcow2", "-O", "raw", target, tmp_path / "read.raw")
        assert not (tmp_path / "read.raw").read_bytes().strip(b"\0")
    else:
        with pytest.raises(ImageRefused, match="another file"):
            carry_out(task, disk, "qcow2")
        assert not target.exists()


def test_snapshots_open_nothing_that_a_header_names(tmp_path: Path) -> None:
    """A file that is not there would be an error, were it opened."""
    disk = tmp_path / "disk.0"
    sh("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", tmp_path / "nowhere", disk, "1M")
    files = DiskFiles(str(disk), "qcow2")
    assert saving.create_snapshot(files, "nebula-0-a")
    saving.revert(files, "nebula-0-a", "disk")
    assert saving.delete_snapshot(files, "nebula-0-a")


def test_a_forgotten_snapshot_of_the_same_number_is_another(tmp_path: Path) -> None:
    disk = tmp_path / "disk.0"
    sh("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M")

    def write(byte: int) -> None:
        sh("qemu-io", "-f", "qcow2", "-c", f"write -P {byte} 0 64k", disk)

    write(0x11)
    # By a task that was given up after it was done, and by one of a version that knew no marks.
    carry_out(DiskTask(CREATE, "1", 0, snapshot_id=0, name="a", mark="old"), disk, "qcow2")
    carry_out(DiskTask(CREATE, "1", 0, snapshot_id=0, name="a"), disk, "qcow2")
    write(0x22)
    made = DiskTask(CREATE, "2", 0, snapshot_id=0, name="a", mark="new")
    carry_out(made, disk, "qcow2")
    write(0x33)
    # Again, as by a run that was killed before it could say so: it is there.
    carry_out(made, disk, "qcow2")
    carry_out(DiskTask(REVERT, "3", 0, snapshot_id=0, name="a", mark="new"), disk, "qcow2")
    sh("qemu-io", "-f", "qcow2", "-c", "read -P 0x22 0 64k", disk)
    assert "Pattern verification failed" not in sh("qemu-io", "-f", "qcow2", "-c", "read -P 0x22 0 64k", disk)


def test_a_running_raw_disk_needs_all_of_its_room(tmp_path: Path) -> None:
    """QEMU writes its zeroes too; it takes nothing now."""
    disk, target = tmp_path / "disk.0", tmp_path / "saved"
    found = os.statvfs(tmp_path)
    with disk.open("wb") as file:
        file.truncate(found.f_bavail * found.f_frsize + (1 << 30))
    task = DiskTask(SAVE_AS, "1", 0, CRASH, 1, "saved", str(target), "raw")
    with pytest.raises(NoSpace):
        carry_out(task, disk, "raw", "RUNNING")
    assert [path.name for path in tmp_path.iterdir()] == ["disk.0"]
