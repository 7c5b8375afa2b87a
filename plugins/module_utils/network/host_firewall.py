# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host's firewalls do to the packets of a network: told by their rules, which are read and never changed.

A rule is followed for a kind of packets, such as all that open a TCP connection from the network to anywhere outside.
It matches all of them, none, or some: where they go to is not known, and what can't be understood counts as some.
Traffic is blocked when none of it gets through; a firewall that lets some of it through was made to do just that.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from pathlib import Path
from typing import Any

from ..dataclass import dataclass
from ..errors import CommandFailed, MissingDependency, TrafficBlocked
from ..host.command import failure, run

TIMEOUT = 60.0
# Only there once something has used iptables' older kernel interface, in this network namespace. Asking iptables-legacy
# before would make its tables.
LEGACY_TABLES = Path("/proc/net/ip_tables_names")
# Whether the kernel passes what a bridge forwards to iptables as if it were routed.
BRIDGED_TOO = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
NONE, SOME, ALL = 0, 1, 2
DEPTH = 32
_TCP = ("tcp", "6")


@dataclass(frozen=True)
class Packets:
    """A kind of TCP packets. iif, oif: interfaces, "" where it may be any but `other`. source, destination: None where
    they may be anything. bridge: over which they are bridged, "" for those that are routed. state: conntrack's."""

    what: str
    iif: str
    oif: str
    other: str
    state: str
    source: IPv4Network | None = None
    destination: IPv4Network | None = None
    bridge: str = ""


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
    """name: with its family for nftables, as in `inet filter`. tool: nft, iptables-nft or iptables-legacy. bases: the
    chains that the kernel calls for forwarded packets, with their policies."""

    name: str
    tool: str
    chains: dict[str, list[Rule]] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)

    @property
    def of_bridges(self) -> bool:
        return self.name.startswith("bridge ")


@dataclass(frozen=True)
class Drop:
    """What keeps a kind of packets from getting through. rule: "" where it is the base chain's policy."""

    packets: Packets
    table: Table
    base: str
    chain: str
    rule: Rule | None

    @property
    def place(self) -> str:
        place = f"{self.table.tool} table {self.table.name}, chain {self.chain}, "
        return place + ("policy drop" if self.rule is None else f"rule `{_shown(self.table, self.chain, self.rule)}`")


def routed(bridge: str, whole: IPv4Network, uplink: str) -> list[Packets]:
    """What a network with NAT needs: connections to outside, and their answers. uplink: "" if it may be any."""
    return [
        Packets(f"what machines of {bridge} send", bridge, uplink, bridge, "new", source=whole),
        Packets(f"what machines of {bridge} send", bridge, uplink, bridge, "established", source=whole),
        Packets(f"answers to machines of {bridge}", uplink, bridge, bridge, "established", destination=whole),
    ]


def bridged(bridge: str, whole: IPv4Network | None) -> list[Packets]:
    """What machines of one network send each other."""
    what = f"what machines of {bridge} send each other"
    return [Packets(what, bridge, bridge, "", "new", source=whole, destination=whole, bridge=bridge)]


# -- what is there ---------------------------------------------------------------------------------------------------
def observe(own: str) -> list[Table]:
    """All tables with rules for forwarded packets, but `inet <own>`."""
    tables = [table for table in _of_nftables() if table.name != f"inet {own}"]
    if any(_is_of_iptables(table) for table in tables):
        # nft shows matches of iptables' own extensions without what they say; and whoever made it does not want it
        # changed by nft.
        with_words = _of_iptables("iptables-nft")
        known = {table.name for table in with_words}
        tables = [table for table in tables if table.name not in known] + with_words
    try:
        legacy = LEGACY_TABLES.read_text(encoding="ascii").split()
    except OSError:
        legacy = []
    return tables + (_of_iptables("iptables-legacy") if legacy else [])


