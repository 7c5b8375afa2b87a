# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads bridges of Open vSwitch on this host, as far as networks with driver ovswitch have them. Nothing here changes
anything."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field

from ..dataclass import dataclass
from ..errors import ForeignObject, NebulaError, NotFound
from ..model.vlan_trunks import Port
from .ovn import ovsdb_client
from .ovn.daemons import is_installed, pid_of
from .ovn.paths import Places

DATABASE = "Open_vSwitch"
TABLES = ("Open_vSwitch", "Bridge", "Port", "Interface")
# In external_ids of a bridge: the catalog, its networks, the interface of the host that we made a port of it. Others
# than those of OVN's bridges, so that neither is taken for the other.
MARK, NETWORKS, PORT = "nebula-switch", "nebula-networks", "nebula-port"
# Beside the last, if that interface was down before.
PORT_DOWN = "nebula-port-down"
# In external_ids of the whole: the catalog for which Open vSwitch was switched on, and behind a colon what that was, if
# not its database that was made. OVN's own word for what it was.
MADE, MADE_FOR_OVN = "nebula-switch-made", "nebula-made"
# Interfaces that the kernel has.
_OF_KERNEL = ("", "system", "tap")


@dataclass(frozen=True)
class SwitchPort:
    """Describes a port of Open vSwitch.
    tag, trunks, mode: as Open vSwitch has them; without any of them the port is in all VLANs
    kind: "" for an interface of the host
    error: why Open vSwitch can't use it"""

    tag: int | None = None
    trunks: tuple[int, ...] = ()
    mode: str = ""
    kind: str = ""
    error: str = ""

    @property
    def everything(self) -> bool:
        return self.tag is None and not self.trunks and not self.mode

    @property
    def of_kernel(self) -> bool:
        return self.kind in _OF_KERNEL

    def __str__(self) -> str:
        if self.everything:
            return "all VLANs"
        trunk = f", trunk {','.join(map(str, self.trunks))}" if self.trunks else ""
        return f"VLAN {self.tag or 'none'}{trunk}" + (f" ({self.mode})" if self.mode else "")


def port_of(wanted: Port) -> SwitchPort:
    """Return the port that libvirt makes of a NIC."""
    if wanted.tag and not wanted.trunks:
        return SwitchPort(wanted.tag)
    return SwitchPort(wanted.tag or None, wanted.carried, wanted.mode)


@dataclass(frozen=True)
class SwitchBridge:
    name: str
    external_ids: Mapping[str, str] = field(default_factory=dict)
    datapath: str = ""
    ports: Mapping[str, SwitchPort] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """Return the UUID of the catalog whose bridge it is; "" for somebody else's."""
        return self.external_ids.get(MARK, "")

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(each for each in self.external_ids.get(NETWORKS, "").split(",") if each)

    @property
    def port(self) -> str:
        return self.external_ids.get(PORT, "")

    @property
    def port_was_down(self) -> bool:
        return bool(self.port) and PORT_DOWN in self.external_ids


@dataclass(frozen=True)
class Switches:
    """Holds what this host's Open vSwitch has. there: whether it has a database. running: whether both daemons run."""

    there: bool = False
    running: bool = False
    external_ids: Mapping[str, str] = field(default_factory=dict)
    bridges: Mapping[str, SwitchBridge] = field(default_factory=dict)

    def ours(self, catalog: str) -> dict[str, SwitchBridge]:
        return {name: bridge for name, bridge in self.bridges.items() if catalog and bridge.mark == catalog}


def observe(places: Places | None = None) -> Switches:
    """Read the database once, or its file where no server has it open. Without a database no process is started."""
    places = places or Places()
    rows = _rows(places, TABLES)
    if not rows:
        return Switches()
    interfaces = {ovsdb_client.uuid_of(row): row for row in rows["Interface"]}
    ports = {ovsdb_client.uuid_of(row): row for row in rows["Port"]}
    bridges = {}
    for row in rows["Bridge"]:
        found: dict[str, SwitchPort] = {}
        for port in (ports[uuid] for uuid in ovsdb_client.as_list(row["ports"])):
            tags = [int(tag) for tag in ovsdb_client.as_list(port["tag"])]
            for interface in (interfaces[uuid] for uuid in ovsdb_client.as_list(port["interfaces"])):
                if interface["name"] != row["name"]:
                    found[str(interface["name"])] = SwitchPort(
                        tag=tags[0] if tags else None,
                        trunks=tuple(sorted(int(number) for number in ovsdb_client.as_list(port["trunks"]))),
                        mode=ovsdb_client.as_text(port["vlan_mode"]),
                        kind=str(interface["type"]),
                        error=ovsdb_client.as_text(interface["error"]),
                    )
        bridges[str(row["name"])] = SwitchBridge(
            str(row["name"]),
            ovsdb_client.as_map(row["external_ids"]),
            ovsdb_client.as_text(row["datapath_type"]),
            found,
        )
    whole = ovsdb_client.as_map(rows["Open_vSwitch"][0]["external_ids"]) if rows["Open_vSwitch"] else {}
    return Switches(True, _running(places), whole, bridges)


def bridges_of_catalog(catalog: str, places: Places | None = None) -> dict[str, SwitchBridge]:
    """Return this catalog's bridges without their ports: where OVN has thousands of ports, none of them is read."""
    rows = _rows(places or Places(), ("Bridge",), ("name", "external_ids")).get("Bridge", ())
    found = {str(row["name"]): SwitchBridge(str(row["name"]), ovsdb_client.as_map(row["external_ids"])) for row in rows}
    return Switches(bridges=found).ours(catalog)


def _rows(
    places: Places, tables: Sequence[str], columns: Sequence[str] | None = None
) -> dict[str, list[ovsdb_client.Row]]:
    # A package that was removed leaves its database behind.
    if not is_installed("switch"):
        return {}
    if pid_of(places.ovs_run, "ovsdb-server", "ovsdb-server"):
        return ovsdb_client.select(places.switch_socket, DATABASE, tables, columns)
    if os.path.exists(places.switch_database):
        return ovsdb_client.select_file(places.switch_database, DATABASE, tables, columns)
    return {}


def _running(places: Places) -> bool:
    return all(pid_of(places.ovs_run, name, name) for name in ("ovsdb-server", "ovs-vswitchd"))


def networks_here(catalog: str) -> tuple[str, ...]:
    """Return the UUIDs of this catalog's networks that have their bridge in a running Open vSwitch of this host."""
    if not _running(Places()):
        return ()
    try:
        return tuple(uuid for bridge in bridges_of_catalog(catalog).values() for uuid in bridge.networks)
    except (NebulaError, OSError):
        return ()


def refuse_other(network: str, name: str, found: Switches, catalog: str, uuid: str) -> None:
    """Raise NotFound or ForeignObject if there is no bridge of that name, or one that is not this network's."""
    bridge = found.bridges.get(name)
    if bridge is not None and found.running and bridge.mark == catalog and uuid in bridge.networks:
        return
    asked = f"network {network}: bridge {name}"
    remedy = "Run nebula.provision.site: role network makes it on this host, or says what keeps it from that"
    if not found.running:
        raise NotFound(asked, "Open vSwitch does not run on this host", remedy)
    if bridge is None:
        raise NotFound(asked, "Open vSwitch of this host has none", remedy)
    whose = f"is of catalog {bridge.mark}" if bridge.mark != catalog else "was made for other networks"
    whose = whose if bridge.mark else "was not made by this collection"
    raise ForeignObject(asked, f"the bridge of that name in Open vSwitch {whose}", remedy)
