# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What applying a plan would do is foretold, and compared with what it then does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver
from memory_node import directory, machine, mark, plan

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError, NotFound, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record as records
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import poll
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import forecast
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import Forecast
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import MARK
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import TAR, Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    AGENT,
    CREATE,
    SAVE_AS,
    DiskTask,
    PlannedVm,
    TaskOutcome,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Os

CONTEXT = Context(1, "hda", variables={"A": "1"})


LATER = Context(1, "hda", variables={"A": "2"})


@pytest.mark.parametrize(
    ("first", "then", "changed"),
    [
        (("RUNNING", {}, {}), ("RUNNING", {}, {}), False),
        (("RUNNING", {"context": CONTEXT}, {}), ("RUNNING", {"context": CONTEXT}, {}), False),
        (("RUNNING", {"context": CONTEXT}, {}), ("RUNNING", {"context": LATER}, {}), True),
        (("RUNNING", {}, {}), ("RUNNING", {"memory": 128}, {}), True),
        (("RUNNING", {}, {}), ("POWEROFF", {}, {}), True),
        (("RUNNING", {}, {}), ("SUSPENDED", {}, {}), True),
        (("RUNNING", {}, {}), ("DONE", {}, {}), True),
        (("RUNNING", {}, {}), ("RUNNING", {}, {"operation": "reboot"}), True),
        (("RUNNING", {}, {"operation": "reboot"}), ("RUNNING", {}, {"operation": "reboot", "decided": 1}), False),
        (("POWEROFF", {}, {}), ("POWEROFF", {}, {}), False),
        (("POWEROFF", {}, {}), ("POWEROFF", {"memory": 128}, {}), True),
        (("DONE", {}, {}), ("DONE", {}, {}), False),
        (("DONE", {}, {}), ("RUNNING", {}, {}), True),
        (("RUNNING", {"attributes": {MARK: "x"}}, {}), ("RUNNING", {"attributes": {MARK: "x"}}, {}), False),
    ],
)
def test_check_mode_foretells_what_is_done(
    root: str, first: tuple[str, Any, Any], then: tuple[str, Any, Any], changed: bool
) -> None:
    driver = MemoryDriver()
    plans = [
        plan(number, PlannedVm(machine(**values), number, wanted, **orders))
        for number, (wanted, values, orders) in enumerate((first, then), 1)
    ]
    Batch(plans[0], driver, root).apply()
    driver.names()
    observed = poll.poll(driver, root, "node1")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in Path(root).rglob("*"))
    (foretold,) = forecast.predict(plans[1], observed, driver, root)
    assert driver.names() == []
    assert sorted((path.name, path.stat().st_mtime_ns) for path in Path(root).rglob("*")) == before
    (done,) = Batch(plans[1], driver, root).apply()
    assert (foretold.vm_id, foretold.generation, foretold.state, foretold.changed) == (0, 2, then[0], changed)
    assert (done.state, done.changed, done.error) == (then[0], changed, None)


def test_a_machine_that_would_start_with_its_host_against_what_is_wanted_would_change(root: str) -> None:
    driver, suspended = MemoryDriver(), PlannedVm(machine(), 2, "SUSPENDED")
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    Batch(plan(2, suspended), driver, root).apply()
    checked = Forecast(plan(2, suspended), driver, root)
    assert not checked.would_change(suspended)
    driver.machines[0].autostart = True
    assert checked.would_change(suspended)


def test_a_running_machine_that_would_not_start_with_its_host_would_change(root: str) -> None:
    driver, asked = MemoryDriver(), PlannedVm(machine(), 1, "RUNNING")
    Batch(plan(1, asked), driver, root).apply()
    assert not Forecast(plan(1, asked), driver, root).would_change(asked)
    driver.machines[0].autostart = False
    assert Forecast(plan(1, asked), driver, root).would_change(asked)


