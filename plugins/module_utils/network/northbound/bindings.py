# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts have written into the southbound database, against the catalog. Pure, but for the one read.

OVN's role ovn-controller lets the certificate of each host set the chassis of any port, and insert and alter learned
addresses (MAC_Binding, FDB) of any network. A host that was taken over draws traffic of others to itself by that. None
of it is prevented here: it is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...dataclass import dataclass
from ...model.logical_network import LogicalNetworks
from .database import Database

DATABASE = "OVN_Southbound"
TABLES = {
    "Chassis": ("_uuid", "name"),
    "Datapath_Binding": ("tunnel_key", "external_ids"),
    "Port_Binding": ("logical_port", "chassis", "tunnel_key"),
    "MAC_Binding": ("_uuid", "logical_port", "ip", "mac"),
    "FDB": ("_uuid", "mac", "dp_key", "port_key"),
}
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
_SWITCH = "logical-switch"


@dataclass(frozen=True)
class Altered:
    """What somebody has written. asked, found, remedy: as those of an error. host: where the catalog has the
    machine."""

    asked: str
    found: str
    remedy: str
    host: str = ""


def read(database: Database) -> Rows:
    return database.select({table: list(columns) for table, columns in TABLES.items()})


def altered(
    rows: Rows, desired: LogicalNetworks, hosts: Mapping[str, str], switches: Mapping[str, str]
) -> list[Altered]:
    """hosts: by each port's UUID, where the catalog has its machine. switches: by the UUIDs of the northbound
    database's rows, the networks of the catalog."""
    return [
        *_moved(rows, desired, hosts),
        *_bound(rows, desired),
        *_forwarded(rows, desired, switches),
    ]


def _moved(rows: Rows, desired: LogicalNetworks, hosts: Mapping[str, str]) -> Iterator[Altered]:
    names = {_uuid(row["_uuid"]): str(row["name"]) for row in rows["Chassis"]}
    ports = {port.uuid: port for port in desired.ports}
    for row in rows["Port_Binding"]:
        port, chassis = ports.get(str(row["logical_port"])), names.get(_uuid(row["chassis"]), "")
        host = hosts.get(port.uuid, "") if port is not None else ""
        if port is not None and chassis and host and chassis != host:
            yield Altered(
                f"port of {port.name} in OVN",
                f"it is on host {chassis}, and the catalog has its machine on {host}: packets for it go to {chassis}",
                f"If nobody has moved the machine there, see who has the certificate of {chassis}. ovn-controller of "
                f"{host} takes the port back when it is restarted (-e nebula_ovn_restart=true)",
                host,
            )


def _bound(rows: Rows, desired: LogicalNetworks) -> Iterator[Altered]:
    """Routers send what is for an address to the MAC address that was learned for it."""
    owners = {(port.network, address): port for port in desired.ports for address in port.addresses}
    interfaces = {
        f"lrp-{router.uuid}-{each.network}": each.network for router in desired.routers for each in router.interfaces
    }
    for row in rows["MAC_Binding"]:
        network = interfaces.get(str(row["logical_port"]), "")
        port = owners.get((network, str(row["ip"]).lower()))
        if port is not None and str(row["mac"]).lower() != port.mac.lower():
            yield Altered(
                f"address {row['ip']} of {port.name} in OVN",
                f"routers send to {row['mac']} what is for it (MAC_Binding), and the catalog has {port.mac}",
                _removal("MAC_Binding", row),
            )


def _forwarded(rows: Rows, desired: LogicalNetworks, switches: Mapping[str, str]) -> Iterator[Altered]:
    """Switches send what is for a MAC address to the port that was learned for it, where they know no port of it."""
    networks = {
        int(row["tunnel_key"]): switches.get(_map(row["external_ids"]).get(_SWITCH, ""), "")
        for row in rows["Datapath_Binding"]
    }
    keys = {str(row["logical_port"]): int(row["tunnel_key"]) for row in rows["Port_Binding"]}
    owners = {(port.network, port.mac.lower()): port for port in desired.ports}
    for row in rows["FDB"]:
        port = owners.get((networks.get(int(row["dp_key"]), ""), str(row["mac"]).lower()))
        if port is not None and keys.get(port.uuid) not in (None, int(row["port_key"])):
            yield Altered(
                f"MAC address {port.mac} of {port.name} in OVN",
                f"it was learned at port {row['port_key']} of its network (FDB), and its own is {keys[port.uuid]}",
                _removal("FDB", row),
            )


def _removal(table: str, row: Mapping[str, Any]) -> str:
    return (
        f"On the central host: ovn-sbctl destroy {table} {_uuid(row['_uuid'])}. If it comes again, a machine or a host "
        "says so: see who has the certificates of hosts, and whether that network filters addresses"
    )


def _uuid(value: Any) -> str:
    """Of a reference; "" where there is none."""
    return str(value[1]) if isinstance(value, list) and len(value) == 2 and value[0] == "uuid" else ""


def _map(value: Any) -> Mapping[str, str]:
    return {str(key): str(item) for key, item in value[1]} if isinstance(value, list) and value[:1] == ["map"] else {}
