# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewall of a context beside security groups: a packet comes in if both let it, whatever the two are made of."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model import ovn_context_firewall
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    LogicalNetwork,
    SecurityGroup,
    SecurityRule,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import GuardRule

NETWORK = LogicalNetwork("u", "blue", cidr4="10.0.0.0/29", prefixes6=("2001:db8::/64",))
ADDRESSES = [f"10.0.0.{number}" for number in range(16)] + ["2001:db8::1", "2001:db8:1::1"]
PREFIXES = ["10.0.0.0/28", "10.0.0.4/30", "10.0.0.6/32", "10.0.0.9/32", "2001:db8::/32", "2001:db8:1::/64"]
PORTS = [(), ((22, 22),), ((80, 90), (443, 443)), ((85, 500),)]
# Protocol, port or type, address of the other side.
PACKETS = [
    *(("TCP", port, each) for port in (22, 79, 80, 87, 443, 600) for each in ADDRESSES),
    *(("UDP", port, each) for port in (22, 85) for each in ADDRESSES),
    *(("ICMP" if ip_address(each).version == 4 else "ICMPV6", kind, each) for kind in (8, 128) for each in ADDRESSES),
]


def in_ports(spans: tuple[tuple[int, int], ...], port: int) -> bool:
    return not spans or any(first <= port <= last for first, last in spans)


def walls_let_in(firewall: list[GuardRule], packet: tuple[str, int, str]) -> bool:
    protocol, port, address = packet
    return any(
        each.protocol in ("ALL", protocol)
        and in_ports(each.ports, port)
        and (not each.addresses or any(ip_address(address) in ip_network(text) for text in each.addresses))
        for each in firewall
    )


def lets_in(rule: SecurityRule, packet: tuple[str, int, str]) -> bool:
    protocol, port, text = packet
    address = ip_address(text)
    if rule.direction != "inbound" or rule.protocol not in ("ALL", protocol):
        return False
    if protocol in ("TCP", "UDP") and not in_ports(rule.ports, port):
        return False
    if rule.icmp_type is not None and rule.icmp_type != port:
        return False
    if rule.network:
        return any(address in ip_network(prefix) for prefix in (NETWORK.cidr4, *NETWORK.prefixes6))
    if "/" in rule.ip:
        return address in ip_network(rule.ip)
    if not rule.ip:
        return True
    first = ip_address(rule.ip)
    return first.version == address.version and int(first) <= int(address) < int(first) + rule.size


walls = st.builds(
    lambda protocol, ports, addresses: GuardRule("inbound", protocol, () if protocol == "ALL" else ports, addresses),
    st.sampled_from(["ALL", "TCP", "UDP"]),
    st.sampled_from(PORTS),
    st.lists(st.sampled_from(PREFIXES), max_size=2, unique=True).map(tuple),
)


@st.composite
def rules(draw: st.DrawFn) -> SecurityRule:
    protocol = draw(st.sampled_from(["ALL", "TCP", "UDP", "ICMP", "ICMPV6"]))
    side = draw(st.sampled_from(["", "network", "10.0.0.0/28", "10.0.0.3", "2001:db8::/33"]))
    return SecurityRule(
        draw(st.sampled_from(["inbound", "inbound", "outbound"])),
        protocol,
        draw(st.sampled_from(PORTS)) if protocol in ("TCP", "UDP") else (),
        "" if side == "network" else side,
        draw(st.integers(1, 6)) if side == "10.0.0.3" else 1,
        "u" if side == "network" else "",
        draw(st.sampled_from([None, 8, 128])) if protocol.startswith("ICMP") else None,
    )


@given(st.lists(walls, max_size=3), st.none() | st.lists(rules(), max_size=4))
def test_what_comes_in_is_let_in_by_both(firewall: list[GuardRule], held: Optional[list[SecurityRule]]) -> None:
    groups = None if held is None else [SecurityGroup("g", "web", tuple(held))]
    made = ovn_context_firewall.firewall_group(firewall, groups, {"u": NETWORK})
    for packet in PACKETS:
        by_groups = held is None or any(lets_in(rule, packet) for rule in held)
        assert any(lets_in(rule, packet) for rule in made.rules) == (walls_let_in(firewall, packet) and by_groups), (
            packet
        )
    # It says nothing of what goes out.
    out = [SecurityRule("outbound")] if held is None else [rule for rule in held if rule.direction == "outbound"]
    assert [rule for rule in made.rules if rule.direction == "outbound"] == list(dict.fromkeys(out))


def test_machines_with_the_same_have_the_same_group() -> None:
    wall = [GuardRule("inbound", "ALL", (), ("10.0.0.0/28",))]
    assert ovn_context_firewall.firewall_group(wall, None, {}) == ovn_context_firewall.firewall_group(wall, None, {})
    assert (
        ovn_context_firewall.firewall_group(wall, None, {}).uuid
        != ovn_context_firewall.firewall_group(wall, [], {}).uuid
    )


@pytest.mark.parametrize(
    ("first", "size", "written"),
    [("10.0.0.4", 4, ("10.0.0.4/30", 1)), ("10.0.0.3", 4, ("10.0.0.3", 4)), ("10.0.0.3", 1, ("10.0.0.3/32", 1))],
)
def test_addresses_are_a_prefix_where_they_can_be(first: str, size: int, written: tuple[str, int]) -> None:
    rule = SecurityRule("inbound", "TCP", ip=first, size=size)
    made = ovn_context_firewall.firewall_group(
        [GuardRule("inbound", "ALL", (), ("10.0.0.0/8",))], [SecurityGroup("g", "g", (rule,))], {}
    )
    assert [(each.ip, each.size) for each in made.rules] == [written]
