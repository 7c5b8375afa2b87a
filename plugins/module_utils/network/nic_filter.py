# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters what passes between machines and the bridges that they are attached to, by nftables: one table of family
bridge of ours per catalog, and no rule anywhere else.

The rules say what passes, and all else is dropped: ARP, IPv4 and IPv6 in Ethernet II as leases and security groups
have it, both ways, and the Ethernet types that a network names besides. A frame that no rule can read, such as one
with a VLAN tag or with LLC, would carry anything past all of them.

A NIC is known by the name of its interface on the node, which its definition gives it, so that its rules are there
before the interface is. All that it sends passes the hook prerouting with that name, and all that it gets the hook
postrouting, also what the node itself sends or gets by the bridge.

Answers are known by sets of this table, into which a packet that a rule lets through puts what its answer looks
like. The kernel's own connection tracking for bridges is not used: not every kernel has it, and it has one table
for all bridges, where machines of two networks with the same addresses would have each other's answers.

A node may have a thousand NICs. What is the same for all of them is in chains that they share, and the rules of a
security group are in one chain for all NICs that have these rules. A NIC's own rules name its addresses and its
sets, and need few sets: to find a set by its name, or a name for a set that has none, the kernel looks through all
sets of a table, and nft asks for the elements of each."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv6Address
from pathlib import Path

from ..dataclass import dataclass
from ..errors import ForeignObject, MissingDependency
from ..host.command import MIB, run
from ..model import ethertypes
from ..model.logical_network import ALL, ICMP, ICMPV6, INBOUND, IPSEC, TCP, UDP
from ..model.nic_filter_rules import Guard, GuardRule, family_of
from . import nat

FAMILY = "bridge"
TIMEOUT = 120.0
# A table of a thousand NICs is some 7 MiB long, as nft lists it.
LONGEST_LIST = 64 * MIB
INTERFACES = Path("/sys/class/net")
_MARK = "nebula"
_HOOKS = {"out": ("prerouting", "iifname"), "in": ("postrouting", "oifname")}
# Ethernet, IPv4, and the lengths of their addresses: of no other ARP do the rules say whom it is about.
_ARP = "0x000108000604"
_ARP_REVERSE = "0x0001080006040003"
_KNOWN = "ether type vmap { ip : return, arp : goto arp4, ip6 : goto six }"
# Neighbour discovery, from what asks for routers to redirections.
_DISCOVERY = "133-137"
# As many bytes of it, with no option or with one: its sender's own MAC address, or a number used once (RFC 7527).
_PLAIN = {"nd-router-solicit": 8, "nd-neighbor-solicit": 24, "nd-neighbor-advert": 24}
_OPTION = 8
# Chains of earlier forms that all NICs shared.
_FORMER = ("tagged",)
# Xen has a second interface of the same NIC for what QEMU emulates.
_EMULATED = "-emu"
_LONGEST = 15
# The interfaces that a rule of a hook leads to chains of their own.
_LED = re.compile(r'"([^"]+)" : goto')
# Answers: for how long the other side may be silent. TCP's keepalives come every two hours.
_NEW, _TCP, _OTHERS, _FRAGMENTS = "60s", "7440s", "120s", "30s"
# Without a size the kernel lets a set grow to 65535 entries. Given as one, it takes 2 MiB for each set from the start,
# which is 16 MiB for a NIC.
_GROWS = "flags dynamic,timeout"
_SIZE = re.compile(r"^\s*size 65535\n", re.MULTILINE)
_SYN = "tcp flags & (syn | fin | rst)"
# What tells a sender that its packet did not arrive. It belongs to a packet that was let through, or is ignored.
_ERRORS = {
    4: "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    6: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
}
# Without these a machine has no neighbours, and no IPv6 address. From machines, and to them.
_NEIGHBOURS = {
    "out": "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, 131, 132, 143 }",
    "in": "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, 130, 131, 132, 143 }",
}
_DHCP = {
    "out": ("udp sport 68 udp dport 67", "udp sport 546 udp dport 547"),
    "in": ("udp sport 67 udp dport 68", "udp sport 547 udp dport 546"),
}
_IP = {4: "ip", 6: "ip6"}
_PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "ipv6-icmp", IPSEC: "{ esp, ah }"}
_OF_FAMILY = {ICMP: 4, ICMPV6: 6}
# Those of one NIC. Tables of an earlier form have the last three.
_CHAINS = ("out", "in", "pass_out", "pass_in", "firewall")
# A chain of what security groups let through, a firewall in a context, or a network's Ethernet types: its name follows
# from its rules.
_LETTING = re.compile(r"(?:ethernet|passing_out|passing_in|firewall)_[0-9a-f]{12}\Z")
# Up to here addresses are compared one by one, which is quicker to load and to read than a set.
_FEW = 4
_COMMENT = re.compile(r' comment "([^"]*)"\Z')
# What belongs to one NIC ends with its numbers.
_OWNED = re.compile(r"_[0-9]+_[0-9]+\Z")
_OTHER_WAY = {"out": "in", "in": "out"}


