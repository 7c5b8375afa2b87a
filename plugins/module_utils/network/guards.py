# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passes between machines and the bridges that they are attached to, by nftables: one table of family bridge of
ours per catalog, and no rule anywhere else.

A NIC is known by the name of its interface on the node, which its definition gives it, so that its rules are there
before it is. All that it sends passes the hook prerouting with that name, and all that it gets the hook postrouting,
also what the node itself sends or gets by the bridge.

What answers is known by sets of this table, into which a packet that a rule lets through puts what its answer looks
like. The kernel's own connection tracking for bridges is not used: not every kernel has it, and it has one table for
all bridges, where machines of two networks with the same addresses would have each other's answers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from ..dataclass import dataclass
from ..errors import ForeignObject, MissingDependency
from ..host.command import failure, run
from ..model.guard import Guard, GuardRule, family_of
from ..model.logical_network import ALL, ICMP, ICMPV6, INBOUND, IPSEC, TCP, UDP
from . import nat

FAMILY = "bridge"
TIMEOUT = nat.TIMEOUT
_INTERFACES = Path("/sys/class/net")
_MARK = "nebula"
_HOOKS = {"out": ("prerouting", "iifname"), "in": ("postrouting", "oifname")}
# A VLAN tag would hide the addresses from all that follows.
_TAGGED = "ether type { 8021q, 8021ad, 0x9100 }"
# Xen has a second interface of the same NIC for what QEMU emulates.
_EMULATED = "-emu"
_LONGEST = 15
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
# Those of one NIC.
_CHAINS = ("out", "in", "pass_out", "pass_in", "firewall")
# What belongs to one NIC ends with its numbers.
_OWNED = re.compile(r"_[0-9]+_[0-9]+\Z")
_OTHER_WAY = {"out": "in", "in": "out"}


def _key(family: int, ports: bool, answer: bool) -> str:
    """By which a set knows a packet: as it is, or as its answer will be."""
    ip = _IP[family]
    sides = ("daddr", "saddr") if answer else ("saddr", "daddr")
    terms = [f"{ip} {side}" for side in sides] + ["meta l4proto"]
    return " . ".join(terms + [f"th {'dport' if side == 'daddr' else 'sport'}" for side in sides if ports])


def _fragment(family: int) -> str:
    return f"{_IP[family]} saddr . {_IP[family]} daddr . {'ip id' if family == 4 else 'frag id'}"


def _later(family: int) -> str:
    """A fragment that is not the first, and so says nothing of ports."""
    return "ip frag-off & 0x1fff != 0" if family == 4 else "frag frag-off != 0"


def _first(family: int) -> str:
    return "ip frag-off & 0x3fff == 0x2000" if family == 4 else "frag frag-off 0"


def link_local(mac: str) -> str:
    """The address that IPv6 makes of a MAC address."""
    parts = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((parts[0] ^ 2, *parts[1:3], 0xFF, 0xFE, *parts[3:]))
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _any(values: Iterable[str]) -> str:
    found = list(values)
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"


@dataclass(frozen=True)
class _Chains:
    """The rules of one NIC. sets: name → type. chains: name → rules."""

    sets: Mapping[str, str]
    chains: Mapping[str, Sequence[str]]

    @property
    def digest(self) -> str:
        """The content, with that of the chains that all NICs share."""
        content = (sorted(self.sets.items()), sorted(self.chains.items()), [_ends(way) for way in _HOOKS])
        return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def _name(guard: Guard, what: str) -> str:
    return f"{what}_{guard.vm_id}_{guard.nic_id}"


def _rendered(guard: Guard) -> _Chains:
    sets: dict[str, str] = {}
    if guard.passing is not None:
        for way in _HOOKS:
            for family in (4, 6):
                address = "ipv4_addr" if family == 4 else "ipv6_addr"
                for kind, tail in (("ports", " . inet_service . inet_service"), ("plain", "")):
                    sets[_name(guard, f"{kind}{family}_{way}")] = f"{address} . {address} . inet_proto{tail}"
    chains: dict[str, Sequence[str]] = {_name(guard, way): [*_rules(guard, way)] for way in _HOOKS}
    return _Chains(sets, {**chains, **_remembering(guard)})


