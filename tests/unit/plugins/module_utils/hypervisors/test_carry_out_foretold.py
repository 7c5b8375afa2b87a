# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a node without changing anything: what its directories say, what a poll sees, and what applying a
plan would do, which is compared with what it then does."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_hypervisor import Machine, MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, HypervisorError, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.host import node
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import carry_out
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import Batch, Record
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import MARK
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.plain import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    DiskTask,
    Plan,
    PlannedVm,
    TaskOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"


def machine(vm_id: int = 0, **values: Any) -> Vm:
    values = {"memory": 64, **values}
    return Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "memory", 1.0, **values)


def plan(number: int, *planned: PlannedVm) -> Plan:
    return Plan(CATALOG, number, "node1", planned)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A node's, without waiting for the disk: no power cut is shown here."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    node.update(str(tmp_path), lambda before: before)
    return str(tmp_path)


def directory(root: str, vm_id: int = 0) -> Path:
    return Path(root, "datastores", "0", str(vm_id))


def mark(place: Path, **values: Any) -> None:
    place.mkdir(parents=True, exist_ok=True)
    record = Record(**{"catalog": CATALOG, "vm_id": int(place.name), "uuid": f"uuid-{place.name}", **values})
    (place / carry_out.RECORD).write_text(json.dumps(to_plain(record)), encoding="utf-8")


# -- a machine's record ------------------------------------------------------------------------------------------------
# What no field of any document may hold is refused: a NUL.
words = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Record,
        words,
        st.integers(0, 1 << 40),
        words,
        generation=st.integers(0, 1 << 40),
        definition=words,
        tasks=st.lists(st.builds(TaskOutcome, words, st.integers(0, 1 << 30)), max_size=3).map(tuple),
        images=st.lists(words, max_size=3).map(tuple),
    )
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert from_plain(Record, json.loads(json.dumps(to_plain(record)))) == record


def test_where_there_is_no_record_or_an_empty_one_there_is_none(tmp_path: Path) -> None:
    assert carry_out.read_record(str(tmp_path)) is None
    assert carry_out.read_record(str(tmp_path / "absent")) is None
    (tmp_path / carry_out.RECORD).write_text(" \n", encoding="ascii")
    assert carry_out.read_record(str(tmp_path)) is None
    mark(tmp_path / "7", generation=3)
    assert carry_out.read_record(str(tmp_path / "7")) == Record(CATALOG, 7, "uuid-7", 3)


def _garbage(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{")


def _another_form(path: Path) -> None:
    path.write_text('{"catalog": 7, "vm_id": "x"}', encoding="ascii")


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("make", [_garbage, _another_form, _link])
def test_a_record_that_can_not_be_read_is_somebodys(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / carry_out.RECORD)
    with pytest.raises(ForeignObject, match=f"file {tmp_path}/vm.json: it can't be read.*move the directory away"):
        carry_out.read_record(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "left"),
    [(".vm.json.x1.tmp", True), (".tmp", True), ("vm.json.tmp", False), (".vm.json", False), ("disk.0", False)],
)
def test_what_a_killed_run_was_writing_is_known_by_its_name(name: str, left: bool) -> None:
    assert carry_out.left_behind(name) is left


def test_directories_without_the_catalogs_mark_are_foreign(root: str) -> None:
    assert carry_out.foreign_directories(root, CATALOG) == frozenset()
    mark(directory(root, 1))
    mark(directory(root, 2), catalog=OTHER)
    for number, file in ((3, "disk.0"), (4, ".disk.0.tmp"), (5, carry_out.RECORD)):
        directory(root, number).mkdir()
        (directory(root, number) / file).touch()
    (directory(root, 6)).mkdir()
    (directory(root, 7)).write_text("a file", encoding="ascii")
    _garbage_at = directory(root, 8)
    _garbage_at.mkdir()
    _garbage(_garbage_at / carry_out.RECORD)
    for name in ("09", "lost+found", "-1"):
        Path(root, "datastores", "0", name).mkdir()
    assert carry_out.foreign_directories(root, CATALOG) == {2, 3, 7, 8}
    assert carry_out.foreign_directories(root, OTHER) == {1, 3, 7, 8}


# -- what is refused by name -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "operation"), [(SAVE_AS, "copy_disk"), (CREATE, "snapshot_disk"), (DELETE, "delete_disk_snapshot")]
)
def test_a_task_needs_the_driver_only_while_the_machine_runs(
    kind: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryDriver, "capabilities", Driver.OPTIONAL - {operation})
    task = DiskTask(kind, "t", 0)
    carry_out.check_supported(PlannedVm(machine(), 1, "POWEROFF", tasks=(task,)), MemoryDriver())
    with pytest.raises(Unsupported, match=f"virtual machine web-0: {operation}: hypervisor memory can't") as caught:
        carry_out.check_supported(PlannedVm(machine(), 1, "RUNNING", tasks=(task,)), MemoryDriver())
    assert "shutdown" in caught.value.remedy
    carry_out.check_supported(PlannedVm(machine(), 1, "RUNNING", tasks=(DiskTask(REVERT, "t", 0),)), MemoryDriver())