def _key(family: int, ports: bool, answer: bool) -> str:
    """Return the key by which a set knows a packet: as it is, or as its answer will be."""
    ip = _IP[family]
    sides = ("daddr", "saddr") if answer else ("saddr", "daddr")
    terms = [f"{ip} {side}" for side in sides] + ["meta l4proto"]
    return " . ".join(terms + [f"th {'dport' if side == 'daddr' else 'sport'}" for side in sides if ports])


def _fragment(family: int) -> str:
    return f"{_IP[family]} saddr . {_IP[family]} daddr . {'ip id' if family == 4 else 'frag id'}"


def _is_later(family: int) -> str:
    """Return the match of a fragment that is not the first, and so says nothing of ports."""
    return "ip frag-off & 0x1fff != 0" if family == 4 else "frag frag-off != 0"


def _is_first(family: int) -> str:
    return "ip frag-off & 0x3fff == 0x2000" if family == 4 else "frag frag-off 0"


def link_local(mac: str) -> str:
    """Return the address that IPv6 makes of a MAC address."""
    parts = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((parts[0] ^ 2, *parts[1:3], 0xFF, 0xFE, *parts[3:]))
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _one_of(values: Iterable[str]) -> str:
    found = list(values)
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"


def _none_of(what: str, values: Sequence[str]) -> str:
    """Return the match of a field with none of these values."""
    few = len(values) <= _FEW
    return " ".join(f"{what} != {each}" for each in values) if few else f"{what} != {_one_of(values)}"


@dataclass(frozen=True)
class _Chains:
    """Holds the rules of one NIC.
    sets: the type of each set, by its name
    chains: the rules of each chain, by its name
    letting: the same of chains with what security groups and a firewall let through, which other NICs may use as
    well
    through: for each way, the comments of the rules that let something through"""

    sets: Mapping[str, str]
    chains: Mapping[str, Sequence[str]]
    letting: Mapping[str, Sequence[str]]
    through: Mapping[str, Collection[str]]

    @property
    def digest(self) -> str:
        """Return the digest of these rules and of the chains that all NICs share."""
        return self._digest(_shared_digest())

    @property
    def earlier(self) -> str:
        """Return the digest that the release before made of the same."""
        return self._digest(_hash(repr(sorted(_former_chains().items()))))

    def _digest(self, shared: str) -> str:
        content = (sorted(self.sets.items()), sorted(self.chains.items()), sorted(self.letting.items()))
        return _hash(repr(content) + shared)

    @property
    def number(self) -> int:
        """Return how many rules the NIC and the chains that let something through for it have."""
        return sum(map(len, (*self.chains.values(), *self.letting.values()))) + 1


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _name(guard: Guard, what: str) -> str:
    return f"{what}_{guard.vm_id}_{guard.nic_id}"


def _render(guard: Guard) -> _Chains:
    sets: dict[str, str] = {}
    letting: dict[str, Sequence[str]] = {}
    through: dict[str, Collection[str]] = {}
    chains: dict[str, Sequence[str]] = {}
    for way in _HOOKS:
        ethernet, lines = _ethernet(guard.ethertypes, way)
        if guard.ethertypes:
            letting[ethernet] = lines
        parts: dict[str, Sequence[str]] = {}
        through[way] = set()
        if guard.effective_rules is not None:
            firewall = ""
            if way == "in" and guard.firewall is not None:
                firewall, lines = _letting_chain("firewall", way, guard.firewall)
                parts[firewall] = lines
            rules = tuple(rule for rule in guard.effective_rules if (rule.direction == INBOUND) == (way == "in"))
            name, lines = _letting_chain(f"passing_{way}", way, rules)
            parts[name] = lines
            through[way] = {_known_by(comment, firewall) for comment in _comments(lines)}
            sets.update(_sets(guard, way))
        letting.update(parts)
        chains[_name(guard, way)] = [*_rules(guard, way, ethernet, parts)]
    return _Chains(sets, chains, letting, through)


