# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what a host's Open vSwitch has and is to have for OVN: bridges, external_ids, TLS. It reads, compares, and
makes the words for `ovs-vsctl`; nothing here changes anything."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from ipaddress import ip_interface
from typing import Any

from ...dataclass import dataclass
from ...errors import InvalidValue
from . import ovsdb_client
from .certificates import Files
from .daemons import Daemons
from .ovsdb_client import MARK
from .paths import Places

DATABASE = "Open_vSwitch"
TABLES = ("Open_vSwitch", "Bridge", "Port", "Interface", "SSL")
INTEGRATION = "br-int"
# In external_ids: what there was before us, and is given back.
FORMER_ID, MADE = "nebula-former-system-id", "nebula-made"
ADDRESS, FROM, DOWN = "nebula-address", "nebula-address-from", "nebula-was-down"
# In external_ids of Open_vSwitch, besides the mark.
OURS = (
    *("ovn-remote", "ovn-encap-type", "ovn-encap-ip", "ovn-bridge-mappings", "ovn-bridge-datapath-type"),
    *("ovn-bridge",),
)
OVERHEAD = {"geneve": 58, "vxlan": 50}
# By how much larger the outer header is with IPv6.
SIX = 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}\Z")
_NETWORK = re.compile(r"[A-Za-z0-9_.-]{1,63}\Z")


@dataclass(frozen=True)
class BridgeMapping:
    """Describes a bridge of this host.
    network: the physical network that it is for OVN; "" for a bridge that only carries the tunnels' own address, as
    the userspace datapath needs it
    address: with its prefix length"""

    bridge: str
    network: str = ""
    interface: str = ""
    address: str = ""


@dataclass(frozen=True)
class Wanted:
    name: str
    catalog: str
    remote: str
    encap_type: str
    encap_ip: str
    datapath: str
    mappings: Sequence[BridgeMapping] = ()
    tls: Files | None = None

    @property
    def external_ids(self) -> dict[str, str]:
        ids = {
            MARK: self.catalog,
            "system-id": self.name,
            "ovn-remote": self.remote,
            "ovn-encap-type": self.encap_type,
            "ovn-encap-ip": self.encap_ip,
            "ovn-bridge": INTEGRATION,
        }
        named = ",".join(f"{each.network}:{each.bridge}" for each in self.mappings if each.network)
        if named:
            ids["ovn-bridge-mappings"] = named
        if self.datapath == "netdev":
            ids["ovn-bridge-datapath-type"] = "netdev"
        return ids


@dataclass(frozen=True)
class Bridge:
    """Describes a bridge of Open vSwitch. ports: the mark of each interface's port, without OVN's own patch ports."""

    name: str
    external_ids: Mapping[str, str] = field(default_factory=dict)
    datapath: str = ""
    fail_mode: str = ""
    ports: Mapping[str, str] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        return self.external_ids.get(MARK, "")


@dataclass
class Switch:
    """Holds what Open vSwitch has. there: whether it has a database at all."""

    there: bool = False
    external_ids: Mapping[str, str] = field(default_factory=dict)
    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    ssl: Mapping[str, str] = field(default_factory=dict)
    ssl_mark: str = ""

    @property
    def mark(self) -> str:
        return self.external_ids.get(MARK, "")


def read_mappings(items: Sequence[Mapping[str, Any]]) -> tuple[BridgeMapping, ...]:
    found: list[BridgeMapping] = []
    for item in items:
        values = {key: str(item.get(key) or "") for key in ("bridge", "network", "interface", "address")}
        each = BridgeMapping(**values)
        asked = f"bridge_mappings: {each.bridge or each.network or '(no bridge)'}"
        if not _NAME.match(each.bridge):
            raise InvalidValue(asked, f"bridge {each.bridge!r} is no name of an interface", "Give 1 to 15 characters")
        if each.bridge == INTEGRATION:
            raise InvalidValue(asked, "that is OVN's own bridge, which joins the machines", "Choose another, as br-ex")
        if each.network and not _NETWORK.match(each.network):
            raise InvalidValue(asked, f"network {each.network!r} is no name for one", "Use letters, digits, . _ -")
        if each.interface and (not _NAME.match(each.interface) or each.interface == each.bridge):
            raise InvalidValue(asked, f"interface {each.interface!r} can't be in it", "Name a network interface")
        if each.address:
            try:
                address = ip_interface(each.address)
            except ValueError as error:
                raise InvalidValue(asked, f"address {each.address!r}: {error}", "Write it as 192.0.2.1/24") from error
            if "/" not in each.address:
                raise InvalidValue(asked, f"address {each.address} has no prefix length", "Write it as 192.0.2.1/24")
            each = BridgeMapping(**{**values, "address": str(address)})
        found.append(each)
    for key in ("bridge", "network", "interface", "address"):
        given = [getattr(each, key) for each in found if getattr(each, key)]
        for value in given:
            if given.count(value) > 1:
                raise InvalidValue(
                    f"bridge_mappings: {key} {value}", "it is there twice", "Give each to one bridge only"
                )
    return tuple(found)


