# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the rules that a host's firewalls have for what it forwards: nftables' by JSON, and iptables' as iptables-save
prints them, since nft shows matches of its extensions without what they say, and nothing of its older interface."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Any

from ..errors import CommandFailed, MissingDependency
from ..host.command import failure_of, run
from .host_firewall_rules import (
    AFTER,
    ALL,
    ARP,
    BEFORE,
    FORWARD,
    ICMP,
    ICMPV6,
    NAMES,
    NONE,
    NUMBERS,
    OF_DEVICES,
    SOME,
    TCP,
    Condition,
    Net,
    Rule,
    Table,
    address,
    any_of,
    constant,
    every,
    has_mark,
    has_protocol,
    interface,
    matches_none,
    matches_some,
    of_families,
    of_family,
    of_type,
    state_in,
    unlike,
)

TIMEOUT = 60.0
# Only there once something has used iptables' older kernel interface, in this network namespace. Asking iptables-legacy
# before would make its tables.
LEGACY_TABLES = Path("/proc/net/ip_tables_names")
LEGACY_TABLES6 = Path("/proc/net/ip6_tables_names")


# -- what is there ---------------------------------------------------------------------------------------------------
def observe(own: str, families: Collection[int] = (4, 6)) -> list[Table]:
    """Return all tables with rules for forwarded packets of these families, without the catalog's own, whose name is
    own, and filters of machines' NICs, whose name says whose they are."""
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


# -- nftables --------------------------------------------------------------------------------------------------------
_KINDS = {"ip": (4,), "ip6": (6,), "inet": (4, 6), "bridge": (4, 6), "netdev": (4, 6)}
# Whose chains may be called for what comes in by an interface and leaves by it.
_WITH_DEVICES = ("netdev", "inet")
_CHAIN = re.compile(
    r"^table (?P<family>\S+) (?P<table>\S+) \{|^\tchain (?P<chain>\S+) \{|"
    r"^\t\ttype \S+ hook \S+ devices? (?:= \{(?P<several>[^}]*)\}|(?P<one>\S+))",
    re.MULTILINE,
)
_HOOKS = {"FORWARD": FORWARD, "PREROUTING": BEFORE, "POSTROUTING": AFTER}
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
# Whose answers ICMP is.
_FAMILIES = {ICMP: 4, ICMPV6: 6}
# Statements about a field of a packet, and where they name it.
_OF_A_FIELD = {"set": "elem", "map": "elem", "mangle": "key"}
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
    unsaid = any(chain.get("hook") in OF_DEVICES and "dev" not in chain for chain in chains)
    return read_nftables({"nftables": entries}, _devices() if unsaid else {})


def _devices() -> Mapping[tuple[str, str, str], Sequence[str]]:
    """Return the interfaces of chains, which nft (1.0.6) does not show as JSON."""
    return read_devices(run(["nft", "list", "chains"], timeout=TIMEOUT).stdout)


def read_devices(listed: str) -> Mapping[tuple[str, str, str], Sequence[str]]:
    """Return the interfaces of chains by family, table and chain."""
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
    """Return whether the kernel calls this chain for what it forwards, and the chain may drop it, as NAT's don't."""
    family, hook = chain.get("family"), chain.get("hook")
    if hook in OF_DEVICES:
        called = family in _WITH_DEVICES
    else:
        called = hook in _HOOKS.values() and family in _KINDS and family != "netdev"
    return called and chain.get("type", "filter") == "filter"


