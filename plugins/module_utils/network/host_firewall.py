# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host's firewalls do to the packets of a network: told by their rules, which are read and never changed.

A rule is followed for a kind of packets, such as all that open a TCP connection from the network to anywhere outside.
It matches all of them, none, or some: where they go to is not known, and what can't be understood counts as some.
Traffic is blocked when none of it gets through; a firewall that lets some of it through was made to do just that.

The kinds are few, and stand for the rest: TCP, UDP, a ping, and between machines what they find each other by, which is
ARP and IPv6's neighbour discovery. Without the last two nothing else gets through either.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Any, Union

from ..dataclass import dataclass
from ..errors import CommandFailed, MissingDependency, TrafficBlocked
from ..host.command import failure, run

TIMEOUT = 60.0
# Only there once something has used iptables' older kernel interface, in this network namespace. Asking iptables-legacy
# before would make its tables.
LEGACY_TABLES = Path("/proc/net/ip_tables_names")
LEGACY_TABLES6 = Path("/proc/net/ip6_tables_names")
# Whether the kernel passes what a bridge forwards to iptables, or ip6tables, as if it were routed.
BRIDGED_TOO = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
BRIDGED_TOO6 = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
NONE, SOME, ALL = 0, 1, 2
DEPTH = 32
# So many interfaces are named.
_FEW = 3
# What is no IP, in place of its family and of its protocol.
ARP, OF_ARP = 0x0806, "arp"
TCP, UDP, ICMP, ICMPV6 = "tcp", "udp", "icmp", "icmpv6"
_NUMBERS = {TCP: "6", UDP: "17", ICMP: "1", ICMPV6: "58"}
# As iptables and nft call them besides.
_NAMES = {**{number: name for name, number in _NUMBERS.items()}, "ipv6-icmp": ICMPV6, "icmp6": ICMPV6}
_WORDS = {TCP: "TCP", UDP: "UDP", ICMP: "ping", ICMPV6: "neighbour discovery", OF_ARP: "ARP"}
_ECHO, _ECHOED = 8, 0
# Neighbour discovery: who asks, and who answers. Conntrack leaves it out.
_ASKS, _ANSWERS = 135, 136
_UNTRACKED, _UNKNOWN = "untracked", "invalid"
# Where questions go.
_ASKED = IPv6Network("ff02::1:ff00:0/104")


_Network = Union[IPv4Network, IPv6Network]


@dataclass(frozen=True)
class Packets:
    """A kind of packets. iif, oif: interfaces, "" where it may be any but `other`. source, destination: None where
    they may be anything. bridge: over which they are bridged, "" for those that are routed. state: conntrack's, ""
    where it may be any. family: 4, 6 or ARP. icmp: the type, of ICMP alone. ingress, egress: interfaces of the host by
    which some of them come in and leave."""

    what: str
    iif: str
    oif: str
    other: str
    state: str
    source: _Network | None = None
    destination: _Network | None = None
    bridge: str = ""
    family: int = 4
    protocol: str = TCP
    icmp: int = -1
    ingress: Sequence[str] = ()
    egress: Sequence[str] = ()


Condition = Callable[[Packets], int]


@dataclass(frozen=True)
class Rule:
    """verdict: accept, drop, jump, goto, return or maybe (what it says depends on what can't be known)."""

    conditions: Sequence[Condition]
    verdict: str
    target: str = ""
    text: str = ""
    handle: int = 0


@dataclass
class Table:
    """name: with its family for nftables, as in `inet filter`. tool: nft, iptables-nft or iptables-legacy, or the same
    of ip6tables. bases: the chains that the kernel calls for forwarded packets, with their policies. hooks: those of
    them that are called before or after it has decided where a packet goes, and which it is; early: those that are
    called before conntrack knows a packet; devices: the interfaces of those that are called for what comes in by one,
    or leaves by it."""

    name: str
    tool: str
    chains: dict[str, list[Rule]] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)
    early: set[str] = field(default_factory=set)
    devices: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def families(self) -> Collection[int]:
        """Those whose packets it has."""
        if self.tool.startswith("ip6") or self.name.startswith("ip6 "):
            return (6,)
        if self.tool.startswith("ip") or self.name.startswith("ip "):
            return (4,)
        return (4, 6, ARP) if self.name.startswith(("bridge ", "netdev ")) else (4, 6)

    @property
    def of_bridges(self) -> bool:
        return self.name.startswith("bridge ")