def test_a_task_that_is_not_done_yet_would_change_a_machine(root: str) -> None:
    driver = MemoryDriver()
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    asked = PlannedVm(machine(), 1, "RUNNING", tasks=(DiskTask(CREATE, "t1", 0),))
    assert Forecast(plan(1, asked), driver, root).would_change(asked)
    mark(directory(root), tasks=(TaskOutcome("t1"),), **_digests(root))
    assert not Forecast(plan(1, asked), driver, root).would_change(asked)


def _digests(root: str) -> dict[str, str]:
    found = records.read_record(str(directory(root)))
    return {} if found is None else {"definition": found.definition, "context": found.context}


def test_what_can_not_be_told_without_trying_counts_as_a_change(root: str) -> None:
    driver, asked = MemoryDriver(), PlannedVm(machine(), 1, "RUNNING")
    assert Forecast(plan(1, asked), driver, root).would_change(asked)
    directory(root).mkdir(parents=True)
    (directory(root) / records.RECORD).write_bytes(b"\xff\xfe{")
    assert Forecast(plan(1, asked), driver, root).would_change(asked)


def test_an_installer_that_has_ended_is_foretold_to_stay_so(root: str) -> None:
    driver, asked = MemoryDriver(), plan(1, PlannedVm(machine(attributes={MARK: "debian"}), 1, "RUNNING"))
    Batch(asked, driver, root).apply()
    driver.machines[0].state = "POWEROFF"
    (told,) = forecast.predict(asked, poll.poll(driver, root, "node1"), driver, root)
    assert (told.state, told.changed) == ("POWEROFF", False)


# -- what can't be done ------------------------------------------------------------------------------------------------
class Deaf(MemoryDriver):
    """Its guests have no agent."""

    def check_consistency(self, mark: Any, disk: Disk, consistency: str) -> None:
        if consistency == AGENT:
            raise Unsupported(f"disk {disk.disk_id}", "no guest agent answers", "Start one")

    def copy_disk(self, mark: Any, disk: Disk, path: str, format: str, consistency: str) -> None:
        self.check_consistency(mark, disk, consistency)
        super().copy_disk(mark, disk, path, format, consistency)

    def snapshot_disk(self, mark: Any, disk: Disk, tag: str, consistency: str) -> None:
        self.check_consistency(mark, disk, consistency)
        super().snapshot_disk(mark, disk, tag, consistency)


def told_and_done(driver: MemoryDriver, root: str, planned: PlannedVm) -> tuple[VmOutcome, VmOutcome]:
    asked = plan(2, planned)
    (told,) = forecast.predict(asked, poll.poll(driver, root, "node1"), driver, root)
    (done,) = Batch(asked, driver, root).apply()
    return told, done


@pytest.mark.parametrize(("kind", "consistency"), [(CREATE, AGENT), (CREATE, "crash")])
def test_a_task_for_which_no_agent_answers_is_foreseen_to_fail(root: str, kind: str, consistency: str) -> None:
    driver = Deaf()
    web = machine(disks=(Disk(0, "vda", type="FS", size=1, driver="qcow2"),))
    Batch(plan(1, PlannedVm(web, 1, "RUNNING")), driver, root).apply()
    task = DiskTask(kind, "t1", 0, name="before", consistency=consistency)
    told, done = told_and_done(driver, root, PlannedVm(web, 1, "RUNNING", tasks=(task,)))
    assert (told.error, told.state, told.changed) == (done.error, done.state, done.changed)
    assert (told.error is not None) == (consistency == AGENT)


def test_what_a_hypervisor_does_not_have_is_foreseen_to_fail(root: str) -> None:
    driver = MemoryDriver()
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    foreign = dataclasses.replace(machine(), hypervisor="xen")
    told, done = told_and_done(driver, root, PlannedVm(foreign, 2, "RUNNING"))
    assert told.error is not None
    assert (told.error, told.state, told.changed) == (done.error, done.state, done.changed)


