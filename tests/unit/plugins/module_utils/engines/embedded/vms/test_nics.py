# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs of machines that are changed or made anew."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import SecurityRule
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import SecurityGroup
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ANEW,
    PLAIN,
    PUBLIC,
    nics,
    record,
    refused,
)


def test_a_nic_that_changes_keeps_its_lease_while_others_come(web):
    before = record(web).nics[0]
    nics = [{"NETWORK": "Public", "MODEL": model} for model in ("e1000", "pcnet", "rtl8139")]
    after = web.vms.update(0, record(web).request.with_vectors("NIC", nics)).nics
    assert after[0] == before
    assert [(nic["nic_id"], nic["ip"]) for nic in after] == [(0, "10.66.0.10"), (1, "10.66.0.11"), (2, "10.66.0.12")]


def test_a_machine_with_other_nics_gets_other_addresses(web):
    nic = {"NETWORK": "Public", "IP": "10.66.0.50"}
    after = web.vms.recreate(0, record(web).request.with_vectors("NIC", [nic]))
    assert [each["ip"] for each in after.nics] == ["10.66.0.50"]
    # What it had it has until its node has done so.
    assert web.networks.info("Public").address_ranges[0].used == 2
    obey(web, web.vms.plans())
    assert web.networks.info("Public").address_ranges[0].used == 1


def test_a_nic_that_stays_keeps_its_address_while_one_comes(two):
    before = nics(two)
    obey(two, decide(two, dict(ANEW, nics=[{"NETWORK": "Private"}, PUBLIC, PUBLIC])))
    new, *others = nics(two)
    assert others == before and (new[0], new[3]) == (2, "10.77.0.10")
    assert json.loads(row(two)["body"])["next_nic"] == 3
    assert two.ledger().findings == ()


def test_a_nic_that_stays_keeps_its_address_while_the_one_before_goes(two):
    before = nics(two)
    plans = decide(two, dict(ANEW, nics=[dict(PUBLIC, IP="10.66.0.11")]))
    assert nics(two) == before[1:]
    # Its domain has the other until it is made anew.
    assert two.networks.info("Public").address_ranges[0].used == 2
    obey(two, plans)
    assert two.networks.info("Public").address_ranges[0].used == 1
    assert two.ledger().findings == ()


def test_of_two_nics_one_gets_another_network(two):
    before = nics(two)
    plans = decide(two, dict(ANEW, nics=[PUBLIC, {"NETWORK": "Private"}]))
    after = nics(two)
    assert after[0] == before[0] and after[1][:2] == (1, "Private")
    # What the old domain has is nobody's before that ends.
    taker = {"name": "taker", "template": "web", "nics": [dict(PUBLIC, IP="10.66.0.11")]}
    assert "VM web (id 0) has it until it is made anew" in refused(two, taker)[0]
    obey(two, plans)
    obey(two, decide(two, taker))
    assert two.ledger().findings == ()


def test_two_nics_swap_their_addresses(two):
    first, second = nics(two)
    for asked in ([dict(PUBLIC, IP=second[3]), dict(PUBLIC, IP=first[3])], [PUBLIC, dict(PUBLIC, IP=first[3])]):
        plans = decide(two, dict(ANEW, nics=asked))
        assert nics(two) == [second, first]
        assert two.networks.info("Public").address_ranges[0].used == 2
        obey(two, plans)


def test_an_address_that_another_nic_of_the_machine_has_is_that_nics(two):
    """Nothing tells of which NIC it was but the address, and what the list says of the others is what it said."""
    first, second = nics(two)
    plans = decide(two, dict(ANEW, nics=[PUBLIC, PUBLIC, dict(PUBLIC, IP=first[3])]))
    after = nics(two)
    assert after[2] == first and after[0] == second and after[1][3] == "10.66.0.12"
    obey(two, plans)
    assert two.ledger().findings == ()