@dataclass(frozen=True)
class Drop:
    """What keeps a kind of packets from getting through. rule: "" where it is the base chain's policy. devices: by
    which they come in or leave, if the chain is of interfaces."""

    packets: Packets
    table: Table
    base: str
    chain: str
    rule: Rule | None
    devices: Sequence[str] = ()

    @property
    def hook(self) -> str:
        return self.table.hooks.get(self.base, _FORWARD)

    @property
    def was_looked_for(self) -> bool:
        """Whether earlier versions refused a network for it."""
        return self.packets.family == 4 and self.packets.protocol == TCP and self.hook == _FORWARD

    @property
    def is_all(self) -> bool:
        """Whether next to nothing gets through without these. Who lets TCP through, and no UDP or ping, means it."""
        return self.packets.protocol not in (UDP, ICMP)

    @property
    def place(self) -> str:
        place = f"{self.table.tool} table {self.table.name}, chain {self.chain}, "
        if self.devices:
            more = len(self.devices) - _FEW
            place += f"of {', '.join(self.devices[:_FEW])}{f' and {more} more' if more > 0 else ''}, "
        return place + ("policy drop" if self.rule is None else f"rule `{_shown(self.table, self.chain, self.rule)}`")


def routed(bridge: str, whole: IPv4Network, uplink: str, ports: Sequence[str] = ()) -> list[Packets]:
    """What a network with NAT needs: connections to outside, and their answers. uplink: "" if it may be any. ports: of
    the bridge."""
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


def bridged(bridge: str, whole: IPv4Network | None, six: bool = False, ports: Sequence[str] = ()) -> list[Packets]:
    """What machines of one network send each other. six: they have IPv6. ports: of the bridge."""
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


# -- what is there ---------------------------------------------------------------------------------------------------
def observe(own: str, families: Collection[int] = (4, 6)) -> list[Table]:
    """All tables with rules for forwarded packets of these families, but the catalog's own, of the name own, and those
    of filters of NICs, whose name says whose they are."""
    tables = _of_nftables(own, families)
    for family, tool, legacy in ((4, "iptables", LEGACY_TABLES), (6, "ip6tables", LEGACY_TABLES6)):
        if family not in families:
            continue
        if any(_is_of_iptables(table, family) for table in tables):
            # nft shows matches of iptables' own extensions without what they say; and whoever made it does not want it
            # changed by nft.
            with_words = _of_iptables(f"{tool}-nft")
            known = {table.name for table in with_words}
            tables = [table for table in tables if table.name not in known] + with_words
        with contextlib.suppress(OSError):
            tables += _of_iptables(f"{tool}-legacy") if legacy.read_text(encoding="ascii").split() else []
    return tables


def drops(
    tables: Iterable[Table], kinds: Iterable[Packets], bridged_families: Collection[int] | None = None
) -> list[Drop]:
    """Where packets of these kinds are dropped. bridged_families: those of which rules for routed packets see bridged
    ones; None: as this host says."""
    if bridged_families is None:
        bridged_families = sees_bridged()
    found = []
    for packets in kinds:
        for table in tables:
            if packets.family not in table.families:
                continue
            for base, policy in table.bases.items():
                met = _meeting(packets, table, base, bridged_families)
                blocked = {device: _blocked(table, base, policy, seen) for device, seen in met}
                devices = tuple(device for device, drop in blocked.items() if drop is not None and device)
                first = next((drop for drop in blocked.values() if drop is not None), None)
                if first is not None:
                    found.append(replace(first, packets=packets, devices=devices))
    return found


def _meeting(
    packets: Packets, table: Table, base: str, bridged_families: Collection[int]
) -> Iterable[tuple[str, Packets]]:
    """The packets as a base chain has them, if it has them: with the interface that it has them of, if it is of
    interfaces."""
    if base in table.devices:
        comes_in = table.hooks[base] == _INGRESS
        for device in packets.ingress if comes_in else packets.egress:
            if any(_fits(device, wanted) for wanted in table.devices[base]):
                yield device, _at(packets, device, comes_in)
    elif table.of_bridges:
        if packets.bridge:
            yield "", _seen(packets, table, base)
    elif not packets.bridge or packets.family in bridged_families:
        yield "", _seen(packets, table, base)


def _at(packets: Packets, device: str, comes_in: bool) -> Packets:
    """As they pass one of the host's interfaces, where conntrack does not know them. Beyond the host they have its own
    address."""
    inside = bool(packets.bridge) or (_leaves(packets) == comes_in)
    return replace(
        packets,
        iif=device * comes_in,
        oif=device * (not comes_in),
        other="",
        state=_UNKNOWN,
        source=packets.source if inside else None,
        destination=packets.destination if inside else None,
    )


