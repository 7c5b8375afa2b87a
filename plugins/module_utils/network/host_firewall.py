# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what the host's firewalls do to the packets of a network, by their rules, which are read and never changed.

Traffic is blocked when none of it gets through; a firewall that lets some of it through was made to do just that.
The kinds are few, and stand for the rest: TCP, UDP, a ping, and between machines what they find each other by,
which is ARP and IPv6's neighbour discovery. Without the last two nothing else gets through either."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from ..dataclass import dataclass, replace
from ..errors import TrafficBlocked
from ..host.command import run
from .host_firewall_rules import (
    AFTER,
    ALL,
    ARP,
    BEFORE,
    FORWARD,
    ICMP,
    ICMPV6,
    INGRESS,
    NONE,
    OF_ARP,
    TCP,
    UDP,
    Packets,
    Rule,
    Table,
    name_matches,
)
from .host_firewall_tables import TIMEOUT

# Whether the kernel passes what a bridge forwards to iptables, or ip6tables, as if it were routed.
BRIDGED_TOO = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
BRIDGED_TOO6 = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
DEPTH = 32
# So many interfaces are named.
_FEW = 3
_WORDS = {TCP: "TCP", UDP: "UDP", ICMP: "ping", ICMPV6: "neighbour discovery", OF_ARP: "ARP"}
_ECHO, _ECHOED = 8, 0
# Neighbour discovery: who asks, and who answers. Conntrack leaves it out.
_ASKS, _ANSWERS = 135, 136
_UNTRACKED, _UNKNOWN = "untracked", "invalid"
# Where questions go.
_ASKED = IPv6Network("ff02::1:ff00:0/104")


@dataclass(frozen=True)
class Drop:
    """Says what keeps a kind of packets from getting through.
    rule: None where it is the base chain's policy
    devices: the interfaces by which they come in or leave, if the chain is of interfaces"""

    packets: Packets
    table: Table
    base: str
    chain: str
    rule: Rule | None
    devices: Sequence[str] = ()

    @property
    def hook(self) -> str:
        return self.table.hooks.get(self.base, FORWARD)

    @property
    def was_looked_for(self) -> bool:
        """Return whether earlier versions refused a network for it."""
        return self.packets.family == 4 and self.packets.protocol == TCP and self.hook == FORWARD

    @property
    def is_all(self) -> bool:
        """Return whether next to nothing gets through without these packets: to drop UDP or pings alone is meant."""
        return self.packets.protocol not in (UDP, ICMP)

    @property
    def place(self) -> str:
        place = f"{self.table.tool} table {self.table.name}, chain {self.chain}, "
        if self.devices:
            more = len(self.devices) - _FEW
            place += f"of {', '.join(self.devices[:_FEW])}{f' and {more} more' if more > 0 else ''}, "
        return place + ("policy drop" if self.rule is None else f"rule `{_as_text(self.table, self.chain, self.rule)}`")


def routed_packets(bridge: str, whole: IPv4Network, uplink: str, ports: Sequence[str] = ()) -> list[Packets]:
    """Return what a network with NAT needs: connections to outside, and their answers.
    uplink: "" if it may be any
    ports: of the bridge"""
    inside, outside = (bridge, *ports), (uplink,) if uplink else ()
    sent = Packets(
        f"what machines of {bridge} send", bridge, uplink, bridge, "new", whole, ingress=inside, egress=outside
    )
    answers = Packets(
        f"answers to machines of {bridge}",
        uplink,
        bridge,
        bridge,
        "established",
        destination=whole,
        ingress=outside,
        egress=inside,
    )
    return [
        sent,
        replace(sent, state="established"),
        answers,
        replace(sent, protocol=UDP),
        replace(answers, protocol=UDP),
        replace(sent, protocol=ICMP, icmp=_ECHO),
        replace(answers, protocol=ICMP, icmp=_ECHOED),
    ]


def bridged_packets(
    bridge: str, whole: IPv4Network | None, six: bool = False, ports: Sequence[str] = ()
) -> list[Packets]:
    """Return what machines of one network send each other. six: whether they have IPv6. ports: of the bridge."""
    what = f"what machines of {bridge} send each other"
    four = Packets(what, bridge, bridge, "", "new", whole, whole, bridge, ingress=ports, egress=ports)
    found = [
        four,
        replace(four, protocol=UDP),
        replace(four, protocol=ICMP, icmp=_ECHO),
        replace(four, family=ARP, protocol=OF_ARP, state="", source=None, destination=None),
    ]
    if six:
        other = replace(four, what=f"{what} by IPv6", source=None, destination=None, family=6)
        near = replace(other, protocol=ICMPV6, state=_UNTRACKED)
        found += [
            other,
            replace(other, protocol=UDP),
            replace(near, icmp=_ASKS, destination=_ASKED),
            replace(near, icmp=_ANSWERS),
        ]
    return found


