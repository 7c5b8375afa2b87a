# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of a plan are worked on at once; what fails is told of the machine that it failed for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from memory_node import CATALOG, OTHER, Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NebulaError,
    NotFound,
    StalePlan,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Adjusted
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned


def test_a_plan_that_is_too_old_is_refused_as_a_whole(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    old = Plan(CATALOG, 0, "node1", (Planned(machine(1), 1, "RUNNING"),))
    with pytest.raises(StalePlan, match="accepted plan 1 already"):
        Batch(old, here.driver, str(here.root)).apply()
    other = Plan(OTHER, 9, "node1", (Planned(machine(1), 1, "RUNNING"),))
    with pytest.raises(ForeignObject, match=f"follows catalog {CATALOG}"):
        Batch(other, here.driver, str(here.root)).apply()
    assert here.driver.names() == [] and not here.directory(1).exists()


def test_a_plan_without_machines_is_not_even_accepted(here: Node) -> None:
    assert here.apply() == []
    assert node_file.read(str(here.root)).plan == 0


def test_a_plan_that_was_carried_out_is_noted_as_done(here: Node) -> None:
    here.one("RUNNING")
    found = node_file.read(str(here.root))
    assert (found.plan, found.done) == (1, 1)


def test_each_machine_has_an_outcome_in_the_order_of_the_plan(here: Node, tmp_path: Path) -> None:
    lost = machine(1, disks=(Disk(0, "vda", source=str(tmp_path / "none"), clone=False, image="base"),))
    seen: list[tuple[int, int, int]] = []
    planned = (Planned(machine(2), 1, "RUNNING"), Planned(lost, 1, "RUNNING"), Planned(machine(0), 1, "POWEROFF"))
    outcomes = Batch(Plan(CATALOG, 1, "node1", planned), here.driver, str(here.root)).apply(
        lambda *numbers: seen.append(numbers)
    )
    assert [each.vm_id for each in outcomes] == [2, 1, 0]
    assert [told(each) for each in outcomes] == [
        ("RUNNING", True, ""),
        ("PROLOG_FAILURE", False, "NotFound"),
        ("POWEROFF", True, ""),
    ]
    assert outcomes[1].error is not None and "web-1" in outcomes[1].error["asked"]
    assert "base" in outcomes[1].error["asked"] and "disk 0" in outcomes[1].error["asked"]
    assert [total for _done, _failed, total in seen] == [3, 3, 3]
    assert [done + failed for done, failed, _total in seen] == [1, 2, 3] and seen[-1] == (2, 1, 3)


@pytest.mark.parametrize(
    ("operation", "problem", "state", "kind"),
    [
        ("define", HypervisorError("defining it", "no"), "BOOT_FAILURE", "HypervisorError"),
        ("start", HypervisorError("starting it", "no"), "BOOT_FAILURE", "HypervisorError"),
        ("start", OSError(28, "No space left on device", "/x"), "BOOT_FAILURE", "NoSpace"),
        ("start", ZeroDivisionError("by zero"), "BOOT_FAILURE", "HypervisorError"),
        ("state", HypervisorError("asking for it", "no"), "PROLOG_FAILURE", "HypervisorError"),
    ],
)
def test_the_stage_tells_what_failed(here: Node, operation: str, problem: BaseException, state: str, kind: str) -> None:
    here.driver.fails[operation] = problem
    outcome = here.one("RUNNING")
    assert told(outcome)[::2] == (state, kind)
    assert f"New VM state is {state}" in here.log()
    if isinstance(problem, ZeroDivisionError):
        assert outcome.error is not None and "ZeroDivisionError: by zero" in outcome.error["found"]
        assert "web-0" in outcome.error["asked"] and "report it" in outcome.error["remedy"]
    here.driver.fails.clear()
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")


def test_an_error_of_the_driver_does_not_keep_the_log_from_being_written(here: Node) -> None:
    here.driver.fails["start"] = HypervisorError("starting it", "no", "yes")
    assert any("starting it: no. yes" in line for line in here.one("RUNNING").log)
    assert "starting it: no. yes" in here.log()


@pytest.mark.parametrize(
    ("problem", "gained", "untouched"),
    [
        (Unsupported("DISK 2, attached", "no slot is free"), False, True),
        (NotFound("network lan", "this host has no bridge"), False, True),
        (Unsupported("DISK 2, attached", "no slot is free"), True, False),
        # It can't be told.
        (Unsupported("DISK 2, attached", "no slot is free"), HypervisorError("looking at it", "gone"), False),
        (HypervisorError("changing it", "libvirtd has ended"), False, False),
    ],
)
def test_a_change_that_is_refused_before_it_begins_says_so(
    here: Node, monkeypatch: pytest.MonkeyPatch, problem: NebulaError, gained: bool | NebulaError, untouched: bool
) -> None:
    def answer(value: bool | NebulaError) -> Callable[..., bool]:
        def told(*_arguments: object) -> bool:
            if isinstance(value, NebulaError):
                raise value
            return value

        return told

    here.one("RUNNING")
    monkeypatch.setattr(here.driver, "check_adjustment", answer(problem))
    monkeypatch.setattr(here.driver, "has_begun", answer(gained))
    outcome = here.one("RUNNING", 2, refitted=True)
    assert (told(outcome)[::2], outcome.untouched) == (("RUNNING", type(problem).__name__), untouched)
    # What comes later, and a machine that is off, are no refusal.
    monkeypatch.setattr(here.driver, "check_adjustment", answer(False))
    monkeypatch.setattr(here.driver, "adjust", answer(problem))
    assert not here.one("RUNNING", 3, refitted=True).untouched
    assert not here.one("POWEROFF", 4, refitted=True).untouched


def test_what_is_left_to_do_in_a_machine_is_told_also_where_something_else_fails(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.one("RUNNING")
    monkeypatch.setattr(here.driver, "adjust", lambda *_arguments: Adjusted(True, notes=("DISK 0 is larger",)))
    assert here.one("RUNNING", 2, grown=(0,)).notes == ("DISK 0 is larger",)
    here.driver.fails["define"] = HypervisorError("defining it", "no")
    outcome = here.one("RUNNING", 3, machine(memory=128), grown=(0,))
    assert (told(outcome)[2], outcome.notes) == ("HypervisorError", ("DISK 0 is larger",))
    assert "DISK 0 is larger" in here.log()


def test_a_driver_that_does_not_tell_what_came_may_have_given_it(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here.one("RUNNING")

    def refuse(*_arguments: object) -> None:
        raise Unsupported("DISK 2, attached", "no slot is free")

    monkeypatch.setattr(here.driver, "check_adjustment", refuse)
    assert not here.one("RUNNING", 2, refitted=True).untouched