def _seen(packets: Packets, table: Table, base: str) -> Packets:
    """The packets as a base chain has them that is of no interface."""
    if table.of_bridges:
        # What a bridge forwards comes and goes by its ports: their names are not known before machines start.
        packets = replace(packets, iif="", oif="", other=packets.bridge)
    hook = table.hooks.get(base, _FORWARD)
    if base in table.early:
        packets = replace(packets, state=_UNKNOWN)
    if hook == _BEFORE:
        # An answer to what was masqueraded comes to the host's own address.
        answers = not packets.bridge and not _leaves(packets)
        packets = replace(packets, oif="", destination=None if answers else packets.destination)
    return replace(packets, iif="") if hook == _AFTER else packets


def refuse(network: str, found: Sequence[Drop]) -> None:
    """Raise TrafficBlocked for the first of these drops of each chain, with the commands that would let it through."""
    if found:
        asked, places_that_drop, remedy = explained(network, found)
        raise TrafficBlocked(asked, places_that_drop, remedy)


def explained(network: str, found: Sequence[Drop]) -> tuple[str, str, str]:
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
    """Which kinds of packets they are, where it is not all of them."""
    if {TCP, UDP} <= set(protocols) and not {ICMP, ICMPV6}.isdisjoint(protocols):
        return ""
    return f" ({', '.join(_WORDS[each] for each in protocols)})"


def remedies(drop: Drop) -> list[str]:
    """The commands of the firewall whose rule it is that let these packets through."""
    packets, table, bridge = drop.packets, drop.table, drop.packets.bridge or drop.packets.other
    if drop.devices:
        key = "iifname" if drop.hook == _INGRESS else "oifname"
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
        if drop.hook != _FORWARD:
            return [f"{table.tool}{of} -I {drop.base} {_way(drop)} -j ACCEPT"]
        inside = f"-i {bridge}" if packets.bridge or _leaves(packets) else ""
        outside = "" if inside and not packets.bridge else f"-o {bridge}"
        state = "" if inside else "-m conntrack --ctstate RELATED,ESTABLISHED"
        return [" ".join(f"{table.tool}{of} -I {chain} {inside} {outside} {state} -j ACCEPT".split())]
    if drop.hook != _FORWARD:
        of_ports = f"meta {'i' if drop.hook == _BEFORE else 'o'}brname {bridge}"
        match = of_ports if table.of_bridges else _way(drop, words=True)
        return [f"nft insert rule {table.name} {drop.base} {match} accept"]
    if table.of_bridges:
        return [f"nft insert rule {table.name} {drop.base} meta ibrname {bridge} accept"]
    match = (
        f"iifname {bridge}" if packets.bridge or _leaves(packets) else f"oifname {bridge} ct state established,related"
    )
    return [f"nft insert rule {table.name} {drop.base} {match} accept"]


def _way(drop: Drop, words: bool = False) -> str:
    """The match of an interface that a chain knows before or after it is decided where packets go: the bridge, or all
    others. words: as nftables writes it."""
    packets = drop.packets
    bridge, before = packets.bridge or packets.other, drop.hook == _BEFORE
    other = not packets.bridge and before != ("what machines" in packets.what)
    if words:
        return f"{'iifname' if before else 'oifname'} {'!= ' * other}{bridge}"
    return f"{'! ' * other}{'-i' if before else '-o'} {bridge}"


def _leaves(packets: Packets) -> bool:
    return packets.iif == packets.other


def sees_bridged() -> Collection[int]:
    """The families of which rules for routed packets see those that a bridge forwards."""
    found = []
    for family, path in ((4, BRIDGED_TOO), (6, BRIDGED_TOO6)):
        with contextlib.suppress(OSError):
            found += [family] if path.read_text(encoding="ascii").strip() == "1" else []
    return found


# -- following rules -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Met:
    """A verdict that some of the packets come to. chain, rule: where."""

    accepted: bool
    chain: str
    rule: Rule | None


def _blocked(table: Table, base: str, policy: str, packets: Packets) -> Drop | None:
    met, through = _walk(table, base, packets, 0)
    if through:
        met.append(_Met(policy != "drop", base, None))
    if any(verdict.accepted for verdict in met):
        return None
    last = met[-1]
    return Drop(packets, table, base, last.chain, last.rule)