def drops(tables: Iterable[Table], kinds: Iterable[Packets], bridges_too: bool | None = None) -> list[Drop]:
    """Where packets of these kinds are dropped. bridges_too: whether rules for routed packets see bridged ones; None:
    as this host says."""
    if bridges_too is None:
        bridges_too = sees_bridged()
    found = []
    for packets in kinds:
        for table in tables:
            if packets.bridge and not (table.of_bridges or bridges_too):
                continue
            if table.of_bridges and not packets.bridge:
                continue
            # What a bridge forwards comes and goes by its ports: their names are not known before machines start.
            seen = replace(packets, iif="", oif="", other=packets.bridge) if table.of_bridges else packets
            for base, policy in table.bases.items():
                drop = _blocked(table, base, policy, seen)
                if drop is not None:
                    found.append(drop)
    return found


def refuse(network: str, found: Sequence[Drop]) -> None:
    """Raise TrafficBlocked for the first of these drops of each chain, with the commands that would let it through."""
    if found:
        asked, places_that_drop, remedy = explained(network, found)
        raise TrafficBlocked(asked, places_that_drop, remedy)


def explained(network: str, found: Sequence[Drop]) -> tuple[str, str, str]:
    places: dict[str, list[str]] = {}
    for drop in found:
        places.setdefault(drop.place, []).append(drop.packets.what)
    places_that_drop = "; ".join(
        f"{place}, which drops {', '.join(dict.fromkeys(what))}" for place, what in places.items()
    )
    commands = " && ".join(dict.fromkeys(command for drop in found for command in remedies(drop)))
    remedy = f"To let it through: {commands} (keep it by that firewall's own means). To go on without: "
    return (
        f"network {network}: forwarding",
        f"a firewall of the host is in the way: {places_that_drop}",
        remedy + "nebula_ignore_forward_drop: true",
    )


def remedies(drop: Drop) -> list[str]:
    """The commands of the firewall whose rule it is that let these packets through."""
    packets, table, bridge = drop.packets, drop.table, drop.packets.bridge or drop.packets.other
    if "ufw-user-forward" in table.chains:
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
        inside = f"-i {bridge}" if packets.bridge or _leaves(packets) else ""
        outside = "" if inside and not packets.bridge else f"-o {bridge}"
        state = "" if inside else "-m conntrack --ctstate RELATED,ESTABLISHED"
        return [" ".join(f"{table.tool}{of} -I {chain} {inside} {outside} {state} -j ACCEPT".split())]
    if table.of_bridges:
        return [f"nft insert rule {table.name} {drop.base} meta ibrname {bridge} accept"]
    match = (
        f"iifname {bridge}" if packets.bridge or _leaves(packets) else f"oifname {bridge} ct state established,related"
    )
    return [f"nft insert rule {table.name} {drop.base} {match} accept"]


def _leaves(packets: Packets) -> bool:
    return packets.iif == packets.other


def sees_bridged() -> bool:
    """Whether rules for routed packets see those that a bridge forwards."""
    try:
        return BRIDGED_TOO.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


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


def _walk(table: Table, chain: str, packets: Packets, depth: int) -> tuple[list[_Met], bool]:
    """The verdicts that packets meet in this chain, and whether any come out of it without one."""
    met: list[_Met] = []
    returned = False
    for rule in table.chains.get(chain, ()) if depth < DEPTH else ():
        hit = min((condition(packets) for condition in rule.conditions), default=ALL)
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
_KINDS = ("ip", "inet", "bridge")
_FORWARD = "forward"
_OPAQUE = "xt"
# An element for all that no other one is.
_REST = "*"
_OF_IPTABLES = ("ip filter", "ip mangle", "ip security")


def _of_nftables() -> list[Table]:
    # Most tables have nothing for forwarded packets, and some are large: those of filters of a thousand NICs, or of a
    # network's NAT. Chains are listed without their rules.
    listed = _listed("chains")
    places = dict.fromkeys(
        (chain["family"], chain["table"])
        for chain in (entry.get("chain") or {} for entry in listed)
        if chain.get("hook") == _FORWARD and chain["family"] in _KINDS
    )
    return read_nftables({"nftables": [entry for place in places for entry in _listed("table", *place)]})


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


