# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packets a condition matches: all, some or none. test_host_firewall.py follows whole rules and tables."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.network import host_firewall_rules as rules
from ansible_collections.nebula.provision.plugins.module_utils.network.host_firewall_rules import ALL, NONE, SOME

OUT = rules.Packets("out", "br0", "eth0", "", "new")
# Where no uplink is known, it may be any interface but the bridge.
ANYWHERE = rules.Packets("out", "br0", "", "br0", "")
QUESTION = rules.Packets("question", "", "", "br0", "", bridge="br0", family=6, protocol=rules.ICMPV6, icmp=135)
ARP = rules.Packets("question", "", "", "br0", "", bridge="br0", family=rules.ARP, protocol=rules.OF_ARP)


@pytest.mark.parametrize(
    ("condition", "packets", "found"),
    [
        (rules.interface("iifname", "br0"), OUT, ALL),
        (rules.interface("iifname", "br*"), OUT, ALL),
        (rules.interface("oifname", "eth1"), OUT, NONE),
        (rules.interface("oifname", "eth1"), ANYWHERE, SOME),
        (rules.interface("oifname", "br0"), ANYWHERE, NONE),
        (rules.interface("oifname", "*"), ANYWHERE, ALL),
        (rules.interface("ibrname", "br0"), QUESTION, ALL),
        (rules.interface("ibrname", "br0"), OUT, NONE),
        (rules.state_in(["new"]), OUT, ALL),
        (rules.state_in(["established"]), OUT, NONE),
        (rules.state_in(["new"]), ANYWHERE, SOME),
        (rules.has_mark("0x0"), OUT, ALL),
        (rules.has_mark(7), OUT, NONE),
        (rules.has_protocol(rules.TCP), OUT, ALL),
        (rules.has_protocol(rules.TCP), QUESTION, NONE),
        (rules.of_type(133, 137), QUESTION, ALL),
        (rules.of_type(128, 129), QUESTION, NONE),
        (rules.of_type(), QUESTION, SOME),
        (rules.of_type(), OUT, NONE),
        (rules.of_family(6, rules.constant(ALL)), OUT, NONE),
        (rules.of_family(None, rules.constant(ALL)), OUT, ALL),
        (rules.of_families(True, False), OUT, ALL),
        (rules.of_families(True, False), ARP, NONE),
        (rules.of_families(False, False, arp=True), ARP, ALL),
    ],
)
def test_what_a_condition_matches(condition: rules.Condition, packets: rules.Packets, found: int) -> None:
    assert condition(packets) == found


@pytest.mark.parametrize(
    ("values", "every", "any_of"), [([], ALL, NONE), ([ALL, SOME], SOME, ALL), ([SOME, NONE], NONE, SOME)]
)
def test_conditions_together(values: list[int], every: int, any_of: int) -> None:
    conditions = [rules.constant(value) for value in values]
    assert (rules.every(conditions)(OUT), rules.any_of(conditions)(OUT)) == (every, any_of)
    for value in values:
        assert rules.unlike(rules.constant(value))(OUT) == ALL - value


@pytest.mark.parametrize(
    ("name", "tool", "families"),
    [
        ("ip filter", "nft", (4,)),
        ("ip6 filter", "nft", (6,)),
        ("inet filter", "nft", (4, 6)),
        ("bridge filter", "nft", (4, 6, rules.ARP)),
        ("netdev x", "nft", (4, 6, rules.ARP)),
        ("filter", "iptables-legacy", (4,)),
        ("filter", "ip6tables-legacy", (6,)),
    ],
)
def test_whose_packets_a_table_has(name: str, tool: str, families: tuple[int, ...]) -> None:
    table = rules.Table(name, tool)
    assert table.families == families and table.of_bridges == name.startswith("bridge")