def test_the_root_of_a_container_that_runs_is_foreseen_not_to_be_saved(root: str) -> None:
    driver = MemoryDriver()
    box = machine(disks=(Disk(0, "sda", type="FS", format=TAR),))
    task = DiskTask(SAVE_AS, "t1", 0, image="new", target=f"{root}/new")
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    told, _done = told_and_done(driver, root, PlannedVm(box, 1, "RUNNING", tasks=(task,)))
    assert told.error is not None and "Power it off first" in told.error["remedy"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"kernel": "/nowhere/vmlinuz"}, "OS/KERNEL = /nowhere/vmlinuz"),
        ({"initrd": "/nowhere/initrd"}, "OS/INITRD = /nowhere/initrd"),
        ({"kernel": "/etc/passwd"}, "OS/KERNEL = /etc/passwd"),
        ({"firmware": "/etc/passwd"}, "OS/FIRMWARE = /etc/passwd"),
        ({"kernel": "{here}"}, ""),
    ],
)
@pytest.mark.parametrize("before", ["", "POWEROFF"])
def test_a_file_of_the_host_that_a_machine_cannot_have_is_foreseen(
    root: str, tmp_path: Path, named: dict[str, str], words: str, before: str
) -> None:
    here = tmp_path / "vmlinuz"
    here.write_bytes(b"kernel")
    named = {key: path.format(here=here) for key, path in named.items()}
    driver = MemoryDriver()
    if before:
        Batch(plan(1, PlannedVm(machine(), 1, before)), driver, root).apply()
    told, done = told_and_done(driver, root, PlannedVm(machine(os=Os(**named)), 2, "RUNNING"))
    assert told.error == done.error
    assert (done.error["asked"] if done.error else "").endswith(words)
    assert bool(done.error) == bool(words)


@pytest.mark.parametrize("wanted", ["RUNNING", "POWEROFF"])
def test_a_machine_that_runs_or_stays_off_goes_on_without_its_kernel(root: str, wanted: str) -> None:
    driver = MemoryDriver()
    Batch(plan(1, PlannedVm(machine(), 1, wanted)), driver, root).apply()
    told, done = told_and_done(driver, root, PlannedVm(machine(os=Os(kernel="/nowhere/vmlinuz")), 2, wanted))
    assert told.error is None and done.error is None and done.state == wanted


@pytest.mark.parametrize(
    ("problem", "orders", "refused"),
    [
        (Unsupported("NIC 1, attached", "no slot is free"), {"refitted": True}, True),
        (Unsupported("NIC 1, attached", "no slot is free"), {"grown": (0,)}, False),
        # Memory and processors of a machine that grows.
        (Unsupported("MEMORY = 512", "no slot is free"), {"grows": True}, True),
        # Another decision, and what may be so by then.
        (Unsupported("NIC 1, attached", "no slot is free"), {}, False),
        (Unsupported("NIC 1, attached", "no slot is free"), {"refitted": True, "operation": "recreate"}, False),
        (NotFound("image a", "there is none"), {"refitted": True}, False),
    ],
)
def test_a_change_that_a_running_machine_cannot_have_is_foreseen(
    root: str, monkeypatch: pytest.MonkeyPatch, problem: NebulaError, orders: dict[str, Any], refused: bool
) -> None:
    def check(*_arguments: object) -> None:
        raise problem

    driver = MemoryDriver()
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    monkeypatch.setattr(driver, "check_adjustment", check)
    growth = Growth(memory=512) if orders.pop("grows", False) else None
    asked = plan(2, PlannedVm(machine(memory=128, growth=growth), 2, "RUNNING", **orders))
    (foretold,) = forecast.predict(asked, poll.poll(driver, root, "node1"), driver, root)
    assert (foretold.state, foretold.error) == ("RUNNING", problem.as_dict() if refused else None)
    assert foretold.changed is not refused
