# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of others as the kernel has them. test_host_firewall.py has all forms of rules, and asks real programs."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.network import host_firewall_tables
from ansible_collections.nebula.provision.plugins.module_utils.network.host_firewall_rules import ALL, NONE, Packets

TCP = Packets("a connection", "br0", "eth0", "", "new")
SAVED = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [3:180]
:DOCKER - [0:0]
-A FORWARD -i br0 -p tcp -j ACCEPT
-A FORWARD -j DOCKER
COMMIT
"""
CHAINS = """table netdev guard {
	chain in {
		type filter hook ingress device "eth0" priority filter; policy accept;
	}
	chain both {
		type filter hook ingress devices = { "eth1", eth2 } priority filter; policy accept;
	}
}
"""


def test_a_saved_table_has_its_policies_and_rules() -> None:
    (table,) = host_firewall_tables.read_iptables(SAVED, "iptables-legacy")
    assert (table.tool, table.families) == ("iptables-legacy", (4,))
    assert table.bases == {"FORWARD": "drop"} and [*table.chains["DOCKER"]] == []
    first, second = table.chains["FORWARD"]
    assert (first.verdict, second.verdict, second.target) == ("accept", "jump", "DOCKER")
    assert min(condition(TCP) for condition in first.conditions) == ALL
    other = Packets("elsewhere", "br1", "eth0", "", "new")
    assert min(condition(other) for condition in first.conditions) == NONE


def test_interfaces_of_chains_that_nft_shows_as_text() -> None:
    assert host_firewall_tables.read_devices(CHAINS) == {
        ("netdev", "guard", "in"): ["eth0"],
        ("netdev", "guard", "both"): ["eth1", "eth2"],
    }
