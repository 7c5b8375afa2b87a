# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan tells of the filters of machines that it is not about only where its node may not have them."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms import plan_guards
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import GroupRule, SecurityGroup
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide

OLD = [{"name": "web", "template": "web"}, {"name": "db", "template": "web"}]
NEW = {"name": "mail", "template": "web"}


def carry_out(engine, plans):
    """What a node reports that has carried its plan out, and says so."""
    for host, plan in plans.items():
        done = [VmOutcome(each.vm.vm_id, each.generation, each.wanted, True) for each in plan.vms]
        engine.vms.record(host, done, done_number=plan.number)


def told(plans):
    (plan,) = plans.values()
    return [guard.vm_id for guard in plan.guards], [*plan.machines], plan.guards_since


@pytest.fixture
def two(inside):
    """Two machines whose node has been told of them, and the plan that told it."""
    network = inside.networks.info("Public")
    inside.networks.update(
        network.id, attributes={**network.attributes, "FILTER_MAC_SPOOFING": "YES", "FILTERS_ON_NODE": "YES"}
    )
    plans = decide(inside, *OLD)
    assert told(plans) == ([0, 1], [0, 1], None)
    carry_out(inside, plans)
    return plans["node1"]


def test_a_node_that_has_been_told_of_all_is_told_of_the_new_ones(inside, two):
    plans = decide(inside, *OLD, NEW)
    assert told(plans) == ([2], [2], two.guarded_at)
    carry_out(inside, plans)
    # Which goes on.
    later = decide(inside, *OLD, NEW, {"name": "log", "template": "web"})
    assert told(later) == ([3], [3], plans["node1"].guarded_at)


def test_nothing_is_taken_for_done_that_no_node_has_carried_out(inside, two):
    asked = decide(inside, *OLD, NEW)["node1"]
    assert asked.guards_since == two.guarded_at
    # The run was killed, or its node did not answer.
    plan = decide(inside, *OLD, NEW)["node1"]
    assert told({"node1": plan}) == ([0, 1, 2], [0, 1, 2], None)
    # The answer to the earlier plan comes late: nothing is known of the newer one.
    carry_out(inside, {"node1": asked})
    assert told(decide(inside, *OLD, NEW, {"name": "log", "template": "web"}))[2] is None


def test_machines_that_go_are_nobody_of_whom_something_has_to_be_there(inside, two):
    plans = decide(inside, *(dict(each, state="absent") for each in OLD))
    assert told(plans)[1:] == ([0, 1], 0.0)
    carry_out(inside, plans)
    assert told(decide(inside, NEW)) == ([2], [2], 0.0)


def change_network(engine):
    network = engine.networks.info("Public")
    engine.networks.update(network.id, attributes={**network.attributes, "FILTER_IP_SPOOFING": "YES"})


def change_range(engine):
    network = engine.networks.info("Public")
    engine.networks.add_ar(network.id, AddressRange(NEW_AR, "IP4", 4, ip="10.66.0.200"))


def add_group(engine):
    engine.security_groups.allocate(SecurityGroup(None, "web", rules=(GroupRule("inbound", "TCP", range="80"),)))


@pytest.mark.parametrize(
    "change", [change_network, change_range, add_group, lambda engine: plan_guards.forget(engine.store)]
)
def test_after_what_may_change_their_filters_a_node_is_told_of_all(inside, two, change):
    change(inside)
    assert told(decide(inside, *OLD, NEW)) == ([0, 1, 2], [0, 1, 2], None)


def test_a_machine_that_is_changed_without_a_plan_has_its_node_told_of_all(inside, two):
    noted = dict(OLD[0], attributes={"SEEN_BY": "us"})
    assert decide(inside, noted, OLD[1]) == {}
    assert inside.vms.pool(ids=[0])[0].request.get("SEEN_BY") == "us"
    assert told(decide(inside, noted, OLD[1], NEW)) == ([0, 1, 2], [0, 1, 2], None)


def test_a_plan_of_the_release_before_tells_of_all():
    plain = to_plain(Plan("c", 1, "node"))
    del plain["guards_since"]
    assert from_plain(Plan, json.loads(json.dumps(plain))).guards_since is None