def _hit(rule: Rule, packets: Packets) -> int:
    """How many of the packets a rule matches. There may be thousands of rules: most are done with at their first
    condition."""
    hit = ALL
    for condition in rule.conditions:
        hit = min(hit, condition(packets))
        if hit == NONE:
            break
    return hit


def _walk(table: Table, chain: str, packets: Packets, depth: int) -> tuple[list[_Met], bool]:
    """The verdicts that packets meet in this chain, and whether any come out of it without one."""
    met: list[_Met] = []
    returned = False
    for rule in table.chains.get(chain, ()) if depth < DEPTH else ():
        hit = _hit(rule, packets)
        if hit == NONE:
            continue
        through = False
        if rule.verdict in ("accept", "drop"):
            met.append(_Met(rule.verdict == "accept", chain, rule))
        elif rule.verdict == "maybe":
            met.append(_Met(True, chain, rule))
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


# -- nftables --------------------------------------------------------------------------------------------------------
_KINDS = {"ip": (4,), "ip6": (6,), "inet": (4, 6), "bridge": (4, 6), "netdev": (4, 6)}
_FORWARD, _BEFORE, _AFTER = "forward", "prerouting", "postrouting"
# What comes in by an interface and leaves by it, and the families whose chains may be called for that.
_INGRESS, _EGRESS = _OF_DEVICES = ("ingress", "egress")
_WITH_DEVICES = ("netdev", "inet")
_CHAIN = re.compile(
    r"^table (?P<family>\S+) (?P<table>\S+) \{|^\tchain (?P<chain>\S+) \{|"
    r"^\t\ttype \S+ hook \S+ devices? (?:= \{(?P<several>[^}]*)\}|(?P<one>\S+))",
    re.MULTILINE,
)
_HOOKS = {"FORWARD": _FORWARD, "PREROUTING": _BEFORE, "POSTROUTING": _AFTER}
# Below this priority conntrack has not seen a packet yet.
_CONNTRACK = -200
# Filters of machines' NICs, of this catalog or another's: they may be large, and name interfaces of machines alone.
_FILTERS = re.compile(r"nebula_[0-9a-f]{8}\Z")
_OPAQUE = "xt"
# An element for all that no other one is.
_REST = "*"
# Protocols that none of the kinds are.
_OTHERS = ("ah", "comp", "dccp", "esp", "gre", "igmp", "sctp", "udplite")
# Types of ICMP as nft calls them.
_TYPES = {
    ICMP: {"echo-reply": 0, "destination-unreachable": 3, "echo-request": 8, "time-exceeded": 11},
    ICMPV6: {
        "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
        "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
        "mld-listener-done": 132, "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135,
        "nd-neighbor-advert": 136, "nd-redirect": 137, "mld2-listener-report": 143,
    },
}  # fmt: skip
_OF_IPTABLES = ("filter", "mangle", "raw", "security")


def _of_nftables(own: str, families: Collection[int]) -> list[Table]:
    # Most tables have nothing for forwarded packets, and some are large: those of filters of a thousand NICs, or of a
    # network's NAT. Chains are listed without their rules.
    listed = _listed("chains")
    places = dict.fromkeys(
        (chain["family"], chain["table"])
        for chain in (entry.get("chain") or {} for entry in listed)
        if _is_called(chain)
        and any(family in families for family in _KINDS[chain["family"]])
        and (chain["family"], chain["table"]) != ("inet", own)
        and not (chain["family"] in ("bridge", "netdev") and _FILTERS.match(chain["table"]))
    )
    entries = [entry for place in places for entry in _listed("table", *place)]
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    unsaid = any(chain.get("hook") in _OF_DEVICES and "dev" not in chain for chain in chains)
    return read_nftables({"nftables": entries}, _devices() if unsaid else {})


def _devices() -> Mapping[tuple[str, str, str], Sequence[str]]:
    """The interfaces of chains, which nft before 1.0.8 shows as text alone."""
    return read_devices(run(["nft", "list", "chains"], timeout=TIMEOUT).stdout)


def read_devices(listed: str) -> Mapping[tuple[str, str, str], Sequence[str]]:
    """By family, table and chain."""
    found: dict[tuple[str, str, str], Sequence[str]] = {}
    family = table = chain = ""
    for match in _CHAIN.finditer(listed):
        family, table = match["family"] or family, match["table"] or table
        chain = match["chain"] or chain
        names = match["several"] or match["one"]
        if names:
            found[family, table, chain] = [name.strip().strip('"') for name in names.split(",")]
    return found


