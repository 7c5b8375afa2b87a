# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Aliases of NICs: their leases from a machine's beginning to its end, and what nodes and users are told of them."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import gather
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_results import vm_view
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ANEW,
    PUBLIC,
    WEB,
    nics,
    on_xen,
    record,
    refused,
)

MORE = dict(WEB, nics=[PUBLIC], nic_aliases=[PUBLIC, dict(PUBLIC, IP="10.66.0.50")])
CONTEXT = {"attributes": {"CONTEXT": {"NETWORK": "YES"}}}


def aliases(engine, vm_id=0):
    """Number, number of the NIC, number there and address of each."""
    return [(a["nic_id"], a["parent_id"], a["alias_id"], a["ip"]) for a in record(engine, vm_id).nic_aliases]


def used(engine, network="Public"):
    return engine.networks.info(network).address_ranges[0].used


def leases(engine, vm_id=0):
    """Offset in its range and number of each."""
    return [tuple(found) for found in engine.store.rows("SELECT offset, nic_id FROM leases WHERE vm_id = ?", vm_id)]


@pytest.fixture
def more(inside):
    """A machine that runs, with a NIC and two aliases."""
    obey(inside, decide(inside, MORE))
    return inside


def test_an_alias_has_a_lease_of_its_own_until_its_machine_has_ended(more):
    assert nics(more) == [(0, "Public", "02:00:0a:42:00:0a", "10.66.0.10")]
    assert aliases(more) == [(1, 0, 0, "10.66.0.11"), (2, 0, 1, "10.66.0.50")]
    assert sorted(leases(more)) == [(0, 0), (1, 1), (40, 2)]
    assert more.ledger().findings == ()
    taker = {"name": "taker", "template": "web", "nics": [dict(PUBLIC, IP="10.66.0.50")]}
    assert "VM web (id 0) has it, on NIC 2" in refused(more, taker)[0]
    plans = decide(more, dict(WEB, state="absent"))
    assert used(more) == 3
    obey(more, plans)
    assert used(more) == 0 and leases(more) == []


def test_what_a_node_makes_has_no_interface_for_it(more):
    (planned,) = decide(more, dict(MORE, memory=256, state="poweroff"))["node1"].vms
    assert [nic.target for nic in planned.vm.nics] == ["one-0-0"]
    assert [(alias.mac, alias.external) for alias in planned.vm.aliases] == [
        ("02:00:0a:42:00:0b", False),
        ("02:00:0a:42:00:32", False),
    ]


def test_users_are_shown_them_beside_the_nics(more):
    view = vm_view(record(more), "/r")
    assert view["ip"] == "10.66.0.10" and len(view["nics"]) == 1
    assert view["nic_aliases"][1] == {
        "name": "NIC0_ALIAS1", "parent": "NIC0", "nic_id": 2, "alias_id": 1, "parent_id": 0, "network": "Public",
        "mac": "02:00:0a:42:00:32", "ip": "10.66.0.50", "ip6": "", "ip6_ula": "", "external": False,
        "late": False,
    }  # fmt: skip
    found = gather.GATHERERS["leases"](more, {})
    assert [(each["ip"], each["nic_id"]) for each in found] == [("10.66.0.10", 0), ("10.66.0.11", 1), ("10.66.0.50", 2)]


def test_a_guest_is_told_of_them_and_an_external_one_is_not_its_own(inside):
    named = [dict(PUBLIC, NAME="outside")]
    external = dict(PUBLIC, PARENT="outside", EXTERNAL="yes", NAME="far")
    outcomes, warnings = reconcile(inside, [
        dict(WEB, nics=named, nic_aliases=[dict(PUBLIC, PARENT="outside"), external], **CONTEXT),
    ])  # fmt: skip
    assert [outcome.error for outcome in outcomes] == [None]
    assert any("10.66.0.12 of network Public is leased, and neither the guest" in text for text in warnings)
    variables = json.loads(row(inside)["body"])["context"]["variables"]
    assert {name: variables[f"ETH0_ALIAS{name}"] for name in ("0_IP", "0_MAC", "0_EXTERNAL", "1_IP", "1_EXTERNAL")} == {
        "0_IP": "10.66.0.11", "0_MAC": "02:00:0a:42:00:0b", "0_EXTERNAL": "", "1_IP": "10.66.0.12", "1_EXTERNAL": "YES",
    }  # fmt: skip
    found = record(inside)
    assert found.addresses == ["10.66.0.10", "10.66.0.11"]
    assert [(each["name"], each["parent"]) for each in found.nic_aliases] == [
        ("NIC0_ALIAS0", "outside"),
        ("far", "outside"),
    ]


