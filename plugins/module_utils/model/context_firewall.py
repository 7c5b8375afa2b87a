# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads FIREWALL in CONTEXT as vzfirewall of OpenVZ does: ports in brackets, and after them who reaches these.

[*] 111.111.111.0/24 [22] 222.222.0.0/16 [udp:53,tcp:80:90] *"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from ..errors import InvalidValue
from . import security_group
from .logical_network import ALL, INBOUND, TCP, UDP
from .nic_filter_rules import GuardRule, family_of
from .node_access import merge_spans

VARIABLE = "FIREWALL"
_EVERYTHING = "*"
_REMEDY = "Write it as [22] 10.0.0.0/8 192.0.2.7 [80,443] *, where * is everybody, and [*] all ports"


def is_firewall(text: str) -> bool:
    """Return whether the text is meant as a firewall: a guest may have a variable of that name for itself."""
    return "[" in text


def read(text: str, where: str) -> tuple[GuardRule, ...]:
    """Return rules for what it lets in; everything else is kept out. Raise InvalidValue for what it can't mean."""
    asked = f"{where}: CONTEXT/{VARIABLE}"
    # Blanks and lines mean the same, but for comments.
    plain = " ".join(line.partition("#")[0] for line in text.splitlines())
    before, *sections = re.split(r"\[", plain)
    if before.strip():
        raise InvalidValue(f"{asked} = {before.strip()!r}", "no ports in brackets come before it", _REMEDY)
    rules: list[GuardRule] = []
    for section in sections:
        ports, bracket, hosts = section.partition("]")
        if not bracket:
            raise InvalidValue(f"{asked}: [{section.strip()}", "there is no ] after it", _REMEDY)
        if not hosts.split():
            raise InvalidValue(f"{asked}: [{ports}]", "nobody is named after it", _REMEDY)
        addresses = _addresses(hosts.split(), f"{asked}: [{ports}]")
        families = [[each for each in addresses if family_of(each) == family] for family in (4, 6)]
        sides = [tuple(family) for family in families if family] or [()]
        for protocol, spans in _ports(ports, asked).items():
            rules += [GuardRule(INBOUND, protocol, tuple(spans), side) for side in sides]
    return tuple(dict.fromkeys(rules))


def _ports(text: str, asked: str) -> dict[str, Sequence[tuple[int, int]]]:
    """Return the ports by protocol: of TCP, unless it is said."""
    parts = [part.strip().lower() for part in text.split(",")]
    if parts == [_EVERYTHING]:
        return {ALL: ()}
    found: dict[str, list[tuple[int, int]]] = {}
    for part in parts:
        protocol, colon, rest = part.partition(":")
        named = {"tcp": TCP, "udp": UDP}.get(protocol) if colon else None
        number = rest if named else part
        try:
            spans = security_group.read_ports(number, "")
        except InvalidValue:
            spans = []
        if not spans:
            raise InvalidValue(f"{asked}: [{text}]", f"{part!r} is no port", _REMEDY)
        found.setdefault(named or TCP, []).extend(spans)
    return {protocol: merge_spans(spans) for protocol, spans in found.items()}


def _addresses(hosts: Sequence[str], asked: str) -> list[str]:
    """Return the prefixes, without those that others hold; none for everybody."""
    networks = []
    for host in hosts:
        if host == _EVERYTHING:
            continue
        try:
            networks.append(ip_network(host))
        except ValueError as error:
            raise InvalidValue(f"{asked} {host}", f"{error}", f"{_REMEDY}; names of hosts are not looked up") from None
    if _EVERYTHING in hosts:
        return []
    # A prefix either holds another or has nothing in common with it.
    found: list[Any] = []
    for each in sorted(networks, key=lambda network: (network.version, network.prefixlen, network)):
        if not any(each.version == other.version and each.subnet_of(other) for other in found):
            found.append(each)
    return [str(each) for each in found]


def firewall_of_body(body: Mapping[str, Any]) -> tuple[GuardRule, ...] | None:
    """Return the firewall of a machine as the catalog has it; None without a firewall."""
    text = ((body.get("context") or {}).get("variables") or {}).get(VARIABLE, "")
    if not is_firewall(text):
        return None
    try:
        return read(text, "")
    except InvalidValue:
        # A machine of a version that took any text: no new one has it.
        return None