def observe(places: Places, running: Daemons) -> Switch:
    """Read the database once; its file where no server has it open."""
    if running.reading():
        rows = ovsdb_client.select(places.switch_socket, DATABASE, TABLES)
    elif os.path.exists(places.switch_database):
        rows = ovsdb_client.select_file(places.switch_database, DATABASE, TABLES)
    else:
        return Switch()
    if not rows["Open_vSwitch"]:
        return Switch()
    whole = rows["Open_vSwitch"][0]
    interfaces = {ovsdb_client.uuid_of(row): row for row in rows["Interface"]}
    ports = {ovsdb_client.uuid_of(row): row for row in rows["Port"]}
    bridges = {}
    for row in rows["Bridge"]:
        found: dict[str, str] = {}
        for uuid in ovsdb_client.as_list(row["ports"]):
            port = ports[uuid]
            for each in ovsdb_client.as_list(port["interfaces"]):
                interface = interfaces[each]
                if interface["type"] not in ("internal", "patch") and interface["name"] != row["name"]:
                    found[str(interface["name"])] = ovsdb_client.mark_of(port)
        bridges[str(row["name"])] = Bridge(
            name=str(row["name"]),
            external_ids=ovsdb_client.as_map(row["external_ids"]),
            datapath=ovsdb_client.as_text(row["datapath_type"]),
            fail_mode=ovsdb_client.as_text(row["fail_mode"]),
            ports=found,
        )
    switch = Switch(True, ovsdb_client.as_map(whole["external_ids"]), bridges)
    for row in rows["SSL"]:
        switch.ssl_mark, switch.ssl = ovsdb_client.mark_of(row), ovsdb_client.tls_of(row)
    return switch


def view(switch: Switch, catalog: str) -> dict[str, Any]:
    """Return what is this catalog's of it, as a diff shows it."""
    keys = (MARK, "system-id", *OURS)
    return {
        "external_ids": {key: switch.external_ids[key] for key in keys if key in switch.external_ids},
        "tls": dict(switch.ssl) if switch.ssl_mark == catalog else {},
        "bridges": {
            name: {
                "datapath": bridge.datapath or "system",
                "fail_mode": bridge.fail_mode,
                "interfaces": sorted(port for port, mark in bridge.ports.items() if mark == catalog),
                "address": bridge.external_ids.get(ADDRESS, ""),
            }
            for name, bridge in sorted(switch.bridges.items())
            if bridge.mark == catalog
        },
    }


def desired_view(wanted: Wanted) -> dict[str, Any]:
    """Return what view() is to show."""
    bridges = {
        each.bridge: {
            "datapath": wanted.datapath,
            "fail_mode": "standalone",
            "interfaces": [each.interface] if each.interface else [],
            "address": each.address,
        }
        for each in wanted.mappings
    }
    bridges[INTEGRATION] = {"datapath": wanted.datapath, "fail_mode": "secure", "interfaces": [], "address": ""}
    return {
        "external_ids": wanted.external_ids,
        "tls": wanted.tls.as_dict() if wanted.tls else {},
        "bridges": dict(sorted(bridges.items())),
    }


