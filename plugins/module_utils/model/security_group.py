# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a security group: what machines let through, as a list of rules in OpenNebula's form."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Optional

from ..dataclass import dataclass
from ..errors import InvalidValue
from .logical_network import ALL, DIRECTIONS, ICMP, ICMPV6, PROTOCOLS, TCP, UDP, SecurityRule
from .whole_numbers import whole

# The group of every catalog, which lets everything through, as that of a real oned does.
DEFAULT_ID = 0
# The first id of others, as in a real oned.
FIRST = 100
# An attribute of networks and NICs: ids of groups, with commas between them.
ATTRIBUTE = "SECURITY_GROUPS"
_WITH_PORTS, _WITH_TYPE = (TCP, UDP), (ICMP, ICMPV6)
_PORTS = re.compile(r"(\d{1,5})(?:[:-](\d{1,5}))?\Z")


@dataclass(frozen=True)
class GroupRule:
    """Describes a RULE as the catalog keeps it.
    range: ports, as "22,80:90".
    ip, size: addresses of the other side, or a prefix as 10.0.0.0/8.
    network_id: the id of a network whose addresses the other side has."""

    rule_type: str
    protocol: str = ALL
    range: str = ""
    ip: str = ""
    size: int = 1
    network_id: Optional[int] = None
    icmp_type: Optional[int] = None


@dataclass(frozen=True)
class SecurityGroup:
    id: Optional[int]
    name: str
    uuid: str = ""
    description: str = ""
    rules: tuple[GroupRule, ...] = ()

    @property
    def is_default(self) -> bool:
        return self.id == DEFAULT_ID


def read_rule(entry: Mapping[str, Any], where: str, network_id: int | None) -> GroupRule:
    """Return an entry of `rules` in its one form, or raise InvalidValue. network_id: the id of its network."""
    direction = str(entry.get("rule_type") or "").strip().lower()
    if direction not in DIRECTIONS:
        raise InvalidValue(
            f"{where}: rule_type {entry.get('rule_type')!r}", "no such direction", "Give inbound or outbound"
        )
    protocol = str(entry.get("protocol") or ALL).strip().upper()
    if protocol not in PROTOCOLS:
        raise InvalidValue(
            f"{where}: protocol {entry.get('protocol')!r}", "no such protocol", f"Give one of {', '.join(PROTOCOLS)}"
        )
    text, ip = str(entry.get("range") or "").strip(), str(entry.get("ip") or "").strip()
    if text and protocol not in _WITH_PORTS:
        raise InvalidValue(
            f"{where}: range {text!r}", f"{protocol} has no ports", "Leave it out, or give protocol TCP or UDP"
        )
    icmp = entry.get("icmp_type")
    if icmp is not None and (protocol not in _WITH_TYPE or not 0 <= int(icmp) <= 255):
        raise InvalidValue(
            f"{where}: icmp_type {icmp}",
            "not a type of ICMP, or of no rule for it",
            "Give 0 to 255, with protocol ICMP or ICMPV6",
        )
    if ip and network_id is not None:
        raise InvalidValue(f"{where}: ip {ip!r}", "a network is given, too", "Give one of the two")
    size = 1 if entry.get("size") is None else int(entry["size"])
    if size < 1 or (size > 1 and (not ip or "/" in ip)):
        raise InvalidValue(
            f"{where}: size {size}", "not a number of addresses that begin with ip", "Give ip and 1 or more"
        )
    return GroupRule(
        direction,
        protocol,
        ",".join(_span_text(span) for span in read_ports(text, where)),
        _read_address(ip, where) if ip else "",
        size,
        network_id,
        None if icmp is None else int(icmp),
    )


def read_ports(text: str, where: str) -> Sequence[tuple[int, int]]:
    """Return a RANGE as spans of ports; raise InvalidValue for what is none."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PORTS.match(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 65535:
            raise InvalidValue(f"{where}: range {part!r}", "not ports", "Write them as 22,80,8000:8010")
        found.append((first, last))
    return found


def _span_text(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}:{span[1]}"


def _read_address(text: str, where: str) -> str:
    try:
        return str(ip_network(text)) if "/" in text else str(ip_address(text))
    except ValueError as error:
        raise InvalidValue(f"{where}: ip {text!r}", str(error), "Write it as 10.0.0.5 or 10.0.0.0/8") from None


def logical_rule(rule: GroupRule, networks: Mapping[int, str]) -> SecurityRule:
    """Return the rule as OVN is to have it. networks: UUIDs by id."""
    return SecurityRule(
        rule.rule_type,
        rule.protocol,
        tuple(read_ports(rule.range, "")),
        rule.ip,
        rule.size,
        "" if rule.network_id is None else networks[rule.network_id],
        rule.icmp_type,
    )


def read_group_ids(text: str, where: str) -> list[int]:
    """Return the ids that SECURITY_GROUPS says; raise InvalidValue for what is no id."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        number = whole(part)
        if number is None:
            raise InvalidValue(
                f"{where}: {ATTRIBUTE} = {text!r}", f"{part!r} is no id", "Give ids, with commas between them"
            )
        found.append(number)
    return list(dict.fromkeys(found))


def known_ids(text: str, known: Collection[int]) -> list[int]:
    """Return the known ids of SECURITY_GROUPS, whatever else it says: versions without groups kept any text."""
    return [number for number in named_ids(text) if number in known]


@functools.lru_cache(maxsize=1 << 12)
def named_ids(text: str) -> tuple[int, ...]:
    """Return all numbers that SECURITY_GROUPS says, each once."""
    found = [whole(part.strip()) for part in text.split(",")]
    return tuple(dict.fromkeys(number for number in found if number is not None))
