# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks and ranges in their one form, and values that are refused."""

# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import network_checks
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network


def ip4(ip="10.66.0.10", size=100, **values):
    return network_checks.normalise_range(AddressRange(NEW_AR, "IP4", size, ip=ip, **values), "Public", 0)


def network(*ranges, nat=False, vn_mad="bridge", bridge="nbr0", **attributes):
    attributes = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1", **attributes}
    attributes = {key: value for key, value in attributes.items() if value}
    return Network(0, "Public", bridge=bridge, nat=nat, vn_mad=vn_mad, address_ranges=ranges, attributes=attributes)


def refused(call, *parts):
    """Every part of the message: the object, the attribute, the value, the remedy."""
    with pytest.raises(InvalidValue) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_a_range_of_mac_addresses_only():
    made = network_checks.normalise_range(AddressRange(NEW_AR, "ether", 50), "Public", 0xABCDEF)
    assert (made.type, made.mac, made.ip) == ("ETHER", "02:00:00:ab:cd:ef", "")


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"type": "IP5"}, ["TYPE = 'IP5'", "IP4, IP6, IP4_6, ETHER"]),
        ({"size": 0}, ["SIZE = 0"]),
        ({"size": 1 << 25}, ["SIZE = 33554432"]),
        ({"ip": ""}, ["TYPE = IP4", "no IP"]),
        ({"ip": "10.66.0"}, ["IP = '10.66.0'", "not an IPv4 address"]),
        ({"ip": "10.66.0.010"}, ["not an IPv4 address"]),
        ({"ip": "255.255.255.250"}, ["beyond 255.255.255.255"]),
        ({"type": "ETHER"}, ["TYPE ETHER has no IPv4"]),
        ({"mac": "02:00:ff:ff:ff:f0"}, ["SIZE = 100", "beyond the MAC addresses of 02:00"]),
        ({"global_prefix": "2001:db8::"}, ["GLOBAL_PREFIX", "TYPE IP4 has no IPv6"]),
        ({"type": "IP4_6", "ula_prefix": "fd00::1"}, ["ULA_PREFIX = 'fd00::1'", "not a /64"]),
        ({"type": "IP4_6", "global_prefix": "2001:db8::/48"}, ["not a /64"]),
        ({"type": "IP4_6", "global_prefix": "10.0.0.0"}, ["not an IPv6 prefix"]),
    ],
)
def test_a_range_that_cannot_be_meant(values, parts):
    given_range = replace(AddressRange(NEW_AR, "IP4", 100, ip="10.66.0.10"), **values)
    refused(lambda: network_checks.normalise_range(given_range, "Public", 0), "network Public", "address range", *parts)


@pytest.mark.parametrize(
    ("made", "parts"),
    [
        (ip4("10.66.0.1", 10), ["it holds the gateway 10.66.0.1", "10.66.0.1-10.66.0.10"]),
        (ip4("10.66.0.0", 1), ["network address 10.66.0.0", "10.66.0.1 to 10.66.0.254"]),
        (ip4("10.66.0.250", 6), ["broadcast address 10.66.0.255"]),
        (ip4("10.66.1.10", 5), ["it leaves 10.66.0.0/24"]),
        (ip4("10.65.255.250", 5), ["it leaves 10.66.0.0/24"]),
    ],
)
def test_a_range_that_does_not_fit_its_network(made, parts):
    refused(lambda: network_checks.check(network(made)), "network Public: address range", *parts)


@pytest.mark.parametrize("made", [ip4("10.66.0.2", 253), ip4("10.66.0.254", 1), ip4("10.66.0.10", 100)])
def test_a_range_that_just_fits(made):
    network_checks.check(network(made))


def test_a_network_without_edges():
    network_checks.check(network(ip4("10.66.0.0", 2), NETWORK_MASK="255.255.255.254", GATEWAY=""))


def test_without_an_address_of_the_network_only_the_gateway_counts():
    network_checks.check(network(ip4("10.66.0.2", 1000), NETWORK_ADDRESS="", NETWORK_MASK=""))
    refused(
        lambda: network_checks.check(network(ip4("10.66.0.0", 1000), NETWORK_ADDRESS="", NETWORK_MASK="")),
        "holds the gateway",
    )


