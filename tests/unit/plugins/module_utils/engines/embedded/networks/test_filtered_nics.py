# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes are told to filter of their machines' NICs on Linux bridges."""

from __future__ import annotations

import contextlib
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model import nic_filter_rules
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import GuardRule
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import GroupRule, SecurityGroup
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState

ON = {"FILTERS_ON_NODE": "YES"}
BOTH = {**ON, "FILTER_MAC_SPOOFING": "YES", "FILTER_IP_SPOOFING": "YES"}


class Catalog:
    def __init__(self, engine):
        self.engine = engine
        self.number = 0

    def network(self, attributes, driver="bridge", **values):
        self.number += 1
        values = {"ip": "10.66.0.10", "type": "IP4", **values}
        network = Network(
            None, f"network{self.number}", vn_mad=driver, bridge=f"nbr{self.number}", attributes=attributes,
            address_ranges=(AddressRange(NEW_AR, values.pop("type"), 9, **values),),
        )  # fmt: skip
        return self.engine.networks.allocate(network).id

    def machine(self, number, *networks, state=3, host=0, ip6="", **options):
        nics = [
            {
                "nic_id": n, "network_id": network, "ar_id": 0, "mac": f"02:00:0A:42:00:{number:02x}",
                "ip": "10.66.0.1", "ip6": ip6, "target": f"one-{number}-{n}", "options": options,
            }
            for n, network in enumerate(networks)
        ]  # fmt: skip
        self.engine.store.db.execute(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime, host_id)"
            " VALUES (?, ?, ?, ?, 3, 'RUNNING', 1, 1, '', ?, 0, ?)",
            (number, f"m{number}", f"00000000-0000-4000-8000-{number:012d}", state, json.dumps({"nics": nics}), host),
        )

    def change(self, number, changed):
        (body,) = self.engine.store.rows(f"SELECT body FROM vms WHERE id = {number}")[0]
        self.engine.store.db.execute(
            "UPDATE vms SET body = ? WHERE id = ?", (json.dumps(changed(json.loads(body))), number)
        )

    def ports(self):
        return {host: [each.port for each in found] for host, found in self.engine.networks.guards().items()}

    def only(self):
        ((only,),) = self.engine.networks.guards().values()
        return only