def test_they_come_and_go_while_the_machine_runs(more):
    before = record(more)
    plans = decide(more, dict(MORE, nic_aliases=[dict(PUBLIC, IP="10.66.0.50"), PUBLIC, PUBLIC]))
    (planned,) = plans["node1"].vms
    assert planned.generation > before.generation and planned.wanted == "RUNNING" and not planned.refitted
    # Each keeps its address, and what comes gets a number that no other one had.
    assert aliases(more) == [(2, 0, 0, "10.66.0.50"), (1, 0, 1, "10.66.0.11"), (3, 0, 2, "10.66.0.12")]
    obey(more, plans)
    plans = decide(more, dict(MORE, nic_aliases=[dict(PUBLIC, IP="10.66.0.12")]))
    assert aliases(more) == [(3, 0, 0, "10.66.0.12")]
    # Until its node has reported, the guest may still have the others.
    assert used(more) == 4
    taker = {"name": "taker", "template": "web", "nics": [dict(PUBLIC, IP="10.66.0.50")]}
    assert "VM web (id 0) has it until it is made anew" in refused(more, taker)[0]
    obey(more, plans)
    assert used(more) == 2 and more.ledger().findings == ()
    assert nics(more)[0][3] == "10.66.0.10"
    obey(more, decide(more, dict(MORE, nic_aliases=[])))
    assert aliases(more) == [] and used(more) == 1
    # Its number is nobody's again.
    decide(more, dict(MORE, nic_aliases=[PUBLIC]))
    assert aliases(more)[0][0] == 4


def test_a_guest_is_not_asked_for_what_it_was_not_started_with(inside):
    item = dict(WEB, nics=[PUBLIC], nic_aliases=[PUBLIC], **CONTEXT)
    obey(inside, decide(inside, item))
    assert record(inside).addresses == ["10.66.0.10", "10.66.0.11"]
    more = dict(item, nic_aliases=[PUBLIC, PUBLIC, dict(PUBLIC, EXTERNAL="YES")])
    obey(inside, decide(inside, more))
    assert [alias["late"] for alias in record(inside).nic_aliases] == [False, True, True]
    assert record(inside).addresses == ["10.66.0.10", "10.66.0.11"]
    # It stays so, whatever else is changed meanwhile.
    obey(inside, decide(inside, dict(more, nic_aliases=[PUBLIC, PUBLIC])))
    assert record(inside).addresses == ["10.66.0.10", "10.66.0.11"]
    obey(inside, decide(inside, dict(item, nic_aliases=[PUBLIC, PUBLIC], state="rebooted")))
    assert record(inside).addresses == ["10.66.0.10", "10.66.0.11", "10.66.0.12"]
    # One that comes while it is off is there when it is on.
    obey(inside, decide(inside, dict(item, state="poweroff")))
    obey(inside, decide(inside, dict(item, nic_aliases=[PUBLIC, PUBLIC], state="poweroff")))
    assert not any(alias["late"] for alias in record(inside).nic_aliases)


@pytest.mark.parametrize("anew", [False, True])
def test_a_machine_that_was_made_when_nothing_acted_on_them_gets_them_now(inside, anew):
    obey(inside, decide(inside, dict(WEB, nics=[PUBLIC])))
    wanted = dict(WEB, nics=[PUBLIC], nic_aliases=[dict(PUBLIC, IP="10.66.0.50")])
    # As a former release kept them.
    request = record(inside).request.with_vectors("NIC_ALIAS", wanted["nic_aliases"])
    body = {key: value for key, value in json.loads(row(inside)["body"]).items() if key != "aliases"}
    kept = json.dumps(request.to_attributes()), json.dumps(body)
    inside.store.db.execute("UPDATE vms SET request = ?, body = ?", kept)
    assert record(inside).outdated and not record(inside).nic_aliases
    obey(inside, decide(inside, dict(wanted, **({"recreate": True, "memory": 256} if anew else {}))))
    assert aliases(inside) == [(1, 0, 0, "10.66.0.50")] and not record(inside).outdated
    assert inside.ledger().findings == ()