# -- following packets ---------------------------------------------------------------------------------------------
def find_drops(
    tables: Iterable[Table], kinds: Iterable[Packets], bridged_families: Collection[int] | None = None
) -> list[Drop]:
    """Return where packets of these kinds are dropped. bridged_families: the families of which rules for routed
    packets see bridged packets; None: as this host says."""
    if bridged_families is None:
        bridged_families = sees_bridged()
    found = []
    for packets in kinds:
        for table in tables:
            if packets.family not in table.families:
                continue
            for base, policy in table.bases.items():
                met = _packets_of_chain(packets, table, base, bridged_families)
                blocked = {device: _blocked(table, base, policy, seen) for device, seen in met}
                devices = tuple(device for device, drop in blocked.items() if drop is not None and device)
                first = next((drop for drop in blocked.values() if drop is not None), None)
                if first is not None:
                    found.append(replace(first, packets=packets, devices=devices))
    return found


def _packets_of_chain(
    packets: Packets, table: Table, base: str, bridged_families: Collection[int]
) -> Iterable[tuple[str, Packets]]:
    """Yield the packets as a base chain has them, if it has them. A chain of interfaces has them once for each of its
    interfaces, which is named with them."""
    if base in table.devices:
        comes_in = table.hooks[base] == INGRESS
        for device in packets.ingress if comes_in else packets.egress:
            if any(name_matches(device, wanted) for wanted in table.devices[base]):
                yield device, _at_interface(packets, device, comes_in)
    elif table.of_bridges:
        if packets.bridge:
            yield "", _at_hook(packets, table, base)
    elif not packets.bridge or packets.family in bridged_families:
        yield "", _at_hook(packets, table, base)


def _at_interface(packets: Packets, device: str, comes_in: bool) -> Packets:
    """Return the packets as they pass one of the host's interfaces, where conntrack does not know them. Beyond the
    host they have its own address."""
    inside = bool(packets.bridge) or (_leaves(packets) == comes_in)
    return replace(
        packets,
        iif=device if comes_in else "",
        oif="" if comes_in else device,
        other="",
        state=_UNKNOWN,
        source=packets.source if inside else None,
        destination=packets.destination if inside else None,
    )


def _at_hook(packets: Packets, table: Table, base: str) -> Packets:
    """Return the packets as a base chain that is of no interface has them."""
    if table.of_bridges:
        # What a bridge forwards comes and goes by its ports: their names are not known before machines start.
        packets = replace(packets, iif="", oif="", other=packets.bridge)
    hook = table.hooks.get(base, FORWARD)
    if base in table.early:
        packets = replace(packets, state=_UNKNOWN)
    if hook == BEFORE:
        # An answer to what was masqueraded comes to the host's own address.
        answers = not packets.bridge and not _leaves(packets)
        packets = replace(packets, oif="", destination=None if answers else packets.destination)
    return replace(packets, iif="") if hook == AFTER else packets


def refuse(network: str, found: Sequence[Drop]) -> None:
    """Raise TrafficBlocked for the first drop of each chain, with the commands that would let the packets through."""
    if found:
        asked, places_that_drop, remedy = explain(network, found)
        raise TrafficBlocked(asked, places_that_drop, remedy)


def explain(network: str, found: Sequence[Drop]) -> tuple[str, str, str]:
    places: dict[str, dict[str, list[str]]] = {}
    for drop in found:
        kinds = places.setdefault(drop.place, {}).setdefault(drop.packets.what, [])
        kinds += [] if drop.packets.protocol in kinds else [drop.packets.protocol]
    places_that_drop = "; ".join(
        f"{place}, which drops {', '.join(what + _kinds(kinds) for what, kinds in dropped.items())}"
        for place, dropped in places.items()
    )
    commands = " && ".join(dict.fromkeys(command for drop in found for command in remedies(drop)))
    remedy = f"To let it through: {commands} (keep it by that firewall's own means). To go on without: "
    return (
        f"network {network}: forwarding",
        f"a firewall of the host is in the way: {places_that_drop}",
        remedy + "nebula_ignore_forward_drop: true",
    )


def _kinds(protocols: Collection[str]) -> str:
    """Return words for the kinds of packets, where it is not all of them."""
    if {TCP, UDP} <= set(protocols) and not {ICMP, ICMPV6}.isdisjoint(protocols):
        return ""
    return f" ({', '.join(_WORDS[each] for each in protocols)})"