def test_an_address_that_the_machine_holds_is_its_own_again(two):
    """Neither has the host made it anew, nor is it what the list wants by now."""
    fixed = {"IP": "10.66.0.10", "MAC": nics(two)[0][2]}
    decide(two, dict(ANEW, nics=[{"NETWORK": "Private"}]))
    assert two.networks.info("Public").address_ranges[0].used == 2
    plans = decide(two, dict(ANEW, nics=[dict(PUBLIC, **fixed)]))
    assert nics(two) == [(0, "Public", fixed["MAC"], "10.66.0.10")]
    assert [two.networks.info(name).address_ranges[0].used for name in ("Public", "Private")] == [2, 1]
    obey(two, plans)
    assert [two.networks.info(name).address_ranges[0].used for name in ("Public", "Private")] == [1, 0]
    assert two.ledger().findings == ()


def test_a_network_that_is_called_otherwise_by_now_is_the_same(two):
    before = nics(two)
    two.networks.update("Public", name="Outside")
    two.vms.recreate(0, record(two).request.with_vectors("NIC", [{"NETWORK": "Outside"}, {"NETWORK_ID": "0"}]))
    assert [nic[2:] for nic in nics(two)] == [nic[2:] for nic in before]
    # Another one has the name.
    two.networks.update("Private", name="Public")
    two.vms.recreate(0, record(two).request.with_vectors("NIC", [{"NETWORK": "Public"}, {"NETWORK": "Outside"}]))
    assert [nic[3] for nic in nics(two)] == ["10.77.0.10", "10.66.0.10"]


def test_what_networks_say_by_now_is_in_the_nics_that_stay(two):
    two.networks.update("Public", attributes={**two.networks.info("Public").attributes, "DNS": "10.66.0.53"})
    two.vms.recreate(0, record(two).request.merged(Template.from_mapping({"MEMORY": "256"})))
    assert not record(two).outdated
    assert {nic["network_values"]["DNS"] for nic in json.loads(row(two)["body"])["nics"]} == {"10.66.0.53"}


def test_a_security_group_that_is_not_there_is_refused(inside):
    ranges = (AddressRange(0, "IP4", 10, ip="10.77.0.10"),)
    inside.networks.allocate(Network(None, "tenant", vn_mad="ovn", address_ranges=ranges))
    asks = [{"NETWORK": "tenant", "SECURITY_GROUPS": "0,100"}]
    (message,) = refused(inside, {"name": "web", "template": "web", "nics": asks})
    assert "VM web, NIC 0: SECURITY_GROUPS = 0,100: there is no security group 100" in message
    inside.security_groups.allocate(SecurityGroup(None, "ours"))
    decide(inside, {"name": "web", "template": "web", "nics": asks})
    assert [nic[3] for nic in nics(inside)] == ["10.77.0.10"]
    # In networks that are older nothing acts on it, which is said.
    decide(inside, {"name": "other", "template": "web", "nics": [dict(PUBLIC, SECURITY_GROUPS="9")]})
    filtered = {**inside.networks.info("Public").attributes, "FILTERS_ON_NODE": "YES"}
    inside.networks.update("Public", attributes=filtered)
    item = {"name": "third", "template": "web", "nics": [dict(PUBLIC, SECURITY_GROUPS="9")]}
    assert "VM third, NIC 0: SECURITY_GROUPS = 9: there is no security group 9" in refused(inside, item)[0]


def test_a_plan_has_what_is_filtered_of_all_machines_of_its_host(inside):
    attributes = inside.networks.info("Public").attributes
    inside.networks.update("Public", attributes={**attributes, "FILTERS_ON_NODE": "YES", "FILTER_IP_SPOOFING": "YES"})
    item = {"name": "web", "template": "web", "nics": [PUBLIC], "context": {"FIREWALL": "[22] 10.0.0.0/8"}}
    obey(inside, decide(inside, item))
    plan = decide(inside, {"name": "other", "template": "web", "nics": [PUBLIC]})["node1"]
    assert [(each.vm_id, each.port, each.filter_ip) for each in plan.guards] == [
        (0, "one-0-0", True),
        (1, "one-1-0", True),
    ]
    assert plan.machines == (0, 1)
    (let_in,) = plan.guards[0].firewall
    assert (let_in.ports, let_in.addresses, plan.guards[1].firewall) == (((22, 22),), ("10.0.0.0/8",), None)
    # One that is to end is filtered until it has.
    plans = decide(inside, {"name": "web", "state": "absent"})
    assert [each.port for each in plans["node1"].guards] == ["one-0-0", "one-1-0"]
    obey(inside, plans)
    assert [each.port for each in inside.networks.guards()["node1"]] == ["one-1-0"]


