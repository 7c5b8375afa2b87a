# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes rows of security groups: port groups whose rules let through what the group names, and drop the rest. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network, summarize_address_range
from typing import Union

from ...model.logical_network import (
    ALL,
    ICMP,
    ICMPV6,
    INBOUND,
    IPSEC,
    TCP,
    UDP,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    SecurityGroup,
    SecurityRule,
)
from .desired_rows import Rows, safe_name
from .logical_switches import port_of
from .ovsdb_tables import Identity, set_expression

# Rules of one group must not be undone by another's end of its list.
LET_THROUGH, DROP = 1001, 1000
# Below them, of ports that are in no group but are held to their addresses.
KNOWN, UNKNOWN = 2, 1
# By which Open vSwitch knows an IEEE 802.3 frame that carries no Ethernet type.
_WITHOUT_TYPE = 0x05FF
_PROTOCOLS = {
    TCP: "tcp",
    UDP: "udp",
    ICMP: "icmp4",
    ICMPV6: "icmp6",
    # What carries IPsec's packets (ESP, AH); what negotiates them is UDP.
    IPSEC: "ip.proto == {50, 51}",
    ALL: "ip",
}
_DHCP = "((ip4 && udp.src == 68 && udp.dst == 67) || (ip6 && udp.src == 546 && udp.dst == 547))"
# Without these a machine has no neighbours, and no IPv6 address. From machines, and to them.
_NEIGHBOURS = {
    "from-lport": "(arp || nd || nd_rs || mldv1 || mldv2)",
    "to-lport": "(arp || nd || nd_ra || mldv1 || mldv2)",
}
_PORT = {"from-lport": "inport", "to-lport": "outport"}
FAMILIES = (4, 6)

Span = Union[IPv4Network, IPv6Network]


def render(rows: Rows, desired: LogicalNetworks) -> None:
    networks = {network.uuid: network for network in desired.networks}
    groups = {}
    for group in desired.groups:
        groups[group.uuid] = _add_group(rows, group, networks)
    for network in dict.fromkeys(rule.network for group in desired.groups for rule in group.rules if rule.network):
        _add_address_sets(rows, networks[network])
    for port in desired.ports:
        for uuid in port.security_groups:
            rows.put(port_of(rows, port.uuid), groups[uuid], "ports")
    _add_ethernet_rules(rows, desired)


def _add_ethernet_rules(rows: Rows, desired: LogicalNetworks) -> None:
    """Add rules that drop what is neither ARP nor IP, nor named by its network, of ports that are held to addresses or
    are in a group, both ways. The end of a group's list drops that, too, but for what the network names."""
    by_types: dict[tuple[int, ...], list[LogicalPort]] = {}
    for port in desired.ports:
        if port.filter_mac or port.filter_ip or port.security_groups:
            by_types.setdefault(port.ethertypes, []).append(port)
    for types, ports in sorted(by_types.items()):
        part = "ethernet" + "".join(f"_{number:04x}" for number in types)
        name = safe_name(part, rows.catalog)
        row = rows.add(rows.identity("Port_Group", part=part), {"name": name, "ports": set(), "acls": set()})
        for port in ports:
            rows.put(port_of(rows, port.uuid), row, "ports")
        named = set_expression(f"0x{number or _WITHOUT_TYPE:04x}" for number in types)
        for direction, key in _PORT.items():
            acls = [(KNOWN, "(arp || ip)", "allow"), (UNKNOWN, "", "drop")]
            if types:
                acls.append((LET_THROUGH, f"eth.type == {named}", "allow"))
            for priority, matched, action in acls:
                columns = {
                    "priority": priority,
                    "direction": direction,
                    "match": " && ".join(filter(None, (f"{key} == @{name}", matched))),
                    "action": action,
                }
                acl = rows.identity("ACL", part=f"{part}/{direction}/{priority}")
                rows.put(rows.add(acl, columns), row, "acls")