def _families(guard: Guard) -> Sequence[int]:
    """Return the families of which the machine may send anything at all, so that there are answers."""
    own = {family_of(text) for text in guard.addresses} if guard.filter_ip else set()
    return sorted(own) or (4, 6)


def _sets(guard: Guard, way: str) -> Iterable[tuple[str, str]]:
    for family in _families(guard):
        address = "ipv4_addr" if family == 4 else "ipv6_addr"
        for kind, tail in (("ports", " . inet_service . inet_service"), ("plain", "")):
            yield _name(guard, f"{kind}{family}_{way}"), f"{address} . {address} . inet_proto{tail}"


def _rules(guard: Guard, way: str, ethernet: str, letting: Iterable[str]) -> Iterable[str]:
    if way == "out" and guard.filter_mac:
        yield f"ether saddr != {guard.mac} drop"
    yield f"jump {ethernet}"
    if way == "out":
        yield from _against_spoofing(guard)
    if guard.effective_rules is None:
        return
    yield f"jump always_{way}"
    for family in _families(guard):
        yield from _answers(guard, way, family)
    yield from (f"jump {name}" for name in letting)
    yield from _remember_answers(guard, _OTHER_WAY[way])
    yield f"goto end_{way}"


@functools.lru_cache(maxsize=256)
def _letting_chain(kind: str, way: str, rules: Sequence[GuardRule]) -> tuple[str, Sequence[str]]:
    """Return name and rules of a chain that returns for what one of these rules lets through, and drops the rest."""
    lines = []
    for rule in rules:
        lines += [f'{matched} return comment "rule:{_hash(matched)}"' for matched in _matches(rule, way)]
    lines.append("drop")
    return f"{kind}_{_hash(repr(lines))}", tuple(lines)


def _comments(rules: Iterable[str]) -> set[str]:
    return {found.group(1) for found in map(_COMMENT.search, rules) if found}


def _known_by(comment: str, firewall: str) -> str:
    """Return how a rule that lets something through is known again: with another firewall it is another rule."""
    return f"{comment} {firewall}" if firewall else comment


@functools.lru_cache(maxsize=256)
def _ethernet(named: Sequence[int], way: str) -> tuple[str, Sequence[str]]:
    """Return the name and the rules of a chain that returns for ARP and IP in Ethernet II. named: Ethernet types that
    pass besides."""
    if not named:
        return f"ethernet_{way}", ()
    lines = [*ethertype_rules(named), f"goto ethernet_{way}"]
    return f"ethernet_{_hash(repr(lines))}", tuple(lines)


def ethertype_rules(named: Sequence[int]) -> Iterable[str]:
    """Yield rules that let frames of these Ethernet types pass, whatever is in them."""
    types = [f"0x{each:04x}" for each in named if each != ethertypes.LLC]
    if types:
        yield f"ether type {_one_of(types)} accept"
    if ethertypes.LLC in named:
        yield f"ether type < 0x{ethertypes.LEAST:04x} accept"


def _against_spoofing(guard: Guard) -> Iterable[str]:
    if guard.filter_mac:
        yield f"arp saddr ether != {guard.mac} drop"
    if not guard.filter_ip:
        return
    yield "jump servers"
    four = [text for text in guard.addresses if family_of(text) == 4]
    six = [text for text in guard.addresses if family_of(text) == 6]
    if not four and not six:
        # A network without addresses of the catalog's has none that could be somebody else's.
        yield from _own_mac(guard.mac)
        return
    # 0.0.0.0 asks whether an address is free.
    yield f"{_none_of('arp saddr ip', [*four, '0.0.0.0'])} drop"
    yield f"arp saddr ip 0.0.0.0 {_none_of('arp daddr ip', four)}".rstrip() + " drop"
    yield f"{_none_of('ip saddr', four)} drop" if four else "ether type ip drop"
    if not six:
        yield "ether type ip6 drop"
        return
    own = [*six, link_local(guard.mac)]
    # The unspecified address asks whether an address is free.
    yield f"{_none_of('ip6 saddr', [*own, '::'])} drop"
    numbers = [f"0x{int(IPv6Address(text)):032x}" for text in own]
    about = _none_of("@th,64,128", numbers)
    yield f"ip6 saddr :: icmpv6 type nd-neighbor-solicit {about} drop"
    yield f"icmpv6 type nd-neighbor-advert {about} drop"
    yield from _own_mac(guard.mac)