def _rules(guard: Guard, way: str) -> Iterable[str]:
    if way == "out":
        yield from _against_spoofing(guard)
    if guard.passing is None:
        return
    yield f"{_TAGGED} drop"
    # ARP, and what is no IP at all.
    yield "ether type != { ip, ip6 } accept"
    yield f"{_NEIGHBOURS[way]} accept"
    yield from (f"{each} accept" for each in _DHCP[way])
    yield from (f"{each} accept" for each in _ERRORS.values())
    for family in (4, 6):
        yield f"{_later(family)} {_fragment(family)} @fragments{family}_{way} accept"
        yield from _answers(guard, way, family)
    if way == "in" and guard.firewall is not None:
        yield f"jump {_name(guard, 'firewall')}"
    for rule in guard.passing:
        if (rule.direction == INBOUND) == (way == "in"):
            for matched in _matches(rule, way):
                comment = _comment(guard, way, matched)
                yield f'{matched} goto {_name(guard, "pass_" + way)} comment "{comment}"'
    yield "drop"


def _comment(guard: Guard, way: str, matched: str) -> str:
    """By which a rule that lets something through is known again. With another firewall it is another."""
    firewall = repr(guard.firewall) if way == "in" and guard.firewall is not None else ""
    return "rule:" + hashlib.sha256((matched + firewall).encode()).hexdigest()[:12]


def _against_spoofing(guard: Guard) -> Iterable[str]:
    if guard.filter_mac:
        yield f"ether saddr != {guard.mac} drop"
        yield f"arp saddr ether != {guard.mac} drop"
        yield f"{_TAGGED} drop"
    if not guard.filter_ip:
        return
    yield "udp sport 67 udp dport 68 drop"
    yield "udp sport 547 udp dport 546 drop"
    yield "icmpv6 type { nd-router-advert, nd-redirect } drop"
    yield "icmp type redirect drop"
    four = [text for text in guard.addresses if family_of(text) == 4]
    six = [text for text in guard.addresses if family_of(text) == 6]
    if not four and not six:
        # A network without addresses of the catalog's has none that could be somebody else's.
        return
    # 0.0.0.0 asks whether an address is free, and for one.
    yield f"arp saddr ip != {_any([*four, '0.0.0.0'])} drop"
    yield "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept"
    yield f"ip saddr != {_any(four)} drop" if four else "ether type ip drop"
    if not six:
        yield "ether type ip6 drop"
        return
    own = [*six, link_local(guard.mac)]
    # The unspecified address asks whether an address is free.
    yield f"ip6 saddr != {_any([*own, '::'])} drop"
    yield "ip6 saddr :: icmpv6 type != { nd-neighbor-solicit, nd-router-solicit, 143, 131 } drop"
    yield "ip6 saddr :: meta l4proto != ipv6-icmp drop"
    numbers = _any(f"0x{int(IPv6Address(text)):032x}" for text in own)
    # Of an advertisement: the address that it is about, and the MAC address in its first option; of what asks, its own.
    yield f"icmpv6 type nd-neighbor-advert @th,64,128 != {numbers} drop"
    mac = guard.mac.replace(":", "")
    yield f"icmpv6 type nd-neighbor-advert @th,192,16 0x0201 @th,208,48 != 0x{mac} drop"
    yield f"icmpv6 type nd-neighbor-solicit @th,192,16 0x0101 @th,208,48 != 0x{mac} drop"


def _answers(guard: Guard, way: str, family: int) -> Iterable[str]:
    """Let answers pass, and the more of them for as long as they come."""
    name, key = _name(guard, f"ports{family}_{way}"), _key(family, True, False)
    found = f"{key} @{name}"
    done = f"goto end_{way}"
    yield f"{_SYN} == 0 {found} update @{name} {{ {key} timeout {_TCP} }} {done}"
    yield f"meta l4proto tcp {found} {done}"
    yield f"meta l4proto udp {found} update @{name} {{ {key} timeout {_OTHERS} }} {done}"
    name, key = _name(guard, f"plain{family}_{way}"), _key(family, False, False)
    found = f"{key} @{name}"
    yield f"{'icmp' if family == 4 else 'icmpv6'} type echo-reply {found} {done}"
    others = "meta l4proto != { tcp, udp, icmp, ipv6-icmp }"
    yield f"{others} {found} update @{name} {{ {key} timeout {_OTHERS} }} {done}"


