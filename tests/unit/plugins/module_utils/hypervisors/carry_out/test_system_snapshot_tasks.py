# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node does with a snapshot of a whole machine, by a driver that only notes what it is asked, and by a real
qemu-img of a machine that is off."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    InvalidValue,
    NebulaError,
    NoSpace,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import system_snapshot_tasks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.system_snapshot_tasks import (
    carry_out,
    check,
    runs_after,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CREATE,
    SYSTEM_CREATE,
    SYSTEM_DELETE,
    SYSTEM_REVERT,
    DiskTask,
    TaskOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.system_snapshots import (
    SystemSnapshot,
    definition_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_saving

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")
MARK = Mark("0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 1)
VM = Vm(1, "u", "web", "memory", 1.0, 64, disks=(Disk(0, "vda"), Disk(1, "hda", type="CDROM"), Disk(2, "vdb")))
TAG = "nebula-system-0-ab"


class Driver(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.refuses: NebulaError | None = None

    def snapshot_machine(self, mark: Mark, disks: Any, tag: str) -> None:
        self.told.append(f"snapshot {[disk.disk_id for disk in disks]} {tag}")

    def revert_machine(self, mark: Mark, tag: str) -> None:
        self.told.append(f"revert {tag}")

    def delete_machine_snapshot(self, mark: Mark, disks: Any, tag: str) -> None:
        self.told.append(f"delete {[disk.disk_id for disk in disks]} {tag}")

    def forget_machine_snapshot(self, mark: Mark, tag: str) -> None:
        self.told.append(f"forget {tag}")

    def forget_checkpoints(self, mark: Mark, files: Any, prefix: str = "") -> None:
        self.told.append("forget checkpoints")

    def check_machine_snapshot(self, mark: Mark, tag: str = "", disks: Sequence[Disk] = ()) -> None:
        if self.refuses is not None:
            raise self.refuses


def task(kind: str, memory: bool = True) -> DiskTask:
    return DiskTask(kind, "1", 0, snapshot_id=0, name="a", mark="ab", memory=memory)


def known(vm: Vm, memory: bool = True, disks: tuple[int, ...] = (0, 2)) -> Vm:
    return replace(vm, system_snapshots=(SystemSnapshot(0, "a", memory, 0, "ab", disks, definition_of(vm)),))


@pytest.fixture
def files(tmp_path: Path) -> dict[int, DiskFiles]:
    return {number: DiskFiles(str(tmp_path / f"disk.{number}"), "qcow2") for number in (0, 1, 2)}


@pytest.fixture
def disks(files: dict[int, DiskFiles]) -> dict[int, DiskFiles]:
    for each in files.values():
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", each.path, "2M"], check=True)
    return files


def tags(files: dict[int, DiskFiles]) -> list[list[str]]:
    found = []
    for each in files.values():
        done = subprocess.run(["qemu-img", "info", "--output=json", each.path], check=True, capture_output=True)
        found.append([one["name"] for one in json.loads(done.stdout).get("snapshots", ())])
    return found


def test_only_going_back_to_memory_is_in_place_of_a_start() -> None:
    found = [runs_after(task(kind, memory)) for kind in (SYSTEM_CREATE, SYSTEM_REVERT) for memory in (True, False)]
    assert found == [False, False, True, False]


def test_a_machine_that_runs_is_the_drivers(files: dict[int, DiskFiles]) -> None:
    driver = Driver()
    assert carry_out(task(SYSTEM_CREATE), VM, MARK, files, "RUNNING", driver) == TaskOutcome("1")
    vm = known(VM, disks=(0,))
    carry_out(task(SYSTEM_REVERT), vm, MARK, files, "RUNNING", driver)
    carry_out(task(SYSTEM_DELETE), vm, MARK, files, "RUNNING", driver)
    # A disk that came later is not in it.
    assert driver.told == [f"snapshot [0, 2] {TAG}", f"revert {TAG}", f"delete [0] {TAG}"]


@needs_qemu_img
def test_one_that_is_off_has_it_in_all_of_its_disks(disks: dict[int, DiskFiles]) -> None:
    driver = Driver()
    carry_out(task(SYSTEM_CREATE, False), VM, MARK, disks, "POWEROFF", driver)
    assert tags(disks) == [[TAG], [], [TAG]]
    # Some of it is there, as after a kill: it is of another moment.
    subprocess.run(["qemu-img", "snapshot", "-d", TAG, disks[2].path], check=True)
    carry_out(task(SYSTEM_CREATE, False), VM, MARK, disks, "POWEROFF", driver)
    carry_out(task(SYSTEM_CREATE, False), VM, MARK, disks, "POWEROFF", driver)
    assert tags(disks) == [[TAG], [], [TAG]]
    vm = known(VM, memory=False)
    for name in ("nebula-0123abcd-1", "nebula-4567abcd-2"):
        subprocess.run(["qemu-img", "bitmap", "--add", disks[0].path, name], check=True)
    carry_out(task(SYSTEM_REVERT, False), vm, MARK, disks, "POWEROFF", driver)
    info = subprocess.run(["qemu-img", "info", "--output=json", disks[0].path], check=True, capture_output=True)
    assert "bitmaps" not in json.loads(info.stdout)["format-specific"]["data"]
    carry_out(task(SYSTEM_DELETE, False), vm, MARK, disks, "POWEROFF", driver)
    assert tags(disks) == [[], [], []]
    assert driver.told == ["forget checkpoints", f"forget {TAG}"]


@needs_qemu_img
def test_what_lacks_it_does_not_go_back(disks: dict[int, DiskFiles]) -> None:
    driver = Driver()
    carry_out(task(SYSTEM_CREATE, False), VM, MARK, disks, "POWEROFF", driver)
    subprocess.run(["qemu-img", "snapshot", "-d", TAG, disks[2].path], check=True)
    for memory in (True, False):
        with pytest.raises(NotFound, match="holds none of that name") as caught:
            carry_out(task(SYSTEM_REVERT, memory), known(VM, memory), MARK, disks, "POWEROFF", driver)
        assert "disk 2" in caught.value.asked
    assert driver.told == []


@needs_qemu_img
def test_where_one_disk_fails_none_has_it(disks: dict[int, DiskFiles]) -> None:
    lacks = {**disks, 2: replace(disks[2], path=f"{disks[2].path}.not")}
    with pytest.raises(NebulaError):
        carry_out(task(SYSTEM_CREATE, False), VM, MARK, lacks, "POWEROFF", Driver())
    assert tags(disks) == [[], [], []]


@needs_qemu_img
def test_one_that_is_off_goes_on_by_the_driver(disks: dict[int, DiskFiles]) -> None:
    driver = Driver()
    for number in (0, 2):
        subprocess.run(["qemu-img", "snapshot", "-c", TAG, disks[number].path], check=True)
    carry_out(task(SYSTEM_REVERT), known(VM), MARK, disks, "POWEROFF", driver)
    assert driver.told == ["forget checkpoints", f"revert {TAG}"]


@pytest.mark.parametrize(
    ("one", "state", "vm", "error", "found"),
    [
        (task(SYSTEM_CREATE), "POWEROFF", VM, WrongState, "is POWEROFF by now"),
        (task(SYSTEM_CREATE, False), "RUNNING", VM, WrongState, "is RUNNING by now"),
        (task(SYSTEM_CREATE), "SUSPENDED", VM, WrongState, "SUSPENDED"),
        (task(SYSTEM_CREATE), "RUNNING", replace(VM, os=Os(firmware="UEFI")), Unsupported, "UEFI"),
        (task(SYSTEM_REVERT, False), "RUNNING", VM, WrongState, "was off when it was made"),
        (task(SYSTEM_REVERT), "RUNNING", replace(known(VM), memory=32), InvalidValue, "MEMORY was 64 MiB"),
        (DiskTask(CREATE, "1", 0), "RUNNING", VM, InvalidValue, "is not known here"),
    ],
)
def test_what_can_not_be_is_refused_as_it_is_foretold(
    one: DiskTask,
    state: str,
    vm: Vm,
    error: type[NebulaError],
    found: str,
    files: dict[int, DiskFiles],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver()
    monkeypatch.setattr(disk_saving, "delete_snapshot", lambda _files, _tag: False)
    for act in (
        lambda: check(one, vm, MARK, state, driver),
        lambda: carry_out(one, vm, MARK, files, state, driver),
    ):
        with pytest.raises(error, match=found) as caught:
            act()
        assert caught.value.asked.startswith("virtual machine web: ")
    # What a run that was killed has left goes with the task.
    assert driver.told == ([f"forget {TAG}"] if one.kind == SYSTEM_CREATE and "by now" in found and one.memory else [])


def test_what_the_driver_finds_is_told_before(files: dict[int, DiskFiles]) -> None:
    driver = Driver()
    driver.refuses = NotFound("snapshot", "libvirt does not know it")
    with pytest.raises(NotFound):
        carry_out(task(SYSTEM_REVERT), known(VM), MARK, files, "RUNNING", driver)
    assert driver.told == []


def test_a_disk_that_is_no_qcow2_here_has_none(files: dict[int, DiskFiles]) -> None:
    raw = {**files, 2: replace(files[2], format="raw")}
    with pytest.raises(Unsupported, match="no qcow2 file") as caught:
        carry_out(task(SYSTEM_CREATE), VM, MARK, raw, "RUNNING", Driver())
    assert "disk 2" in caught.value.asked


def test_room_for_the_memory_is_looked_for(files: dict[int, DiskFiles], monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(system_snapshot_tasks, "MARGIN", 1 << 60)
    with pytest.raises(NoSpace):
        carry_out(task(SYSTEM_CREATE), VM, MARK, files, "RUNNING", driver)
    assert driver.told == []


@pytest.mark.parametrize("state", ["RUNNING", "POWEROFF"])
def test_what_failed_is_taken_away(files: dict[int, DiskFiles], monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    class Failing(Driver):
        def snapshot_machine(self, mark: Mark, disks: Any, tag: str) -> None:
            raise HypervisorError("snapshot", "QEMU says no")

        def state(self, mark: Mark) -> str:
            return state

    driver = Failing()
    removed: list[str] = []
    monkeypatch.setattr(disk_saving, "delete_snapshot", lambda files, tag: removed.append(f"{files.path[-1]} {tag}"))
    with pytest.raises(HypervisorError, match="QEMU says no"):
        carry_out(task(SYSTEM_CREATE), VM, MARK, files, "RUNNING", driver)
    if state == "RUNNING":
        assert (driver.told, removed) == ([f"delete [0, 2] {TAG}"], [])
    else:
        assert (driver.told, removed) == ([f"forget {TAG}"], [f"0 {TAG}", f"2 {TAG}"])