@pytest.mark.parametrize(
    ("ranges", "kind"),
    [
        ((ip4("10.66.0.10", 10), ip4("10.66.0.19", 10)), "addresses"),
        ((ip4("10.66.0.19", 10), ip4("10.66.0.10", 10)), "addresses"),
        ((ip4("10.66.0.10", 50), ip4("10.66.0.20", 2)), "addresses"),
        ((ip4("10.66.0.10", 10), ip4("10.66.0.30", 10, mac="02:00:0a:42:00:0b")), "MAC addresses"),
    ],
)
def test_ranges_that_overlap(ranges, kind):
    refused(lambda: network_checks.check(network(*ranges)), f"it shares {kind} with", "state: absent")


def test_neighbours_do_not_overlap():
    network_checks.check(network(ip4("10.66.0.20", 10), ip4("10.66.0.10", 10)))


@pytest.mark.parametrize("mask", ["255.255.255.0", "24", "/24"])
def test_a_mask_has_one_form(mask):
    normal = network_checks.normalise_attributes("Public", {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": mask})
    assert normal == {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0"}


@pytest.mark.parametrize("mask", ["", "255.255.255.0"])
def test_the_prefix_length_may_be_in_the_address(mask):
    normal = network_checks.normalise_attributes("Public", {"NETWORK_ADDRESS": "10.66.0.0/24", "NETWORK_MASK": mask})
    assert normal == {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0"}


@pytest.mark.parametrize(
    ("attributes", "parts"),
    [
        ({"NETWORK_ADDRESS": "10.66.0.0/24", "NETWORK_MASK": "255.255.0.0"}, ["says another size"]),
        ({"NETWORK_ADDRESS": "10.66.0.5/24"}, ["NETWORK_ADDRESS", "Write 10.66.0.0/24"]),
        ({"NETWORK_ADDRESS": "10.66.0.0/33"}, ["not a network mask"]),
        ({"NETWORK_MASK": "0.0.0.255"}, ["NETWORK_MASK = '0.0.0.255'", "not a network mask"]),
        ({"NETWORK_MASK": "255.0.255.0"}, ["not a network mask"]),
        ({"GATEWAY": "10.66.0.256"}, ["GATEWAY = '10.66.0.256'", "not an IPv4 address"]),
        ({"GATEWAY6": "10.66.0.1"}, ["GATEWAY6", "not an IPv6 address"]),
        ({"DNS": "10.66.0.1 dns.example.org"}, ["DNS = 'dns.example.org'"]),
        ({"GUEST_MTU": "67"}, ["GUEST_MTU = '67'", "68 to 65535"]),
        ({"METRIC": "low"}, ["METRIC = 'low'"]),
        ({"INBOUND_AVG_BW": "fast"}, ["INBOUND_AVG_BW = 'fast'", "kB/s"]),
        ({"NODE_ACCESS": "tcp/22 ssh"}, ["NODE_ACCESS: 'ssh'", "Write a list"]),
        ({"ONE_NODE": "perhaps"}, ["ONE_NODE 'perhaps'", "Give true or false"]),
    ],
)
def test_attributes_that_cannot_be_meant(attributes, parts):
    refused(lambda: network_checks.normalise_attributes("Public", attributes), "network Public: ", *parts)


def test_attributes_are_brought_into_one_form():
    given_values = {"DNS": "10.66.0.1 2620:FE::FE", "GATEWAY6": "FD00::1", "GUEST_MTU": " 1400", "OWN": " as it is "}
    assert network_checks.normalise_attributes("Public", given_values) == {
        "DNS": "10.66.0.1 2620:fe::fe",
        "GATEWAY6": "fd00::1",
        "GUEST_MTU": "1400",
        "OWN": " as it is ",
    }


def test_the_size_of_a_network_has_to_be_said():
    refused(lambda: network_checks.check(network(NETWORK_MASK="")), "its size is not said", "10.66.0.0/24")
    refused(lambda: network_checks.check(network(NETWORK_ADDRESS="")), "there is no NETWORK_ADDRESS")


@pytest.mark.parametrize("missing", ["GATEWAY", "NETWORK_ADDRESS"])
@pytest.mark.parametrize("spec", [{"nat": True}, {"GATEWAY_ON_BRIDGE": "YES"}])
def test_a_bridge_with_the_gateway_needs_to_know_it(missing, spec):
    left_out = {missing: ""} if missing == "GATEWAY" else {missing: "", "NETWORK_MASK": ""}
    refused(lambda: network_checks.check(network(**spec, **left_out)), "is missing", "Give all three")


@pytest.mark.parametrize("gateway", ["10.67.0.1", "10.66.0.0", "10.66.0.255"])
def test_the_bridge_carries_no_address_of_elsewhere(gateway):
    refused(lambda: network_checks.check(network(nat=True, GATEWAY=gateway)), f"GATEWAY = {gateway}", "10.66.0.0/24")
    # Machines may well have a gateway out of their network.
    if gateway == "10.67.0.1":
        network_checks.check(network(nat=False, GATEWAY=gateway))


def test_no_nat_on_a_bridge_that_is_not_ours():
    refused(lambda: network_checks.check(network(nat=True, vn_mad="dummy")), "network Public: nat", "vn_mad bridge")


def test_link_local_addresses_are_of_no_use_to_machines_that_reach_beyond_their_bridge():
    local = {"NETWORK_ADDRESS": "169.254.8.0", "GATEWAY": "169.254.8.1"}
    refused(
        lambda: network_checks.check(network(nat=True, **local)),
        "NETWORK_ADDRESS = 169.254.8.0/24",
        "never leaves its link",
    )
    network_checks.check(network(**local))


@pytest.mark.parametrize(
    ("said", "everything", "tcp"),
    [({}, True, ()), ({"NODE_ACCESS": "none"}, False, ()), ({"NODE_ACCESS": "tcp/5"}, False, ((5, 5),))],
)
def test_what_machines_reach_on_a_node_is_all_where_nothing_is_said(said, everything, tcp):
    found = network_checks.node_access(network(nat=True, **said))
    assert (found.everything, found.tcp) == (everything, tcp)


def test_where_no_node_is_a_member_nothing_of_it_can_be_reached():
    network_checks.check(network(NODE_ACCESS="none"))
    refused(
        lambda: network_checks.check(network(NODE_ACCESS="all")), "NODE_ACCESS = all", "carries no address of a node"
    )


def test_a_network_keeps_to_one_node_if_it_says_so():
    assert [network_checks.one_node(network(**said)) for said in ({}, {"ONE_NODE": "NO"}, {"ONE_NODE": "YES"})] == [
        False,
        False,
        True,
    ]
    refused(lambda: network_checks.check(network(vn_mad="dummy", ONE_NODE="YES")), "ONE_NODE = YES", "may span them")


def test_a_peak_without_an_average_limits_nothing():
    refused(
        lambda: network_checks.check(network(INBOUND_PEAK_BW="9")), "Public: INBOUND_PEAK_BW = 9", "Set INBOUND_AVG_BW"
    )
    in_range = ip4(attributes={"INBOUND_PEAK_KB": "9"})
    refused(lambda: network_checks.check(network(in_range)), "address range", "INBOUND_PEAK_KB = 9")
    network_checks.check(network(in_range, INBOUND_AVG_BW="5"))


@pytest.mark.parametrize("bridge", ["a" * 16, "br 0", "br/0", "", "-br0", "..", "br0\n"])
def test_a_bridge_needs_a_name_that_the_kernel_takes(bridge):
    refused(lambda: network_checks.check(network(bridge=bridge)), "network Public: BRIDGE", repr(bridge))


@pytest.mark.parametrize("bridge", ["a" * 15, "br0.12", "onebr3", "br_a-b"])
def test_names_that_the_kernel_takes(bridge):
    network_checks.check(network(bridge=bridge))


# -- static addresses of IPv6 -----------------------------------------------------------------------------------------
def ip6(first="2001:db8::10", size=100, length=64, kind="IP6_STATIC", **values):
    made = AddressRange(NEW_AR, kind, size, ip6=first, prefix_length=length, **values)
    return network_checks.normalise_range(made, "Public", 0xABCDEF)


def test_a_static_range_in_its_one_form():
    made = ip6("2001:DB8:0::10", kind="ip6_static")
    assert (made.type, made.ip6, made.prefix_length, made.ip) == ("IP6_STATIC", "2001:db8::10", 64, "")
    assert made.mac == "02:00:00:ab:cd:ef"
    both = ip6(kind="IP4_6_STATIC", ip="10.66.0.10")
    assert (both.ip, both.ip6, both.mac) == ("10.66.0.10", "2001:db8::10", "02:00:0a:42:00:0a")
    assert network_checks.prefixes6(both) == ["2001:db8::/64"]
    network_checks.check(network(both, GATEWAY6="2001:db8::1"))


@pytest.mark.parametrize(
    ("first", "length", "mac", "size"),
    [
        ("2001:db8::10", 120, "", 0xF0),
        ("2001:db8::10", 64, "", 1 << 24),
        ("2001:db8::10", 64, "02:00:ff:ff:ff:f0", 16),
        ("2001:db8::10", 128, "", 1),
        ("2001:db8::10", 127, "", 2),
    ],
)
def test_a_static_range_without_a_size_goes_as_far_as_its_network_and_its_mac_addresses(first, length, mac, size):
    assert ip6(first, 0, length, mac=mac).size == size


def test_a_static_range_has_as_many_addresses_as_there_are_mac_addresses():
    assert ip6(size=1 << 32).mac == "02:00:00:00:00:00"
    refused(lambda: ip6(size=(1 << 32) + 1), "SIZE = 4294967297", "1 to 4294967296")
    refused(lambda: ip6(size=1 << 32, mac="02:00:00:00:00:01"), "beyond the MAC addresses of 02:00")


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"first": ""}, ["TYPE = IP6_STATIC", "there is no IP6"]),
        ({"first": "10.0.0.5"}, ["IP6 = '10.0.0.5'", "not an IPv6 address"]),
        ({"first": "fe80::5"}, ["IP6 = fe80::5", "no machines are given such addresses"]),
        ({"first": "ff02::5"}, ["IP6 = ff02::5"]),
        ({"first": "::1"}, ["IP6 = ::1"]),
        ({"first": "::ffff:10.0.0.1"}, ["no machines are given such addresses"]),
        ({"first": "2001:db8::"}, ["2001:db8::/64", "that of its routers", "Begin with 2001:db8::1"]),
        ({"length": 0}, ["PREFIX_LENGTH = none", "mostly it is 64"]),
        ({"length": 129}, ["PREFIX_LENGTH = 129"]),
        ({"length": 121, "size": 113}, ["SIZE = 113", "2001:db8::/121 has room for 112 from 2001:db8::10 on"]),
        ({"size": 0, "kind": "IP4_6_STATIC", "ip": "10.0.0.9"}, ["SIZE = 0", "1 to 16777216"]),
        ({"kind": "IP4_6_STATIC"}, ["TYPE = IP4_6_STATIC", "there is no IP", "as ip"]),
        ({"ip": "10.0.0.9"}, ["TYPE IP6_STATIC has no IPv4", "IP4_6_STATIC"]),
        ({"kind": "IP6"}, ["IP6 = '2001:db8::10'", "TYPE IP6 has no static IPv6", "IP6_STATIC"]),
        ({"kind": "IP6", "first": ""}, ["PREFIX_LENGTH = 64", "TYPE IP6 has no static IPv6"]),
        ({"global_prefix": "2001:db8::"}, ["GLOBAL_PREFIX", "TYPE IP6_STATIC has no IPv6 by a prefix"]),
        ({"attributes": {"PREFIX_LENGTH": "48"}}, ["attribute PREFIX_LENGTH", "option prefix_length"]),
    ],
)
def test_a_static_range_that_cannot_be_meant(values, parts):
    refused(lambda: ip6(**values), "network Public: address range", *parts)