def _own_mac(mac: str) -> Iterable[str]:
    """Yield rules for the MAC address in neighbour discovery, of which chain discovery lets one option pass at most."""
    number = mac.replace(":", "")
    for kind, option, others in (
        ("nd-neighbor-advert", "0201", ""),
        ("nd-neighbor-solicit", "0101", "@th,192,16 != 0x0e01 "),
        ("nd-router-solicit", "0101", ""),
    ):
        length = _PLAIN[kind]
        place = f"@th,{length * 8},64"
        yield f"icmpv6 type {kind} ip6 length != {length} {others}{place} != 0x{option}{number} drop"


def _answers(guard: Guard, way: str, family: int) -> Iterable[str]:
    """Yield rules that let answers pass, for longer as long as they come."""
    name, key = _name(guard, f"ports{family}_{way}"), _key(family, True, False)
    found = f"{key} @{name}"
    done = f"goto end_{way}"
    yield f"{_SYN} == 0 {found} update @{name} {{ {key} timeout {_TCP} }} {done}"
    yield f"meta l4proto tcp {found} {done}"
    yield f"meta l4proto udp {found} update @{name} {{ {key} timeout {_OTHERS} }} {done}"
    name, key = _name(guard, f"plain{family}_{way}"), _key(family, False, False)
    found = f"{key} @{name}"
    yield f"{'icmp' if family == 4 else 'icmpv6'} type echo-reply {found} {done}"
    others = _none_of("meta l4proto", ("tcp", "udp", "icmp", "ipv6-icmp"))
    yield f"{others} {found} update @{name} {{ {key} timeout {_OTHERS} }} {done}"


def _remember_answers(guard: Guard, other: str) -> Iterable[str]:
    """Yield rules that remember what answers to what was let through look like: the answers are to come through, too.
    A set that is full keeps nothing from passing. other: the way that answers go."""
    others = _none_of("meta l4proto", ("tcp", "udp"))
    for family in _families(guard):
        name, key = _name(guard, f"ports{family}_{other}"), _key(family, True, True)
        of_family = f"ether type {_IP[family]}"
        yield f"{of_family} {_SYN} == 0 update @{name} {{ {key} timeout {_TCP} }}"
        yield f"{of_family} {_SYN} != 0 update @{name} {{ {key} timeout {_NEW} }}"
        yield f"{of_family} meta l4proto udp update @{name} {{ {key} timeout {_OTHERS} }}"
        plain, key = _name(guard, f"plain{family}_{other}"), _key(family, False, True)
        yield f"{of_family} {others} update @{plain} {{ {key} timeout {_OTHERS} }}"


def _matches(rule: GuardRule, way: str) -> Iterable[str]:
    """Yield what a rule lets through, as expressions of nftables."""
    side = "saddr" if way == "in" else "daddr"
    terms = []
    if rule.protocol != ALL:
        terms.append(f"meta l4proto {_PROTOCOLS[rule.protocol]}")
    if rule.icmp_type is not None:
        terms.append(f"{'icmp' if rule.protocol == ICMP else 'icmpv6'} type {rule.icmp_type}")
    if rule.ports:
        spans = (str(first) if first == last else f"{first}-{last}" for first, last in rule.ports)
        terms.append(f"th dport {_one_of(spans)}")
    families = {family_of(text) for text in rule.addresses} or {4, 6}
    for family in sorted(families & {_OF_FAMILY.get(rule.protocol, 4), _OF_FAMILY.get(rule.protocol, 6)}):
        addresses = [text for text in rule.addresses if family_of(text) == family]
        first = f"{_IP[family]} {side} {_one_of(addresses)}" if addresses else f"ether type {_IP[family]}"
        yield " ".join([first, *terms])