def _remembering(guard: Guard) -> dict[str, Sequence[str]]:
    """Where packets end that a rule lets through: their answers are to come through, too. A set that is full keeps
    nothing from passing."""
    if guard.passing is None:
        return {}
    chains: dict[str, Sequence[str]] = {}
    for way, other in _OTHER_WAY.items():
        lines = []
        for family in (4, 6):
            name, key = _name(guard, f"ports{family}_{other}"), _key(family, True, True)
            of_family = f"ether type {_IP[family]}"
            lines += [
                f"{of_family} {_SYN} == 0 update @{name} {{ {key} timeout {_TCP} }}",
                f"{of_family} {_SYN} != 0 update @{name} {{ {key} timeout {_NEW} }}",
                f"{of_family} meta l4proto udp update @{name} {{ {key} timeout {_OTHERS} }}",
            ]
            plain, key = _name(guard, f"plain{family}_{other}"), _key(family, False, True)
            lines.append(f"{of_family} meta l4proto != {{ tcp, udp }} update @{plain} {{ {key} timeout {_OTHERS} }}")
        chains[_name(guard, f"pass_{way}")] = [*lines, f"goto end_{way}"]
    if guard.firewall is not None:
        let_in = [matched for rule in guard.firewall for matched in _matches(rule, "in")]
        chains[_name(guard, "firewall")] = [*(f"{matched} return" for matched in let_in), "drop"]
    return chains


def _matches(rule: GuardRule, way: str) -> Iterable[str]:
    """What a rule lets through, as expressions of nftables."""
    side = "saddr" if way == "in" else "daddr"
    terms = []
    if rule.protocol != ALL:
        terms.append(f"meta l4proto {_PROTOCOLS[rule.protocol]}")
    if rule.icmp_type is not None:
        terms.append(f"{'icmp' if rule.protocol == ICMP else 'icmpv6'} type {rule.icmp_type}")
    if rule.ports:
        spans = (str(first) if first == last else f"{first}-{last}" for first, last in rule.ports)
        terms.append(f"th dport {_any(spans)}")
    families = {family_of(text) for text in rule.addresses} or {4, 6}
    for family in sorted(families & {_OF_FAMILY.get(rule.protocol, 4), _OF_FAMILY.get(rule.protocol, 6)}):
        addresses = [text for text in rule.addresses if family_of(text) == family]
        first = f"{_IP[family]} {side} {_any(addresses)}" if addresses else f"ether type {_IP[family]}"
        yield " ".join([first, *terms])


# -- the table ------------------------------------------------------------------------------------------------------
@dataclass
class Table:
    """This catalog's table as it is. as_of: when what is in it was decided. ports: interface → the digest of its rules,
    "" if not all of them are there. nics: interface → the numbers of machine and NIC. through: chain → the comments of
    the rules that let something through."""

    catalog: str
    exists: bool = False
    as_of: float = 0.0
    ports: dict[str, str] = field(default_factory=dict)
    nics: dict[str, tuple[int, int]] = field(default_factory=dict)
    through: dict[str, set[str]] = field(default_factory=dict)
    chains: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return nat.table_name(self.catalog)