def commands(switch: Switch, wanted: Wanted, moved: Mapping[str, str], down: Sequence[str], made: str) -> list[str]:
    """Return the words for one `ovs-vsctl`, which is one transaction.
    moved, down: by address, the interface that has it now; interfaces that are not up
    made: what was switched on for us"""
    now, then = view(switch, wanted.catalog), desired_view(wanted)
    words: list[str] = []
    if now["external_ids"] != then["external_ids"]:
        former = switch.external_ids.get("system-id", "")
        changes = {key: value for key, value in then["external_ids"].items() if now["external_ids"].get(key) != value}
        if switch.mark != wanted.catalog and former != wanted.name:
            changes[FORMER_ID] = former
        if switch.mark != wanted.catalog and made:
            changes[MADE] = made
        for key in now["external_ids"]:
            if key not in then["external_ids"]:
                words += ["--", "remove", "Open_vSwitch", ".", "external_ids", key]
        given = [f"external_ids:{key}={_quoted(value)}" for key, value in changes.items()]
        words += ["--", "set", "Open_vSwitch", ".", *given] if given else []
    for name, bridge in now["bridges"].items():
        if name not in then["bridges"]:
            words += ["--", "--if-exists", "del-br", name]
        else:
            for port in bridge["interfaces"]:
                if port not in then["bridges"][name]["interfaces"]:
                    words += ["--", "--if-exists", "del-port", name, port]
    by_name = {each.bridge: each for each in wanted.mappings}
    for name, bridge in then["bridges"].items():
        if now["bridges"].get(name) != bridge:
            words += _bridge_words(name, bridge, wanted, by_name.get(name), switch, moved, down)
    if then["tls"] != now["tls"]:
        if then["tls"]:
            words += ["--", "--id=@ssl", "create", "SSL", f"private_key={_quoted(then['tls']['private_key'])}"]
            words += [f"certificate={_quoted(then['tls']['certificate'])}", "bootstrap_ca_cert=false"]
            words += [f"ca_cert={_quoted(then['tls']['ca_certificate'])}", f"external_ids:{MARK}={wanted.catalog}"]
            words += ["--", "set", "Open_vSwitch", ".", "ssl=@ssl"]
        else:
            words += ["--", "clear", "Open_vSwitch", ".", "ssl"]
    return words[1:]


def _bridge_words(
    name: str,
    bridge: Mapping[str, Any],
    wanted: Wanted,
    mapping: BridgeMapping | None,
    switch: Switch,
    moved: Mapping[str, str],
    down: Sequence[str],
) -> list[str]:
    words = ["--", "--may-exist", "add-br", name]
    values = [f"datapath_type={bridge['datapath']}", f"fail_mode={bridge['fail_mode']}"]
    if name == INTEGRATION:
        # Else whoever is its controller could be reached by what machines send.
        values.append("other-config:disable-in-band=true")
    values.append(f"external_ids:{MARK}={wanted.catalog}")
    there = switch.bridges.get(name)
    if there is not None:
        for key in (ADDRESS, FROM):
            if key in there.external_ids and bridge["address"] != there.external_ids.get(ADDRESS):
                words += ["--", "remove", "Bridge", name, "external_ids", key]
    if bridge["address"]:
        values.append(f"external_ids:{ADDRESS}={_quoted(bridge['address'])}")
        if bridge["address"] in moved and moved[bridge["address"]] != name:
            values.append(f"external_ids:{FROM}={moved[bridge['address']]}")
    if mapping is not None and mapping.interface in down:
        values.append(f"external_ids:{DOWN}={mapping.interface}")
    words += ["--", "set", "Bridge", name, *values]
    for port in bridge["interfaces"]:
        words += ["--", "--may-exist", "add-port", name, port]
        words += ["--", "set", "Port", port, f"external_ids:{MARK}={wanted.catalog}"]
    return words


def removal_commands(switch: Switch, catalog: str) -> list[str]:
    words: list[str] = []
    for name, bridge in switch.bridges.items():
        if bridge.mark == catalog:
            words += ["--", "--if-exists", "del-br", name]
    if switch.mark == catalog:
        former = switch.external_ids.get(FORMER_ID)
        for key in (MARK, FORMER_ID, MADE, *OURS):
            if key in switch.external_ids:
                words += ["--", "remove", "Open_vSwitch", ".", "external_ids", key]
        if former:
            words += ["--", "set", "Open_vSwitch", ".", f"external_ids:system-id={_quoted(former)}"]
        elif FORMER_ID in switch.external_ids:
            words += ["--", "remove", "Open_vSwitch", ".", "external_ids", "system-id"]
    if switch.ssl_mark == catalog:
        words += ["--", "clear", "Open_vSwitch", ".", "ssl"]
    return words[1:]


def _quoted(text: str) -> str:
    return json.dumps(text)