@pytest.fixture
def catalog(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        for name in ("node1", "node2"):
            engine.hosts.allocate(Host(None, name, state=HostState.MONITORED, memory=1, cpu=1))
        yield Catalog(engine)


def test_each_host_is_told_of_its_own_machines_in_networks_that_are_filtered(catalog):
    filtered, older, ovn = catalog.network(BOTH), catalog.network({"FILTER_MAC_SPOOFING": "YES"}), None
    ovn = catalog.network(BOTH, driver="ovn")
    dummy, off = catalog.network(BOTH, driver="dummy"), catalog.network(ON)
    catalog.machine(1, filtered, older, ovn, dummy, off)
    catalog.machine(2, filtered, host=1)
    catalog.machine(3, filtered, state=6)
    assert catalog.ports() == {"node1": ["one-1-0", "one-1-3"], "node2": ["one-2-0"]}
    # Whether any of it is filtered or not.
    catalog.machine(4, off, host=1)
    assert catalog.engine.networks.machines() == {"node1": [1], "node2": [2, 4]}
    found = catalog.engine.networks.guards()["node2"]
    assert nic_filter_rules.unpack(nic_filter_rules.pack(found, [])) == (found, [])
    assert (found[0].mac, found[0].addresses) == ("02:00:0a:42:00:02", ("10.66.0.1",))


@pytest.mark.parametrize(
    ("attributes", "options", "silent"),
    [
        ({}, {}, True),
        ({"FILTER_IP_SPOOFING": "NO"}, {}, False),
        ({"FILTER_IP_SPOOFING": "NO"}, {"FILTER_IP_SPOOFING": "YES"}, True),
        ({}, {"FILTER_MAC_SPOOFING": "NO"}, False),
    ],
)
def test_on_ovn_a_node_has_machines_with_ipv6_announce_no_router(catalog, attributes, options, silent):
    ovn = catalog.network(attributes, driver="ovn")
    catalog.machine(1, ovn, ip6="2001:db8::1", **options)
    # OVN drops all IPv6 of who has an address, and none of that.
    catalog.machine(2, ovn, **options)
    assert catalog.ports() == ({"node1": ["one-1-0"]} if silent else {})
    if silent:
        found = catalog.engine.networks.guards()["node1"]
        assert nic_filter_rules.unpack(nic_filter_rules.pack(found, [])) == (found, [])
        assert (found[0].on_ovn, found[0].bars_router_advertisements, found[0].filters) == (True, True, False)


def test_on_ovn_who_has_an_alias_with_ipv6_or_no_address_at_all_announces_none_either(catalog):
    ovn = catalog.network({}, driver="ovn")
    catalog.machine(1, ovn, ovn)
    alias = {"nic_id": 2, "parent_id": 1, "ip": "", "ip6": "2001:db8::9", "ip6_ula": "", "external": False}
    catalog.change(1, lambda body: {**body, "aliases": [alias]})
    assert catalog.ports() == {"node1": ["one-1-1"]}
    catalog.change(1, lambda body: {**body, "nics": [{**nic, "ip": ""} for nic in body["nics"]]})
    assert catalog.ports() == {"node1": ["one-1-0", "one-1-1"]}


@pytest.mark.parametrize(
    ("attributes", "options", "mac", "ip"),
    [
        (BOTH, {}, True, True),
        (BOTH, {"FILTER_IP_SPOOFING": "NO"}, True, False),
        (BOTH, {"FILTER_MAC_SPOOFING": "no", "SECURITY_GROUPS": "9"}, False, False),
        (ON, {"FILTER_IP_SPOOFING": "yes"}, True, True),
        (ON, {"FILTER_MAC_SPOOFING": "perhaps"}, True, False),
        ({**BOTH, "FILTER_IP_SPOOFING": "NO"}, {"FILTER_IP_SPOOFING": "YES"}, True, True),
    ],
)
def test_a_nic_goes_before_its_network(catalog, attributes, options, mac, ip):
    catalog.machine(1, catalog.network(attributes), **options)
    assert (catalog.only().filter_mac, catalog.only().filter_ip) == (mac, ip)


def test_groups_add_up_and_one_that_is_unknown_lets_nothing_through(catalog):
    web = catalog.engine.security_groups.allocate(
        SecurityGroup(None, "web", rules=(GroupRule("inbound", "TCP", "80"),))
    )
    out = catalog.engine.security_groups.allocate(SecurityGroup(None, "out", rules=(GroupRule("outbound"),)))
    network = catalog.network({**ON, "SECURITY_GROUPS": str(web.id)})
    catalog.machine(1, network)
    assert catalog.only().rules == (GuardRule("inbound", "TCP", ((80, 80),)),)
    catalog.machine(2, network, SECURITY_GROUPS=str(out.id))
    assert catalog.engine.networks.guards()["node1"][1].rules[1] == GuardRule("outbound", "ALL")
    # Group 0 beside others.
    catalog.machine(3, network, SECURITY_GROUPS="0")
    assert catalog.ports() == {"node1": ["one-1-0", "one-2-0"]}
    catalog.machine(4, catalog.network(ON), SECURITY_GROUPS="web")
    assert catalog.engine.networks.guards()["node1"][2].rules == ()


def test_aliases_are_let_through_their_nic_and_external_ones_are_not(catalog):
    network, other = catalog.network(BOTH), catalog.network(BOTH)
    catalog.machine(1, network, other)
    (text,) = catalog.engine.store.rows("SELECT body FROM vms")[0]
    more = {"nic_id": 2, "parent_id": 1, "ip": "10.67.0.9", "ip6": "2001:db8::9", "ip6_ula": "", "external": False}
    body = {**json.loads(text), "aliases": [more, {**more, "nic_id": 3, "ip": "10.67.0.8", "external": True}]}
    catalog.engine.store.db.execute("UPDATE vms SET body = ?", (json.dumps(body),))
    assert [guard.addresses for guard in catalog.engine.networks.guards()["node1"]] == [
        ("10.66.0.1",),
        ("10.66.0.1", "10.67.0.9", "2001:db8::9"),
    ]


def test_one_without_addresses_of_its_own_is_held_to_none_whatever_aliases_it_has(catalog):
    alias = {"nic_id": 2, "parent_id": 0, "ip": "10.67.0.9", "ip6": "", "ip6_ula": "", "external": False}
    catalog.machine(1, catalog.network(BOTH, type="ETHER", ip=""))
    bare = [{**alias, "nic_id": 0, "network_id": 0, "ip": "", "mac": "02:00:0a:42:00:01", "target": "one-1-0"}]
    catalog.change(1, lambda body: {"nics": bare, "aliases": [alias]})
    assert (catalog.only().addresses, catalog.only().filter_ip) == ((), True)


def test_what_a_network_names_besides_arp_and_ip_is_each_nic_s(catalog):
    network = catalog.network({**BOTH, "ETHERTYPES": "pppoe 0x88b5"})
    catalog.machine(1, network)
    assert catalog.only().ethertypes == (0x8863, 0x8864, 0x88B5)


def test_rules_have_addresses_and_ports_without_overlaps(catalog):
    other = catalog.network({}, ip="10.77.0.250")
    six = catalog.network({}, type="IP4_6", ip="10.88.0.1", global_prefix="2001:db8::")
    empty = catalog.network({}, type="ETHER", ip="")
    rules = (
        GroupRule("inbound", "UDP", "53,50:60,61,99", network_id=other),
        GroupRule("inbound", network_id=six),
        GroupRule("inbound", network_id=empty),
        GroupRule("inbound", network_id=4711),
        GroupRule("outbound", ip="10.0.0.5", size=3),
        GroupRule("outbound", "ICMPV6", ip="2001:db8::/32", icmp_type=128),
    )
    group = catalog.engine.security_groups.allocate(SecurityGroup(None, "web", rules=rules))
    catalog.machine(1, catalog.network(ON), SECURITY_GROUPS=str(group.id))
    assert catalog.only().rules == (
        GuardRule("inbound", "UDP", ((50, 61), (99, 99)), ("10.77.0.250-10.77.1.2",)),
        GuardRule("inbound", "ALL", (), ("10.88.0.1-10.88.0.9", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff")),
        GuardRule("outbound", "ALL", (), ("10.0.0.5-10.0.0.7",)),
        GuardRule("outbound", "ICMPV6", (), ("2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",), 128),
    )
