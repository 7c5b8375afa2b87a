# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses what must not be asked of OVN because of what others have in it: names and addresses that are taken. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface
from typing import Any, Optional

from ...errors import Conflict, ForeignObject
from ...model.logical_network import LogicalNetwork, LogicalNetworks
from .ovsdb_tables import CATALOG, EXTERNAL_IDS, UNIQUE_NAMES, Identity, Uuid
from .row_differences import DatabaseState, Desired

# Their names need not be unique, so that OVN would have two; commands that name one would then refuse.
_NAMED = {"Logical_Switch": "network", "Logical_Router": "router"}

# A physical network and the tag in it.
Link = tuple[str, Optional[int]]


def refuse(found: DatabaseState, rows: Desired, desired: LogicalNetworks) -> None:
    _refuse_names(found, rows)
    _refuse_addresses_on_switches(found, desired)
    _refuse_addresses_outside(found, desired)


def _whose(found: DatabaseState, uuid: Uuid) -> str:
    ids = found.rows[uuid][1][EXTERNAL_IDS]
    if CATALOG in ids:
        return f"is of catalog {ids[CATALOG]}"
    marks = ", ".join(f"{key}={value}" for key, value in sorted(ids.items()))
    return f"is not of this catalog (external_ids: {marks or 'none'})"


def _refuse_names(found: DatabaseState, rows: Desired) -> None:
    taken: dict[tuple[str, str], Uuid] = {}
    for table in (*UNIQUE_NAMES, *_NAMED):
        for uuid, row in found.foreign(table):
            taken[table, row["name"]] = uuid
    if not taken:
        return
    for wanted, columns in rows.items():
        name = columns.get("name", "")
        there, other = found.ours.get(wanted), taken.get((wanted.table, name))
        # Two of one name that are there already do not come of this run.
        if other is None or (there is not None and found.rows[there][1]["name"] == name):
            continue
        kind = _NAMED.get(wanted.table, str(wanted.owner))
        raise ForeignObject(
            f"{kind} {name}: {wanted.table} in OVN's northbound database",
            f"{other} has this name, and {_whose(found, other)}",
            "Give ours another name, or remove that one with the tool that made it",
        )


# --- addresses --------------------------------------------------------------------------------------------------------
def _refuse_addresses_on_switches(found: DatabaseState, desired: LogicalNetworks) -> None:
    """Raise Conflict for an address that a port of others on a switch of ours has."""
    taken = {network.uuid: dict(_foreign_ports(found, network)) for network in desired.networks}
    if not any(taken.values()):
        return
    names = {network.uuid: network.name for network in desired.networks}
    for port in desired.ports:
        for text in port.addresses:
            _refuse_taken(found, taken[port.network], text, f"NIC {port.name or port.uuid}", names[port.network])
    for router in desired.routers:
        for interface in (*router.interfaces, *((router.gateway,) if router.gateway else ())):
            for text in interface.addresses:
                plain = str(ip_interface(text).ip)
                _refuse_taken(found, taken[interface.network], plain, f"router {router.name}", names[interface.network])


def _refuse_taken(found: DatabaseState, taken: Mapping[Any, Uuid], text: str, owner: str, network: str) -> None:
    uuid = taken.get(ip_address(text))
    if uuid is not None:
        raise Conflict(
            f"{owner}: {text} in network {network}",
            f"{found.label(uuid)} in OVN has it, which {_whose(found, uuid)}",
            "Hold the address in the catalog, so that nobody leases it, or remove that one",
        )


def _foreign_ports(found: DatabaseState, network: LogicalNetwork) -> Iterator[tuple[Any, Uuid]]:
    uuid = found.ours.get(Identity("Logical_Switch", found.catalog, network=network.uuid))
    for port in found.rows[uuid][1]["ports"] if uuid else ():
        if port in found.rows and port not in found.identities:
            yield from ((each, port) for each in _port_addresses(found, port))


def _port_addresses(found: DatabaseState, port: Uuid) -> Iterator[Any]:
    for text in found.rows[port][1]["addresses"]:
        for word in text.split():
            try:
                yield ip_address(word)
            except ValueError:
                # Its MAC address, or a word of OVN's: router, dynamic, unknown.
                continue


def _refuse_addresses_outside(found: DatabaseState, desired: LogicalNetworks) -> None:
    """Raise Conflict for an address that routers of others have in an external network, or that others gave to ours."""
    links = {network.uuid: (network.physical_network, network.vlan) for network in desired.networks}
    names = {network.uuid: network.name for network in desired.networks}
    taken: dict[Link, dict[Any, Uuid]] = {}
    for link, address, uuid in _foreign_outside(found):
        taken.setdefault(link, {})[address] = uuid
    for router in desired.routers:
        if router.gateway is None:
            continue
        network = router.gateway.network
        others = {**taken.get(links[network], {}), **dict(_foreign_nat(found, router.uuid))}
        if not others:
            continue
        for text in router.gateway.addresses:
            _refuse_taken(found, others, str(ip_interface(text).ip), f"router {router.name}: gateway", names[network])
        for floating in router.floating:
            owner = f"router {router.name}: floating address"
            _refuse_taken(found, others, floating.external_ip, owner, names[network])


def _foreign_nat(found: DatabaseState, router: str) -> Iterator[tuple[Any, Uuid]]:
    """Yield the addresses that others added to a router of ours."""
    uuid = found.ours.get(Identity("Logical_Router", found.catalog, router=router))
    for nat in found.rows[uuid][1]["nat"] if uuid else ():
        if nat in found.rows and nat not in found.identities:
            yield from _nat_addresses(found, nat)


def _nat_addresses(found: DatabaseState, nat: Uuid) -> Iterator[tuple[Any, Uuid]]:
    try:
        yield ip_address(found.rows[nat][1]["external_ip"]), nat
    except ValueError:
        # A range, or nothing: it is of no use to OVN either.
        return


def _foreign_outside(found: DatabaseState) -> Iterator[tuple[Link, Any, Uuid]]:
    """Yield each address by which somebody else's router is in an external network, or that it translates to."""
    routers = list(found.foreign("Logical_Router"))
    if not routers:
        return
    by_name = {columns["name"]: uuid for uuid, columns in found.foreign("Logical_Router_Port")}
    links: dict[Uuid, Link] = {}
    for table, columns in found.rows.values():
        if table != "Logical_Switch":
            continue
        members = [found.rows[port][1] for port in columns["ports"] if port in found.rows]
        outside = next((_link(port) for port in members if port["type"] == "localnet"), None)
        for port in members if outside else ():
            end = by_name.get(port["options"].get("router-port", ""))
            if end is not None and outside is not None:
                links[end] = outside
    for _uuid, columns in routers:
        for port in columns["ports"]:
            if port not in links:
                continue
            for text in found.rows[port][1]["networks"]:
                yield links[port], ip_interface(text).ip, port
            for nat in columns["nat"]:
                yield from ((links[port], each, uuid) for each, uuid in _nat_addresses(found, nat))


def _link(port: Mapping[str, Any]) -> Link:
    return port["options"].get("network_name", ""), next(iter(port["tag"]), None)
