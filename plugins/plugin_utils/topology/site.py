# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a picture shows out of what nebula_info returns. Whatever is missing, or is not what it should be, is left
out: a picture of the rest is better than none."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .text_width import natural_sort_key, printable_line

NOWHERE = "on no node yet"


@dataclass(frozen=True)
class Network:
    """Describes a virtual network.
    link: its driver, and the bridge or device that it is on.
    unknown: whether the catalog does not have it, and others only name it."""

    name: str
    tenant: str = ""
    id: str = ""
    driver: str = ""
    link: str = ""
    external: bool = False
    cidr: str = ""
    gateways: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    size: int = 0
    used: int = 0
    held: int = 0
    unknown: bool = False


@dataclass(frozen=True)
class Nic:
    """Describes a NIC. floating: addresses by which it is reached from outside. aliases: its further addresses."""

    network: str
    ip: str = ""
    ip6: tuple[str, ...] = ()
    mac: str = ""
    floating: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        return self.ip or ("" if self.ip6 else self.mac)


@dataclass(frozen=True)
class Machine:
    name: str
    id: str = ""
    tenant: str = ""
    state: str = ""
    wanted: str = ""
    host: str = ""
    error: str = ""
    nics: tuple[Nic, ...] = ()

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(nic.network for nic in self.nics))


@dataclass(frozen=True)
class Node:
    name: str
    hypervisor: str = ""
    state: str = ""
    error: str = ""


@dataclass(frozen=True)
class Leg:
    """Describes a router's interface in a network. gateway: whether the router reaches the world by it."""

    network: str
    ip: str
    gateway: bool = False


@dataclass(frozen=True)
class Floating:
    external: str
    internal: str
    machine: str = ""


@dataclass(frozen=True)
class Router:
    name: str
    tenant: str = ""
    host: str = ""
    legs: tuple[Leg, ...] = ()
    floating: tuple[Floating, ...] = ()


@dataclass(frozen=True)
class SecurityGroup:
    name: str
    id: str = ""
    tenant: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """Holds everything that is shown, each list in the order in which people read it."""

    catalog: str = ""
    as_of: int = 0
    networks: tuple[Network, ...] = ()
    routers: tuple[Router, ...] = ()
    nodes: tuple[Node, ...] = ()
    machines: tuple[Machine, ...] = ()
    groups: tuple[SecurityGroup, ...] = ()
    tenants: tuple[str, ...] = ()
    by_network: Mapping[str, tuple[Machine, ...]] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        return next((node for node in self.nodes if node.name == name), Node(name))

    def states(self, machines: Sequence[Machine]) -> list[tuple[str, int]]:
        """Return how many machines are in which state, the most frequent first."""
        counted = Counter(machine.state or "UNKNOWN" for machine in machines)
        return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))


def read_site(info: Any) -> Site:
    """Return the site that a result of nebula_info describes."""
    given = info if isinstance(info, Mapping) else {}
    names = _Names(list(_items(given, "networks")), list(_items(given, "security_groups")))
    routers = tuple(sorted((_router(item, names) for item in _items(given, "routers")), key=_order))
    floating = _by_place(routers)
    machines = tuple(sorted((_machine(item, names, floating) for item in _items(given, "vms")), key=_order))
    networks = [_network(item, names.of(item)) for item in names.items]
    known = {network.name for network in networks}
    named = [leg.network for router in routers for leg in router.legs]
    named += [nic.network for machine in machines for nic in machine.nics]
    outer = {leg.network for router in routers for leg in router.legs if leg.gateway}
    networks += [
        Network(name, external=name in outer, unknown=True)
        for name in dict.fromkeys(named)
        if name and name not in known
    ]
    nodes = [_node(item) for item in _items(given, "hosts")]
    there = {node.name for node in nodes}
    nodes += [Node(host) for host in dict.fromkeys(m.host for m in machines) if host and host not in there]
    groups = tuple(sorted(map(_group, _items(given, "security_groups")), key=_order))
    by_network: dict[str, list[Machine]] = {}
    for machine in machines:
        for name in machine.networks or ("",):
            by_network.setdefault(name, []).append(machine)
    everybody = {thing.tenant for things in (networks, routers, machines, groups) for thing in things}
    return Site(
        catalog=printable_line(given.get("catalog")),
        as_of=_number(given.get("as_of")),
        networks=tuple(sorted(networks, key=_order)),
        routers=routers,
        nodes=tuple(sorted(nodes, key=_order)),
        machines=machines,
        groups=groups,
        tenants=tuple(sorted(everybody - {""}, key=natural_sort_key)),
        by_network={name: tuple(those) for name, those in by_network.items()},
    )