def test_the_same_list_changes_nothing(more):
    before = record(more)
    assert decide(more, MORE) is not None and record(more).generation == before.generation
    # A name is the catalog's alone.
    decide(more, dict(MORE, nics=[dict(PUBLIC, NAME="outside")]))
    after = record(more)
    assert after.generation == before.generation and after.nic_aliases[0]["parent"] == "outside"


def test_an_alias_stays_on_a_nic_that_the_list_says_by_its_place(more):
    """NICs are changed while it is off, and the ids stay."""
    obey(more, decide(more, dict(MORE, state="poweroff")))
    private = AddressRange(0, "IP4", 10, ip="10.77.0.10")
    more.networks.allocate(Network(None, "Private", bridge="nbr1", address_ranges=(private,)))
    wanted = dict(MORE, state="poweroff", nics=[{"NETWORK": "Private"}, PUBLIC])
    wanted["nic_aliases"] = [dict(PUBLIC, PARENT="NIC1"), dict(PUBLIC, PARENT="NIC1", IP="10.66.0.50")]
    obey(more, decide(more, wanted))
    assert [nic[:2] for nic in nics(more)] == [(3, "Private"), (0, "Public")]
    assert aliases(more) == [(1, 0, 0, "10.66.0.11"), (2, 0, 1, "10.66.0.50")]
    assert record(more).nic_aliases[0]["parent"] == "NIC0"


def test_a_list_with_nics_that_wait_has_their_aliases_at_once(more):
    (outcome,), _warnings = reconcile(more, [
        dict(
            MORE,
            nics=[dict(PUBLIC, NAME="inner", MODEL="e1000")],
            nic_aliases=[dict(PUBLIC, PARENT="inner")],
        ),
    ])  # fmt: skip
    assert outcome.error is None
    assert outcome.differences == [] and len(aliases(more)) == 1
    assert [(each.part, each.when) for each in outcome.parts] == [
        ("NIC 0", "at its next start"),
        ("NIC_ALIAS", "at once"),
    ]


def test_a_hypervisor_that_attaches_nics_gets_both_at_once(inside):
    item = on_xen(inside, "db")
    vm_id = inside.vms.pool(names=["db"])[0].id
    obey(inside, decide(inside, dict(item, state="running")))
    wanted = dict(item, state="running", nics=[PUBLIC, dict(PUBLIC, NAME="inner")])
    obey(inside, decide(inside, dict(wanted, nic_aliases=[dict(PUBLIC, PARENT="inner")])))
    assert aliases(inside, vm_id) == [(2, 1, 0, "10.66.0.12")]


def test_a_machine_that_is_made_anew_keeps_the_addresses_that_its_list_has(more):
    before = aliases(more)
    obey(more, decide(more, dict(ANEW, memory=256, nics=[PUBLIC], nic_aliases=MORE["nic_aliases"])))
    assert aliases(more) == before
    plans = decide(more, dict(ANEW, memory=512, nics=[PUBLIC], nic_aliases=[dict(PUBLIC, IP="10.66.0.50")]))
    assert aliases(more) == [(2, 0, 0, "10.66.0.50")] and used(more) == 3
    obey(more, plans)
    assert used(more) == 2 and more.ledger().findings == ()


def test_what_its_network_says_by_now_is_in_its_context(inside):
    item = dict(WEB, nics=[PUBLIC], nic_aliases=[PUBLIC], **CONTEXT)
    obey(inside, decide(inside, item))
    attributes = inside.networks.info("Public").attributes
    inside.networks.update("Public", attributes={**attributes, "DNS": "10.66.0.53"})
    assert record(inside).outdated
    decide(inside, item)
    assert not record(inside).outdated
    assert json.loads(row(inside)["body"])["context"]["variables"]["ETH0_ALIAS0_DNS"] == "10.66.0.53"


def test_the_filter_of_its_nic_lets_it_through(more):
    attributes = more.networks.info("Public").attributes
    more.networks.update("Public", attributes={**attributes, "FILTERS_ON_NODE": "YES", "FILTER_IP_SPOOFING": "YES"})
    (guard,) = more.networks.guards()["node1"]
    assert (guard.mac, guard.addresses) == ("02:00:0a:42:00:0a", ("10.66.0.10", "10.66.0.11", "10.66.0.50"))


