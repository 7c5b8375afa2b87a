# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derives what OVN is to have: the catalog's networks with driver ovn, their machines' NICs, routers and security
groups."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from ....dataclass import dataclass, replace
from ....errors import InvalidValue
from ....model import context_firewall, ethertypes, network_checks, ovn_context_firewall, security_group
from ....model.dataclass_json import from_plain
from ....model.flags import flag
from ....model.logical_network import (
    SLAAC,
    STATEFUL,
    Bandwidth,
    Chassis,
    FloatingAddress,
    Gateway,
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    Route,
    Router,
    SecurityGroup,
)
from ....model.move import LIVE, Move
from ....model.network import FILTERS, Network
from ....model.network_drivers import OVN
from ....model.nic import addresses_by_nic, interface_id
from ....model.nic_filter_rules import GuardRule
from ....model.router import FloatingIp
from ....model.router import Router as CatalogRouter
from ....model.security_group import GroupRule
from ....model.whole_numbers import whole
from ..store import Store
from . import network_rows
from .network_rows import NIC

# A kilobyte of OpenNebula's limits is 1024 bytes, as libvirt has it.
_KBIT_PER_KB = 8.192
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
# OVN takes priorities up to this.
_HIGHEST = 32767
# The group of NICs that name only groups that do not exist: it lets nothing through; without any group all would pass.
CLOSED = "00000000-0000-4000-8000-00000000dead"


def logical(store: Store, unused_groups: bool = False, known: Known | None = None) -> LogicalNetworks:
    """Return all that is wanted of OVN; it is to have nothing else.
    unused_groups: with security groups that no machine has.
    known: what was made of the catalog before."""
    networks = {n.id: n for n in network_rows.pool(store) if n.vn_mad == OVN and n.id is not None}
    uuids = {number: network.uuid for number, network in networks.items()}
    groups = {row["id"]: row for row in store.rows("SELECT * FROM security_groups ORDER BY id")}
    known = known or Known()
    made = known.begin(networks, {number: row["uuid"] for number, row in groups.items()})
    found = {number: SecurityGroup(r["uuid"], r["name"], _rules(r["rules"], uuids)) for number, r in groups.items()}
    walls: dict[str, SecurityGroup] = {}
    ports, by_machine = _ports(store, networks, _Groups(found, {each.uuid: each for each in made}, walls), known)
    hosts = [row["name"] for row in store.rows("SELECT name FROM hosts ORDER BY id")]
    routers = []
    for row in store.rows("SELECT * FROM routers ORDER BY id"):
        router = from_plain(CatalogRouter, {**json.loads(row["body"]), "id": row["id"], "name": row["name"]})
        routers.append(_router(router, row["uuid"], networks, by_machine, hosts))
    used = {group for port in ports for group in port.security_groups}
    closed = (SecurityGroup(CLOSED, "none that is known", ()),) if CLOSED in used else ()
    return LogicalNetworks(
        networks=made,
        ports=tuple(ports),
        groups=(*(group for group in found.values() if unused_groups or group.uuid in used), *closed, *walls.values()),
        routers=tuple(routers),
    )


def port_hosts(store: Store) -> dict[str, str]:
    """Return by the UUIDs of NICs' ports the hosts that their machines are on."""
    found = {}
    for row in store.rows(
        "SELECT vms.uuid, vms.body, hosts.name AS host FROM vms JOIN hosts ON hosts.id = vms.host_id"
        " WHERE vms.state != 6"
    ):
        for nic in json.loads(row["body"]).get("nics") or ():
            found[interface_id(row["uuid"], nic["nic_id"])] = str(row["host"])
    return found


@dataclass(frozen=True)
class _Machine:
    """Holds a machine's ports in networks of OVN, with the networks' ids, and what they follow from: the machine's
    row, the ids of all networks that its NICs are in, and of all groups that they name, whether these exist or not."""

    row: tuple[Any, ...]
    networks: frozenset[int]
    groups: frozenset[int]
    ports: Sequence[tuple[int, LogicalPort]]