class _Names:
    """Tells names of networks and of security groups. The id tells networks that share a name apart; NICs have only the
    ids of security groups."""

    def __init__(self, items: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> None:
        self.items = items
        counted = Counter(printable_line(item.get("name")) for item in items)
        self.shared = {name for name, number in counted.items() if number > 1}
        self.by_id = {printable_line(item.get("id")): self.of(item) for item in items if item.get("id") is not None}
        self.groups = {
            printable_line(item.get("id")): printable_line(item.get("name")) for item in groups if item.get("name")
        }

    def of(self, item: Mapping[str, Any]) -> str:
        name = printable_line(item.get("name"))
        return f"{name} (id {printable_line(item.get('id'))})" if name in self.shared else name or "?"

    def network_of(self, item: Mapping[str, Any]) -> str:
        """Return the name of the network that a NIC or an interface names, by its id if several have that name."""
        name = printable_line(item.get("network"))
        return self.by_id.get(printable_line(item.get("network_id")), name) if name in self.shared else name


_ByPlace = Mapping[tuple[str, str], Sequence[Floating]]


def _by_place(routers: Sequence[Router]) -> _ByPlace:
    """Return the floating addresses by network and address within it: two tenants may have the same addresses."""
    found: dict[tuple[str, str], list[Floating]] = {}
    for router in routers:
        for leg in router.legs:
            for floating in router.floating if not leg.gateway else ():
                found.setdefault((leg.network, floating.internal), []).append(floating)
    return found


def _order(thing: Any) -> Any:
    return natural_sort_key(thing.name), natural_sort_key(getattr(thing, "id", ""))


def _items(given: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    items = given.get(key)
    return (item for item in items if isinstance(item, Mapping)) if isinstance(items, (list, tuple)) else iter(())


def _words(value: Any) -> tuple[str, ...]:
    """Return the words of a list, or of a text with blanks or commas between them."""
    if isinstance(value, str):
        return tuple(map(printable_line, value.replace(",", " ").split()))
    return (
        tuple(printable_line(one) for one in value if one not in (None, "")) if isinstance(value, (list, tuple)) else ()
    )


def _number(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def _value(item: Mapping[str, Any], key: str) -> Any:
    """Return the value of an item's own key, or else of the attribute of that name."""
    if item.get(key) not in (None, "", []):
        return item[key]
    attributes = item.get("attributes")
    return attributes.get(key.upper()) if isinstance(attributes, Mapping) else None


def _yes(value: Any) -> bool:
    return str(value).strip().upper() in ("YES", "TRUE", "1")


def _tenant(item: Mapping[str, Any]) -> str:
    value = item.get("tenant") or item.get("owner") or item.get("uname")
    return printable_line(value.get("name") if isinstance(value, Mapping) else value)


def _network(item: Mapping[str, Any], name: str) -> Network:
    driver = printable_line(_value(item, "vn_mad"))
    vlan = printable_line(_value(item, "vlan_id"))
    parts = [driver, f"id {vlan}" if vlan else "", printable_line(item.get("bridge"))]
    device = printable_line(_value(item, "phydev") or _value(item, "physical_network"))
    notes = ["NAT by the node"] if item.get("nat") is True else []
    notes += ["DHCP"] if _yes(_value(item, "dhcp")) else []
    mtu = printable_line(_value(item, "mtu") or _value(item, "guest_mtu"))
    notes += [f"MTU {mtu}"] if mtu else []
    dns = _words(_value(item, "dns"))
    notes += [f"DNS {', '.join(dns)}"] if dns else []
    notes += [printable_line(_value(item, "description"))] if _value(item, "description") else []
    ranges = list(_items(item, "address_ranges"))
    return Network(
        name=name,
        tenant=_tenant(item),
        id=printable_line(item.get("id")),
        driver=driver,
        link=" ".join(filter(None, parts)) + (f" on {device}" if device else ""),
        external=_yes(_value(item, "external")) or bool(_value(item, "physical_network")),
        cidr=_cidr(item),
        gateways=(*_words(_value(item, "gateway")), *_words(_value(item, "gateway6"))),
        ranges=tuple(filter(None, map(_range, ranges))),
        notes=tuple(notes),
        size=_number(item.get("size")) or sum(_number(each.get("size")) for each in ranges),
        used=_number(item.get("used")),
        held=_number(item.get("held")),
    )


def _cidr(item: Mapping[str, Any]) -> str:
    """Return the network's own address with the length of its prefix, if the item says both."""
    whole = printable_line(_value(item, "cidr") or _value(item, "network_address"))
    mask = printable_line(_value(item, "network_mask"))
    try:
        return str(ipaddress.ip_network(whole if "/" in whole or not mask else f"{whole}/{mask}", strict=False))
    except ValueError:
        return whole


def _range(item: Mapping[str, Any]) -> str:
    size = _number(item.get("size"))
    first = printable_line(item.get("ip") or item.get("ip6"))
    try:
        last = str(ipaddress.ip_address(first) + (size - 1)) if size > 1 else ""
    except ValueError:
        last = ""
    prefix = printable_line(item.get("global_prefix") or item.get("ula_prefix"))
    start = f"{first} – {last}" if first and last else first
    shown = ", ".join(filter(None, (start, prefix))) or printable_line(item.get("mac"))
    return f"{shown} ({size})" if shown and size else shown


def _node(item: Mapping[str, Any]) -> Node:
    return Node(
        name=printable_line(item.get("name")) or "?",
        hypervisor=printable_line(item.get("hypervisor")),
        state=printable_line(item.get("state")),
        error=printable_line(item.get("error")),
    )


def _machine(item: Mapping[str, Any], names: _Names, floating: _ByPlace) -> Machine:
    name = printable_line(item.get("name")) or "?"
    return Machine(
        name=name,
        id=printable_line(item.get("id")),
        tenant=_tenant(item),
        state=printable_line(item.get("state")),
        wanted=printable_line(item.get("wanted")),
        host=printable_line(item.get("host")),
        error=printable_line(item.get("error")),
        nics=tuple(
            replace(_nic(nic, name, names, floating), aliases=_aliases(item, nic)) for nic in _items(item, "nics")
        ),
    )


def _aliases(machine: Mapping[str, Any], nic: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses of the aliases that the guest has on the NIC."""
    own = [alias for alias in _items(machine, "nic_aliases") if alias.get("parent_id") == nic.get("nic_id")]
    texts = [
        printable_line(alias.get(key)) for alias in own if not alias.get("external") for key in ("ip", "ip6", "ip6_ula")
    ]
    return tuple(filter(None, texts))


def _nic(item: Mapping[str, Any], machine: str, names: _Names, floating: _ByPlace) -> Nic:
    network, ip = names.network_of(item), printable_line(item.get("ip"))
    outside = [f.external for f in floating.get((network, ip), ()) if f.machine in ("", machine)] if ip else []
    return Nic(
        network=network,
        ip=ip,
        ip6=tuple(filter(None, (printable_line(item.get(key)) for key in ("ip6", "ip6_ula")))),
        mac=printable_line(item.get("mac")),
        floating=tuple(dict.fromkeys((*_words(item.get("floating")), *outside))),
        groups=tuple(names.groups.get(each, each) for each in _words(item.get("security_groups"))),
    )


def _router(item: Mapping[str, Any], names: _Names) -> Router:
    gateway = item.get("gateway")
    outer = {"gateway": [gateway]} if isinstance(gateway, Mapping) else item
    legs = [_leg(each, names, True) for each in _items(outer, "gateway")]
    legs += [_leg(each, names, False) for each in _items(item, "interfaces")]
    every = item.get("floating")
    return Router(
        name=printable_line(item.get("name")) or "?",
        tenant=_tenant(item),
        host=printable_line(item.get("host")),
        legs=tuple(leg for leg in legs if leg.network),
        floating=tuple(filter(None, map(_floating, every if isinstance(every, (list, tuple)) else ()))),
    )


def _leg(item: Mapping[str, Any], names: _Names, gateway: bool) -> Leg:
    addresses = [printable_line(item.get("ip"))] if item.get("ip") else _words(item.get("addresses"))
    return Leg(names.network_of(item), ", ".join(addresses), gateway)


def _floating(value: Any) -> Floating | None:
    if isinstance(value, Mapping):
        external, internal, machine = (
            next((value[key] for key in keys if value.get(key)), "")
            for keys in (
                ("external", "external_ip", "floating", "ip"),
                ("internal", "internal_ip", "logical_ip"),
                ("vm", "machine"),
            )
        )
    elif isinstance(value, (list, tuple)):
        external, internal, machine = (*value, "", "", "")[:3]
    else:
        external, internal, machine = value, "", ""
    return Floating(printable_line(external), printable_line(internal), printable_line(machine)) if external else None


def _group(item: Mapping[str, Any]) -> SecurityGroup:
    rules = item.get("rules") or item.get("rule")
    return SecurityGroup(
        name=printable_line(item.get("name")) or "?",
        id=printable_line(item.get("id")),
        tenant=_tenant(item),
        rules=tuple(map(_rule, rules if isinstance(rules, (list, tuple)) else ())),
    )


def _rule(value: Any) -> str:
    """Return a rule as people read it aloud: inbound TCP 22,80 from 10.0.0.0/8."""
    if not isinstance(value, Mapping):
        return printable_line(value)
    parts = {printable_line(key).lower(): printable_line(each) for key, each in value.items() if each not in (None, "")}
    inbound = (parts.pop("rule_type", "") or parts.pop("direction", "")).lower() != "outbound"
    words = ["inbound" if inbound else "outbound", parts.pop("protocol", "ALL"), parts.pop("range", "")]
    address, size = parts.pop("ip", ""), parts.pop("size", "")
    network = parts.pop("network", "") or parts.pop("network_id", "")
    peer = f"{address} ({size})" if address and size else address or (f"network {network}" if network else "")
    words += [f"{'from' if inbound else 'to'} {peer}"] if peer else []
    return " ".join(filter(None, [*words, *(f"{key} {each}" for key, each in sorted(parts.items()))]))