# -- what all NICs have alike -----------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=1)
def _shared_chains() -> Mapping[str, Sequence[str]]:
    """Return the chains that all NICs share, by their names."""
    shapes = (f"{kind} . {length + more}" for kind, length in _PLAIN.items() for more in (0, _OPTION))
    later = f"{_is_later(6)} return"
    chains: dict[str, Sequence[str]] = {
        # Whatever is not named here passes in neither direction: no other rule could tell whose it is.
        "ethernet_in": [_KNOWN, "drop"],
        # What QEMU sends on behalf of a machine that came from another host: by it switches learn where it is.
        "ethernet_out": [_KNOWN, f"ether type 0x8035 @nh,0,64 {_ARP_REVERSE} accept", "drop"],
        "arp4": [f"@nh,0,48 != {_ARP} drop"],
        # One whose headers can't be followed to their end has no protocol. Later parts are nothing without the first.
        "six": ["meta l4proto ipv6-icmp goto icmp6", "meta l4proto != ipv6-icmp return", later, "drop"],
        # Neighbour discovery does not come in parts (RFC 6980), and the first part of anything else has its type.
        "icmp6": [
            later,
            f"icmpv6 type != {_DISCOVERY} return",
            f"exthdr frag missing icmpv6 type {_DISCOVERY} return",
            "drop",
        ],
        # Who answers like a DHCP server or a router. Clients take an answer from whatever port it comes.
        "servers": [
            "udp dport 68 drop",
            "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
            "icmp type redirect drop",
            "ip6 saddr :: jump unspecified",
            "ether type ip6 meta l4proto udp goto servers6",
            "ether type ip6 meta l4proto ipv6-icmp goto discovery",
        ],
        "servers6": [later, "udp dport != 546 return", "drop"],
        "discovery": [
            later,
            f"icmpv6 type != {_DISCOVERY} return",
            f"ip6 nexthdr ipv6-icmp icmpv6 type . ip6 length {{ {', '.join(shapes)} }} return",
            "drop",
        ],
        # What has no address yet.
        "unspecified": [
            "exthdr frag missing icmpv6 type { nd-neighbor-solicit, nd-router-solicit, 143, 131 } return",
            "drop",
        ],
    }
    for way in _HOOKS:
        # What passes whatever a security group says. ARP is among it.
        chains[f"always_{way}"] = [
            "ether type arp accept",
            f"{_NEIGHBOURS[way]} accept",
            *(f"{each} accept" for each in _DHCP[way]),
            *(f"{each} accept" for each in _ERRORS.values()),
            *(f"{_is_later(family)} {_fragment(family)} @fragments{family}_{way} accept" for family in (4, 6)),
        ]
        first = [f"{_is_first(family)} update @fragments{family}_{way} {{ {_fragment(family)} }}" for family in (4, 6)]
        chains[f"end_{way}"] = [*first, "accept"]
    return chains


def _former_chains() -> Mapping[str, Sequence[str]]:
    """Return these chains of the release before. It let DHCP servers' answers pass from other ports than theirs."""
    chains = _shared_chains()
    return {
        **chains,
        "servers": ["udp sport 67 udp dport 68 drop", *chains["servers"][1:]],
        "servers6": [chains["servers6"][0], "udp sport != 547 return", *chains["servers6"][1:]],
    }


@functools.lru_cache(maxsize=1)
def _shared_digest() -> str:
    return _hash(repr(sorted(_shared_chains().items())))


# -- the table ------------------------------------------------------------------------------------------------------
@dataclass
class Table:
    """Holds this catalog's table as it is.
    as_of: when what is in it was decided
    ports: for each interface the digest of its rules, "" if not all of them are there
    nics: for each interface the numbers of machine and NIC
    letting: for each chain the chains that it asks what security groups or a firewall let through
    through: for each chain what tells the rules that let something through; "" is in it if rules are missing, so
    that anything may have been let through
    earlier: as ports, of interfaces whose rules are whole beside what the release before had for all NICs"""

    catalog: str
    exists: bool = False
    as_of: float = 0.0
    ports: dict[str, str] = field(default_factory=dict)
    nics: dict[str, tuple[int, int]] = field(default_factory=dict)
    letting: dict[str, set[str]] = field(default_factory=dict)
    through: dict[str, set[str]] = field(default_factory=dict)
    chains: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)
    earlier: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return nat.table_name(self.catalog)


def read_table(catalog: str, needed: bool) -> Table:
    """Return the table as it is. needed: whether there is anything for it to hold; without, a host without nftables
    has no table."""
    try:
        return observe(catalog)
    except MissingDependency as error:
        if not needed:
            return Table(catalog)
        error.remedy += (
            " (role nebula.provision.node does): networks need it to keep machines from sending with addresses of "
            "others, and for security groups. A network with filter_mac_spoofing: false and without security_groups "
            "does without"
        )
        raise