def _is_called(chain: Mapping[str, Any]) -> bool:
    """Whether the kernel calls this chain for what it forwards, and the chain may drop it: those of NAT don't."""
    family, hook = chain.get("family"), chain.get("hook")
    if hook in _OF_DEVICES:
        called = family in _WITH_DEVICES
    else:
        called = hook in _HOOKS.values() and family in _KINDS and family != "netdev"
    return called and chain.get("type", "filter") == "filter"


def _listed(*what: str) -> Sequence[Mapping[str, Any]]:
    """What nft lists; nothing of a table that has gone in the meantime."""
    # Terse: elements of named sets may be hundreds of thousands, and are left out.
    done = run(["nft", "-j", "-t", "list", *what], timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        if len(what) > 1 and "No such file or directory" in done.stderr:
            return ()
        raise failure(done)
    entries: Sequence[Mapping[str, Any]] = json.loads(done.stdout or "{}").get("nftables", ())
    return entries


def read_nftables(
    listed: Mapping[str, Any], devices: Mapping[tuple[str, str, str], Sequence[str]] | None = None
) -> list[Table]:
    """Out of what `nft --json list` prints of a ruleset or of some of its tables. devices: of chains of which it does
    not print them, by family, table and chain."""
    tables: dict[tuple[str, str], Table] = {}
    for entry in listed.get("nftables", ()):
        kind, thing = next(iter(entry.items()))
        if kind not in ("chain", "rule") or thing.get("family") not in _KINDS:
            continue
        place = (thing["family"], thing["table"])
        table = tables.setdefault(place, Table(" ".join(place), "nft"))
        if kind == "chain":
            table.chains.setdefault(thing["name"], [])
            if _is_called(thing):
                table.bases[thing["name"]] = thing.get("policy", "accept")
                table.hooks[thing["name"]] = thing["hook"]
                if thing["hook"] in _OF_DEVICES:
                    named = thing.get("dev", (devices or {}).get((*place, thing["name"]), ()))
                    table.devices[thing["name"]] = [named] if isinstance(named, str) else [*named]
                elif thing.get("prio", 0) < _CONNTRACK:
                    table.early.add(thing["name"])
        else:
            table.chains.setdefault(thing["chain"], []).extend(_nft_rules(thing))
    return [table for table in tables.values() if table.bases]


def _is_of_iptables(table: Table, family: int) -> bool:
    if not table.name.startswith("ip " if family == 4 else "ip6 "):
        return False
    opaque = any(rule.text == _OPAQUE for rules in table.chains.values() for rule in rules)
    return opaque or (table.name.partition(" ")[2] in _OF_IPTABLES and not _HOOKS.keys().isdisjoint(table.bases))


def _nft_rules(thing: Mapping[str, Any]) -> list[Rule]:
    """One of nftables' rules as one of ours, or one for each element of its verdict map."""
    conditions: list[Condition] = []
    handle = int(thing.get("handle", 0))
    text = ""
    for expression in thing.get("expr", ()):
        kind, value = _only(expression)
        if kind == "match":
            conditions.append(_nft_match(value))
        elif kind == "vmap":
            elements = _nft_elements(value["key"], value["data"])
            conditions.append(_needs(value["key"]))
            return [Rule((*conditions, condition), *verdict, handle=handle) for condition, verdict in elements]
        elif kind in ("accept", "drop", "return"):
            return [Rule(tuple(conditions), kind, text=text, handle=handle)]
        elif kind == "reject":
            return [Rule(tuple(conditions), "drop", text=text, handle=handle)]
        elif kind in ("jump", "goto"):
            return [Rule(tuple(conditions), kind, value["target"], text=text, handle=handle)]
        elif kind == "queue":
            return [Rule(tuple(conditions), "maybe", text=text, handle=handle)]
        elif kind == _OPAQUE:
            text = _OPAQUE
            conditions.append(_some)
        elif kind in ("limit", "quota", "ct count"):
            conditions.append(_some)
    # It decides nothing; but that nothing was said of it has to be known.
    return [Rule((_never,), "return", text=text, handle=handle)] if text else []


def _only(expression: Any) -> tuple[str, Any]:
    """The kind of an expression or statement, and what belongs to it."""
    return next(iter(expression.items())) if isinstance(expression, dict) and expression else (str(expression), None)


def _nft_elements(left: Any, data: Any) -> list[tuple[Condition, tuple[str, str]]]:
    """What each element of a verdict map matches, and its verdict."""
    if not isinstance(data, dict) or "set" not in data:
        return [(_some, ("maybe", ""))]  # a named map, whose elements were not listed
    keys = [_element(key) for key, _verdict in data["set"]]
    named = {index: _nft_compared(left, key) for index, key in enumerate(keys) if key != _REST}
    elements = []
    for index, (_key, verdict) in enumerate(data["set"]):
        kind, value = next(iter(verdict.items()))
        known = kind in ("accept", "drop", "return", "jump", "goto")
        if kind != "continue":
            target = value["target"] if isinstance(value, dict) else ""
            condition = named.get(index) or _not(_any(list(named.values())))
            elements.append((condition, (kind if known else "maybe", target)))
    return elements


def _nft_match(value: Mapping[str, Any]) -> Condition:
    op, left, right = value.get("op", "=="), value.get("left"), value.get("right")
    condition = _nft_compared(left, right) if op in ("==", "!=", "in") else _some
    # What has no such field is not another value of it: the rule ends there.
    return _every([_needs(left), _not(condition) if op == "!=" else condition])


def _needs(left: Any) -> Condition:
    """What a packet has to be for that to be in it."""
    kind, what = _only(left)
    if kind == "concat" and isinstance(what, list):
        return _every([_needs(part) for part in what])
    if kind in ("&", "|", "^", "<<", ">>") and isinstance(what, list) and what:
        return _needs(what[0])
    if kind == "tcp option":
        return _speaks(TCP)
    key = _key_of(left)
    of = key.partition(" ")[0]
    if of in _NUMBERS:
        return _speaks(of)
    if of in _OTHERS:
        return _never
    if of in ("l4proto", "th"):
        return lambda packets: NONE if packets.family == ARP else ALL
    return _of_family({"ip": 4, "ip6": 6, "arp": ARP}.get(of), _constant(ALL))


def _nft_compared(left: Any, right: Any) -> Condition:
    if not isinstance(left, dict):
        return _some
    kind, what = next(iter(left.items()))
    if kind == "concat" and isinstance(right, dict) and "concat" in right:
        return _every([_nft_compared(part, value) for part, value in zip(what, right["concat"])])
    if kind == "&" and isinstance(what, list) and isinstance(right, int):
        # Masked marks: what nobody marked is 0 under every mask.
        return _marked(right) if _key_of(what[0]) == "mark" else _some
    if isinstance(right, dict) and "set" in right:
        return _any([_nft_compared(left, _element(each)) for each in right["set"]])
    if isinstance(right, list):
        return _any([_nft_compared(left, each) for each in right])
    right = _element(right)
    if isinstance(right, str) and right.startswith("@"):
        return _some
    key = _key_of(left)
    if key in ("iifname", "oifname", "iif", "oif", "ibrname", "obrname"):
        return _interface(key, str(right))
    if right == _REST:
        return _constant(ALL)
    if key == "state":
        return _state([str(right)])
    if key == "status":
        return _constant(NONE if right == "dnat" else SOME)
    if key == "mark":
        return _marked(right)
    if key in ("l4proto", "ip protocol"):
        return _speaks(_NAMES.get(str(right), str(right)))
    if key == "ip6 nexthdr":
        # Another header may be before it.
        return _every([_some, _speaks(_NAMES.get(str(right), str(right)))])
    if key == "nfproto":
        return _either(str(right) in ("ipv4", "2"), str(right) in ("ipv6", "10"))
    if key in ("protocol", "ether type"):
        of_arp = str(right) in ("arp", "1544", "2054")
        return _either(str(right) in ("ip", "8", "2048"), str(right) in ("ip6", "56710", "34525"), of_arp)
    if key in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"):
        return _address(key.partition(" ")[2][0], _networks(right))
    if key in ("icmp type", "icmpv6 type"):
        return _type(*_span(_TYPES[key.partition(" ")[0]], right))
    return _needs(left) if key in ("icmp code", "icmpv6 code") and right == 0 else _every([_needs(left), _some])


def _span(names: Mapping[str, int], value: Any) -> tuple[int, int] | tuple[()]:
    """The first and last of these types; () if it can't be told."""
    ends = value["range"] if isinstance(value, dict) and "range" in value else [value, value]
    numbers = [names.get(str(end), end) for end in ends]
    return (numbers[0], numbers[1]) if all(isinstance(each, int) for each in numbers) else ()


def _key_of(left: Any) -> str:
    kind, what = next(iter(left.items())) if isinstance(left, dict) else ("", {})
    if kind == "payload" and isinstance(what, dict) and "field" in what:
        return f"{what['protocol']} {what['field']}"
    return str(what.get("key", "")) if kind in ("meta", "ct") and isinstance(what, dict) else ""


def _element(value: Any) -> Any:
    return value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value


def _networks(value: Any) -> list[_Network] | None:
    """None: it can't be told."""
    try:
        if isinstance(value, dict) and "prefix" in value:
            return [ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}", strict=False)]
        if isinstance(value, dict) and "range" in value:
            first, last = (ip_address(end) for end in value["range"])
            whole: list[_Network] = [*summarize_address_range(first, last)]
            return whole
        return [ip_network(str(value), strict=False)]
    except (ValueError, KeyError, TypeError):
        return None


# -- iptables --------------------------------------------------------------------------------------------------------
def _of_iptables(tool: str) -> list[Table]:
    family = {"iptables-nft": "ip ", "ip6tables-nft": "ip6 "}.get(tool, "")
    try:
        return read_iptables(run([f"{tool}-save"], timeout=TIMEOUT).stdout, tool, family)
    except (MissingDependency, CommandFailed):
        return []


def read_iptables(saved: str, tool: str, family: str = "") -> list[Table]:
    """Out of what iptables-save prints."""
    tables: list[Table] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            tables.append(Table(family + line[1:], tool))
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            tables[-1].chains.setdefault(name, [])
            if name in _HOOKS and tables[-1].name.rpartition(" ")[2] != "nat":
                tables[-1].bases[name] = policy.lower()
                tables[-1].hooks[name] = _HOOKS[name]
                if name == "PREROUTING" and tables[-1].name.rpartition(" ")[2] == "raw":
                    tables[-1].early.add(name)
        elif line.startswith("-A "):
            words = shlex.split(line)
            tables[-1].chains.setdefault(words[1], []).append(_iptables_rule(words[2:], line))
    return [table for table in tables if table.bases]


_VERDICTS = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "drop",
    "RETURN": "return",
    "QUEUE": "maybe",
    "NFQUEUE": "maybe",
}
# Targets that do something to a packet, or say something of it, and let it go on.
_PASSING = (
    "AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "CT", "DSCP", "HL", "HMARK", "IDLETIMER", "LED", "LOG",
    "MARK", "NFLOG", "NOTRACK", "RATEEST", "SECMARK", "SET", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL",
    "ULOG",
)  # fmt: skip