def remedies(drop: Drop) -> list[str]:
    """Return the commands that let these packets through, of the firewall whose rule drops them."""
    packets, table, bridge = drop.packets, drop.table, drop.packets.bridge or drop.packets.other
    if drop.devices:
        key = "iifname" if drop.hook == INGRESS else "oifname"
        names = drop.devices[0] if len(drop.devices) == 1 else f"{{ {', '.join(drop.devices)} }}"
        return [f"nft insert rule {table.name} {drop.base} {key} {shlex.quote(names)} accept"]
    if "ufw-user-forward" in table.chains or "ufw6-user-forward" in table.chains:
        way = (
            f"in on {bridge} out on {bridge}"
            if packets.bridge
            else f"{'in' if _leaves(packets) else 'out'} on {bridge}"
        )
        return [f"ufw route allow {way}"]
    if table.name == "inet firewalld":
        return [f"firewall-cmd --permanent --zone=trusted --add-interface={bridge}", "firewall-cmd --reload"]
    if table.tool != "nft":
        chain = "DOCKER-USER" if "DOCKER-USER" in table.chains else drop.base
        of = "" if table.name == "filter" or " filter" in table.name else f" -t {table.name.rpartition(' ')[2]}"
        if drop.hook != FORWARD:
            return [f"{table.tool}{of} -I {drop.base} {_interface_match(drop)} -j ACCEPT"]
        inside = f"-i {bridge}" if packets.bridge or _leaves(packets) else ""
        outside = "" if inside and not packets.bridge else f"-o {bridge}"
        state = "" if inside else "-m conntrack --ctstate RELATED,ESTABLISHED"
        return [" ".join(f"{table.tool}{of} -I {chain} {inside} {outside} {state} -j ACCEPT".split())]
    if drop.hook != FORWARD:
        of_ports = f"meta {'i' if drop.hook == BEFORE else 'o'}brname {bridge}"
        match = of_ports if table.of_bridges else _interface_match(drop, words=True)
        return [f"nft insert rule {table.name} {drop.base} {match} accept"]
    if table.of_bridges:
        return [f"nft insert rule {table.name} {drop.base} meta ibrname {bridge} accept"]
    match = (
        f"iifname {bridge}" if packets.bridge or _leaves(packets) else f"oifname {bridge} ct state established,related"
    )
    return [f"nft insert rule {table.name} {drop.base} {match} accept"]


def _interface_match(drop: Drop, words: bool = False) -> str:
    """Return the match of an interface that a chain knows before or after it is decided where packets go: the bridge,
    or all other interfaces. words: as nftables writes it."""
    packets = drop.packets
    bridge, before = packets.bridge or packets.other, drop.hook == BEFORE
    other = not packets.bridge and before != ("what machines" in packets.what)
    if words:
        return f"{'iifname' if before else 'oifname'} {'!= ' if other else ''}{bridge}"
    return f"{'! ' if other else ''}{'-i' if before else '-o'} {bridge}"


def _leaves(packets: Packets) -> bool:
    return packets.iif == packets.other


def sees_bridged() -> Collection[int]:
    """Return the families of which rules for routed packets see what a bridge forwards."""
    found = []
    for family, path in ((4, BRIDGED_TOO), (6, BRIDGED_TOO6)):
        with contextlib.suppress(OSError):
            found += [family] if path.read_text(encoding="ascii").strip() == "1" else []
    return found


# -- following rules -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Verdict:
    """Says what verdict some of the packets come to. chain, rule: where."""

    accepted: bool
    chain: str
    rule: Rule | None


def _blocked(table: Table, base: str, policy: str, packets: Packets) -> Drop | None:
    met, through = _walk(table, base, packets, 0)
    if through:
        met.append(_Verdict(policy != "drop", base, None))
    if any(verdict.accepted for verdict in met):
        return None
    last = met[-1]
    return Drop(packets, table, base, last.chain, last.rule)


def _matched(rule: Rule, packets: Packets) -> int:
    """Return how many of the packets a rule matches. There may be thousands of rules: most are done with at their
    first condition."""
    hit = ALL
    for condition in rule.conditions:
        hit = min(hit, condition(packets))
        if hit == NONE:
            break
    return hit


def _walk(table: Table, chain: str, packets: Packets, depth: int) -> tuple[list[_Verdict], bool]:
    """Return the verdicts that packets meet in this chain, and whether any come out of it without a verdict."""
    met: list[_Verdict] = []
    returned = False
    for rule in table.chains.get(chain, ()) if depth < DEPTH else ():
        hit = _matched(rule, packets)
        if hit == NONE:
            continue
        through = False
        if rule.verdict in ("accept", "drop"):
            met.append(_Verdict(rule.verdict == "accept", chain, rule))
        elif rule.verdict == "maybe":
            met.append(_Verdict(True, chain, rule))
            through = True
        elif rule.verdict == "return":
            returned = True
        else:
            below, through = _walk(table, rule.target, packets, depth + 1)
            met += below
            if rule.verdict == "goto":
                returned, through = returned or through, False
        if hit == ALL and not through:
            return met, returned
    return met, True


def _as_text(table: Table, chain: str, rule: Rule) -> str:
    """Return the rule as its own tool writes it."""
    if table.tool != "nft":
        return rule.text
    family, name = table.name.split(" ", 1)
    listed = run(["nft", "-a", "list", "chain", family, name, chain], timeout=TIMEOUT, check=False).stdout
    for line in listed.splitlines():
        text, _hash, handle = line.strip().rpartition(" # handle ")
        if handle == str(rule.handle):
            return re.sub(r"counter packets \d+ bytes \d+", "counter", text)
    return f"handle {rule.handle}"