def observe(catalog: str) -> Table:
    """Return the table as it is. Raise ForeignObject if a table of that name is not this catalog's."""
    table = Table(catalog)
    listed = _listed(table.name)
    table.exists = bool(listed)
    marked = False
    counts: dict[str, int] = {}
    claimed: dict[str, tuple[int, int, str, int]] = {}
    led: dict[str, set[str]] = {hook: set() for hook, _key in _HOOKS.values()}
    for kind, name, rules in _read(listed):
        if kind == "set":
            table.sets.add(name)
            continue
        table.chains.add(name)
        counts[name] = len(rules)
        if name in led:
            led[name] |= {port for rule in rules for port in _LED.findall(rule)}
            continue
        for comment in _comments(rules):
            if name == _MARK and comment.startswith(f"{_MARK}:{catalog}:"):
                marked, table.as_of = True, float(comment.rpartition(":")[2])
            elif comment.startswith(f"{_MARK}/"):
                _mark, vm, nic, port, digest, count = comment.split("/")
                claimed[port] = (int(vm), int(nic), digest, int(count))
            elif comment.startswith("rule:"):
                table.through.setdefault(name, set()).add(comment)
        jumps = (rule[len("jump ") :] for rule in rules if rule.startswith("jump "))
        letting = {target for target in jumps if _LETTING.match(target)}
        if letting:
            table.letting[name] = letting
    # Whoever has flushed it has left nothing of anybody's.
    if not marked and any(counts.values()):
        raise ForeignObject(
            f"nftables: table {FAMILY} {table.name}",
            "there is a table of that name without this catalog's mark",
            f"See what it is for (nft list table {FAMILY} {table.name}); if it can go, nft delete table {FAMILY} "
            f"{table.name}",
        )
    shared, earlier = (
        all(counts.get(chain, 0) == len(rules) for chain, rules in chains.items())
        for chains in (_shared_chains(), _former_chains())
    )
    complete: set[str] = set()
    for port, (vm_id, nic_id, digest, number) in claimed.items():
        own = [f"{what}_{vm_id}_{nic_id}" for what in _CHAINS]
        used = {chain for each in own for chain in table.letting.get(each, ())}
        whole = sum(counts.get(chain, 0) for chain in (*own, *used)) == number
        complete |= set(own) if whole else set()
        whole = whole and all(port in ports for ports in led.values())
        table.ports[port], table.nics[port] = digest if whole and shared else "", (vm_id, nic_id)
        if whole and earlier:
            table.earlier[port] = digest
    for chain, names in table.letting.items():
        table.through[chain] = _through_of(table, names) | (set() if chain in complete else {""})
    return table


def _through_of(table: Table, letting: Collection[str]) -> set[str]:
    """Return what tells the rules of these chains, one of which may be a firewall's."""
    firewall = "".join(name for name in letting if name.startswith("firewall_"))
    others = (name for name in letting if name != firewall)
    return {_known_by(comment, firewall) for name in others for comment in table.through.get(name, ())}


def _listed(table: str, check: bool = True) -> str:
    """Return the table as nft lists it, "" if there is none. check: raise CommandFailed if nft can't list anything.

    As text, which is a quarter of what JSON would be. Terse: the sets of answers may be large, and are nobody's
    business. Where it is asked for one table, nft reads them all the same."""
    argv = ["nft", "--stateless", "--terse", "--numeric-protocol", "list", "ruleset", FAMILY]
    text = run(argv, timeout=TIMEOUT, most=LONGEST_LIST, check=check).stdout
    found = re.search(rf"^table {FAMILY} {re.escape(table)} {{\n.*?^}}\n", text, re.MULTILINE | re.DOTALL)
    return found.group() if found else ""