# Options whose value may be any text, also one that looks like an option.
_TEXTS = (
    "-i", "-o", "-j", "-g", "-m", "--bytecode", "--comment", "--helper", "--hex-string", "--match-set", "--name",
    "--path", "--string",
)  # fmt: skip


def _iptables_rule(words: Sequence[str], line: str) -> Rule:
    conditions: list[Condition] = []
    verdict, target = "return", ""
    for negated, name, values in _options(words):
        if name in ("-j", "--jump", "-g", "--goto"):
            target = values[0] if values else ""
            passing = target in _PASSING
            verdict = _VERDICTS.get(target, "goto" if name in ("-g", "--goto") else "jump")
            if passing:
                conditions.append(_never)
            break
        condition = _iptables_condition(name, values)
        if condition is not None:
            conditions.append(_not(condition) if negated else condition)
    else:
        conditions.append(_never)  # a rule that only counts
    return Rule(tuple(conditions), verdict, target, line)


def _options(words: Sequence[str]) -> list[tuple[bool, str, list[str]]]:
    """Each option with its values, and whether a ! stands before it."""
    found: list[tuple[bool, str, list[str]]] = []
    negated = False
    for word in words:
        values = found[-1][2] if found else None
        if values is not None and not values and found[-1][1] in _TEXTS:
            values.append(word)
        elif word == "!":
            negated = True
        elif word.startswith("-") and not word[1:2].isdigit():
            found.append((negated, word, []))
            negated = False
        elif values is not None:
            values.append(word)
    return found


