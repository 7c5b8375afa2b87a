# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node foresees of a plan, and which plans it refuses."""

from __future__ import annotations

import json

import pytest
from move_pairs import PATIENCE, Beside, caller, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound, StalePlan
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.move import LIVE, SOURCE, TARGET, PlannedMove
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.nodes.conftest import CATALOG


def test_check_mode_foresees_what_a_plan_would_do(deploy, plan, still, tmp_path):
    still.states = {0: "RUNNING", 1: "RUNNING"}
    still.answers = False
    result = deploy(state="applied", plan=plan("RUNNING", "DONE", "POWEROFF"))
    assert [(each["state"], each["changed"]) for each in result.payload["outcomes"]] == [
        ("RUNNING", True),
        ("DONE", False),
        ("POWEROFF", True),
    ]
    assert [item.name for item in result.items] == ["web-0", "web-1", "web-2"]
    assert result.changed
    assert list(tmp_path.iterdir()) == []


def test_a_plan_for_another_host_or_none_is_refused(deploy, plan, still):
    with pytest.raises(InvalidValue, match="plan 1 on host node2: it was made for node1"):
        deploy(state="applied", plan=plan("RUNNING"), host="node2")
    with pytest.raises(InvalidValue, match="its format is None"):
        deploy(state="applied", plan="{}")


def test_an_empty_plan_asks_no_hypervisor_and_lets_no_older_one_in(deploy, plan, still, root):
    still.answers = False
    assert deploy(False, state="applied", plan=plan(number=7)).payload == {"outcomes": []}
    node_file.update(root, lambda before: node_file.NodeFile(catalog=json.loads(plan())["catalog"], plan=3))
    deploy(True, state="applied", plan=plan(number=7))
    assert node_file.read(root).plan == 3
    deploy(False, state="applied", plan=plan(number=7))
    assert node_file.read(root).plan == 7
    with pytest.raises(StalePlan):
        deploy(False, state="applied", plan=plan(number=6))


def test_a_plan_for_another_datastore_than_is_there_is_refused(deploy, plan, still, root):
    still.answers = False
    known = json.loads(plan("RUNNING"))
    for mark, found in ((f"{known['catalog']}.{'a' * 32}", "has no mark"), ("", "has no mark")):
        text = json.dumps({**known, "datastore": {"name": "nfs", "mark": mark}})
        for check in (True, False):
            with pytest.raises(NotFound, match=f"host node1: shared datastore nfs: .*{found}"):
                deploy(check, state="applied", plan=text)


@pytest.mark.parametrize("role", [TARGET, SOURCE])
def test_a_host_whose_machine_was_to_come_hears_that_the_plan_was_refused(deploy, still, root, role):
    certificate, key = key_pair("target")
    port = free_port()
    move = PlannedMove("token", role, LIVE, "node2", port=port, certificate=key_pair("source")[0])
    vm = PlannedVm(Vm(0, "uuid-0", "web-0", "kvm", 1.0, 64), 1, "RUNNING", move=move)
    older = Plan(CATALOG, 6, "node1", (vm,), certificate=certificate, key=key)
    node_file.update(root, lambda before: node_file.NodeFile(catalog=CATALOG, plan=7))

    def come():
        channel = caller(port, token="token").meet(PATIENCE)
        channel.send(way=LIVE)
        return channel.receive(PATIENCE)

    coming = Beside(come) if role == TARGET else None
    with pytest.raises(StalePlan) as refused:
        deploy(False, state="applied", plan=json.dumps(to_plain(older)))
    if coming is not None:
        assert coming.result() == {"refused": refused.value.as_dict()}