class Known:
    """Keeps what was made of the catalog. Each item of a list has it made anew, and changes next to nothing of it."""

    def __init__(self) -> None:
        self.machines: dict[int, _Machine] = {}
        self._networks: dict[int, tuple[Network, LogicalNetwork]] = {}
        self._groups: dict[int, str] = {}

    def begin(self, networks: Mapping[int, Network], groups: Mapping[int, str]) -> tuple[LogicalNetwork, ...]:
        """Forget the machines for which a network or group has changed, and return what the networks are for OVN."""
        made = {}
        for number, network in networks.items():
            former = self._networks.get(number)
            made[number] = former if former and former[0] == network else (network, _network(network))
        in_networks = _differing(self._networks, made)
        in_groups = _differing(self._groups, groups)
        if in_networks or in_groups:
            self.machines = {
                number: machine
                for number, machine in self.machines.items()
                if in_networks.isdisjoint(machine.networks) and in_groups.isdisjoint(machine.groups)
            }
        self._networks, self._groups = made, dict(groups)
        return tuple(each for _network, each in made.values())


def _differing(before: Mapping[int, Any], after: Mapping[int, Any]) -> set[int]:
    return {number for number in before.keys() | after.keys() if before.get(number) != after.get(number)}


@dataclass(frozen=True)
class _Groups:
    """Finds the security groups of NICs. by_id: the security groups. networks: the networks by UUID. walls: by UUID
    the groups that firewalls of contexts have made."""

    by_id: Mapping[int, SecurityGroup]
    networks: Mapping[str, LogicalNetwork]
    walls: dict[str, SecurityGroup]

    def of(self, texts: Sequence[str], firewall: Sequence[GuardRule] | None) -> tuple[str, ...]:
        """Return the UUIDs of the groups that a NIC has. texts: its SECURITY_GROUPS and its network's."""
        ids = security_group.known_ids(",".join(texts), self.by_id)
        # Group 0 lets everything through, whatever the others say.
        held = None if security_group.DEFAULT_ID in ids or not any(texts) else [self.by_id[each] for each in ids]
        if firewall is not None:
            wall = ovn_context_firewall.firewall_group(firewall, held, self.networks)
            self.walls[wall.uuid] = wall
            return (wall.uuid,)
        if held is None:
            return ()
        return tuple(group.uuid for group in held) or (CLOSED,)


def _network(network: Network) -> LogicalNetwork:
    values = network.attributes
    whole = network_checks.network_cidr(network)
    prefixes = dict.fromkeys(prefix for r in network.address_ranges for prefix in network_checks.prefixes6(r))
    physical, vlan = values.get("PHYSICAL_NETWORK", ""), values.get("VLAN_ID", "")
    return LogicalNetwork(
        uuid=network.uuid,
        name=network.name,
        cidr4=str(whole) if whole is not None else "",
        gateway4=values.get("GATEWAY", ""),
        prefixes6=tuple(prefixes),
        gateway6=values.get("GATEWAY6", ""),
        ra_mode=_ra_mode(network) if prefixes and values.get("GATEWAY6") else "",
        dns=tuple(values.get("DNS", "").split()),
        search_domain=values.get("SEARCH_DOMAIN", "").split(" ")[0],
        mtu=int(values.get("GUEST_MTU") or 0),
        dhcp=whole is not None and _is_on(network, "DHCP", not physical),
        physical_network=physical,
        vlan=int(vlan) if vlan and physical else None,
    )


def _ra_mode(network: Network) -> str:
    """Return how router advertisements tell addresses. Static ones are told by DHCP, and never follow from MACs."""
    if not any(r.ip6 for r in network.address_ranges):
        return SLAAC
    return STATEFUL if _is_on(network, "DHCP", not network.attributes.get("PHYSICAL_NETWORK")) else ""


def _is_on(network: Network, attribute: str, otherwise: bool) -> bool:
    value = network.attributes.get(attribute, "")
    return flag(value, f"network {network.name}: {attribute}") if value else otherwise


