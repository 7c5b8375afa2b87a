# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with a hypervisor that carries nothing out: which of its three ways it goes, and what it foresees."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, InvalidValue, StalePlan
from ansible_collections.nebula.provision.plugins.module_utils.host import node
from ansible_collections.nebula.provision.plugins.module_utils.model.plain import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.network import links
from ansible_collections.nebula.provision.plugins.modules import nebula_deploy

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


@pytest.fixture
def module(options, root):
    def run(check=True, **given):
        given.setdefault("host", "node1")
        return nebula_deploy.call.run(options(nebula_deploy, root=root, catalog=CATALOG, **given), check)

    return run


def plan(*wanted, number=1):
    vms = tuple(
        PlannedVm(Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "kvm", 1.0, 64), 1, state, previous="PROLOG")
        for vm_id, state in enumerate(wanted)
    )
    return json.dumps(to_plain(Plan(CATALOG, number, "node1", vms)))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "missing required arguments: host"),
        ({"host": "node1", "state": "applied"}, "state is applied but all of the following are missing: plan"),
        (
            {"host": "node1", "hypervisor": "vbox"},
            "value of hypervisor must be one of: kvm, lxc, openvz, xen, xen_libvirt",
        ),
    ],
)
def test_what_is_missing_is_named(options, given, told):
    assert told in options(nebula_deploy, refused=True, **given)


@pytest.mark.parametrize("check", [True, False])
def test_a_poll_tells_what_is_there_and_changes_nothing(module, still, tmp_path, check):
    still.states = {3: "RUNNING"}
    result = module(check)
    assert not result.changed
    assert "outcomes" not in result.payload
    observed = result.payload["observed"]
    assert {key: observed[key] for key in ("host", "hypervisor", "reached", "memory", "cpu", "inventory")} == {
        "host": "node1",
        "hypervisor": "kvm",
        "reached": True,
        "memory": 4096,
        "cpu": 8.0,
        "inventory": None,
    }
    assert [(vm["vm_id"], vm["state"]) for vm in observed["vms"]] == [(3, "RUNNING")]
    assert json.loads(json.dumps(result.payload)) == result.payload
    assert list(tmp_path.iterdir()) == []


def test_an_audit_tells_all_that_is_here(module, still):
    for check in (True, False):
        inventory = module(check, state="audited").payload["observed"]["inventory"]
        assert inventory["foreign"] == ["somebodys"]


@pytest.mark.parametrize("state", ["polled", "audited", "compared"])
def test_in_check_mode_nothing_tells_of_bridges_that_would_have_been_made(module, still, monkeypatch, state):
    monkeypatch.setattr(links, "networks_here", lambda _catalog: ("ours",))
    given = {"plan": plan()} if state == "compared" else {}
    told = [module(check, state=state, **given).payload["observed"]["networks"] for check in (True, False)]
    assert told == [None, ["ours"]]


def test_a_hypervisor_that_does_not_answer_is_an_error_where_it_has_to(module, still):
    still.answers = False
    with pytest.raises(HypervisorError, match="it does not answer"):
        module(False)
    with pytest.raises(HypervisorError):
        module(True, state="audited")
    # An earlier task would have started it.
    assert module(True).payload["observed"]["vms"] == []


@pytest.mark.parametrize("check", [True, False])
def test_what_is_to_be_adopted_is_compared_and_nothing_is_done(module, still, tmp_path, check):
    still.states = {0: "RUNNING"}
    text = plan("RUNNING", "RUNNING").replace('"operation": ""', '"operation": "adopt"', 1)
    result = module(check, state="compared", plan=text)
    assert not result.changed and "outcomes" not in result.payload and list(tmp_path.iterdir()) == []
    (compared,) = result.payload["observed"]["compared"]
    assert compared["vm_id"] == 0 and "vm.json is not its" in compared["differences"][0]
    assert result.payload["observed"]["inventory"] is not None
    with pytest.raises(HypervisorError):
        still.answers = False
        module(check, state="compared", plan=text)


def test_check_mode_foresees_what_a_plan_would_do(module, still, tmp_path):
    still.states = {0: "RUNNING", 1: "RUNNING"}
    still.answers = False
    result = module(state="applied", plan=plan("RUNNING", "DONE", "POWEROFF"))
    assert [(each["state"], each["changed"]) for each in result.payload["outcomes"]] == [
        ("RUNNING", True),
        ("DONE", False),
        ("POWEROFF", True),
    ]
    assert [item.name for item in result.items] == ["web-0", "web-1", "web-2"]
    assert result.changed
    assert list(tmp_path.iterdir()) == []


def test_a_plan_for_another_host_or_none_is_refused(module, still):
    with pytest.raises(InvalidValue, match="plan 1 on host node2: it was made for node1"):
        module(state="applied", plan=plan("RUNNING"), host="node2")
    with pytest.raises(InvalidValue, match="its format is None"):
        module(state="applied", plan="{}")


def test_an_empty_plan_asks_no_hypervisor_and_lets_no_older_one_in(module, still, root):
    still.answers = False
    assert module(False, state="applied", plan=plan(number=7)).payload == {"outcomes": []}
    node.update(root, lambda before: node.NodeFile(catalog=CATALOG, plan=3))
    module(True, state="applied", plan=plan(number=7))
    assert node.read(root).plan == 3
    module(False, state="applied", plan=plan(number=7))
    assert node.read(root).plan == 7
    with pytest.raises(StalePlan):
        module(False, state="applied", plan=plan(number=6))
