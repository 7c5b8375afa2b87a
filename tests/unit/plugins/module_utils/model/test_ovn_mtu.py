# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packets tunnels carry; tests/unit/plugins/module_utils/reconcile/test_networks.py has what follows of it."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import ovn_mtu
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network

HOSTS = {"node1": 1442, "node2": 1392, "node3": 1422}


@pytest.mark.parametrize(
    ("driver", "attributes", "expected"),
    [
        ("ovn", {"GUEST_MTU": "1500"}, 1500),
        ("ovn", {}, 0),
        ("ovn", {"GUEST_MTU": "9000", "PHYSICAL_NETWORK": "physnet1"}, 0),
        ("vxlan", {"GUEST_MTU": "1500"}, 0),
        # As somebody wrote it into the catalog by hand.
        ("ovn", {"GUEST_MTU": "large"}, 0),
    ],
)
def test_what_machines_send_through_tunnels(driver, attributes, expected):
    assert ovn_mtu.requested_mtu(Network(0, "N", vn_mad=driver, attributes=attributes)) == expected


def test_a_range_may_ask_for_more_than_its_network():
    ranges = (AddressRange(0, "IP4", 1), AddressRange(1, "IP4", 1, attributes={"GUEST_MTU": "1500"}))
    assert (
        ovn_mtu.requested_mtu(Network(0, "N", vn_mad="ovn", attributes={"GUEST_MTU": "1400"}, address_ranges=ranges))
        == 1500
    )


def test_the_smallest_host_is_named_and_what_each_lacks():
    assert ovn_mtu.problem_of_mtu("N", 1392, HOSTS) is None
    assert ovn_mtu.problem_of_mtu("N", 9000, {}) is None
    words = str(ovn_mtu.problem_of_mtu("N", 1442, HOSTS))
    assert words.startswith("network N: GUEST_MTU = 1442: OVN's tunnels leave 1392 bytes for the machines' packets on")
    assert "on host node2, the least of all" in words
    assert "Give guest_mtu 1392 or less" in words
    assert words.endswith("(by 50 on node2, by 20 on node3)")


def test_not_every_host_of_many_is_named():
    words = str(ovn_mtu.problem_of_mtu("N", 1500, {f"node{n}": 1400 for n in range(1, 8)}))
    assert words.endswith("by 100 on node5, on 2 more)")


@pytest.mark.parametrize(
    ("attributes", "left", "expected"),
    [
        ({}, HOSTS, "1392"),
        ({}, {"node1": 1442}, ""),
        ({}, {"node1": 8942}, ""),
        ({}, {}, ""),
        ({"MTU": "1400"}, HOSTS, ""),
        ({"PHYSICAL_NETWORK": "physnet1"}, HOSTS, ""),
    ],
)
def test_a_network_that_says_nothing_gets_what_fits(attributes, left, expected):
    assert ovn_mtu.default_guest_mtu(attributes, left) == expected


def test_hosts_of_which_it_is_not_known_are_left_out():
    assert ovn_mtu.read({"node1": 1442, "node2": 0, "node3": "1392"}) == {"node1": 1442, "node3": 1392}
    with pytest.raises(InvalidValue, match="of host node1: it is not a number of bytes"):
        ovn_mtu.read({"node1": "much"})
