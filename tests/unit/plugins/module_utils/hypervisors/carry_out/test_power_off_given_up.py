# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that were given up are powered off by a plan of their node, and keep all their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from memory_hypervisor import Machine, MemoryDriver
from memory_node import CATALOG, Node, machine

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import fence
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.power_off_given_up import (
    SHUTDOWN_SECONDS,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import GivenUp, Plan, PlannedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm


class Host(Node):
    def plan(self, *vms: PlannedVm, state: str = "RUNNING", given_up: tuple[int, ...] = (0,)) -> Plan:
        self.number += 1
        found = tuple(GivenUp(number, f"uuid-{number}", f"web-{number}", "node1", state) for number in given_up)
        return Plan(CATALOG, self.number, "node1", vms, given_up=found)

    def carry_out(self, plan: Plan) -> list[VmOutcome]:
        return Batch(plan, self.driver, str(self.root)).apply()

    def make(self, vm_id: int = 0) -> None:
        self.apply(PlannedVm(machine(vm_id), 1, "RUNNING"))
        self.driver.names()


@pytest.fixture
def here(here: Node) -> Host:
    return Host(here.root)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "vm.log"}


def told(outcome: VmOutcome) -> tuple[int, str, bool, str]:
    return outcome.generation, outcome.state, outcome.changed, outcome.error["kind"] if outcome.error else ""


def test_it_is_asked_to_shut_down_and_starts_no_more_with_its_host(here: Host) -> None:
    here.make()
    before = files(here.directory())
    (outcome,) = here.carry_out(here.plan())
    assert told(outcome) == (0, "POWEROFF", True, "")
    assert here.driver.names() == ["no autostart", "shutdown"] and here.driver.timeouts == [SHUTDOWN_SECONDS]
    assert here.driver.machines[0].state == "POWEROFF" and not here.driver.machines[0].autostart
    assert files(here.directory()) == before
    assert "It was given up with its host" in (here.directory() / "vm.log").read_text(encoding="utf-8")
    # The same once more.
    assert told(here.carry_out(here.plan())[0]) == (0, "POWEROFF", False, "")
    assert here.driver.names() == []


def late(driver: MemoryDriver) -> None:
    driver.fails["shutdown"] = TimedOut("the guest", "it did not obey")


def paused(driver: MemoryDriver) -> None:
    driver.machines[0].state = "UNKNOWN"


def deaf(driver: MemoryDriver) -> None:
    driver.capabilities = frozenset()


@pytest.mark.parametrize(
    ("trouble", "asked"),
    [
        (late, ["no autostart", "shutdown", "cancel"]),
        (paused, ["no autostart", "cancel"]),
        (deaf, ["no autostart", "cancel"]),
    ],
)
def test_one_that_does_not_obey_ends_all_the_same(
    here: Host, trouble: Callable[[MemoryDriver], None], asked: list[str]
) -> None:
    here.make()
    trouble(here.driver)
    assert told(here.carry_out(here.plan())[0]) == (0, "POWEROFF", True, "")
    assert here.driver.names() == asked


def test_one_that_is_off_is_kept_from_starting_with_its_host(here: Host) -> None:
    here.make()
    here.driver.machines[0].state = "POWEROFF"
    assert told(here.carry_out(here.plan(state="POWEROFF"))[0]) == (0, "POWEROFF", True, "")
    assert here.driver.names() == ["no autostart"]


def test_one_that_is_gone_is_gone(here: Host) -> None:
    assert told(here.carry_out(here.plan())[0]) == (0, "DONE", False, "")
    assert not here.directory().exists()


def test_machines_of_the_plan_go_on_beside_them(here: Host) -> None:
    here.make()
    vm = Vm(5, "uuid-5", "web-5", "memory", 1.0, 64)
    outcomes = here.carry_out(here.plan(PlannedVm(vm, 1, "RUNNING")))
    assert [(each.vm_id, each.state) for each in outcomes] == [(5, "RUNNING"), (0, "POWEROFF")]


def test_what_is_somebody_elses_is_left_alone(here: Host) -> None:
    here.driver.machines[0] = Machine("uuid-0", "another catalog", "RUNNING")
    (outcome,) = here.carry_out(here.plan())
    assert told(outcome) == (0, "UNKNOWN", False, ForeignObject.__name__) and here.driver.names() == []
    # Its directory is a stranger's: nothing is written there.
    here.make(1)
    (here.directory(1) / "vm.json").write_text("{}", encoding="utf-8")
    before = (here.directory(1) / "vm.log").read_bytes()
    assert told(here.carry_out(here.plan(given_up=(1,)))[0]) == (0, "POWEROFF", True, "")
    assert (here.directory(1) / "vm.log").read_bytes() == before


@pytest.mark.parametrize("problem", [ZeroDivisionError("odd"), OSError(5, "Input/output error"), None])
def test_what_goes_wrong_is_told_of_that_machine(
    here: Host, monkeypatch: pytest.MonkeyPatch, problem: Exception | None
) -> None:
    here.make()
    if problem is None:
        monkeypatch.setattr(node_file, "is_current", lambda *_arguments: False)
    else:
        here.driver.fails["no autostart"] = problem
    (outcome,) = here.carry_out(here.plan())
    kind = {ZeroDivisionError: "HypervisorError", OSError: "StorageFailed"}.get(type(problem), "StalePlan")
    assert told(outcome) == (0, "UNKNOWN", False, kind)
    assert here.driver.machines[0].state == "RUNNING"


def test_check_mode_foretells_it(here: Host) -> None:
    here.make()
    here.make(1)
    here.driver.machines[1].state = "POWEROFF"

    def foretold(state: str, vm_id: int, driver: MemoryDriver | None = here.driver) -> bool:
        plan = here.plan(state=state, given_up=(vm_id,))
        (outcome,) = predict(plan, poll(here.driver, str(here.root), "node1"), driver, str(here.root))
        return outcome.changed

    assert foretold("RUNNING", 0) and foretold("POWEROFF", 1), "it would start with its host"
    here.driver.machines[1].autostart = False
    assert not foretold("POWEROFF", 1) and not foretold("POWEROFF", 1, None)


def test_another_run_that_works_on_it_is_waited_for(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    here.make()
    monkeypatch.setattr(fence, "LOCK_SECONDS", 0.05)
    with fence.lock(f"{here.directory()}/"):
        assert told(here.carry_out(here.plan())[0]) == (0, "UNKNOWN", False, "TimedOut")
    assert told(here.carry_out(here.plan())[0]) == (0, "POWEROFF", True, "")
