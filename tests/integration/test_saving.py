# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of machines that are off, by qemu-img: saved as images and their snapshots, whatever their headers say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_saves_and_snapshots
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CRASH,
    CREATE,
    REVERT,
    SAVE_AS,
    DiskTask,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_saving

SECRET = b"of this host alone"


def sh(*argv: object) -> str:
    return subprocess.run([str(word) for word in argv], check=True, capture_output=True, text=True).stdout


def machine(disk: Disk) -> Vm:
    return Vm(1, "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001", "web", "kvm", 1.0, 64, disks=(disk,))


class OffDriver(KvmDriver):
    """Of a machine that is off, and whose domain has no checkpoints: it is asked for nothing but the names that it
    takes."""

    def forget_checkpoints(self, mark: Mark, files: Any, prefix: str = "") -> None:
        pass


DRIVER = object.__new__(OffDriver)


def carry_out(task: DiskTask, path: Path, format: str, state: str = "POWEROFF") -> object:
    disk = Disk(0, "vda", driver=format)
    mark = Mark("catalog", 1, "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001")
    # No driver: what is tested here is refused before, or needs none.
    return disk_saves_and_snapshots.carry_out(
        task, machine(disk), mark, {0: DiskFiles(str(path), format)}, state, DRIVER
    )


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
    with pytest.raises(ImageRefused, match=r"another file|by the catalog it rests on nothing"):
        carry_out(task, disk, "qcow2")
    assert not target.exists()


def test_no_snapshot_is_made_in_a_disk_that_names_another_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk.0"
    sh("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", tmp_path / "nowhere", disk, "1M")
    with pytest.raises(ImageRefused, match="by the catalog it rests on nothing"):
        disk_saving.create_snapshot(DiskFiles(str(disk), "qcow2"), "nebula-0-a")


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


MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A datastore on a file system of 80 MiB, of which 64 are kept free."""
    place = tmp_path / "small"
    place.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=80m", "none", place)
    yield place
    sh("umount", place)


def holding(path: Path, data: int, size: int, *options: str) -> Path:
    """A qcow2 file of `size` MiB, in which `data` MiB are written, one every other MiB."""
    plain = path.parent / "plain.raw"
    with plain.open("wb") as file:
        file.truncate(size * MIB)
        for start in range(0, 2 * data, 2):
            file.seek(start * MIB)
            file.write(b"nebula, " * (MIB // 8))
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, plain, path)
    plain.unlink()
    return path


def seen(path: Path) -> list[tuple[bytes, int]]:
    return [(each.read_bytes(), each.stat().st_mtime_ns) for each in sorted(path.glob("*.qcow2"))]


needs_root = pytest.mark.root


@needs_root
@pytest.mark.parametrize("state", ["POWEROFF", "RUNNING"])
@pytest.mark.parametrize("how", ["itself", "below"])
def test_a_compressed_disk_needs_the_room_of_what_it_holds(tmp_path: Path, small: Path, how: str, state: str) -> None:
    disk = holding(tmp_path / "disk.qcow2", 24, 1024, "-c")
    files = DiskFiles(str(disk), "qcow2")
    if how == "below":
        disk = tmp_path / "overlay.qcow2"
        sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", files.path, disk, "1G")
        files = DiskFiles(str(disk), "qcow2", ((files.path, "qcow2"),))
    before = seen(tmp_path)
    task = DiskTask(SAVE_AS, "1", 0, CRASH, 1, "saved", str(small / "saved"), "qcow2")
    mark = Mark("catalog", 1, "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001")
    vm = machine(Disk(0, "vda", driver="qcow2"))
    with pytest.raises(NoSpace, match=r"machine web: disk 0: save_as saved: 25\.\d MiB in .*16\.0 MiB are free"):
        # No driver: of a running machine it is refused before anybody is asked for a copy.
        disk_saves_and_snapshots.carry_out(task, vm, mark, {0: files}, state, DRIVER)
    assert seen(tmp_path) == before and list(small.iterdir()) == []


@needs_root
@pytest.mark.parametrize("options", [[], ["-c"]], ids=["plain", "compressed"])
def test_a_large_disk_with_little_in_it_fits(tmp_path: Path, small: Path, options: list[str]) -> None:
    """All of its tables would not."""
    disk = holding(tmp_path / "disk.qcow2", 4, 1024 * 1024, *options)
    carry_out(DiskTask(SAVE_AS, "1", 0, CRASH, 1, "saved", str(small / "saved"), "qcow2"), disk, "qcow2")
    assert 4 * MIB < (small / "saved").stat().st_blocks * 512 < 6 * MIB
    assert [each.name for each in small.iterdir()] == ["saved"]


@needs_root
def test_a_copy_that_qemu_makes_needs_the_room_of_all_its_tables(tmp_path: Path, small: Path) -> None:
    """It marks in them what is empty."""
    disk = holding(tmp_path / "disk.qcow2", 1, 1024 * 1024)
    # As a QEMU that runs holds it.
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", disk], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdin.write("write 0 64k\n")
        holder.stdin.flush()
        while "wrote" not in holder.stdout.readline():
            pass
        task = DiskTask(SAVE_AS, "1", 0, CRASH, 1, "saved", str(small / "saved"), "qcow2")
        with pytest.raises(NoSpace, match=r"save_as saved: 16\d\.\d MiB in"):
            carry_out(task, disk, "qcow2", "RUNNING")
        assert list(small.iterdir()) == []
        holder.stdin.close()


@needs_root
def test_snapshots_that_stay_behind_take_no_room(tmp_path: Path, small: Path) -> None:
    disk = holding(tmp_path / "disk.qcow2", 7, 64)
    assert disk_saving.create_snapshot(DiskFiles(str(disk), "qcow2"), "nebula-0-a")
    sh("qemu-io", "-f", "qcow2", "-c", "write 0 13M", disk)
    assert disk.stat().st_blocks * 512 > 19 * MIB
    carry_out(DiskTask(SAVE_AS, "1", 0, CRASH, 1, "saved", str(small / "saved"), "qcow2"), disk, "qcow2")
    assert (small / "saved").exists()