def _iptables_condition(name: str, values: Sequence[str]) -> Condition | None:
    """None: it is no condition."""
    value = values[0] if values else ""
    if name in ("-m", "--match", "--comment"):
        return None
    if name in ("-i", "-o"):
        return _interface("iifname" if name == "-i" else "oifname", value[:-1] + "*" if value.endswith("+") else value)
    if name in ("-s", "-d"):
        return _address(name[1], _networks(value))
    if name == "-p":
        return _constant(ALL) if value in ("all", "0") else _speaks(_NAMES.get(value, value))
    if name in ("--icmp-type", "--icmpv6-type"):
        number, _slash, code = value.partition("/")
        if not number.isdigit():
            return _constant(ALL) if number == "any" else _some
        return _type(int(number), int(number)) if code in ("", "0") else _never
    if name in ("--ctstate", "--state"):
        return _state(value.lower().split(","))
    if name == "--ctstatus":
        return _constant(NONE if value == "DNAT" else SOME)
    if name == "--mark":
        return _marked(int(value.partition("/")[0], 0))
    if name == "--physdev-is-bridged":
        return lambda packets: ALL if packets.bridge else NONE
    return _some


# -- conditions ------------------------------------------------------------------------------------------------------
def _some(_packets: Packets) -> int:
    return SOME


