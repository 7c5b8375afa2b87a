# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as a node takes them, outcomes as they are shown, and the forecast of check mode."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NoCapacity
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    GivenUp,
    Observed,
    Plan,
    PlannedVm,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import plan_outcomes


def vm(vm_id: int) -> Vm:
    return Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "kvm", 1.0, 128, graphics=Graphics(password="geheim"))


def plan(*wanted: str, **orders: Any) -> Plan:
    planned = tuple(
        PlannedVm(vm(number), 1, state, previous="POWEROFF", **orders) for number, state in enumerate(wanted)
    )
    return Plan("catalog", 1, "node", planned)


def test_a_plan_comes_back() -> None:
    wanted = plan("RUNNING", "DONE")
    assert plan_outcomes.plan_for(json.dumps(to_plain(wanted)), "node") == wanted


@pytest.mark.parametrize(
    ("change", "told"),
    [({"host": "other"}, "other"), ({"format": 1}, "format is 1"), ({"later": 1}, "later"), ({"number": None}, "")],
)
def test_a_plan_that_is_not_for_here(change: dict[str, Any], told: str) -> None:
    data = {**to_plain(plan("RUNNING")), **change}
    if change == {"number": None}:
        del data["number"]
    with pytest.raises(InvalidValue) as caught:
        plan_outcomes.plan_for(json.dumps(data), "node")
    assert told in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_machines_that_were_given_up_are_shown_after_those_of_the_plan() -> None:
    machine = GivenUp(7, "uuid-7", "old", "node", "RUNNING")
    wanted = replace(plan("RUNNING"), given_up=(machine, replace(machine, vm_id=8)))
    assert plan_outcomes.plan_for(json.dumps(to_plain(wanted)), "node") == wanted
    error = NoCapacity("its directory", "it is locked").as_dict()
    outcomes = [
        VmOutcome(0, 1, "RUNNING", True),
        VmOutcome(7, 0, "POWEROFF", True),
        VmOutcome(8, 0, "UNKNOWN", False, error),
    ]
    _first, ended, failed = plan_outcomes.items_of_outcomes(wanted, outcomes)
    assert (ended.name, ended.before, ended.after) == ("old", {"state": "RUNNING"}, {"state": "POWEROFF"})
    assert ended.is_changed and ended.error is None
    assert not failed.is_changed
    assert str(failed.error) == "VM old (id 8), which was given up: its directory: it is locked"


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "null"])
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(InvalidValue):
        plan_outcomes.plan_for(text, "node")


def test_outcomes_show_states_and_errors_and_no_secret() -> None:
    error = NoCapacity("machine web-1: port 5901", "taken", "Run again").as_dict()
    outcomes = [VmOutcome(0, 1, "RUNNING", True), VmOutcome(1, 1, "BOOT_FAILURE", False, error)]
    shown = plan_outcomes.items_of_outcomes(plan("RUNNING", "RUNNING"), outcomes)
    assert [(item.name, item.before, item.after, item.is_changed) for item in shown] == [
        ("web-0", {"state": "POWEROFF"}, {"state": "RUNNING"}, True),
        ("web-1", {"state": "POWEROFF"}, {"state": "BOOT_FAILURE"}, False),
    ]
    assert shown[0].error is None
    assert isinstance(shown[1].error, NoCapacity)
    assert shown[1].error.as_dict() == error
    assert "geheim" not in repr(shown)


def test_a_change_that_ends_in_the_same_state_is_seen_in_the_diff() -> None:
    wanted = plan("POWEROFF", "POWEROFF")
    shown = plan_outcomes.items_of_outcomes(
        wanted, [VmOutcome(0, 1, "POWEROFF", True), VmOutcome(1, 1, "POWEROFF", False)]
    )
    assert [item.is_changed for item in shown] == [True, False]
    assert shown[0].after == {"state": "POWEROFF", "action": "updateconf"}
    assert shown[1].after == shown[1].before


def test_forecast_where_there_is_no_hypervisor_yet(tmp_path: Path) -> None:
    expected = [("RUNNING", True), ("POWEROFF", True), ("DONE", False)]
    found = predict(plan("RUNNING", "POWEROFF", "DONE"), Observed("node"), None, str(tmp_path))
    assert [(outcome.state, outcome.changed) for outcome in found] == expected