def found(catalog: str, needed: bool) -> Table:
    """The table as it is. needed: whether there is anything for it to hold; without, a host without nftables has no
    table."""
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
    """The table as it is; ForeignObject if one of that name is not this catalog's."""
    table = Table(catalog)
    # Terse: the sets of answers may be large, and are nobody's business.
    done = run(["nft", "-j", "-t", "list", "table", FAMILY, table.name], timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        if "No such file or directory" in done.stderr:
            return table
        raise failure(done)
    table.exists = True
    marked = False
    counts: dict[str, int] = {}
    claimed: dict[str, tuple[int, int, str, int]] = {}
    led: dict[str, set[str]] = {hook: set() for hook, _key in _HOOKS.values()}
    for entry in json.loads(done.stdout)["nftables"]:
        if "set" in entry:
            table.sets.add(entry["set"]["name"])
        if "chain" in entry:
            table.chains.add(entry["chain"]["name"])
        rule: Mapping[str, Any] = entry.get("rule") or {}
        if not rule:
            continue
        chain, comment = rule["chain"], rule.get("comment", "")
        counts[chain] = counts.get(chain, 0) + 1
        if chain == _MARK and comment.startswith(f"{_MARK}:{catalog}:"):
            marked, table.as_of = True, float(comment.rpartition(":")[2])
        elif chain in led:
            led[chain] |= _led(rule)
        elif comment.startswith(f"{_MARK}/"):
            _mark, vm_id, nic_id, port, digest, number = comment.split("/")
            claimed[port] = (int(vm_id), int(nic_id), digest, int(number))
        elif comment.startswith("rule:"):
            table.through.setdefault(chain, set()).add(comment)
    # Whoever has flushed it has left nothing of anybody's.
    if not marked and counts:
        raise ForeignObject(
            f"nftables: table {FAMILY} {table.name}",
            "there is a table of that name without this catalog's mark",
            f"See what it is for (nft list table {FAMILY} {table.name}); if it can go, nft delete table {FAMILY} "
            f"{table.name}",
        )
    for port, (vm_id, nic_id, digest, number) in claimed.items():
        own = (f"{what}_{vm_id}_{nic_id}" for what in _CHAINS)
        whole = sum(counts.get(chain, 0) for chain in own) == number and all(port in ports for ports in led.values())
        table.ports[port], table.nics[port] = digest if whole and _whole(counts) else "", (vm_id, nic_id)
    return table


def _led(rule: Mapping[str, Any]) -> set[str]:
    """The interfaces that a rule of a hook leads to chains of their own."""
    for expression in rule.get("expr") or ():
        entries = (expression.get("vmap") or {}).get("data", {}).get("set") or ()
        return {entry[0] for entry in entries if isinstance(entry[0], str)}
    return set()


def _whole(counts: Mapping[str, int]) -> bool:
    """Whether the chains are there that all NICs share."""
    return all(counts.get(f"end_{way}", 0) == len(_ends(way)) for way in _HOOKS)


def _ends(way: str) -> list[str]:
    lines = [f"{_first(family)} update @fragments{family}_{way} {{ {_fragment(family)} }}" for family in (4, 6)]
    return [*lines, "accept"]


def expected(guards: Iterable[Guard]) -> dict[str, str]:
    """Interface → the digest of its rules."""
    return {guard.port: _rendered(guard).digest for guard in guards if guard.filters}


def of_strangers(table: Table, machines: Collection[int]) -> set[str]:
    """Interfaces with rules that are there, of machines that are not among these. machines: the ids of those that the
    catalog has on this host. A machine that it does not know, such as one of a host that was given up, goes on with the
    rules that it had for as long as it runs."""
    return {
        port
        for port, (vm_id, _nic_id) in table.nics.items()
        if vm_id not in machines and any((_INTERFACES / name).exists() for name in _names(port))
    }


def differing(guards: Sequence[Guard], table: Table, staying: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Of interfaces that are not as they are to be: what they are, and what they will be. staying: interfaces whose
    rules stay, though they are of none of these NICs."""
    wanted = expected(guards)
    others = {port for port in table.ports if port not in staying}
    names = [port for port in sorted({*wanted, *others}) if wanted.get(port) != table.ports.get(port)]
    shown = {port: "rules " + (table.ports[port] or "that are not whole") for port in names if port in table.ports}
    return shown, {port: f"rules {wanted[port]}" for port in names if port in wanted}


def ensure(guards: Sequence[Guard], table: Table, as_of: float, staying: Collection[str]) -> bool:
    """Bring the table to what these NICs are to have, in one transaction of nftables; it goes with the last of them.
    staying: interfaces whose rules stay, though they are of none of these NICs. What was decided later than as_of is
    left as it is. Returns whether anything was changed."""
    if table.as_of > as_of:
        return False
    script = change(guards, table, as_of, staying)
    if script:
        run(["nft", "-f", "-"], input=script, timeout=TIMEOUT)
    return bool(script)


def change(guards: Sequence[Guard], table: Table, as_of: float, staying: Collection[str]) -> str:
    """What nftables is to carry out, "" for nothing."""
    wanted = {guard.port: guard for guard in guards if guard.filters}
    chains = {port: _rendered(guard) for port, guard in wanted.items()}
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
    lines += [f"add chain {where} {_MARK}", f"flush chain {where} {_MARK}"]
    lines += [f'add rule {where} {_MARK} counter comment "{_MARK}:{table.catalog}:{as_of:.3f}"']
    lines += _shared(where)
    for port in new:
        lines += _of_nic(where, wanted[port], chains[port], table)
    leading = {**kept, **{port: (guard.vm_id, guard.nic_id) for port, guard in wanted.items()}}
    for way, (hook, key) in _HOOKS.items():
        lines.append(f"add chain {where} {hook} {{ type filter hook {hook} priority filter; policy accept; }}")
        lines.append(f"flush chain {where} {hook}")
        entries = [f'"{name}" : goto {way}_{nic[0]}_{nic[1]}' for port, nic in leading.items() for name in _names(port)]
        lines.append(f"add rule {where} {hook} {key} vmap {{ {', '.join(entries)} }}")
    lines += _removing(where, table, chains.values(), kept)
    return "".join(f"{line}\n" for line in lines)


def _names(port: str) -> list[str]:
    return [port] if len(port + _EMULATED) > _LONGEST else [port, port + _EMULATED]


def _shared(where: str) -> Iterable[str]:
    for way in _HOOKS:
        for family in (4, 6):
            kind = f"typeof {_fragment(family)}; {_GROWS}; timeout {_FRAGMENTS};"
            yield f"add set {where} fragments{family}_{way} {{ {kind} }}"
        yield f"add chain {where} end_{way}"
        yield f"flush chain {where} end_{way}"
        yield from (f"add rule {where} end_{way} {rule}" for rule in _ends(way))


def _of_nic(where: str, guard: Guard, each: _Chains, table: Table) -> Iterable[str]:
    for name, kind in each.sets.items():
        yield f"add set {where} {name} {{ type {kind}; {_GROWS}; timeout {_NEW}; }}"
    yield from (line for name in each.chains for line in (f"add chain {where} {name}", f"flush chain {where} {name}"))
    number = sum(map(len, each.chains.values())) + 1
    mark = f"{_MARK}/{guard.vm_id}/{guard.nic_id}/{guard.port}/{each.digest}/{number}"
    yield f'add rule {where} {_name(guard, "out")} counter comment "{mark}"'
    for name, rules in each.chains.items():
        yield from (f"add rule {where} {name} {rule}" for rule in rules)
    # What a rule let through that is gone gets no more answers.
    for way in _HOOKS:
        there = {rule.rpartition('comment "')[2].rstrip('"') for rule in each.chains[_name(guard, way)]}
        if not table.through.get(_name(guard, way), set()) <= there:
            for family in (4, 6):
                for kind in ("ports", "plain"):
                    name = _name(guard, f"{kind}{family}_{_OTHER_WAY[way]}")
                    yield from [f"flush set {where} {name}"] if name in table.sets else []


def _removing(
    where: str, table: Table, rendered: Iterable[_Chains], kept: Mapping[str, tuple[int, int]]
) -> Iterable[str]:
    """What no NIC has any more. Chains first: they use each other, and the sets."""
    staying = {name for each in rendered for name in (*each.chains, *each.sets)}
    owners = {f"_{vm_id}_{nic_id}" for vm_id, nic_id in kept.values()}

    def left(names: Iterable[str]) -> list[str]:
        found = ((name, _OWNED.search(name)) for name in sorted(names) if name not in staying)
        return [name for name, owned in found if owned and owned.group() not in owners]

    chains = left(table.chains)
    yield from (f"flush chain {where} {name}" for name in chains)
    yield from (f"delete chain {where} {name}" for name in chains)
    yield from (f"delete set {where} {name}" for name in left(table.sets))


def remove(table: Table) -> None:
    """Take the whole table away."""
    if table.exists:
        run(["nft", "-f", "-"], input=f"delete table {FAMILY} {table.name}\n", timeout=TIMEOUT)


def at_boot(catalog: str) -> str:
    """What makes the table as it is on a host that has just been booted, as nftables itself writes it; "" if there is
    none."""
    try:
        argv = ["nft", "--stateless", "--terse", "list", "table", FAMILY, nat.table_name(catalog)]
        return _SIZE.sub("", run(argv, timeout=TIMEOUT, check=False).stdout)
    except MissingDependency:
        return ""
