# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: what nodes answered is recorded once, and those that failed are named."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.modules import nebula_vm_record
from ansible_collections.nebula.provision.tests.unit.plugins.conftest import HOST


def test_failed_machines_are_named_by_the_record(furnished, vm, options):
    result = vm(furnished, name="a", template="web")
    plan = json.loads(result.payload["plans"]["node1"])
    outcome = {
        "vm_id": 0,
        "generation": plan["vms"][0]["generation"],
        "state": "BOOT_FAILURE",
        "error": {"asked": "VM a: start", "found": "no such bridge nbr0", "remedy": "Run role network"},
    }
    answer = {"node1": {"outcomes": [outcome]}}
    recorded = nebula_vm_record.call.run(
        options(nebula_vm_record, root=furnished, outcomes=json.dumps(answer), ids=[0]), False
    )
    assert recorded.payload["failed_vms"] == [
        "VM a (id 0) is BOOT_FAILURE: VM a: start: no such bridge nbr0. Run role network"
    ]


def test_what_is_left_to_do_in_machines_is_named_by_the_record(furnished, vm, options):
    result = vm(furnished, name="a", template="web")
    plan = json.loads(result.payload["plans"]["node1"])
    outcome = {
        "vm_id": 0,
        "generation": plan["vms"][0]["generation"],
        "state": "RUNNING",
        "notes": ["DISK 1 is larger, \x1b[31mand"],
    }
    given = options(nebula_vm_record, root=furnished, outcomes=json.dumps({"node1": {"outcomes": [outcome]}}), ids=[0])
    (note,) = nebula_vm_record.call.run(given, False).payload["unfinished_vms"]
    assert note.startswith("VM a (id 0): DISK 1 is larger, ") and note.isprintable()
    # Who tells of machines that are not the host's own tells nothing.
    outcome["vm_id"] = 7
    given["outcomes"] = json.dumps({"node1": {"outcomes": [outcome]}})
    assert nebula_vm_record.call.run(given, False).payload["unfinished_vms"] == []


def test_the_diff_of_a_machine_that_has_moved_shows_both_hosts(furnished, host, vm, obey, options):
    host(furnished, **{**HOST, "name": "node2"})
    obey(furnished, vm(furnished, name="a", template="web", host="node1"))
    places = json.dumps({"node2": {"address": "node2.example.org", "port": 49152}})
    item = {"name": "a", "template": "web", "host": "node2", "move": "cold", "meeting_places": places}
    moves = vm(furnished, **item).payload["moves"]
    moved = vm(furnished, vms="[]", moves=json.dumps(moves), meeting_places=places)
    answers = {
        name: {"outcomes": [{"vm_id": 0, "generation": 2, "state": state, "moved": word}]}
        for name, state, word in (("node2", "RUNNING", "arrived"), ("node1", "UNKNOWN", "left"))
    }
    assert sorted(moved.payload["plans"]) == sorted(answers)
    given = options(nebula_vm_record, root=furnished, outcomes=json.dumps(answers), ids=[0])
    recorded = nebula_vm_record.call.run(given, False)
    (shown,) = recorded.diff()
    assert '"host": "node1"' in shown["before"] and '"host": "node2"' in shown["after"]
    (view,) = recorded.payload["vms"]
    assert (view["host"], view["state"], view["moving"], view["error"]) == ("node2", "RUNNING", "", "")


@pytest.mark.parametrize(
    ("way", "state", "stops"), [("live", "POWEROFF", False), ("live", "RUNNING", True), ("cold", "POWEROFF", True)]
)
def test_others_move_on_after_one_that_its_guest_switched_off(furnished, host, vm, obey, options, way, state, stops):
    host(furnished, **{**HOST, "name": "node2"})
    obey(furnished, vm(furnished, name="a", template="web", host="node1"))
    places = json.dumps({"node2": {"address": "node2.example.org", "port": 49152}})
    item = {"name": "a", "template": "web", "host": "node2", "move": way, "meeting_places": places}
    moves = vm(furnished, **item).payload["moves"]
    vm(furnished, vms="[]", moves=json.dumps(moves), meeting_places=places)
    error = {"kind": "HypervisorError", "asked": "VM a: move", "found": "it ended", "remedy": ""}
    answers = {
        name: {"outcomes": [{"vm_id": 0, "generation": 2, "state": as_found, "moved": word, "error": error}]}
        for name, as_found, word in (("node1", state, "stayed"), ("node2", "UNKNOWN", "absent"))
    }
    given = options(nebula_vm_record, root=furnished, outcomes=json.dumps(answers), ids=[0])
    recorded = nebula_vm_record.call.run(given, False).payload
    assert len(recorded["failed_vms"]) == 1
    assert recorded["stopping_vms"] == (recorded["failed_vms"] if stops else [])
    # It is no news later, and was no reason to stop either.
    assert nebula_vm_record.call.run(given, False).payload["stopping_vms"] == recorded["stopping_vms"]