def _read(listed: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the chains and sets of a table that nft has listed: chain or set, its name, the rules of a chain."""
    kind, name, rules = "", "", list[str]()
    parts: list[str] = []
    opened = 0
    for line in listed.splitlines():
        if not line.startswith("\t\t"):
            words = line.split()
            if words and words[0] in ("chain", "set"):
                kind, name, rules = words[0], words[1], []
            elif words == ["}"] and kind:
                yield kind, name, rules
                kind = ""
        elif kind == "chain":
            # A rule goes on in the next line where the elements of a set in it do.
            parts.append(line.strip())
            opened += line.count("{") - line.count("}")
            if not opened:
                rule = " ".join(parts)
                if not rule.startswith("type "):
                    rules.append(rule)
                parts = []


def desired_digests(guards: Iterable[Guard]) -> dict[str, str]:
    """Return the digest of each interface's rules, by the interface's name."""
    return {guard.port: _render(guard).digest for guard in guards if guard.filters}


def of_unknown_machines(table: Table, machines: Collection[int]) -> set[str]:
    """Return interfaces that are there and have rules, of machines that are not among these. machines: the ids of
    those that the catalog has on this host. A machine that it does not know, such as one of a host that was given
    up, keeps the rules that it had for as long as it runs."""
    return {
        port
        for port, (vm_id, _nic_id) in table.nics.items()
        if vm_id not in machines and any((INTERFACES / name).exists() for name in interfaces_of(port))
    }


def differing(guards: Sequence[Guard], table: Table, staying: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what interfaces that have to be changed are, and what they will be. staying: interfaces whose rules stay,
    though they are of none of these NICs."""
    wanted = desired_digests(guards)
    others = {port for port in table.ports if port not in staying}
    renewed = made_by_last_release(guards, table)
    names = [port for port in sorted({*wanted, *others} - renewed) if wanted.get(port) != table.ports.get(port)]
    shown = {port: "rules " + (table.ports[port] or "that are not whole") for port in names if port in table.ports}
    return shown, {port: f"rules {wanted[port]}" for port in names if port in wanted}


def made_by_last_release(guards: Iterable[Guard], table: Table) -> set[str]:
    """Return the interfaces whose rules are just what the release before made of the same NICs. They are replaced, and
    what the catalog says of them has not changed."""
    return {guard.port for guard in guards if is_last_releases(guard, table.earlier.get(guard.port, ""))}


def is_last_releases(guard: Guard, digest: str) -> bool:
    """Return whether this is the digest of what the release before made of the NIC."""
    return bool(digest) and guard.filters and digest == _render(guard).earlier


def ensure(guards: Sequence[Guard], table: Table, as_of: float, staying: Collection[str]) -> bool:
    """Bring the table to what these NICs are to have, in one transaction of nftables; with the last of them it is
    removed. What was decided later than as_of is left as it is. Return whether anything was changed. staying:
    interfaces whose rules stay, though they are of none of these NICs."""
    if table.as_of > as_of:
        return False
    script = write_script(guards, table, as_of, staying)
    if script:
        run(["nft", "-f", "-"], input=script, timeout=TIMEOUT)
    return bool(script)


def load(text: str) -> None:
    """Make the table of what at_boot() has returned, where there is none."""
    run(["nft", "-f", "-"], input=text, timeout=TIMEOUT)


def confirm(table: Table, as_of: float) -> bool:
    """Have the table say that it is as it was decided at this time, too. Return whether it did not."""
    if not table.exists or table.as_of >= as_of:
        return False
    run(["nft", "-f", "-"], input="".join(f"{line}\n" for line in _dated(table, as_of)), timeout=TIMEOUT)
    return True


def _dated(table: Table, as_of: float) -> Iterable[str]:
    where = f"{FAMILY} {table.name}"
    yield f"add chain {where} {_MARK}"
    yield f"flush chain {where} {_MARK}"
    yield f'add rule {where} {_MARK} counter comment "{_MARK}:{table.catalog}:{as_of:.3f}"'


def write_script(guards: Sequence[Guard], table: Table, as_of: float, staying: Collection[str]) -> str:
    """Return what nftables is to carry out, "" for nothing."""
    wanted = {guard.port: guard for guard in guards if guard.filters}
    chains = {port: _render(guard) for port, guard in wanted.items()}
    new = [port for port, each in chains.items() if table.ports.get(port) != each.digest]
    # A NIC whose interface has another name now has its chains anew.
    taken = {(guard.vm_id, guard.nic_id) for guard in wanted.values()}
    gone = [port for port, nic in table.nics.items() if port not in wanted and (port not in staying or nic in taken)]
    if not new and not gone:
        return ""
    kept = {port: nic for port, nic in table.nics.items() if port not in gone and port not in wanted}
    if not wanted and not kept:
        return f"delete table {FAMILY} {table.name}\n"
    where = f"{FAMILY} {table.name}"
    lines = [] if table.exists else [f"add table {where}"]
    lines += _dated(table, as_of)
    lines += _shared(where)
    for name, rules in {name: rules for port in new for name, rules in chains[port].letting.items()}.items():
        lines += _make_chain(where, name, rules)
    for port in new:
        lines += _of_nic(where, wanted[port], chains[port], table)
    leading = {**kept, **{port: (guard.vm_id, guard.nic_id) for port, guard in wanted.items()}}
    for way, (hook, key) in _HOOKS.items():
        lines.append(f"add chain {where} {hook} {{ type filter hook {hook} priority filter; policy accept; }}")
        lines.append(f"flush chain {where} {hook}")
        entries = [
            f'"{name}" : goto {way}_{nic[0]}_{nic[1]}' for port, nic in leading.items() for name in interfaces_of(port)
        ]
        lines.append(f"add rule {where} {hook} {key} vmap {{ {', '.join(entries)} }}")
    lines += _remove_unused(where, table, chains.values(), kept)
    return "".join(f"{line}\n" for line in lines)


def interfaces_of(port: str) -> list[str]:
    """Return the interfaces that a NIC may have: its own, and what Xen's QEMU emulates of it."""
    return [port] if len(port + _EMULATED) > _LONGEST else [port, port + _EMULATED]


def _shared(where: str) -> Iterable[str]:
    # Some lead to others.
    yield from (f"add chain {where} {name}" for name in _shared_chains())
    for way in _HOOKS:
        for family in (4, 6):
            kind = f"typeof {_fragment(family)}; {_GROWS}; timeout {_FRAGMENTS};"
            yield f"add set {where} fragments{family}_{way} {{ {kind} }}"
    for name, rules in _shared_chains().items():
        yield from _make_chain(where, name, rules)


def _make_chain(where: str, name: str, rules: Iterable[str]) -> Iterable[str]:
    yield f"add chain {where} {name}"
    yield f"flush chain {where} {name}"
    yield from (f"add rule {where} {name} {rule}" for rule in rules)


def _of_nic(where: str, guard: Guard, each: _Chains, table: Table) -> Iterable[str]:
    for name, kind in each.sets.items():
        yield f"add set {where} {name} {{ type {kind}; {_GROWS}; timeout {_NEW}; }}"
    mark = f"{_MARK}/{guard.vm_id}/{guard.nic_id}/{guard.port}/{each.digest}/{each.number}"
    marking = {_name(guard, "out"): [f'counter comment "{mark}"']}
    for name, rules in each.chains.items():
        yield from _make_chain(where, name, [*marking.get(name, ()), *rules])
    # What a rule let through that is gone gets no more answers.
    for way in _HOOKS:
        if not table.through.get(_name(guard, way), set()) <= set(each.through[way]):
            for family in (4, 6):
                for kind in ("ports", "plain"):
                    name = _name(guard, f"{kind}{family}_{_OTHER_WAY[way]}")
                    yield from [f"flush set {where} {name}"] if name in table.sets else []


def _remove_unused(
    where: str, table: Table, rendered: Iterable[_Chains], kept: Mapping[str, tuple[int, int]]
) -> Iterable[str]:
    """Yield lines that remove what no NIC has any more. Chains come first: they use each other, and the sets."""
    staying = {name for each in rendered for name in (*each.chains, *each.letting, *each.sets)}
    owners = {f"_{vm_id}_{nic_id}" for vm_id, nic_id in kept.values()}
    owned = {name: found.group() for name in (*table.chains, *table.sets) for found in [_OWNED.search(name)] if found}
    for chain, letting in table.letting.items():
        if owned.get(chain) in owners:
            staying |= letting

    def left(names: Iterable[str]) -> list[str]:
        others = (name for name in sorted(names) if name not in staying)
        return [name for name in others if _LETTING.match(name) or owned.get(name, "") not in {"", *owners}]

    chains = [*left(table.chains), *(name for name in _FORMER if name in table.chains and not kept)]
    yield from (f"flush chain {where} {name}" for name in chains)
    yield from (f"delete chain {where} {name}" for name in chains)
    yield from (f"delete set {where} {name}" for name in left(table.sets))


def at_boot(catalog: str) -> str:
    """Return what makes the table as it is on a host that has just been booted, as nftables itself writes it; "" if
    there is no table."""
    try:
        return _SIZE.sub("", _listed(nat.table_name(catalog), check=False))
    except MissingDependency:
        return ""