def _never(_packets: Packets) -> int:
    return NONE


def _constant(value: int) -> Condition:
    return lambda _packets: value


def _not(condition: Condition) -> Condition:
    return lambda packets: ALL - condition(packets)


def _every(conditions: Sequence[Condition]) -> Condition:
    return lambda packets: min((condition(packets) for condition in conditions), default=ALL)


def _any(conditions: Sequence[Condition]) -> Condition:
    return lambda packets: max((condition(packets) for condition in conditions), default=NONE)


def _interface(key: str, wanted: str) -> Condition:
    def condition(packets: Packets) -> int:
        if key in ("ibrname", "obrname"):
            return ALL if packets.bridge and _fits(packets.bridge, wanted) else NONE
        name = packets.iif if key.startswith("iif") else packets.oif
        if name:
            return ALL if _fits(name, wanted) else NONE
        if wanted == "*":
            return ALL
        return NONE if wanted == packets.other else SOME

    return condition


def _fits(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def _state(wanted: Sequence[str]) -> Condition:
    return lambda packets: (ALL if packets.state in wanted else NONE) if packets.state else SOME


def _marked(value: Any) -> Condition:
    """Whether what nobody marked has this mark."""
    return _constant(ALL if value in (0, "0", "0x0", "0x00000000") else NONE)


def _of_family(family: int | None, condition: Condition) -> Condition:
    """What only packets of this family can match; None: of any."""
    return lambda packets: condition(packets) if family in (None, packets.family) else NONE


def _either(four: bool, six: bool, arp: bool = False) -> Condition:
    return lambda packets: ALL if {4: four, 6: six, ARP: arp}[packets.family] else NONE


def _speaks(protocol: str) -> Condition:
    return lambda packets: ALL if packets.protocol == protocol else NONE


def _type(first: int | None = None, last: int | None = None) -> Condition:
    """Whether a message of ICMP has a type from first to last; without them, it may have."""
    if first is None or last is None:
        return lambda packets: SOME if packets.icmp >= 0 else NONE
    return lambda packets: ALL if first <= packets.icmp <= last else NONE


def _address(side: str, wanted: Sequence[_Network] | None) -> Condition:
    def condition(packets: Packets) -> int:
        own = packets.source if side == "s" else packets.destination
        if wanted is None:
            return SOME
        if any(each.version != packets.family for each in wanted):
            return NONE
        if own is None:
            inside = packets.source or packets.destination
            if isinstance(inside, IPv4Network) and all(each.subnet_of(inside) for each in _of_ipv4(wanted)):
                return NONE  # it is the side that is beyond the network
            return ALL if any(each.prefixlen == 0 for each in wanted) else SOME
        if any(_within(own, each) for each in wanted):
            return ALL
        return SOME if any(own.overlaps(each) for each in wanted) else NONE

    return condition


def _within(inner: _Network, outer: _Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _of_ipv4(networks: Sequence[_Network]) -> list[IPv4Network]:
    return [each for each in networks if isinstance(each, IPv4Network)]


def _shown(table: Table, chain: str, rule: Rule) -> str:
    """The rule as its own tool writes it."""
    if table.tool != "nft":
        return rule.text
    family, name = table.name.split(" ", 1)
    listed = run(["nft", "-a", "list", "chain", family, name, chain], timeout=TIMEOUT, check=False).stdout
    for line in listed.splitlines():
        text, _hash, handle = line.strip().rpartition(" # handle ")
        if handle == str(rule.handle):
            return re.sub(r"counter packets \d+ bytes \d+", "counter", text)
    return f"handle {rule.handle}"
