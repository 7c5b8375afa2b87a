# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what hosts have written into the southbound database with the catalog. Pure, but for the one read.

OVN's role ovn-controller lets the certificate of each host set the chassis of any port, of a router's gateway as
well, and insert and alter learned addresses (MAC_Binding, FDB) of any network. A host that was taken over draws
traffic of others to itself by that. None of it is prevented here: it is found, as far as the catalog says what is
right. It does not know a neighbour's MAC address outside: two routers that know different ones are found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

from ...dataclass import dataclass
from ...model.logical_network import LogicalNetworks, Router
from .logical_routers import mac_of, outside_mac, port_name
from .ovsdb_connection import Database
from .ovsdb_tables import MAP, REFERENCES, decode

DATABASE = "OVN_Southbound"
TABLES = {
    "Chassis": ("_uuid", "name"),
    "Datapath_Binding": ("tunnel_key", "external_ids"),
    # All of its columns: earlier versions of OVN have no additional_chassis.
    "Port_Binding": (),
    "MAC_Binding": ("_uuid", "logical_port", "ip", "mac"),
    "FDB": ("_uuid", "mac", "dp_key", "port_key"),
}
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
_SWITCH = "logical-switch"


@dataclass(frozen=True)
class WrongRow:
    """Says what somebody has written. asked, found, remedy: as those of an error. host: where the catalog has the
    machine."""

    asked: str
    found: str
    remedy: str
    host: str = ""


def read(database: Database) -> Rows:
    return database.select({table: list(columns) for table, columns in TABLES.items()})


def find_wrong_rows(
    rows: Rows, desired: LogicalNetworks, hosts: Mapping[str, str], switches: Mapping[str, str]
) -> list[WrongRow]:
    """Return what somebody has written against the catalog.
    hosts: by each port's UUID, where the catalog has its machine
    switches: the networks of the catalog, by the UUIDs of the northbound database's rows"""
    return [
        *_ports_elsewhere(rows, desired, hosts),
        *_gateways_elsewhere(rows, desired),
        *_wrong_mac_bindings(rows, desired),
        *_wrong_forwarding(rows, desired, switches),
    ]


def _names(rows: Rows) -> Mapping[str, str]:
    return {_uuid(row["_uuid"]): str(row["name"]) for row in rows["Chassis"]}


def _ports_elsewhere(rows: Rows, desired: LogicalNetworks, hosts: Mapping[str, str]) -> Iterator[WrongRow]:
    names = _names(rows)
    ports = {port.uuid: port for port in desired.ports}
    for row in rows["Port_Binding"]:
        port, chassis = ports.get(str(row["logical_port"])), names.get(_uuid(row["chassis"]), "")
        host = hosts.get(port.uuid, "") if port is not None else ""
        if port is None or not host:
            continue
        remedy = (
            f"If nobody has moved the machine there, see who has the certificate of {{}}. ovn-controller of {host} "
            "takes the port back when it is restarted (-e nebula_ovn_restart=true)"
        )
        if port.between:
            # It is on one of both, or on both.
            host = chassis if chassis in port.between else host
        if chassis and chassis != host:
            found = (
                f"it is on host {chassis}, and the catalog has its machine on {host}: packets for it go to {chassis}"
            )
            yield WrongRow(f"port of {port.name} in OVN", found, remedy.format(chassis), host)
        besides = decode(REFERENCES, row.get("additional_chassis") or ["set", []])
        for more in sorted({names.get(each, "") for each in besides} - {"", host, *port.between}):
            yield WrongRow(
                f"port of {port.name} in OVN",
                f"it is on host {more} besides, and the catalog has its machine on {host}: {more} gets a copy of the "
                "packets for it",
                f"If nobody is moving the machine there, see who has the certificate of {more}. On the central host: "
                f"ovn-sbctl clear Port_Binding {_uuid(row['_uuid'])} additional_chassis",
                host,
            )


def _gateways_elsewhere(rows: Rows, desired: LogicalNetworks) -> Iterator[WrongRow]:
    """Yield gateways on a host that does not carry them. Which of their own hosts is alive is not known here."""
    names = _names(rows)
    routers = {
        f"cr-{port_name(router.uuid, router.gateway.network)}": router for router in desired.routers if router.gateway
    }
    for row in rows["Port_Binding"]:
        router, chassis = routers.get(str(row["logical_port"])), names.get(_uuid(row["chassis"]), "")
        if router is None or router.gateway is None or not chassis:
            continue
        # The first that is alive carries it.
        hosts = [each.name for each in sorted(router.gateway.chassis, key=lambda each: -each.priority)]
        if chassis not in hosts:
            yield WrongRow(
                f"gateway of router {router.name} in OVN",
                f"it is on host {chassis}, and the catalog has it on {' or '.join(hosts)}: what goes outside, and what "
                f"comes from there, goes to {chassis}",
                f"See who has the certificate of {chassis}. ovn-controller of {hosts[0]} takes the gateway back while "
                "it runs: see whether it does, or restart it (-e nebula_ovn_restart=true)",
                hosts[0],
            )


@dataclass(frozen=True)
class _Owner:
    name: str
    mac: str


# A network, or the link that several networks outside are: those of one VLAN on one physical network.
_Link = tuple[str, Any]


def _links(desired: LogicalNetworks) -> Mapping[str, _Link]:
    """Return the link of each network, by the network's UUID."""
    return {
        network.uuid: (network.physical_network, network.vlan) if network.physical_network else ("", network.uuid)
        for network in desired.networks
    }


