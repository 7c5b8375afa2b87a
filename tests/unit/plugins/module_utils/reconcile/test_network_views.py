# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What results show of networks, routers and security groups."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.network_views import network_view

# What a new network on a Linux bridge says unless it is told otherwise.
FILTERED = {"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES", "FILTER_IP_SPOOFING": "YES"}

RANGE = AddressRange(3, "IP4", 10, ip="10.66.0.10", mac="02:00:0a:42:00:0a", attributes={"DNS": "9.9.9.9", "A": "b"})

ETHER = {"type": "ETHER", "size": 5}

# -- what machines reach on their nodes -------------------------------------------------------------------------------
WHOLE = {"network_address": "10.66.0.0/24", "gateway": "10.66.0.1"}

# -- what tunnels leave for packets ------------------------------------------------------------------------------------
NARROW = {"node1": 1442, "node2": 1392}

OLD = {"name": "old", "vn_mad": "bridge", "bridge": "br9", "phydev": "eth9"}


def test_sizes_and_leases_are_summed_over_the_ranges():
    ranges = (AddressRange(0, "IP4", 10, used=3, ip="10.0.0.1"), AddressRange(1, "ETHER", 5, used=1))
    view = network_view(Network(0, "Public", address_ranges=ranges))
    assert (view["size"], view["used"]) == (15, 4)