def _add_group(rows: Rows, group: SecurityGroup, networks: Mapping[str, LogicalNetwork]) -> Identity:
    name = safe_name("group", group.uuid)
    columns = {"name": name, "ports": set(), "acls": set()}
    row = rows.add(rows.identity("Port_Group", group=group.uuid), columns, group.name)
    acls: list[tuple[int, str, str, str]] = []
    for direction in ("from-lport", "to-lport"):
        port = f"{_PORT[direction]} == @{name}"
        acls += [
            (DROP, direction, port, "drop"),
            (LET_THROUGH, direction, f"{port} && {_NEIGHBOURS[direction]}", "allow"),
        ]
    acls.append((LET_THROUGH, "from-lport", f"inport == @{name} && {_DHCP}", "allow"))
    for rule in group.rules:
        direction = "to-lport" if rule.direction == INBOUND else "from-lport"
        matched = f"{_PORT[direction]} == @{name} && {match(rule, networks)}"
        acls.append((LET_THROUGH, direction, matched, "allow-related"))
    for acl in dict.fromkeys(acls):
        priority, direction, matched, action = acl
        # A rule that is another is another row: what it was does not matter to anybody.
        part = hashlib.sha256(json.dumps(acl).encode()).hexdigest()[:16]
        rule_columns = {"priority": priority, "direction": direction, "match": matched, "action": action}
        rows.put(rows.add(rows.identity("ACL", group=group.uuid, part=part), rule_columns), row, "acls")
    return row


def match(rule: SecurityRule, networks: Mapping[str, LogicalNetwork]) -> str:
    """Return the expression of OVN's that fits what the rule lets through, but for the port."""
    side = "src" if rule.direction == INBOUND else "dst"
    terms = [_PROTOCOLS[rule.protocol]]
    if rule.icmp_type is not None:
        terms.append(f"{_PROTOCOLS[rule.protocol]}.type == {rule.icmp_type}")
    if rule.ports:
        terms.append(_ports(f"{_PROTOCOLS[rule.protocol]}.dst", rule))
    if rule.network:
        network = networks[rule.network]
        sets = [f"ip{family}.{side} == ${_set_name(network, family)}" for family in FAMILIES if _has(network, family)]
        terms.append(_one_of(sets))
    elif rule.ip:
        found = spans(rule)
        terms.append(f"ip{found[0].version}.{side} == {set_expression(map(str, found))}")
    return " && ".join(terms)


def spans(rule: SecurityRule) -> list[Span]:
    """Return the prefixes that together are the addresses of a rule. Raise ValueError if the rule has no addresses."""
    if "/" in rule.ip:
        return [ip_network(rule.ip)]
    first = ip_address(rule.ip)
    last = type(first)(int(first) + rule.size - 1)
    return list(summarize_address_range(first, last))


def _ports(field: str, rule: SecurityRule) -> str:
    single = [str(first) for first, last in rule.ports if first == last]
    terms = [f"{field} == {set_expression(single)}"] if single else []
    terms += [f"({first} <= {field} <= {last})" for first, last in rule.ports if first != last]
    return _one_of(terms)


def _one_of(terms: list[str]) -> str:
    return terms[0] if len(terms) == 1 else f"({' || '.join(terms)})"


def _has(network: LogicalNetwork, family: int) -> bool:
    return bool(network.cidr4 if family == 4 else network.prefixes6)


def _set_name(network: LogicalNetwork, family: int) -> str:
    return f"{safe_name('network', network.uuid)}_v{family}"


def _add_address_sets(rows: Rows, network: LogicalNetwork) -> None:
    for family, addresses in ((4, (network.cidr4,)), (6, network.prefixes6)):
        if _has(network, family):
            row = rows.identity("Address_Set", network=network.uuid, part=f"v{family}")
            rows.add(row, {"name": _set_name(network, family), "addresses": frozenset(addresses)})
