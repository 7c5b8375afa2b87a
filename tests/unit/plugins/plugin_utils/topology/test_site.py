# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a result of nebula_info, with all that may be missing or wrong in it."""

from __future__ import annotations

import pytest
import topologies

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.site import Leg, Network, read_site


def test_a_network_is_read_from_its_keys_and_its_attributes():
    site = read_site(topologies.thirty())
    by_name = {network.name: network for network in site.networks}
    front = by_name["red-front"]
    assert (front.cidr, front.gateways, front.ranges) == (
        "10.1.0.0/24",
        ("10.1.0.1",),
        ("10.1.0.10 – 10.1.0.109 (100)",),
    )
    assert front.notes == ("DHCP", "MTU 1442", "DNS 9.9.9.9") and front.tenant == "red" and not front.external
    assert by_name["storage"].link == "802.1Q id 120 onebr4 on eth2"
    assert by_name["internet"].external and by_name["internet"].link == "ovn br-ex on eth1"
    ranges = [
        {"type": "IP6", "global_prefix": "2001:db8::", "size": 8},
        {"type": "ETHER", "mac": "02:00:00:00:00:01", "size": 1},
        {},
        {"ip": "nonsense", "size": 4},
    ]
    (odd,) = read_site(
        {"networks": [{"name": "a", "address_ranges": ranges, "attributes": {"EXTERNAL": "yes"}}]}
    ).networks
    assert odd.ranges == ("2001:db8:: (8)", "02:00:00:00:00:01 (1)", "nonsense (4)") and odd.external and odd.size == 13


def test_routers_and_floating_addresses_reach_the_machines_of_their_networks_only():
    site = read_site(topologies.thirty())
    red = next(router for router in site.routers if router.name == "red-router")
    assert red.legs[0] == Leg("internet", "203.0.113.2", True) and len(red.legs) == 3
    floating = {m.name: nic.floating for m in site.machines for nic in m.nics if nic.floating}
    # app-0 of the other tenant has the same address.
    assert floating == {
        "shop-0": ("203.0.113.10",),
        "shop-1": ("203.0.113.11",),
        "shop-2": ("203.0.113.12",),
    }
    assert site.tenants == ("blue", "red")


def test_what_only_others_name_is_there_too():
    site = read_site(
        {
            "vms": [topologies.machine(0, "a", "RUNNING", "gone", topologies.nic("lost", "10.0.0.1"))],
            "routers": [{"name": "r", "gateway": [{"network": "world", "ip": "192.0.2.1"}]}],
        }
    )
    assert site.networks == (Network("lost", unknown=True), Network("world", external=True, unknown=True))
    assert [node.name for node in site.nodes] == ["gone"]
    assert [m.name for m in site.by_network["lost"]] == ["a"]


def test_the_order_of_what_is_given_does_not_matter():
    given = topologies.three_hundred()
    turned = {key: value[::-1] if isinstance(value, list) else value for key, value in given.items()}
    assert read_site(turned) == read_site(given)


@pytest.mark.parametrize(
    "info",
    [
        *(None, "text", [], {}),
        {"networks": None, "vms": "x", "hosts": {"a": 1}, "routers": 3, "catalog": [1], "as_of": "soon"},
        {"networks": [None, {}, {"name": None, "attributes": 5, "size": "many", "address_ranges": 7}]},
        {"vms": [{}, {"name": 5, "nics": [None, {"network": None, "ip": 7, "security_groups": 0}]}]},
        {"routers": [{}, {"interfaces": "x", "gateway": 5, "floating": "y"}, {"floating": [[], {}, "a", ["b"], None]}]},
        {"security_groups": [{}, {"rules": "x"}, {"name": "a", "rules": [None, "all", {"PROTOCOL": None}]}]},
    ],
)
def test_whatever_is_given_something_is_read(info):
    assert read_site(info).as_of == 0


def test_rules_are_sentences():
    groups = {group.name: group.rules for group in read_site(topologies.thirty()).groups}
    assert groups == {
        "db": ("inbound TCP 5432 from 10.1.0.0 (256)", "inbound ICMP icmp_type 8"),
        "default": ("outbound ALL",),
    }
    rule = {"rule_type": "outbound", "protocol": "UDP", "range": "53", "network_id": 4}
    assert read_site({"security_groups": [{"name": "a", "rules": [rule]}]}).groups[0].rules == (
        "outbound UDP 53 to network 4",
    )


def test_groups_are_shown_by_their_names_and_legs_by_all_of_their_addresses():
    given = {
        "vms": [{"name": "a", "nics": [{"network": "n", "security_groups": "100,7"}]}],
        "security_groups": [{"id": 100, "name": "web"}],
        "routers": [{"name": "r", "interfaces": [{"network": "n", "addresses": ["10.0.0.1/24", "2001:db8::1/64"]}]}],
    }
    site = read_site(given)
    assert site.machines[0].nics[0].groups == ("web", "7")
    assert site.routers[0].legs == (Leg("n", "10.0.0.1/24, 2001:db8::1/64"),)