def test_a_firewall_that_can_not_be_meant_is_refused_by_name_before_anything_is_made(inside):
    inside.networks.allocate(
        Network(None, "tenant", vn_mad="ovn", address_ranges=(AddressRange(0, "IP4", 10, ip="10.77.0.10"),))
    )
    inside.networks.allocate(
        Network(None, "switched", vn_mad="ovswitch", address_ranges=(AddressRange(0, "IP4", 10, ip="10.78.0.10"),))
    )
    for text, nic, told in (
        ("[ssh] *", PUBLIC, "[ssh]: 'ssh' is no port"),
        ("[ssh] *", {"NETWORK": "tenant"}, "[ssh]: 'ssh' is no port"),
        ("[22] *", {"NETWORK": "switched"}, "its NIC 0 is in network switched of Open vSwitch"),
    ):
        (message,) = refused(inside, {"name": "web", "template": "web", "nics": [nic], "context": {"FIREWALL": text}})
        assert f"VM web: CONTEXT/FIREWALL: {told}" in message
    assert inside.vms.pool() == []


def test_a_firewall_acts_in_a_network_of_ovn(inside):
    inside.networks.allocate(
        Network(None, "tenant", vn_mad="ovn", address_ranges=(AddressRange(0, "IP4", 10, ip="10.77.0.10"),))
    )
    decide(inside, {
        "name": "web", "template": "web", "nics": [{"NETWORK": "tenant"}], "context": {"FIREWALL": "[22] 10.0.0.0/8"},
    })  # fmt: skip
    found = inside.networks.logical()
    (wall,) = found.groups
    assert found.ports[0].security_groups == (wall.uuid,)
    assert wall.rules == (SecurityRule("outbound"), SecurityRule("inbound", "TCP", ((22, 22),), "10.0.0.0/8"))


@pytest.mark.parametrize("gateway", ["GATEWAY6", "IP6_GATEWAY"])
def test_a_guest_is_told_its_static_address(inside, gateway):
    made = AddressRange(NEW_AR, "IP6_STATIC", 9, ip6="2001:db8::10", prefix_length=48)
    attributes = {gateway: "2001:db8::1", "IP6_METHOD": "static", "DNS": "2001:db8::53"}
    inside.networks.allocate(Network(None, "six", bridge="br6", attributes=attributes, address_ranges=(made,)))
    nics = [{"NETWORK": "six", "IP6": "2001:DB8::12"}, {"NETWORK": "six"}]
    template = PLAIN.with_vectors("NIC", nics).with_vector("CONTEXT", {"NETWORK": "YES"})
    (vm,) = inside.vms.instantiate([VmRequest("a", template)])
    assert vm.addresses == ["2001:db8::12", "2001:db8::10"]
    variables = json.loads(row(inside)["body"])["context"]["variables"]
    assert {name: value for name, value in variables.items() if value and name.startswith("ETH0_")} == {
        "ETH0_DNS": "2001:db8::53",
        "ETH0_IP6": "2001:db8::12",
        "ETH0_IP6_GATEWAY": "2001:db8::1",
        "ETH0_IP6_METHOD": "static",
        "ETH0_IP6_PREFIX_LENGTH": "48",
        "ETH0_MAC": variables["ETH0_MAC"],
    }
    assert variables["ETH1_IP6"] == "2001:db8::10"
    assert not record(inside).outdated
    there = inside.networks.info("six")
    longer = AddressRange(0, "IP6_STATIC", 9, ip6="2001:db8::10", prefix_length=64, attributes={})
    inside.networks.update_ar(there.id, longer)
    assert record(inside).outdated