def _ports(
    store: Store, networks: Mapping[int, Network], groups: _Groups, known: Known
) -> tuple[list[LogicalPort], dict[str, dict[int, str]]]:
    """Return the ports, and by name of each machine the ports of its NICs, by network."""
    ports: list[LogicalPort] = []
    by_machine: dict[str, dict[int, str]] = {}
    if not networks:
        return ports, by_machine
    marks = ", ".join("?" * len(networks))
    leased: dict[int, set[int]] = {}
    for row in store.rows(
        f"SELECT vm_id, nic_id FROM leases WHERE network_id IN ({marks}) AND kind = ?", *networks, NIC
    ):
        leased.setdefault(row["vm_id"], set()).add(row["nic_id"])
    between = _between(store)
    # Of two machines of one name, the one that is being ended comes last: its floating address is the other's.
    for row in store.rows("SELECT id, name, uuid, body FROM vms WHERE state != 6 ORDER BY wanted = 'DONE', id"):
        nics = leased.get(row["id"])
        if not nics:
            continue
        given = (row["name"], row["uuid"], row["body"], nics)
        machine = known.machines.get(row["id"])
        if machine is None or machine.row != given:
            machine = known.machines[row["id"]] = _machine(given, networks, groups)
        for network_id, port in machine.ports:
            ports.append(replace(port, between=between[row["id"]]) if row["id"] in between else port)
            by_machine.setdefault(row["name"], {}).setdefault(network_id, port.uuid)
    return ports, by_machine


def _between(store: Store) -> dict[int, tuple[str, str]]:
    """Return by id the two hosts of each machine that moves as it runs. One that is off has no interface anywhere."""
    rows = store.rows("SELECT id, move FROM vms WHERE move_host IS NOT NULL AND state != 6")
    moves = {row["id"]: from_plain(Move, json.loads(row["move"])) for row in rows}
    return {number: (move.source, move.target) for number, move in moves.items() if move.way == LIVE}


def _machine(row: tuple[str, str, str, set[int]], networks: Mapping[int, Network], groups: _Groups) -> _Machine:
    """Return the machine's ports. row: name, UUID, body, and numbers of the NICs that have leases in these networks."""
    name, uuid, text, nics = row
    body = json.loads(text)
    firewall = context_firewall.firewall_of_body(body)
    # An alias in another network would have nothing to carry its frames, and is refused.
    further = addresses_by_nic(each for each in body.get("aliases") or () if each["nic_id"] in nics)
    ports: list[tuple[int, LogicalPort]] = []
    used: set[int] = set()
    named: set[int] = set()
    for nic in body.get("nics") or ():
        network_id = nic.get("network_id", -1)
        used.add(network_id)
        network = networks.get(network_id)
        if network is None or nic["nic_id"] not in nics:
            continue
        texts = [each.get(security_group.ATTRIBUTE, "") for each in (network.attributes, nic.get("options") or {})]
        named.update(security_group.named_ids(",".join(texts)))
        port = _port(network, name, interface_id(uuid, nic["nic_id"]), nic, groups.of(texts, firewall))
        ports.append((network_id, replace(port, further=further.get(nic["nic_id"], ()))))
    # What a context's firewall makes is a group of its own, which follows from the rules of others.
    return _Machine(row if firewall is None else (), frozenset(used), frozenset(named), ports)


def _port(network: Network, machine: str, uuid: str, nic: Mapping[str, Any], groups: tuple[str, ...]) -> LogicalPort:
    options: Mapping[str, str] = nic.get("options") or {}
    values = {**network.attributes, **(nic.get("network_values") or {}), **options}
    filter_mac, filter_ip = address_filters_of(network, nic)
    name = machine.lower()
    leased = bool(nic.get("ip") or nic.get("ip6"))
    return LogicalPort(
        uuid=uuid,
        network=network.uuid,
        mac=nic["mac"],
        addresses4=tuple(filter(None, (nic.get("ip", ""),))),
        addresses6=tuple(filter(None, (nic.get("ip6", ""), nic.get("ip6_ula", "")))),
        hostname=name if _HOST.match(name) else "",
        name=f"{machine}, NIC {nic['nic_id']}",
        filter_mac=filter_mac,
        filter_ip=filter_ip,
        dhcp=leased and _is_on(network, "DHCP", not network.attributes.get("PHYSICAL_NETWORK")),
        security_groups=groups,
        bandwidth=Bandwidth(*(_kbit(values, way, "AVG_BW") for way in ("INBOUND", "OUTBOUND"))),
        ethertypes=ethertypes.read(network.attributes.get(ethertypes.ATTRIBUTE, ""), f"network {network.name}"),
    )