def slaac():
    made = AddressRange(NEW_AR, "IP4_6", 100, ip="10.66.0.10", global_prefix="2001:db8::")
    return network_checks.normalise_range(made, "Public", 0)


def other(first="2001:db8:1::10", size=100, **values):
    return ip6(first, size, mac="02:01:00:00:00:00", **values)


@pytest.mark.parametrize(
    ("ranges", "attributes", "parts"),
    [
        ([ip6()], {"GATEWAY6": "2001:db8::20"}, ["2001:db8::10-2001:db8::73", "holds the gateway 2001:db8::20"]),
        ([ip6()], {"GATEWAY6": "2001:db8:1::1"}, ["GATEWAY6 = 2001:db8:1::1", "outside of 2001:db8::/64", "fe80::1"]),
        ([ip6()], {"IP6_GATEWAY": "2001:db8:1::1"}, ["IP6_GATEWAY = 2001:db8:1::1", "outside of 2001:db8::/64"]),
        ([ip6(attributes={"GATEWAY6": "2001:db8:1::1"})], {}, ["GATEWAY6 = 2001:db8:1::1"]),
        (
            [ip6(), other(attributes={"GATEWAY6": "2001:db8::20"})],
            {"GATEWAY6": "2001:db8::1"},
            ["2001:db8::10-2001:db8::73", "holds the gateway 2001:db8::20"],
        ),
        (
            [ip6(), other("2001:db8::73", 5)],
            {},
            ["[2001:db8::73-2001:db8::77]", "shares IPv6 addresses with [2001:db8::10-2001:db8::73]"],
        ),
        ([ip6("2001:db8::aff:fe42:b", 2), slaac()], {}, ["shares IPv6 addresses with"]),
    ],
)
def test_a_static_range_that_does_not_fit_its_network(ranges, attributes, parts):
    refused(lambda: network_checks.check(network(*ranges, **attributes)), *parts)


