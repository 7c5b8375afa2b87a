# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One round in one call: what the catalog has after it is what it has after the four calls of role vm. The node is a
stand-in here; that real machines run after a round, the benchmarks and test_site.py show."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.calls import deploy, vm_round
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.looking import asked_of
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item, Result

SEEN = {"host": "node1", "reached": True, "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "as_of": 1, "vms": []}


class Node:
    """Answers to polls and plans. failing: what it raises, by state. state: where machines are when a plan is done."""

    ARGUMENTS = deploy.ARGUMENTS

    def __init__(self):
        self.failing, self.state, self.plans, self.progress = {}, "", [], None

    def run(self, params, check_mode):
        if params["state"] in self.failing:
            raise self.failing[params["state"]]
        if params["state"] == "polled":
            return Result(payload={"observed": SEEN}, warnings=["a slow disk"])
        plan = json.loads(params["plan"])
        self.plans.append(plan)
        self.progress = params["_progress_file"]
        error = {"asked": "VM a", "found": "no such machine type", "remedy": "Check it"} if self.state else None
        outcomes = [
            {
                "vm_id": each["vm"]["vm_id"],
                "generation": each["generation"],
                "state": self.state or each["wanted"],
                "changed": True,
                "error": error,
            }
            for each in plan["vms"]
        ]
        failed = HypervisorError("VM a", "no such machine type", "Check it") if error else None
        observed = {**SEEN, "plan_number": plan["number"], "done_number": plan["number"]}
        return Result([Item("a", error=failed, changed=True)], {"outcomes": outcomes, "observed": observed})


@pytest.fixture
def node(monkeypatch):
    made = Node()
    monkeypatch.setitem(vm_round.MODULES, "nebula_deploy", made)
    return made


@pytest.fixture
def round_of(furnished, node):
    def run(*items, check=False):
        common = {"root": furnished}
        entries = [
            ("seen", "nebula_deploy", {"state": "polled", "host": "node1"}),
            ("decided", "nebula_vm", {"vms": json.dumps(items), "hosts": ["node1"], "return_plans": True}),
            ("done", "nebula_deploy", {"state": "applied", "plan": "{}", "host": "node1"}),
            ("recorded", "nebula_vm_record", {"outcomes": "{}", "ids": []}),
        ]
        calls = [{"name": name, "module": module, "options": {**own, **common}} for name, module, own in entries]
        asked = asked_of(json.dumps(calls), vm_round.LOOK)
        return vm_round.LOOK.run(asked, {"_progress_file": "/run/progress"}, check, False)

    return run


def states(root):
    engine = EmbeddedEngine(root)
    with engine.session():
        found = {each.name: each.state for each in engine.vms.pool()}
    engine.close()
    return found


def test_a_round_decides_acts_and_records(round_of, node, furnished):
    result = round_of({"name": "a", "template": "web"}, {"name": "b", "template": "web"})
    answers = result.payload["answers"]
    assert [*answers] == ["seen", "decided", "done", "recorded"] and result.payload["differs"] == ""
    assert states(furnished) == {"a": "RUNNING", "b": "RUNNING"}
    assert [each["state"] for each in answers["recorded"]["vms"]] == ["RUNNING", "RUNNING"]
    assert answers["decided"]["changed_vms"] == ["a", "b"] and result.changed
    # Contexts and passwords stay where they are of use.
    assert answers["decided"]["plans"] == {} and node.plans and node.progress == "/run/progress"
    assert result.warnings == ["a slow disk"]


def test_a_round_without_work_ends_after_its_decision(round_of, node):
    round_of({"name": "a", "template": "web"})
    node.plans = []
    result = round_of()
    assert [*result.payload["answers"]] == ["seen", "decided"] and not result.changed
    assert result.payload["differs"].startswith("decided: ") and node.plans == []


def test_a_node_that_can_not_be_looked_at_leaves_all_to_the_tasks(round_of, node, furnished):
    node.failing["polled"] = TimedOut("libvirt", "it does not answer", "Start it")
    result = round_of({"name": "a", "template": "web"})
    assert result.payload["answers"] == {} and "it does not answer" in result.payload["differs"]
    assert states(furnished) == {} and not result.changed


def test_what_can_not_be_decided_is_returned_with_its_words(round_of, node):
    result = round_of({"name": "a", "template": "lost"})
    decided = result.payload["answers"]["decided"]
    assert decided["failed"] and "lost" in decided["msg"] and node.plans == []


def test_machines_that_fail_are_recorded(round_of, node, furnished):
    node.state = "BOOT_FAILURE"
    result = round_of({"name": "a", "template": "web"})
    answers = result.payload["answers"]
    assert answers["done"]["failed"] and "no such machine type" in answers["done"]["msg"]
    assert states(furnished) == {"a": "BOOT_FAILURE"}
    assert "no such machine type" in answers["recorded"]["failed_vms"][0]


def test_a_plan_that_was_not_carried_out_is_recorded_as_no_answer(round_of, node, furnished):
    node.failing["applied"] = HypervisorError("libvirt", "it does not answer", "Start it")
    result = round_of({"name": "a", "template": "web"})
    answers = result.payload["answers"]
    assert answers["done"]["failed"] and "did not answer" in answers["recorded"]["failed_vms"][0]
    # The next round goes on with it.
    node.failing.clear()
    round_of({"name": "a", "template": "web"})
    assert states(furnished) == {"a": "RUNNING"}


def test_files_that_are_to_be_sent_are_sent_by_the_role(round_of, node, monkeypatch):
    real = vm_round.answer_to

    def answered(each, check_mode, diff):
        answer, renews = real(each, check_mode, diff)
        return ({**answer, "transfers": {"node1": ["image"]}} if each.name == "decided" else answer), renews

    monkeypatch.setattr(vm_round, "answer_to", answered)
    result = round_of({"name": "a", "template": "web"})
    assert [*result.payload["answers"]] == ["seen", "decided"] and node.plans == []
    assert result.payload["answers"]["decided"]["plans"]


def test_the_host_is_the_one_that_was_asked(round_of, node, monkeypatch):
    monkeypatch.setitem(SEEN, "host", "another")
    round_of({"name": "a", "template": "web", "host": "node1"})
    assert node.plans[0]["host"] == "node1"