def address_filters_of(network: Network, nic: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether the NIC is held to its MAC address, and whether to its addresses."""
    values = {**network.attributes, **(nic.get("network_values") or {}), **(nic.get("options") or {})}
    mac, ip = (_filters(values.get(name, "")) for name in FILTERS)
    return mac, mac and ip


def _filters(value: str) -> bool:
    """Return whether addresses are filtered: they are unless the value says in so many words that they are not."""
    try:
        return not value or flag(value, "")
    except InvalidValue:
        return True


def _kbit(values: Mapping[str, str], way: str, what: str) -> int:
    return round((whole(values.get(f"{way}_{what}", "")) or 0) * _KBIT_PER_KB)


def _rules(text: str, networks: Mapping[int, str]) -> tuple[Any, ...]:
    # A rule that names a network outside OVN matches nobody there.
    return tuple(
        security_group.logical_rule(rule, networks)
        for rule in _read_rules(text)
        if rule.network_id is None or rule.network_id in networks
    )


@functools.lru_cache(maxsize=1 << 12)
def _read_rules(text: str) -> tuple[GroupRule, ...]:
    return tuple(from_plain(GroupRule, rule) for rule in json.loads(text))


def _router(
    router: CatalogRouter,
    uuid: str,
    networks: Mapping[int, Network],
    by_machine: Mapping[str, Mapping[int, str]],
    hosts: Sequence[str],
) -> Router:
    interfaces = tuple(
        Interface(networks[each.network_id].uuid, (*_with_length(networks[each.network_id], each.ip),))
        for each in router.interfaces
        if each.network_id in networks
    )
    gateway = None
    if router.gateway is not None and router.gateway.network_id in networks:
        network = networks[router.gateway.network_id]
        carriers = router.gateway.hosts or hosts
        # Before there is a node, nothing carries the gateway.
        gateway = (
            None
            if not carriers
            else Gateway(
                network.uuid,
                (*_with_length(network, router.gateway.ip),),
                tuple(Chassis(name, _HIGHEST - number) for number, name in enumerate(carriers)),
                next_hop4=router.gateway.next_hop or network.attributes.get("GATEWAY", ""),
                named=bool(router.gateway.hosts),
            )
        )
    return Router(
        uuid,
        router.name,
        interfaces,
        gateway,
        snat=gateway is not None and router.gateway is not None and router.gateway.snat,
        floating=tuple(_floating(router, by_machine)) if gateway is not None else (),
        routes=tuple(_routes(router, networks, gateway is None and router.gateway is not None)),
    )


def _routes(router: CatalogRouter, networks: Mapping[int, Network], ungated: bool) -> Iterable[Route]:
    """Yield the router's routes. ungated: its gateway is not there yet, so that routes by that are not, either."""
    spans = [network_checks.network_cidr(networks[e.network_id]) for e in router.interfaces if e.network_id in networks]
    for each in router.routes:
        inside = any(span is not None and network_checks.is_within(each.next_hop, span) for span in spans)
        if inside or not ungated:
            yield Route(each.destination, each.next_hop)


def _with_length(network: Network, ip: str) -> Iterable[str]:
    whole = network_checks.network_cidr(network)
    yield f"{ip}/{whole.prefixlen if whole is not None else 32}"
    gateway6 = network.attributes.get("GATEWAY6", "")
    # A router has a link-local address by itself.
    if (
        gateway6
        and ip == network.attributes.get("GATEWAY")
        and any(
            IPv6Address(gateway6) in IPv6Network(prefix)
            for r in network.address_ranges
            for prefix in network_checks.prefixes6(r)
        )
    ):
        yield f"{gateway6}/64"


def _floating(router: CatalogRouter, by_machine: Mapping[str, Mapping[int, str]]) -> Iterable[FloatingAddress]:
    """Yield the floating addresses whose machine is there, and has a NIC that the router leads to."""
    for each in router.floating:
        port = _port_of(each, router, by_machine.get(each.vm, {}))
        if port:
            yield FloatingAddress(each.ip, port, distributed=each.distributed)


def _port_of(floating: FloatingIp, router: CatalogRouter, nics: Mapping[int, str]) -> str:
    wanted = [floating.network_id] if floating.network_id is not None else [i.network_id for i in router.interfaces]
    return next((nics[number] for number in wanted if number in nics), "")
