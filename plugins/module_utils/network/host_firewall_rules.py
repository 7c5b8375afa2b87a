# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes packets that a host forwards, and rules that firewalls have for them. Pure.

A rule is followed for a kind of packets, such as all that open a TCP connection from the network to outside. It
matches all of them, none, or some: where they go to is not known, and what can't be understood counts as some."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Union

from ..dataclass import dataclass

NONE, SOME, ALL = 0, 1, 2
FORWARD, BEFORE, AFTER = "forward", "prerouting", "postrouting"
# What comes in by an interface and leaves by it.
INGRESS, EGRESS = OF_DEVICES = ("ingress", "egress")
# What is no IP, in place of its family and of its protocol.
ARP, OF_ARP = 0x0806, "arp"
TCP, UDP, ICMP, ICMPV6 = "tcp", "udp", "icmp", "icmpv6"
NUMBERS = {TCP: "6", UDP: "17", ICMP: "1", ICMPV6: "58"}
# As iptables and nft call them besides.
NAMES = {**{number: name for name, number in NUMBERS.items()}, "ipv6-icmp": ICMPV6, "icmp6": ICMPV6}


Net = Union[IPv4Network, IPv6Network]


@dataclass(frozen=True)
class Packets:
    """Describes a kind of packets.
    iif, oif: interfaces, "" where it may be any but `other`
    source, destination: None where they may be anything
    bridge: over which they are bridged, "" for those that are routed
    state: conntrack's, "" where it may be any
    family: 4, 6 or ARP
    icmp: the type, of ICMP alone
    ingress, egress: interfaces of the host by which some of them come in and leave"""

    what: str
    iif: str
    oif: str
    other: str
    state: str
    source: Net | None = None
    destination: Net | None = None
    bridge: str = ""
    family: int = 4
    protocol: str = TCP
    icmp: int = -1
    ingress: Sequence[str] = ()
    egress: Sequence[str] = ()


Condition = Callable[[Packets], int]


@dataclass(frozen=True)
class Rule:
    """Is a rule of a firewall.
    verdict: accept, drop, jump, goto, return or maybe (the rule's verdict depends on what can't be known)"""

    conditions: Sequence[Condition]
    verdict: str
    target: str = ""
    text: str = ""
    handle: int = 0


@dataclass
class Table:
    """Holds the chains of a firewall's table.
    name: with its family for nftables, as in `inet filter`
    tool: nft, iptables-nft or iptables-legacy, or the same of ip6tables
    bases: the chains that the kernel calls for forwarded packets, with their policies
    hooks: which of them are called before or after the kernel has decided where a packet goes
    early: which of them are called before conntrack knows a packet
    devices: for those that are called for what comes in or leaves by an interface, these interfaces"""

    name: str
    tool: str
    chains: dict[str, list[Rule]] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)
    early: set[str] = field(default_factory=set)
    devices: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def families(self) -> Collection[int]:
        """Return the families whose packets the table sees."""
        if self.tool.startswith("ip6") or self.name.startswith("ip6 "):
            return (6,)
        if self.tool.startswith("ip") or self.name.startswith("ip "):
            return (4,)
        return (4, 6, ARP) if self.name.startswith(("bridge ", "netdev ")) else (4, 6)

    @property
    def of_bridges(self) -> bool:
        return self.name.startswith("bridge ")


# -- conditions ------------------------------------------------------------------------------------------------------
def matches_some(_packets: Packets) -> int:
    return SOME


def matches_none(_packets: Packets) -> int:
    return NONE


def constant(value: int) -> Condition:
    return lambda _packets: value


def unlike(condition: Condition) -> Condition:
    return lambda packets: ALL - condition(packets)


def every(conditions: Sequence[Condition]) -> Condition:
    return lambda packets: min((condition(packets) for condition in conditions), default=ALL)


def any_of(conditions: Sequence[Condition]) -> Condition:
    return lambda packets: max((condition(packets) for condition in conditions), default=NONE)


def interface(key: str, wanted: str) -> Condition:
    def condition(packets: Packets) -> int:
        if key in ("ibrname", "obrname"):
            return ALL if packets.bridge and name_matches(packets.bridge, wanted) else NONE
        name = packets.iif if key.startswith("iif") else packets.oif
        if name:
            return ALL if name_matches(name, wanted) else NONE
        if wanted == "*":
            return ALL
        return NONE if wanted == packets.other else SOME

    return condition


def name_matches(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def state_in(wanted: Sequence[str]) -> Condition:
    return lambda packets: (ALL if packets.state in wanted else NONE) if packets.state else SOME


def has_mark(value: Any) -> Condition:
    """Return whether a packet that nobody marked has this mark."""
    return constant(ALL if value in (0, "0", "0x0", "0x00000000") else NONE)


def of_family(family: int | None, condition: Condition) -> Condition:
    """Return a condition that only packets of this family can match; None: of any."""
    return lambda packets: condition(packets) if family in (None, packets.family) else NONE


def of_families(four: bool, six: bool, arp: bool = False) -> Condition:
    return lambda packets: ALL if {4: four, 6: six, ARP: arp}[packets.family] else NONE


def has_protocol(protocol: str) -> Condition:
    return lambda packets: ALL if packets.protocol == protocol else NONE


def of_type(first: int | None = None, last: int | None = None) -> Condition:
    """Return the condition that a message of ICMP has a type from first to last; without them, it may match."""
    if first is None or last is None:
        return lambda packets: SOME if packets.icmp >= 0 else NONE
    return lambda packets: ALL if first <= packets.icmp <= last else NONE


def address(side: str, wanted: Sequence[Net] | None) -> Condition:
    def condition(packets: Packets) -> int:
        own = packets.source if side == "s" else packets.destination
        if wanted is None:
            return SOME
        if any(each.version != packets.family for each in wanted):
            return NONE
        if own is None:
            inside = packets.source or packets.destination
            if isinstance(inside, IPv4Network) and all(
                each.subnet_of(inside) for each in wanted if isinstance(each, IPv4Network)
            ):
                return NONE  # it is the side that is beyond the network
            return ALL if any(each.prefixlen == 0 for each in wanted) else SOME
        if any(_within(own, each) for each in wanted):
            return ALL
        return SOME if any(own.overlaps(each) for each in wanted) else NONE

    return condition


def _within(inner: Net, outer: Net) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
