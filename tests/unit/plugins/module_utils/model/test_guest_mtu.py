# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines are told of an MTU by networks and their address ranges."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model import guest_mtu
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.nic_vectors import doubts_of_nics
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic


def network(driver: str = "bridge", *ranges: AddressRange, **attributes: str) -> Network:
    return Network(0, "Public", vn_mad=driver, address_ranges=ranges, attributes=attributes)


def four(number: int = 0, **attributes: str) -> AddressRange:
    return AddressRange(number, "IP4", 5, ip="10.0.0.10", attributes=attributes)


def six(number: int = 0, **attributes: str) -> AddressRange:
    return AddressRange(number, "IP4_6", 5, ip="10.0.0.10", global_prefix="2001:db8::", attributes=attributes)


@pytest.mark.parametrize(
    ("of", "largest"),
    [
        (network(), 0),
        (network(GUEST_MTU="1400"), 1400),
        (network("bridge", four(GUEST_MTU="9000"), four(1), GUEST_MTU="1500"), 9000),
        (network("bridge", four(GUEST_MTU="1300"), GUEST_MTU="1500"), 1500),
    ],
)
def test_the_largest(of: Network, largest: int) -> None:
    assert guest_mtu.largest_advertised_mtu(of) == largest


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (network("bridge", four(GUEST_MTU="9000"), PHYDEV="eth1", MTU="1500"), "GUEST_MTU = 9000: the network has MTU"),
        (network("vxlan", four(GUEST_MTU="1500"), PHYDEV="eth1", MTU="1450"), "Give the range guest_mtu 1450 or less"),
        (network("bridge", four(GUEST_MTU="1500"), PHYDEV="eth1", MTU="1500"), ""),
        # Without a physical device, nothing acts on MTU.
        (network("bridge", four(GUEST_MTU="9000"), MTU="1500"), ""),
        (network("bridge", six(), GUEST_MTU="1279"), "addresses of IPv6, which no interface with less than 1280 has"),
        (network("ovn", six(GUEST_MTU="1000"), GUEST_MTU="1442"), "GUEST_MTU = 1000: its address range 0 ["),
        (network("bridge", six(GUEST_MTU="1280"), GUEST_MTU="1000"), ""),
        (network("bridge", six()), ""),
        (network("bridge", four(), GUEST_MTU="576"), ""),
    ],
)
def test_what_can_not_be(of: Network, told: str) -> None:
    found = guest_mtu.problems(of)
    assert [told in str(problem) for problem in found.values()] == [True] * bool(told)


@pytest.mark.parametrize(
    ("of", "doubted"),
    [
        (network("802.1Q", PHYDEV="eth1", MTU="1400"), True),
        (network("802.1Q", PHYDEV="eth1", MTU="1400", GUEST_MTU="1400"), False),
        (network("bridge", PHYDEV="eth1", MTU="9000"), False),
        (network("bridge", MTU="1400"), False),
        # Its machines are told what its tunnels leave.
        (network("vxlan", PHYDEV="eth1", MTU="1400"), False),
    ],
)
def test_machines_that_are_told_nothing_and_send_too_much(of: Network, doubted: bool) -> None:
    assert ["set guest_mtu: 1400" in text for text in guest_mtu.warn_of_unadvertised_mtu(of)] == [True] * doubted


@pytest.mark.parametrize(
    ("own", "of_network", "ip6", "doubted"),
    [
        ("9000", "9000", "", ""),
        ("1500", "", "", ""),
        ("", "1400", "2001:db8::5", ""),
        ("9000", "", "", "network Public carries 1500, and larger packets are lost"),
        ("1500", "1450", "", "carries 1450"),
        ("1279", "", "2001:db8::5", "no interface with less than 1280 has 2001:db8::5"),
        ("1279", "", "", ""),
    ],
)
def test_what_a_nic_says_itself(own: str, of_network: str, ip6: str, doubted: str) -> None:
    values = {"GUEST_MTU": of_network} if of_network else {}
    nic = Nic(0, 0, "Public", "br0", "02:00:00:00:00:01", ip6=ip6, options={"GUEST_MTU": own}, network_values=values)
    assert [f"NIC/GUEST_MTU = {own}: " in text and doubted in text for text in doubts_of_nics([nic], ())] == [
        True
    ] * bool(doubted)