def read_nftables(listed: Mapping[str, Any]) -> list[Table]:
    """Out of what `nft --json list` prints of a ruleset or of some of its tables."""
    tables: dict[tuple[str, str], Table] = {}
    for entry in listed.get("nftables", ()):
        kind, thing = next(iter(entry.items()))
        if kind not in ("chain", "rule") or thing.get("family") not in _KINDS:
            continue
        place = (thing["family"], thing["table"])
        table = tables.setdefault(place, Table(" ".join(place), "nft"))
        if kind == "chain":
            table.chains.setdefault(thing["name"], [])
            if thing.get("hook") == _FORWARD:
                table.bases[thing["name"]] = thing.get("policy", "accept")
        else:
            table.chains.setdefault(thing["chain"], []).extend(_nft_rules(thing))
    return [table for table in tables.values() if table.bases]


def _is_of_iptables(table: Table) -> bool:
    opaque = any(rule.text == _OPAQUE for rules in table.chains.values() for rule in rules)
    return opaque or (table.name in _OF_IPTABLES and "FORWARD" in table.bases)


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
    op, right = value.get("op", "=="), value.get("right")
    if op not in ("==", "!=", "in"):
        return _some
    condition = _nft_compared(value.get("left"), right)
    return _not(condition) if op == "!=" else condition


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
        return _constant(ALL if str(right) in _TCP else NONE)
    if key == "nfproto":
        return _constant(ALL if str(right) in ("ipv4", "2") else NONE)
    if key in ("protocol", "ether type"):
        return _constant(ALL if str(right) in ("ip", "8", "2048") else NONE)
    if key in ("ip saddr", "ip daddr"):
        return _address(key[3], _networks(right))
    if key.startswith(("ip6 ", "icmp ", "icmpv6 ", "udp ", "arp ")):
        return _constant(NONE)
    return _some


def _key_of(left: Any) -> str:
    kind, what = next(iter(left.items())) if isinstance(left, dict) else ("", {})
    if kind == "payload" and isinstance(what, dict) and "field" in what:
        return f"{what['protocol']} {what['field']}"
    return str(what.get("key", "")) if kind in ("meta", "ct") and isinstance(what, dict) else ""


def _element(value: Any) -> Any:
    return value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value


def _networks(value: Any) -> list[IPv4Network] | None:
    """None: it can't be told."""
    try:
        if isinstance(value, dict) and "prefix" in value:
            return [IPv4Network(f"{value['prefix']['addr']}/{value['prefix']['len']}", strict=False)]
        if isinstance(value, dict) and "range" in value:
            return list(summarize_address_range(*(IPv4Address(end) for end in value["range"])))
        return [IPv4Network(str(value), strict=False)]
    except (ValueError, KeyError, TypeError):
        return None


# -- iptables --------------------------------------------------------------------------------------------------------
def _of_iptables(tool: str) -> list[Table]:
    family = "ip " if tool == "iptables-nft" else ""
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
            if name == "FORWARD":
                tables[-1].bases[name] = policy.lower()
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
        return _constant(ALL if value in (*_TCP, "all", "0") else NONE)
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
    return lambda packets: ALL if packets.state in wanted else NONE


def _marked(value: Any) -> Condition:
    """Whether what nobody marked has this mark."""
    return _constant(ALL if value in (0, "0", "0x0", "0x00000000") else NONE)


def _address(side: str, wanted: Sequence[IPv4Network] | None) -> Condition:
    def condition(packets: Packets) -> int:
        own = packets.source if side == "s" else packets.destination
        if wanted is None:
            return SOME
        if own is None:
            inside = packets.source or packets.destination
            if inside is not None and all(each.subnet_of(inside) for each in wanted):
                return NONE  # it is the side that is beyond the network
            return ALL if any(each.prefixlen == 0 for each in wanted) else SOME
        if any(own.subnet_of(each) for each in wanted):
            return ALL
        return SOME if any(own.overlaps(each) for each in wanted) else NONE

    return condition


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