def test_a_node_without_an_answer(furnished, vm, options):
    vm(furnished, name="a", template="web")
    answer = {"node1": {"unreachable": True, "msg": "no route"}}
    recorded = nebula_vm_record.call.run(
        options(nebula_vm_record, root=furnished, outcomes=json.dumps(answer), ids=[0]), False
    )
    assert "host node1 did not answer" in recorded.payload["failed_vms"][0]


def test_a_node_that_follows_a_newer_plan_has_answered(furnished, vm, options):
    made = vm(furnished, name="a", template="web")
    stale = {"failed": True, "error": {"kind": "StalePlan", "asked": "plan 1", "found": "x", "remedy": "y"}}
    ids = [made.payload["vms"][0]["id"]]
    answers = json.dumps({"node1": stale})
    recorded = nebula_vm_record.call.run(options(nebula_vm_record, root=furnished, outcomes=answers, ids=ids), False)
    assert recorded.payload["failed_vms"] == [] and not recorded.changed
    silent = nebula_vm_record.call.run(
        options(nebula_vm_record, root=furnished, outcomes=json.dumps({"node1": {}}), ids=ids), False
    )
    assert "did not answer" in silent.payload["failed_vms"][0]


def test_all_is_recorded_once(furnished, vm, options):
    made = vm(furnished, name="a", template="web")
    plan = json.loads(made.payload["plans"]["node1"])
    outcome = {"vm_id": 0, "generation": plan["vms"][0]["generation"], "state": "RUNNING", "changed": True}
    given = options(nebula_vm_record, root=furnished, outcomes=json.dumps({"node1": {"outcomes": [outcome]}}), ids=[0])
    foreseen = nebula_vm_record.call.run(given, True)
    assert foreseen.changed
    assert nebula_vm_record.call.run(given, True).changed, "check mode kept it"
    recorded = nebula_vm_record.call.run(given, False)
    assert recorded.changed
    assert [view["state"] for view in recorded.payload["vms"]] == ["RUNNING"]
    (shown,) = recorded.diff()
    assert '"state": "PROLOG"' in shown["before"] and '"state": "RUNNING"' in shown["after"]
    again = nebula_vm_record.call.run(given, False)
    assert not again.changed
    assert again.payload == {**recorded.payload}


def test_a_poll_alone_can_be_recorded(furnished, vm, obey, options):
    obey(furnished, vm(furnished, name="a", template="web"))
    seen = {"host": "node1", "vms": [{"vm_id": 0, "uuid": "", "state": "POWEROFF"}], "as_of": 1700000000}
    result = nebula_vm_record.call.run(options(nebula_vm_record, root=furnished, observed=[seen]), False)
    assert result.changed
    assert [(view["name"], view["state"]) for view in result.payload["vms"]] == [("a", "POWEROFF")]


def test_nothing_to_record_changes_nothing(furnished, options):
    result = nebula_vm_record.call.run(options(nebula_vm_record, root=furnished), False)
    assert (result.changed, result.payload) == (
        False,
        {
            "vms": [],
            "returning": False,
            "failed_vms": [],
            "stopping_vms": [],
            "unfinished_vms": [],
            "refused_answers": {},
        },
    )


@pytest.mark.parametrize("answer", ["x", [1], {"outcomes": "x"}])
def test_what_is_no_answer_of_a_node_is_refused(furnished, options, answer):
    given = options(nebula_vm_record, root=furnished, outcomes=json.dumps({"node1": answer}))
    told = nebula_vm_record.call.run(given, False).payload["refused_answers"]["node1"]
    assert "Give the registered result of nebula_deploy" in told


def test_an_answer_that_can_not_be_meant_is_its_hosts_alone(furnished, vm, options):
    vm(furnished, name="a", template="web")
    for outcome in (
        {"vm_id": 0, "generation": 1, "state": "NONSENSE"},
        {"vm_id": 5, "generation": 1, "state": "DONE"},
        "x",
    ):
        answers = json.dumps({"node1": {"outcomes": [outcome]}})
        recorded = nebula_vm_record.call.run(
            options(nebula_vm_record, root=furnished, outcomes=answers, ids=[0]), False
        )
        assert not recorded.errors
        assert [*recorded.payload["refused_answers"]] == ["node1"]
        assert "host node1: what it says it did" in recorded.warnings[0]
        assert [(view["state"], view["error"]) for view in recorded.payload["vms"]] == [
            ("PROLOG", "host node1 did not answer")
        ]