def test_the_port_in_ovn_has_it_and_keeps_the_name_to_its_own(inside):
    inside.networks.allocate(
        Network(None, "tenant", vn_mad="ovn", address_ranges=(AddressRange(0, "IP4", 10, ip="10.77.0.10"),))
    )
    tenant = {"NETWORK": "tenant"}
    decide(
        inside, dict(WEB, nics=[PUBLIC, tenant], nic_aliases=[dict(tenant, PARENT="NIC1"), dict(PUBLIC, PARENT="NIC0")])
    )
    (port,) = inside.networks.logical().ports
    assert (port.addresses4, port.further) == (("10.77.0.10",), ("10.77.0.11",))


def test_networks_of_two_bridges_are_refused_before_anything_is_leased(two):
    wrong = {"name": "wrong", "template": "web", "nics": [PUBLIC], "nic_aliases": [{"NETWORK": "Private"}]}
    (message,) = refused(two, wrong)
    assert "VM wrong: NIC_ALIAS 0: network Private on NIC 0, which is in network Public: they are on bridges" in message
    assert used(two, "Private") == 0 and two.vms.pool(names=["wrong"]) == []
    missing = dict(wrong, nic_aliases=[{"NETWORK": "nosuch"}])
    assert "VM wrong, NIC_ALIAS 0: network 'nosuch'" in refused(two, missing)[0]


def test_an_alias_is_of_another_network_of_the_same_bridge(inside):
    public = inside.networks.info("Public")
    attributes = {**public.attributes, "NETWORK_ADDRESS": "10.77.0.0", "GATEWAY": "10.77.0.1"}
    ranges = (AddressRange(0, "IP4", 10, ip="10.77.0.10"),)
    inner = inside.networks.allocate(
        Network(None, "Inner", bridge=public.bridge, attributes=attributes, address_ranges=ranges)
    )
    for network in (public, inner):
        filters = {"FILTERS_ON_NODE": "YES", "FILTER_IP_SPOOFING": "YES", "FILTER_MAC_SPOOFING": "YES"}
        inside.networks.update(network.name, attributes={**network.attributes, **filters})
    plans = decide(inside, dict(WEB, nics=[PUBLIC], nic_aliases=[{"NETWORK": "Inner"}]))
    assert set(plans["node1"].bridges[public.bridge].split(",")) == {public.uuid, inner.uuid}
    obey(inside, plans)
    assert aliases(inside) == [(1, 0, 0, "10.77.0.10")]
    (guard,) = inside.networks.guards()["node1"]
    assert guard.addresses == ("10.66.0.10", "10.77.0.10")


def test_an_address_of_a_network_that_filters_more_is_refused(inside):
    for name, attributes in (("open", {}), ("closed", {"FILTER_IP_SPOOFING": "YES"})):
        inside.networks.allocate(
            Network(
                None, name, vn_mad="dummy", bridge="br0", attributes=attributes,
                address_ranges=(AddressRange(0, "IP4", 10, ip="10.78.0.10"),),
            )
        )  # fmt: skip
    item = {"name": "wrong", "template": "web", "nics": [{"NETWORK": "open"}], "nic_aliases": [{"NETWORK": "closed"}]}
    assert "VM wrong: NIC_ALIAS 1 in network closed: FILTER_IP_SPOOFING = YES" in refused(inside, item)[0]
    obey(inside, decide(inside, dict(item, nics=[{"NETWORK": "closed"}], nic_aliases=[{"NETWORK": "open"}])))
    assert used(inside, "open") == used(inside, "closed") == 1


def test_its_address_is_held_when_its_machine_is_given_up_with_its_host(more):
    more.hosts.forget("node1")
    more.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    taker = {"name": "taker", "template": "web", "nics": [dict(PUBLIC, IP="10.66.0.50")]}
    assert "VM web (id 0), given up with host node1, has it" in refused(more, taker)[0]
    # Declared gone for good, and there again all the same.
    assert len(more.hosts.gone("node1")) == 3
    obey(more, decide(more, taker))
    more.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=4096, cpu=16.0))
    there = ObservedVm(0, row(more)["uuid"], "RUNNING", memory=128)
    more.vms.observe([Observed("node1", catalog=more.catalog(), vms=(there,))])
    assert "its address 10.66.0.50 is also that of VM web (id 0)" in record(more, 1).doubled
    assert used(more) == 3
