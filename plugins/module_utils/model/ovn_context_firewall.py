# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes of the firewall of a machine's context, in networks of OVN, a security group of its own. What comes in has to
be let in by the firewall, and by one of the machine's other groups if it has any."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from .logical_network import ALL, ICMP, ICMPV6, INBOUND, OUTBOUND, LogicalNetwork, SecurityGroup, SecurityRule
from .nic_filter_rules import GuardRule

NAME = "firewall of a context"
_NAMESPACE = uuid.UUID("6f0c1d0e-54c7-5f0e-9a54-3c0a2f6f7c21")
_FAMILIES = {ICMP: 4, ICMPV6: 6}
# Addresses of the other side: version, first and last.
_Span = tuple[int, int, int]


def firewall_group(
    firewall: Sequence[GuardRule],
    groups: Sequence[SecurityGroup] | None,
    networks: Mapping[str, LogicalNetwork],
) -> SecurityGroup:
    """Return the one group of a machine with this firewall, the same for the same firewall and the same groups.
    groups: its groups, of which a rule of any lets through; None for a machine without, which lets everything through.
    networks: by UUID, those that rules name."""
    everything = (SecurityRule(INBOUND), SecurityRule(OUTBOUND))
    rules = everything if groups is None else tuple(rule for each in groups for rule in each.rules)
    made = [rule for rule in rules if rule.direction == OUTBOUND]
    for wall in firewall:
        for rule in rules:
            if rule.direction == INBOUND:
                made += _intersection(wall, rule, networks)
    found = tuple(dict.fromkeys(made))
    return SecurityGroup(str(uuid.uuid5(_NAMESPACE, repr(found))), NAME, found)


def _intersection(
    wall: GuardRule, rule: SecurityRule, networks: Mapping[str, LogicalNetwork]
) -> Iterable[SecurityRule]:
    """Yield rules for what both let in."""
    if ALL not in (wall.protocol, rule.protocol) and wall.protocol != rule.protocol:
        return
    protocol = rule.protocol if wall.protocol == ALL else wall.protocol
    ports = wall.ports if not rule.ports else rule.ports if not wall.ports else _common_ports(wall.ports, rule.ports)
    if not ports and (wall.ports or rule.ports):
        return
    icmp_type = rule.icmp_type
    if not wall.addresses:
        yield SecurityRule(INBOUND, protocol, ports, rule.ip, rule.size, rule.network, icmp_type)
        return
    theirs = _address_spans(rule, networks)
    for version, first, last in map(_address_span, wall.addresses):
        if _FAMILIES.get(protocol, version) != version:
            continue
        if theirs is None:
            yield _inbound_rule(protocol, ports, icmp_type, (version, first, last))
            continue
        for other, their_first, their_last in theirs:
            span = (version, max(first, their_first), min(last, their_last))
            if other == version and span[1] <= span[2]:
                yield _inbound_rule(protocol, ports, icmp_type, span)


def _inbound_rule(
    protocol: str, ports: tuple[tuple[int, int], ...], icmp_type: int | None, span: _Span
) -> SecurityRule:
    version, first, last = span
    size = last - first + 1
    start = IPv4Address(first) if version == 4 else IPv6Address(first)
    if size & (size - 1) == 0 and first % size == 0:
        length = start.max_prefixlen - (size.bit_length() - 1)
        return SecurityRule(INBOUND, protocol, ports, f"{start}/{length}", icmp_type=icmp_type)
    return SecurityRule(INBOUND, protocol, ports, str(start), size, icmp_type=icmp_type)


def _common_ports(one: Iterable[tuple[int, int]], other: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    others = [*other]
    spans = ((max(a, c), min(b, d)) for a, b in one for c, d in others)
    return tuple(sorted({span for span in spans if span[0] <= span[1]}))


def _address_spans(rule: SecurityRule, networks: Mapping[str, LogicalNetwork]) -> list[_Span] | None:
    """Return the addresses of the other side; None for everybody."""
    if rule.network:
        network = networks[rule.network]
        return [_address_span(text) for text in (network.cidr4, *network.prefixes6) if text]
    if not rule.ip:
        return None
    if "/" in rule.ip:
        return [_address_span(rule.ip)]
    first = ip_address(rule.ip)
    return [(first.version, int(first), int(first) + rule.size - 1)]


def _address_span(text: str) -> _Span:
    whole = ip_network(text)
    return whole.version, int(whole.network_address), int(whole.broadcast_address)
