# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes what a node needs for networks with driver ovswitch: a bridge of Open vSwitch, which several networks may
have, told apart by VLANs, and the physical device as its port. The host's own port of the bridge stays down, so
that the node is no member of any of these networks. Bridges, ports and settings of others are never changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..dataclass import dataclass, replace
from ..errors import CommandFailed, ForeignObject, InUse, MissingDependency, NebulaError
from ..host.command import run
from ..host.files import remove_file
from ..model import network_checks
from ..model.network import Network
from ..model.uplink import Uplink
from ..model.uplink import uplink as uplink_of
from . import links, uplinks
from .links import Done, Link
from .openvswitch_state import (
    MADE,
    MADE_FOR_OVN,
    MARK,
    NETWORKS,
    PORT,
    PORT_DOWN,
    SwitchBridge,
    Switches,
    bridges_of_catalog,
    observe,
)
from .ovn import daemons
from .ovn.daemons import Daemons, has_kernel_datapath
from .ovn.paths import Places

TIMEOUT = 60
PACKAGE = "openvswitch-switch"


@dataclass(frozen=True)
class _Wanted:
    network: Network
    uplink: Uplink | None

    @property
    def port(self) -> str:
        return self.uplink.phydev if self.uplink is not None else ""


class SwitchNode:
    """Makes bridges in this host's Open vSwitch. act: False in check mode, which decides the same and does nothing."""

    def __init__(self, catalog: str, act: bool) -> None:
        self.catalog, self.act = catalog, act
        self.places = Places()
        self.daemons = Daemons(self.places, "random")
        self.warnings: list[str] = []
        self._found: Switches | None = None
        self._marked: dict[str, SwitchBridge] | None = None

    @property
    def found(self) -> Switches:
        if self._found is None:
            self._found = observe(self.places)
        return self._found

    def _forget(self) -> None:
        self._found = self._marked = None

    def has(self, uuid: str) -> bool:
        return bool(uuid) and uuid in self.uuids()

    def uuids(self) -> list[str]:
        """Return the UUIDs of the networks of this catalog that have anything here."""
        if self._found is None:
            self._marked = bridges_of_catalog(self.catalog, self.places) if self._marked is None else self._marked
            ours = self._marked
        else:
            ours = self._found.ours(self.catalog)
        return [uuid for bridge in ours.values() for uuid in bridge.networks]

    # --- what is to be ------------------------------------------------------------------------------------------------

    def ensure(
        self, networks: Sequence[Network], known: Collection[str] | None, present: Mapping[str, Link]
    ) -> list[Done]:
        """Bring the host to what these networks say. known: UUIDs of all networks of the catalog, None for unknown."""
        done: list[Done] = []
        wanted: list[_Wanted] = []
        for network in networks:
            before = self._shown(network.bridge, network.uuid, present)
            try:
                wanted.append(self._decide(network, known, networks, present))
                done.append(
                    Done(network.name, network.bridge, before, self._expected(wanted[-1], network.uuid, present))
                )
            except NebulaError as error:
                done.append(Done(network.name, network.bridge, before, before, error))
        leaving = self._leaving_networks(networks, known)
        if self.act and any(each.before != each.after for each in done if each.error is None):
            try:
                self._make(wanted, leaving, present)
            except NebulaError as error:
                self._forget()
                with contextlib.suppress(NebulaError):
                    self._switch_off()
                for each in done:
                    if each.error is None and each.before != each.after:
                        each.after, each.error = each.before, error
        return done

    def _decide(
        self, network: Network, known: Collection[str] | None, networks: Sequence[Network], present: Mapping[str, Link]
    ) -> _Wanted:
        """Return what the network wants here. Raise an error for what this host can't have."""
        network_checks.check(network)
        asked = f"network {network.name}: bridge {network.bridge}"
        if not daemons.is_installed("switch") and self.act:
            raise MissingDependency(
                asked,
                "this host has no Open vSwitch",
                f"Install the package {PACKAGE}, or set nebula_manage_packages: true",
            )
        there = self.found.bridges.get(network.bridge)
        if there is not None and there.mark != self.catalog:
            whose = f"carries the mark of catalog {there.mark}" if there.mark else "was not made by this collection"
            raise ForeignObject(
                asked,
                f"the bridge of that name in Open vSwitch {whose}",
                f"Choose another bridge for the network, or remove that one: ovs-vsctl del-br {network.bridge}",
            )
        if there is None and network.bridge in present:
            raise ForeignObject(
                asked,
                "there is an interface of that name that this collection did not make for Open vSwitch",
                "Choose another bridge for the network, or remove the interface",
            )
        wanted = _Wanted(network, uplink_of(network))
        if wanted.uplink is not None:
            self._refuse_uplink(network, wanted.uplink, known, networks, present)
        for former in self.found.ours(self.catalog).values():
            if former.name != network.bridge and former.networks == (network.uuid,):
                self._refuse_ports(f"{asked} instead of {former.name}", former, present)
        return wanted

    def _refuse_uplink(
        self,
        network: Network,
        uplink: Uplink,
        known: Collection[str] | None,
        networks: Sequence[Network],
        present: Mapping[str, Link],
    ) -> None:
        freed = dict(present)
        for bridge in self.found.bridges.values():
            if uplink.phydev not in bridge.ports:
                continue
            ours = bridge.mark == self.catalog and bridge.port == uplink.phydev
            if bridge.name != network.bridge and not (ours and self._frees(bridge, uplink.phydev, known, networks)):
                raise InUse(
                    f"network {network.name}: {uplink}",
                    f"on this host it is a port of bridge {bridge.name} of Open vSwitch already",
                    "Give another interface, or take it out there",
                )
            if uplink.phydev in freed:
                own = network.bridge if bridge.name == network.bridge else ""
                freed[uplink.phydev] = replace(freed[uplink.phydev], bridge=own)
                freed.pop(network.bridge, None)
        uplinks.refuse(network.name, uplink, network.bridge, links.Mark(self.catalog, network.uuid), freed)

    def _frees(
        self, bridge: SwitchBridge, port: str, known: Collection[str] | None, networks: Sequence[Network]
    ) -> bool:
        """Return whether the bridge is to have the port no more, once these networks are as they say."""
        here = [each for each in networks if each.bridge == bridge.name]
        if here:
            return all(each.attributes.get("PHYDEV", "") != port for each in here)
        return set(bridge.networks) <= self._leaving_networks(networks, known).get(bridge.name, set())

    def _leaving_networks(self, networks: Sequence[Network], known: Collection[str] | None) -> dict[str, set[str]]:
        """Return the networks that are on a bridge of ours no more, by bridge."""
        places = {network.uuid: network.bridge for network in networks if network.uuid}
        found: dict[str, set[str]] = {}
        for bridge in self.found.ours(self.catalog).values():
            for uuid in bridge.networks:
                gone = known is not None and uuid not in known and uuid not in places
                if gone or places.get(uuid, bridge.name) != bridge.name:
                    found.setdefault(bridge.name, set()).add(uuid)
        return found

    # --- what is done -------------------------------------------------------------------------------------------------

    def _make(self, wanted: Sequence[_Wanted], leaving: Mapping[str, set[str]], present: Mapping[str, Link]) -> None:
        self._start()
        bridges: dict[str, list[_Wanted]] = {}
        for each in wanted:
            bridges.setdefault(each.network.bridge, []).append(each)
        # Before anything of a network is there: an interface that can't be set up makes none.
        ports = {each.port for each in wanted if each.port and not present[each.port].up}
        links.run_batch([f"link set dev {port} up" for port in sorted(ports)])
        former = self.found.ours(self.catalog)
        # What another bridge had until now is as it was before that.
        had = {bridge.port: bridge.port_was_down for bridge in former.values()}
        was_down = {port for port in ports if port not in had} | {port for port, down in had.items() if down}
        words: list[str] = []
        moving = {each.network.uuid for each in wanted}
        taken = {each.port for each in wanted if each.port}
        for bridge in self.found.ours(self.catalog).values():
            left = set(bridge.networks) - (leaving.get(bridge.name, set()) & moving)
            # What only was left over is removed afterwards, where something may keep it from that.
            if bridge.name in bridges:
                continue
            if not left:
                words += ["--", "--if-exists", "del-br", bridge.name]
            elif left != set(bridge.networks):
                words += ["--", "set", "Bridge", bridge.name, f"external_ids:{NETWORKS}={_listed(left)}"]
            if left and bridge.port in taken:
                words += ["--", "--if-exists", "del-port", bridge.name, bridge.port]
                words += ["--", "remove", "Bridge", bridge.name, "external_ids", PORT, PORT_DOWN]
        added = [self._bridge_words(name, each, leaving, moving, was_down) for name, each in bridges.items()]
        # What leaves a bridge comes first, so that another may have it.
        words += [word for leaves, _joins in added for word in leaves]
        words += [word for _leaves, joins in added for word in joins]
        before = set(self.found.bridges)
        self._vsctl(words[1:])
        self._forget()
        here = links.observe()
        down = [*bridges, *self._down_again(former)]
        links.run_batch([f"link set dev {name} down" for name in down if name in here and here[name].up])
        for name, having in bridges.items():
            port = having[0].port
            error = self.found.bridges[name].ports[port].error if port else ""
            if error:
                if name not in before:
                    self._vsctl(["--if-exists", "del-br", name])
                raise CommandFailed(
                    f"network {having[0].network.name}: {port} as a port of {name}",
                    f"Open vSwitch can't use it: {error}",
                    f"See {self.places.ovs_log}/ovs-vswitchd.log",
                )

    def _down_again(self, former: Mapping[str, SwitchBridge]) -> list[str]:
        """Return interfaces of the host that were down before one of these bridges had them, and are free now."""
        had = {bridge.port for bridge in former.values() if bridge.port_was_down}
        return sorted(had - {port for bridge in self.found.bridges.values() for port in bridge.ports})

    def _bridge_words(
        self,
        name: str,
        wanted: Sequence[_Wanted],
        leaving: Mapping[str, set[str]],
        moving: Collection[str],
        was_down: Collection[str],
    ) -> tuple[list[str], list[str]]:
        """Return the words that take a port from the bridge, and the words that make the bridge what it is to be.
        was_down: interfaces of the host that were down before any bridge had them."""
        there = self.found.bridges.get(name)
        port = wanted[0].port
        stay = set(there.networks) - (leaving.get(name, set()) & set(moving)) if there is not None else set()
        uuids = stay | {each.network.uuid for each in wanted}
        leaves: list[str] = []
        joins = ["--", "add-br", name] if there is None else []
        values = [f"external_ids:{MARK}={self.catalog}", f"external_ids:{NETWORKS}={_listed(uuids)}"]
        if there is None:
            datapath = "system" if has_kernel_datapath() else "netdev"
            values += [f"datapath_type={datapath}", "fail_mode=standalone"]
        if there is not None and there.port and there.port != port:
            leaves += ["--", "--if-exists", "del-port", name, there.port]
            leaves += ["--", "remove", "Bridge", name, "external_ids", PORT, PORT_DOWN]
        values += [f"external_ids:{PORT}={port}"] if port else []
        values += [f"external_ids:{PORT_DOWN}=true"] if port in was_down else []
        joins += ["--", "set", "Bridge", name, *values]
        if port:
            joins += ["--", "--may-exist", "add-port", name, port]
            joins += ["--", "clear", "Port", port, "tag", "trunks", "vlan_mode"]
            joins += ["--", "set", "Port", port, f"external_ids:{MARK}={self.catalog}"]
        return leaves, joins

    def _start(self) -> None:
        if self.found.running and self.daemons.starts_with_host("switch"):
            return
        made = self.daemons.what_start_changes(self.found.there)
        self.daemons.start("switch")
        if made and not self.found.external_ids.get(MADE):
            value = self.catalog if made == "database" else f"{self.catalog}:{made}"
            self._vsctl(["set", "Open_vSwitch", ".", f'external_ids:{MADE}="{value}"'])
        self._forget()

    def widen(self, bridge: str, mtu: int) -> None:
        """Give the host's own port of the bridge this MTU; Open vSwitch keeps it."""
        self._vsctl(["set", "Interface", bridge, f"mtu_request={mtu}"])

    def _vsctl(self, words: Sequence[str]) -> None:
        if words:
            argv = ["ovs-vsctl", f"--db=unix:{self.places.switch_socket}", f"--timeout={TIMEOUT}", "--", *words]
            run(argv, timeout=TIMEOUT + 10, env=self.places.environment)

    # --- what goes ----------------------------------------------------------------------------------------------------

    def remove(self, uuids: Sequence[str], present: Mapping[str, Link]) -> list[Done]:
        """Take these networks from their bridges, and remove bridges without networks. A bridge with other ports than
        ours is an error, and stays."""
        done: list[Done] = []
        words: list[str] = []
        for bridge in self.found.ours(self.catalog).values():
            going = [uuid for uuid in bridge.networks if uuid in uuids]
            left = [uuid for uuid in bridge.networks if uuid not in uuids]
            if not going:
                continue
            items = [Done(f"network {uuid}", bridge.name, self._shown(bridge.name, uuid, present)) for uuid in going]
            done += items
            try:
                if not left:
                    self._refuse_ports(f"remove bridge {bridge.name}", bridge, present)
                    words += ["--", "--if-exists", "del-br", bridge.name]
                else:
                    words += ["--", "set", "Bridge", bridge.name, f"external_ids:{NETWORKS}={_listed(left)}"]
            except NebulaError as error:
                for item in items:
                    item.after, item.error = item.before, error
        if self.act and words:
            try:
                if not self.found.running:
                    self.daemons.start("switch")
                former = self.found.ours(self.catalog)
                self._vsctl(words[1:])
                self._forget()
                links.run_batch([f"link set dev {port} down" for port in self._down_again(former) if port in present])
                self._switch_off()
            except NebulaError as error:
                self._forget()
                for item in done:
                    item.after, item.error = item.before, item.error or error
        return done

    def remove_database(self) -> list[Done]:
        """Take back what was made for our bridges, where somebody has deleted these already."""
        made = self._switched_on()
        if not made or self.found.ours(self.catalog):
            return []
        change = Done("Open vSwitch", "", {made: f"made for catalog {self.catalog}"})
        if self.act:
            try:
                if not self.found.running:
                    self.daemons.start("switch")
                self._switch_off()
            except NebulaError as error:
                change.after, change.error = change.before, error
        return [change]

    def _switch_off(self) -> None:
        """Switch off what was switched on, if it was for us alone and nobody has anything in it."""
        made = self._switched_on()
        if not made or self.found.ours(self.catalog):
            return
        words = ["remove", "Open_vSwitch", ".", "external_ids", MADE]
        # Those who are there now have it. OVN of ours takes it back with its own.
        if self.found.bridges and "ovn-remote" in self.found.external_ids:
            words += ["--", "set", "Open_vSwitch", ".", f"external_ids:{MADE_FOR_OVN}={made}"]
        self._vsctl(words)
        if not self.found.bridges:
            self.daemons.switch_off(made)
            if made == "database":
                remove_file(os.path.realpath(self.places.system_id))
        self._forget()

    def _switched_on(self) -> str:
        """Return what was switched on for this catalog, in the words of Daemons.switching_on()."""
        catalog, _colon, made = self.found.external_ids.get(MADE, "").partition(":")
        return (made or "database") if catalog == self.catalog else ""

    def _refuse_ports(self, asked: str, bridge: SwitchBridge, present: Mapping[str, Link]) -> None:
        """Raise InUse for a bridge with ports. A port without its machine, as after a power cut, keeps nothing."""
        ports = [
            name
            for name, port in bridge.ports.items()
            if name != bridge.port
            and (name in present or not port.of_kernel)
            and not (not self.act and links.MACHINES.match(name))
        ]
        if ports:
            raise InUse(
                asked, f"attached to {bridge.name} are {', '.join(sorted(ports))}", "End the machines that use it first"
            )

    # --- what is compared ---------------------------------------------------------------------------------------------

    def _shown(self, name: str, uuid: str, present: Mapping[str, Link]) -> dict[str, Any] | None:
        bridge = self.found.bridges.get(name)
        if bridge is None or bridge.mark != self.catalog or uuid not in bridge.networks:
            return None
        starts = self.found.running and self.daemons.starts_with_host("switch")
        view = _view(name, uuid, self.found.running and starts, name in present and present[name].up)
        port = bridge.ports.get(bridge.port)
        if bridge.port:
            carries = str(port) if port is not None else "not attached"
            link = present.get(bridge.port)
            view["uplink"] = {bridge.port: {"up": link is not None and link.up, "carries": carries}}
        return view

    def _expected(self, wanted: _Wanted, uuid: str, present: Mapping[str, Link]) -> dict[str, Any]:
        view = _view(wanted.network.bridge, uuid, True, False)
        if wanted.port:
            view["uplink"] = {wanted.port: {"up": True, "carries": "all VLANs"}}
        return view


def _view(bridge: str, uuid: str, running: bool, up: bool) -> dict[str, Any]:
    """Return what is shown of a bridge. up: whether the host's own port of the bridge is up."""
    return {"bridge": bridge, "network": uuid, "switch": "Open vSwitch", "running": running, "up": up}


def _listed(uuids: Collection[str]) -> str:
    # Quoted: a comma would end the value of a map.
    return '"' + ",".join(sorted(uuids)) + '"'