@pytest.mark.parametrize(
    ("wanted", "installs", "state", "started", "was"),
    [
        ("RUNNING", True, "POWEROFF", 3, True),
        ("RUNNING", True, "POWEROFF", 4, True),
        ("RUNNING", True, "POWEROFF", 2, False),
        ("RUNNING", True, "POWEROFF", None, False),
        ("RUNNING", True, "RUNNING", 3, False),
        ("RUNNING", True, None, 3, False),
        ("RUNNING", False, "POWEROFF", 3, False),
        ("POWEROFF", True, "POWEROFF", 3, False),
    ],
)
def test_only_an_installer_that_this_decision_has_started_is_over(
    wanted: str, installs: bool, state: Optional[str], started: Optional[int], was: bool
) -> None:
    planned = PlannedVm(machine(attributes={MARK: "debian"} if installs else {}), 3, wanted)
    record = None if started is None else Record(CATALOG, 0, "uuid-0", started=started)
    assert carry_out.was_started(planned, record, state) is was


# -- what applying a plan would do -------------------------------------------------------------------------------------
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
    observed = carry_out.poll(driver, root, "node1")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in Path(root).rglob("*"))
    (foretold,) = carry_out.predict(plans[1], observed, driver, root)
    assert driver.names() == []
    assert sorted((path.name, path.stat().st_mtime_ns) for path in Path(root).rglob("*")) == before
    (done,) = Batch(plans[1], driver, root).apply()
    assert (foretold.vm_id, foretold.generation, foretold.state, foretold.changed) == (0, 2, then[0], changed)
    assert (done.state, done.changed, done.error) == (then[0], changed, None)


def test_a_machine_that_would_start_with_its_host_against_what_is_wanted_would_change(root: str) -> None:
    driver, suspended = MemoryDriver(), PlannedVm(machine(), 2, "SUSPENDED")
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    Batch(plan(2, suspended), driver, root).apply()
    checked = Batch(plan(2, suspended), driver, root)
    assert not checked.would_change(suspended)
    driver.machines[0].autostart = True
    assert checked.would_change(suspended)


def test_a_running_machine_that_would_not_start_with_its_host_would_change(root: str) -> None:
    driver, asked = MemoryDriver(), PlannedVm(machine(), 1, "RUNNING")
    Batch(plan(1, asked), driver, root).apply()
    assert not Batch(plan(1, asked), driver, root).would_change(asked)
    driver.machines[0].autostart = False
    assert Batch(plan(1, asked), driver, root).would_change(asked)


def test_a_task_that_is_not_done_yet_would_change_a_machine(root: str) -> None:
    driver = MemoryDriver()
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    asked = PlannedVm(machine(), 1, "RUNNING", tasks=(DiskTask(CREATE, "t1", 0),))
    assert Batch(plan(1, asked), driver, root).would_change(asked)
    mark(directory(root), tasks=(TaskOutcome("t1"),), **_digests(root))
    assert not Batch(plan(1, asked), driver, root).would_change(asked)


def _digests(root: str) -> dict[str, str]:
    record = carry_out.read_record(str(directory(root)))
    return {} if record is None else {"definition": record.definition, "context": record.context}


def test_what_can_not_be_told_without_trying_counts_as_a_change(root: str) -> None:
    driver, asked = MemoryDriver(), PlannedVm(machine(), 1, "RUNNING")
    assert Batch(plan(1, asked), driver, root).would_change(asked)
    directory(root).mkdir(parents=True)
    _garbage(directory(root) / carry_out.RECORD)
    assert Batch(plan(1, asked), driver, root).would_change(asked)


def test_an_installer_that_has_ended_is_foretold_to_stay_so(root: str) -> None:
    driver, asked = MemoryDriver(), plan(1, PlannedVm(machine(attributes={MARK: "debian"}), 1, "RUNNING"))
    Batch(asked, driver, root).apply()
    driver.machines[0].state = "POWEROFF"
    (told,) = carry_out.predict(asked, carry_out.poll(driver, root, "node1"), driver, root)
    assert (told.state, told.changed) == ("POWEROFF", False)


