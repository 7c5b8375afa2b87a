# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What joins the bridges of a network, and what a network must not say of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import uplink
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.uplink import Uplink


def network(vn_mad="bridge", number=3, nat=False, bridge="nbr0", **attributes):
    return Network(number, "net", vn_mad=vn_mad, bridge=bridge, nat=nat, attributes=attributes)


@pytest.mark.parametrize(
    ("of", "wanted", "text"),
    [
        (network(), None, ""),
        (network("dummy", PHYDEV="eth1"), None, ""),
        (network(PHYDEV="eth1", GUEST_MTU="1400"), Uplink("bridge", "eth1", "eth1", needed=1400), "eth1"),
        (network("802.1Q", PHYDEV="eth1"), None, ""),
        (
            network("802.1Q", PHYDEV="eth1", VLAN_ID="100"),
            Uplink("802.1Q", "eth1", "eth1.100", 100),
            "VLAN 100 on eth1",
        ),
        (
            network("802.1Q", PHYDEV="enp130s0f1np1", VLAN_ID="100"),
            Uplink("802.1Q", "enp130s0f1np1", "onevlan3", 100),
            "VLAN 100 on enp130s0f1np1",
        ),
        (
            network("802.1Q", number=0, PHYDEV="enp130s0f1np1", VLAN_ID="100"),
            Uplink("802.1Q", "enp130s0f1np1", "onevlan0", 100),
            "VLAN 100 on enp130s0f1np1",
        ),
        # In check mode it has no id before it is there, and no device of another network is taken for its own.
        (
            network("802.1Q", number=None, PHYDEV="enp130s0f1np1", VLAN_ID="100"),
            Uplink("802.1Q", "enp130s0f1np1", "onevlan?100", 100),
            "VLAN 100 on enp130s0f1np1",
        ),
        (
            network("vxlan", PHYDEV="eth1", VLAN_ID="300", MTU="1400", GUEST_MTU="1300"),
            Uplink("vxlan", "eth1", "eth1.300", 300, mtu=1400, needed=1400, cost=50),
            "VXLAN 300 on eth1",
        ),
    ],
)
def test_the_uplink_of_a_network(of, wanted, text):
    found = uplink.uplink(of)
    assert found == wanted and uplink.joins_nodes(of) == (of.vn_mad != "dummy" and "PHYDEV" in of.attributes)
    assert found is None or (str(found) == text and found.made == (of.vn_mad != "bridge"))


def test_the_group_of_a_vxlan_follows_from_its_number():
    assert Uplink("vxlan", "eth1", "eth1.300", 300).group == "239.0.1.44"
    assert Uplink("802.1Q", "eth1", "eth1.300", 300).group == ""


@pytest.mark.parametrize(
    ("of", "parts"),
    [
        (network("vxlan", VLAN_ID="3"), ["net: vn_mad vxlan", "says no physical device", "phydev"]),
        (network("802.1Q", PHYDEV="eth1", VLAN_ID="4095"), ["VLAN_ID = '4095'", "1 to 4094"]),
        (network("802.1Q", PHYDEV="eth1", VLAN_ID="0"), ["VLAN_ID = '0'", "1 to 4094"]),
        (network("vxlan", PHYDEV="eth1", VLAN_ID="16777216"), ["VLAN_ID = '16777216'", "1 to 16777215"]),
        (network("802.1Q", PHYDEV="eth1", VLAN_IDS="9-2"), ["VLAN_IDS = '9-2'", "1-4094"]),
        (network("802.1Q", PHYDEV="eth1", VLAN_IDS="all"), ["VLAN_IDS = 'all'"]),
        (network(PHYDEV="an_interface_too_long"), ["PHYDEV = 'an_interface_too_long'", "15 characters"]),
        (network(PHYDEV="eth1 up"), ["PHYDEV = 'eth1 up'"]),
        (network(PHYDEV="nbr0"), ["PHYDEV = nbr0", "bridge has that name"]),
        (network(PHYDEV="eth1", nat=True), ["net: nat", "joined by eth1", "the gateway's address"]),
        (network(PHYDEV="eth1", GATEWAY_ON_BRIDGE="YES"), ["net: gateway_on_bridge", "joined by eth1"]),
        (network(PHYDEV="eth1", MTU="1400", GUEST_MTU="1500"), ["GUEST_MTU = 1500", "MTU = 1400", "1400 or less"]),
    ],
)
def test_what_a_network_of_several_nodes_must_not_say(of, parts):
    with pytest.raises(InvalidValue) as error:
        uplink.check_uplink(of, of.nat or "GATEWAY_ON_BRIDGE" in of.attributes)
    for part in parts:
        assert part in str(error.value)


def test_a_network_on_a_bridge_of_the_hosts_own_says_what_it_likes():
    uplink.check_uplink(network("dummy", PHYDEV="eth1", nat=True), carries_gateway=False)
    uplink.check_uplink(network(VLAN_ID="5000"), carries_gateway=True)


@pytest.mark.parametrize(
    ("of", "mtu"),
    [
        (network("vxlan", PHYDEV="eth1"), "1450"),
        (network("vxlan", PHYDEV="eth1", MTU="8950"), "8950"),
        (network("vxlan", PHYDEV="eth1", GUEST_MTU="1200"), "1200"),
        (network("802.1Q", PHYDEV="eth1"), None),
        (network(), None),
    ],
)
def test_machines_get_the_mtu_that_a_tunnel_leaves(of, mtu):
    assert uplink.with_guest_mtu(of).attributes.get("GUEST_MTU") == mtu


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0),
        ([{}], 0),
        ([{"GUEST_MTU": "1500"}], 0),
        ([{"GUEST_MTU": "1501"}], 1501),
        ([{"GUEST_MTU": "9000"}, {"GUEST_MTU": "4000"}], 9000),
        ([{"GUEST_MTU": ""}, {"GUEST_MTU": "4000"}, {"MTU": "9000"}], 4000),
    ],
)
def test_the_hosts_side_needs_more_where_machines_are_told_more_than_ethernet_has(values, expected):
    assert uplink.large_mtu(*values) == expected
    network = Network(0, "n", attributes=values[0] if values else {})
    ranges = [AddressRange(n, "ETHER", 1, attributes=each) for n, each in enumerate(values[1:])]
    assert uplink.large_mtu_of(replace(network, address_ranges=tuple(ranges))) == expected