def _owners(desired: LogicalNetworks, links: Mapping[str, _Link]) -> Mapping[tuple[_Link, str], _Owner]:
    """Return who has each address of a link."""
    found: dict[tuple[_Link, str], _Owner] = {}
    for router in desired.routers:
        for each in (*router.interfaces, *((router.gateway,) if router.gateway else ())):
            owner = _Owner(f"router {router.name}", mac_of(router, each))
            found.update({(links[each.network], str(ip_interface(text).ip)): owner for text in each.addresses})
        for floating in router.floating if router.gateway else ():
            if router.gateway is not None:
                where = links[router.gateway.network]
                name = f"the floating addresses of router {router.name}"
                found[where, _as_ip(floating.external_ip)] = _Owner(name, outside_mac(router, router.gateway, floating))
    for port in desired.ports:
        found.update({(links[port.network], _as_ip(text)): _Owner(port.name, port.mac) for text in port.addresses})
    return found


def _wrong_mac_bindings(rows: Rows, desired: LogicalNetworks) -> Iterator[WrongRow]:
    """Yield addresses for which routers have learned a wrong MAC address: they send there what is for the address."""
    links = _links(desired)
    owners = _owners(desired, links)
    by_mac = {(link, owner.mac.lower()): owner for (link, _address), owner in owners.items()}
    # What may send from any address may be whom somebody has made a router's neighbour.
    unfiltered = {(links[port.network], port.mac.lower()) for port in desired.ports if not port.filter_ip}
    by_mac = {key: owner for key, owner in by_mac.items() if key not in unfiltered}
    interfaces = {
        port_name(router.uuid, each.network): (router, links[each.network])
        for router in desired.routers
        for each in (*router.interfaces, *((router.gateway,) if router.gateway else ()))
    }
    strangers: dict[tuple[_Link, str], list[tuple[Router, Mapping[str, Any]]]] = {}
    for row in rows["MAC_Binding"]:
        router, link = interfaces.get(str(row["logical_port"]), (None, ("", "")))
        address, mac = _as_ip(str(row["ip"])), str(row["mac"]).lower()
        owner = owners.get((link, address))
        if router is None:
            continue
        if owner is not None and mac != owner.mac.lower():
            yield WrongRow(
                f"address {row['ip']} of {owner.name} in OVN",
                f"routers send to {row['mac']} what is for it (MAC_Binding), and the catalog has {owner.mac}",
                _removal("MAC_Binding", row),
            )
        if owner is not None or address not in _next_hops(router):
            continue
        strangers.setdefault((link, address), []).append((router, row))
        if (link, mac) in by_mac:
            yield WrongRow(
                f"next hop {row['ip']} of router {router.name} in OVN",
                f"the router sends to {row['mac']} what is for it (MAC_Binding), which is the MAC address of "
                f"{by_mac[link, mac].name}, and that does not have the address",
                _removal("MAC_Binding", row),
            )
    yield from _contradicting(strangers)


def _contradicting(
    strangers: Mapping[tuple[_Link, str], Sequence[tuple[Router, Mapping[str, Any]]]],
) -> Iterator[WrongRow]:
    for (_link, address), learned in sorted(strangers.items(), key=lambda item: item[0][1]):
        if len({str(row["mac"]).lower() for _router, row in learned}) > 1:
            yield WrongRow(
                f"next hop {address} of routers {', '.join(router.name for router, _row in learned)} in OVN",
                "they send to different MAC addresses what is for it (MAC_Binding): "
                f"{', '.join(str(row['mac']) for _router, row in learned)}",
                "See which of them that neighbour has: another is false, or was its own before. "
                + _removal("MAC_Binding", *(row for _router, row in learned)),
            )


def _next_hops(router: Router) -> set[str]:
    gateway = (router.gateway.next_hop4, router.gateway.next_hop6) if router.gateway else ()
    return {_as_ip(text) for text in (*gateway, *(route.next_hop for route in router.routes)) if text}


def _as_ip(address: str) -> str:
    """Return the address in the one form that Python gives it; what hosts have written may be anything."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address


def _wrong_forwarding(rows: Rows, desired: LogicalNetworks, switches: Mapping[str, str]) -> Iterator[WrongRow]:
    """Yield MAC addresses that were learned at a wrong port, to which switches then send what is for them."""
    networks = {
        int(row["tunnel_key"]): switches.get(decode(MAP, row["external_ids"]).get(_SWITCH, ""), "")
        for row in rows["Datapath_Binding"]
    }
    keys = {str(row["logical_port"]): int(row["tunnel_key"]) for row in rows["Port_Binding"]}
    owners = {(port.network, port.mac.lower()): port for port in desired.ports}
    for row in rows["FDB"]:
        port = owners.get((networks.get(int(row["dp_key"]), ""), str(row["mac"]).lower()))
        if port is not None and keys.get(port.uuid) not in (None, int(row["port_key"])):
            yield WrongRow(
                f"MAC address {port.mac} of {port.name} in OVN",
                f"it was learned at port {row['port_key']} of its network (FDB), and its own is {keys[port.uuid]}",
                _removal("FDB", row),
            )


def _removal(table: str, *rows: Mapping[str, Any]) -> str:
    return (
        f"On the central host: ovn-sbctl destroy {table} {' '.join(_uuid(row['_uuid']) for row in rows)}. If it comes "
        "again, a machine or a host says so: see who has the certificates of hosts, and whether that network filters "
        "addresses"
    )


def _uuid(value: Any) -> str:
    """Return the UUID of a reference; "" where there is none."""
    return str(value[1]) if isinstance(value, list) and len(value) == 2 and value[0] == "uuid" else ""