# -- a poll ------------------------------------------------------------------------------------------------------------
def test_a_poll_tells_what_is_there(root: str) -> None:
    driver = MemoryDriver(foreign_memory=12)
    wanted = (PlannedVm(machine(number), 4, state) for number, state in enumerate(("RUNNING", "POWEROFF", "RUNNING")))
    Batch(plan(9, *wanted), driver, root).apply()
    (directory(root, 1) / carry_out.CHECKPOINT).touch()
    # One of a killed run: the node has acted on a later decision than the hypervisor has written down.
    driver.machines[2].generation = 1
    driver.machines[8] = Machine("x", "")
    mark(directory(root, 7), catalog=OTHER)
    found = carry_out.poll(driver, root, "node1")
    assert [(vm.vm_id, vm.state, vm.generation) for vm in found.vms] == [
        (0, "RUNNING", 4),
        (1, "SUSPENDED", 4),
        (2, "RUNNING", 4),
    ]
    assert (found.host, found.hypervisor, found.catalog) == ("node1", "memory", CATALOG)
    assert (found.plan_number, found.done_number) == (9, 9)
    assert (found.memory, found.cpu, found.foreign_memory) == (4096, 2.0, 12)
    assert found.foreign_ids == (7, 8)
    assert found.facts["accelerator"] == "memory"


def test_a_running_machine_whose_checkpoint_is_still_there_runs(root: str) -> None:
    driver = MemoryDriver()
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    (directory(root) / carry_out.CHECKPOINT).touch()
    assert [vm.state for vm in carry_out.poll(driver, root, "node1").vms] == ["RUNNING"]


def test_ports_of_our_own_running_machines_are_not_taken(root: str) -> None:
    driver = MemoryDriver()
    with socket.socket() as taken:
        port = next(port for port in range(5900, 6900) if _bound(taken, port))
        taken.listen()
        assert port in carry_out.poll(driver, root, "node1").ports
        driver.machines[0] = Machine("uuid-0", CATALOG, "RUNNING")
        mark(directory(root), port=port)
        node.accept(root, CATALOG, 1)
        assert port not in carry_out.poll(driver, root, "node1").ports
        driver.machines[0].state = "POWEROFF"
        assert port in carry_out.poll(driver, root, "node1").ports


def _bound(to: socket.socket, port: int) -> bool:
    try:
        to.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def test_a_node_without_its_hypervisor_tells_the_rest(root: str) -> None:
    found = carry_out.poll(None, root, "node1", hypervisor="xen")
    assert (found.hypervisor, found.vms, found.foreign_memory) == ("xen", (), 0)
    assert (found.memory, found.cpu) == (node.memory(), float(node.processors()))


def test_a_poll_of_another_catalog_sees_that_ones_machines(root: str) -> None:
    driver = MemoryDriver(machines={0: Machine("a", CATALOG), 1: Machine("b", OTHER)})
    assert [vm.uuid for vm in carry_out.poll(driver, root, "node1", OTHER).vms] == ["b"]
    node.accept(root, CATALOG, 1)
    assert [vm.uuid for vm in carry_out.poll(driver, root, "node1").vms] == ["a"]


# -- the console's port ------------------------------------------------------------------------------------------------
def test_an_address_that_this_node_does_not_have_is_left_to_the_hypervisor(root: str) -> None:
    vm = machine(graphics=Graphics(port=5999, listen="192.0.2.1"))
    (outcome,) = Batch(plan(1, PlannedVm(vm, 1, "RUNNING")), MemoryDriver(), root).apply()
    assert (outcome.state, outcome.error) == ("RUNNING", None)


def test_an_error_of_the_driver_does_not_keep_the_log_from_being_written(root: str) -> None:
    driver = MemoryDriver(fails={"start": HypervisorError("starting it", "no", "yes")})
    (outcome,) = Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    assert any("starting it: no. yes" in line for line in outcome.log)
    assert "starting it: no. yes" in (directory(root) / "vm.log").read_text(encoding="utf-8")


def test_room_is_not_looked_for_where_the_plan_tells_none(root: str) -> None:
    driver = MemoryDriver(foreign_memory=1 << 30)
    asked = replace(plan(1, PlannedVm(machine(), 1, "RUNNING")), memory=0, foreign_memory=1)
    assert [each.state for each in Batch(asked, driver, root).apply()] == ["RUNNING"]