def test_a_link_local_gateway_is_one_of_any_network():
    network_checks.check(network(ip6(), other(), GATEWAY6="fe80::1"))
    own = other(attributes={"GATEWAY6": "2001:db8:1::1"})
    network_checks.check(network(ip6(), own, GATEWAY6="2001:db8::1"))


@pytest.mark.parametrize(
    ("ranges", "parts"),
    [
        ([ip6(length=96)], ["PREFIX_LENGTH = 96", "OVN announce", "Give 64"]),
        ([ip6(), other()], ["one prefix", "2001:db8::/64, 2001:db8:1::/64"]),
        ([ip6(), slaac()], ["same type and prefix"]),
    ],
)
def test_a_network_of_ovn_announces_one_prefix_in_one_way(ranges, parts):
    refused(lambda: network_checks.check(network(*ranges, vn_mad="ovn", bridge="br-int")), *parts)
    network_checks.check(network(*ranges))


def test_addresses_of_ipv6_are_reserved_too():
    found = network_checks.normalise_attributes("Public", {"RESERVED": "10.66.0.20, 2001:DB8::20-2001:db8::21"})
    assert found["RESERVED"] == "10.66.0.20 2001:db8::20-2001:db8::21"
    kept = network_checks.reserved_addresses(network(**found))
    assert kept == ["10.66.0.20", "2001:db8::20", "2001:db8::21"]
    for wrong in ("2001:db8::21-2001:db8::20", "2001:db8::-2001:db8::1000"):
        refused(lambda text=wrong: network_checks.normalise_attributes("Public", {"RESERVED": text}), "not a span")
    refused(lambda: network_checks.normalise_attributes("Public", {"RESERVED": "2001:db8::1-10.0.0.9"}), "RESERVED")


# -- the interface with the nodes' own addresses ----------------------------------------------------------------------
def lan(**attributes):
    values = {"PHYDEV": "eth0", "PHYDEV_FORCED": "YES", "NODE_ACCESS": "all", "GATEWAY": "", **attributes}
    return network(**values)


def test_a_network_with_the_nodes_own_addresses_says_that_its_machines_reach_them():
    network_checks.check(lan())
    network_checks.check(lan(PHYDEV_FORCED="NO", NODE_ACCESS="none"))
    for access in ("", "none", "tcp/22"):
        refused(
            lambda text=access: network_checks.check(lan(NODE_ACCESS=text)), "PHYDEV_FORCED = YES", "node_access: all"
        )


def test_what_stays_as_it_is_needs_no_force():
    refused(lambda: network_checks.check(lan(PHYDEV="")), "PHYDEV_FORCED = YES", "no phydev", "with vn_mad bridge")
    values = {"VLAN_ID": "5"}
    tagged = replace(lan(**values), vn_mad="802.1Q")
    refused(lambda: network_checks.check(tagged), "PHYDEV_FORCED = YES", "keeps its addresses")
    refused(lambda: network_checks.check(replace(lan(), vn_mad="ovn")), "PHYDEV_FORCED = YES")