def _listed(*what: str) -> Sequence[Mapping[str, Any]]:
    """Return what nft lists; nothing of a table that has gone in the meantime."""
    # Terse: elements of named sets may be hundreds of thousands, and are left out.
    done = run(["nft", "-j", "-t", "list", *what], timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        if len(what) > 1 and "No such file or directory" in done.stderr:
            return ()
        raise failure_of(done)
    entries: Sequence[Mapping[str, Any]] = json.loads(done.stdout or "{}").get("nftables", ())
    return entries


def read_nftables(
    listed: Mapping[str, Any], devices: Mapping[tuple[str, str, str], Sequence[str]] | None = None
) -> list[Table]:
    """Return the tables that `nft --json list` prints of a ruleset or of some tables. devices: the interfaces of
    chains where it does not print them, by family, table and chain."""
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
                if thing["hook"] in OF_DEVICES:
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
    """Return one of nftables' rules as one of ours, or as one for each element of its verdict map."""
    conditions: list[Condition] = []
    handle = int(thing.get("handle", 0))
    text = ""
    for expression in thing.get("expr", ()):
        kind, value = _kind_and_value(expression)
        if kind == "match":
            conditions.append(_nft_match(value))
        elif kind == "vmap":
            elements = _nft_elements(value["key"], value["data"])
            conditions.append(_has_field(value["key"]))
            return [Rule((*conditions, condition), *verdict, handle=handle) for condition, verdict in elements]
        elif kind in ("accept", "drop", "return"):
            return [Rule(tuple(conditions), kind, text=text, handle=handle)]
        elif kind == "reject":
            conditions.append(_reject_condition(value, thing["family"]))
            return [Rule(tuple(conditions), "drop", text=text, handle=handle)]
        elif kind in ("jump", "goto"):
            return [Rule(tuple(conditions), kind, value["target"], text=text, handle=handle)]
        elif kind == "queue":
            return [Rule(tuple(conditions), "maybe", text=text, handle=handle)]
        elif kind == _OPAQUE:
            text = _OPAQUE
            conditions.append(matches_some)
        elif kind in ("limit", "quota", "ct count"):
            conditions.append(matches_some)
        elif kind in _OF_A_FIELD and isinstance(value, dict):
            # It ends the rule for packets that have no such field, and nft leaves out that the rule asks for their
            # family.
            conditions.append(_has_field(_element(value.get(_OF_A_FIELD[kind]))))
    # It decides nothing; but that nothing was said of it has to be known.
    return [Rule((matches_none,), "return", text=text, handle=handle)] if text else []


def _reject_condition(how: Any, family: str) -> Condition:
    """Return which packets a reject of a table of this family may be for. nft leaves out that a rule asks for their
    family where the answer tells it; and also where it does not, as with TCP's."""
    kind = how.get("type") if isinstance(how, dict) else None
    if kind in _FAMILIES:
        return of_family(_FAMILIES[kind], constant(ALL))
    if kind == "tcp reset":
        return every([has_protocol(TCP), matches_some]) if len(_KINDS.get(family, ())) > 1 else has_protocol(TCP)
    return constant(ALL)


def _kind_and_value(expression: Any) -> tuple[str, Any]:
    """Return the kind of an expression or statement, and what belongs to it."""
    return next(iter(expression.items())) if isinstance(expression, dict) and expression else (str(expression), None)


def _nft_elements(left: Any, data: Any) -> list[tuple[Condition, tuple[str, str]]]:
    """Return what each element of a verdict map matches, and its verdict."""
    if not isinstance(data, dict) or "set" not in data:
        return [(matches_some, ("maybe", ""))]  # a named map, whose elements were not listed
    keys = [_element(key) for key, _verdict in data["set"]]
    named = {index: _nft_compared(left, key) for index, key in enumerate(keys) if key != _REST}
    elements = []
    for index, (_key, verdict) in enumerate(data["set"]):
        kind, value = next(iter(verdict.items()))
        known = kind in ("accept", "drop", "return", "jump", "goto")
        if kind != "continue":
            target = value["target"] if isinstance(value, dict) else ""
            condition = named.get(index) or unlike(any_of(list(named.values())))
            elements.append((condition, (kind if known else "maybe", target)))
    return elements


def _nft_match(value: Mapping[str, Any]) -> Condition:
    op, left, right = value.get("op", "=="), value.get("left"), value.get("right")
    condition = _nft_compared(left, right) if op in ("==", "!=", "in") else matches_some
    # What has no such field is not another value of it: the rule ends there.
    return every([_has_field(left), unlike(condition) if op == "!=" else condition])


def _has_field(left: Any) -> Condition:
    """Return the condition that a packet has this field at all."""
    kind, what = _kind_and_value(left)
    if kind == "concat" and isinstance(what, list):
        return every([_has_field(part) for part in what])
    if kind in ("&", "|", "^", "<<", ">>") and isinstance(what, list) and what:
        return _has_field(what[0])
    if kind == "tcp option":
        return has_protocol(TCP)
    if kind in ("exthdr", "ip option"):
        return of_family(4 if kind == "ip option" else 6, constant(ALL))
    if kind in ("ct", "rt") and isinstance(what, dict):
        # As `ct original ip6 saddr` and `rt ip6 nexthop`.
        family = what.get("family") or str(what.get("key", "")).partition(" ")[0]
        return of_family({"ip": 4, "ip6": 6}.get(family), constant(ALL))
    key = _key_of(left)
    of = key.partition(" ")[0]
    if of in NUMBERS:
        return has_protocol(of)
    if of in _OTHERS:
        return matches_none
    if of in ("l4proto", "th"):
        return lambda packets: NONE if packets.family == ARP else ALL
    return of_family({"ip": 4, "ip6": 6, "arp": ARP}.get(of), constant(ALL))


def _nft_compared(left: Any, right: Any) -> Condition:
    if not isinstance(left, dict):
        return matches_some
    kind, what = next(iter(left.items()))
    if kind == "concat" and isinstance(right, dict) and "concat" in right:
        return every([_nft_compared(part, value) for part, value in zip(what, right["concat"])])
    if kind == "&" and isinstance(what, list) and isinstance(right, int):
        # Masked marks: what nobody marked is 0 under every mask.
        return has_mark(right) if _key_of(what[0]) == "mark" else matches_some
    if isinstance(right, dict) and "set" in right:
        return any_of([_nft_compared(left, _element(each)) for each in right["set"]])
    if isinstance(right, list):
        return any_of([_nft_compared(left, each) for each in right])
    right = _element(right)
    if isinstance(right, str) and right.startswith("@"):
        return matches_some
    key = _key_of(left)
    if key in ("iifname", "oifname", "iif", "oif", "ibrname", "obrname"):
        return interface(key, str(right))
    if right == _REST:
        return constant(ALL)
    if key == "state":
        return state_in([str(right)])
    if key == "status":
        return constant(NONE if right == "dnat" else SOME)
    if key == "mark":
        return has_mark(right)
    if key in ("l4proto", "ip protocol"):
        return has_protocol(NAMES.get(str(right), str(right)))
    if key == "ip6 nexthdr":
        # Another header may be before it.
        return every([matches_some, has_protocol(NAMES.get(str(right), str(right)))])
    if key == "nfproto":
        return of_families(str(right) in ("ipv4", "2"), str(right) in ("ipv6", "10"))
    if key in ("protocol", "ether type"):
        of_arp = str(right) in ("arp", "1544", "2054")
        return of_families(str(right) in ("ip", "8", "2048"), str(right) in ("ip6", "56710", "34525"), of_arp)
    if key in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"):
        return address(key.partition(" ")[2][0], _networks(right))
    if key in ("icmp type", "icmpv6 type"):
        return of_type(*_span(_TYPES[key.partition(" ")[0]], right))
    return (
        _has_field(left)
        if key in ("icmp code", "icmpv6 code") and right == 0
        else every([_has_field(left), matches_some])
    )


def _span(names: Mapping[str, int], value: Any) -> tuple[int, int] | tuple[()]:
    """Return the first and last of these types; () if it can't be told."""
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


def _networks(value: Any) -> list[Net] | None:
    """Return the networks of an address, a prefix or a range; None if it can't be told."""
    try:
        if isinstance(value, dict) and "prefix" in value:
            return [ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}", strict=False)]
        if isinstance(value, dict) and "range" in value:
            first, last = (ip_address(end) for end in value["range"])
            whole: list[Net] = [*summarize_address_range(first, last)]
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
                conditions.append(matches_none)
            break
        condition = _iptables_condition(name, values)
        if condition is not None:
            conditions.append(unlike(condition) if negated else condition)
    else:
        conditions.append(matches_none)  # a rule that only counts
    return Rule(tuple(conditions), verdict, target, line)


def _options(words: Sequence[str]) -> list[tuple[bool, str, list[str]]]:
    """Return each option with its values, and whether a ! stands before it."""
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
    """Return the condition of an option of iptables, None for an option that is no condition."""
    value = values[0] if values else ""
    if name in ("-m", "--match", "--comment"):
        return None
    if name in ("-i", "-o"):
        return interface("iifname" if name == "-i" else "oifname", value[:-1] + "*" if value.endswith("+") else value)
    if name in ("-s", "-d"):
        return address(name[1], _networks(value))
    if name == "-p":
        return constant(ALL) if value in ("all", "0") else has_protocol(NAMES.get(value, value))
    if name in ("--icmp-type", "--icmpv6-type"):
        number, _slash, code = value.partition("/")
        if not number.isdigit():
            return constant(ALL) if number == "any" else matches_some
        return of_type(int(number), int(number)) if code in ("", "0") else matches_none
    if name in ("--ctstate", "--state"):
        return state_in(value.lower().split(","))
    if name == "--ctstatus":
        return constant(NONE if value == "DNAT" else SOME)
    if name == "--mark":
        return has_mark(int(value.partition("/")[0], 0))
    if name == "--physdev-is-bridged":
        return lambda packets: ALL if packets.bridge else NONE
    return matches_some
