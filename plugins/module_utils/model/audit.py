# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what an audit compares: a node (Inventory) and the catalog (Ledger)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Optional

from ..dataclass import dataclass
from .audit_finding import Finding
from .datastore import Datastore
from .image import Image
from .lease import HeldLease
from .network import Network
from .nic_filter_rules import Guard
from .transfer import name_of
from .vm import Growth, NumaNode, Topology, Vm


# -- a node --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Domain:
    """Describes a machine as its hypervisor has it, with the mark it carries.
    persistent: it is still there once it has ended.
    directory: where its mark says that its files are.
    autostart: it starts with its host.
    turn: the command that switches autostart over.
    disks: the files that it uses.
    port: the port of its graphics, 0 for none.
    topology, growth: as its definition has them, None if it says nothing.
    hotplug_slots: reserved in it for devices that come while it runs.
    hardware_version: as its mark says it, 0 where that says nothing.
    numa_nodes: which processors and memory of its host it has to itself, none for any; without distances.
    host_devices: addresses of devices that it has of its host.
    undefine, forget: the commands that end it and remove its definition, in forget with all that is kept of it.
    unmark: the command that takes the mark out of it, "" if there is none."""

    name: str
    catalog: str
    vm_id: int
    uuid: str
    state: str
    generation: int = 0
    directory: str = ""
    persistent: bool = True
    autostart: bool = False
    port: int = 0
    macs: tuple[str, ...] = ()
    topology: Optional[Topology] = None
    growth: Optional[Growth] = None
    hotplug_slots: int = 0
    hardware_version: int = 0
    numa_nodes: tuple[NumaNode, ...] = ()
    host_devices: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    turn: str = ""
    undefine: str = ""
    forget: str = ""
    unmark: str = ""


def copied_domains(domains: Iterable[Domain]) -> list[Domain]:
    """Return the domains that carry the mark of a machine whose own domain, by its name, is there besides."""
    found = list(domains)
    named = {(each.catalog, each.vm_id) for each in found if each.name == f"one-{each.vm_id}"}
    return [each for each in found if each.name != f"one-{each.vm_id}" and (each.catalog, each.vm_id) in named]


@dataclass(frozen=True)
class VmFile:
    """Describes a file in a machine's directory.
    kind: file, link, directory, other.
    size: bytes.
    target: what a link points to.
    virtual_size, backing: as its header says, if it looks like qcow2; true only of what the catalog says is qcow2,
    since a guest can write such a header into a raw disk.
    lost: what it points to or rests on is not there."""

    name: str
    kind: str = "file"
    size: int = 0
    target: str = ""
    virtual_size: int = 0
    backing: str = ""
    lost: bool = False


@dataclass(frozen=True)
class VmDirectory:
    """Describes a directory of the system datastore with the mark in it (catalog "": no mark that can be read). exact:
    its machine's context is filled in as those of new machines, and not as an earlier release did."""

    path: str
    name: str
    catalog: str = ""
    vm_id: int = -1
    uuid: str = ""
    generation: int = 0
    files: tuple[VmFile, ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Bridge:
    """Describes a bridge.
    catalog, network, address: whose it is, for which network and with which address; from its mark, if it has one.
    settings: the kernel's for it, as network/bridge_sysctls.py names them.
    mtu: 0 if it is not known."""

    name: str
    catalog: str
    network: str
    address: str = ""
    up: bool = True
    addresses: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    mtu: int = 0


@dataclass(frozen=True)
class UplinkDevice:
    """Describes a VLAN or VXLAN device that was made for a network, and the bridge that it is a port of. what: as a
    network shows its uplink, such as "VLAN 100 on eth1"."""

    name: str
    catalog: str
    network: str
    what: str = ""
    bridge: str = ""
    up: bool = True


@dataclass(frozen=True)
class SwitchBridge:
    """Describes a bridge of Open vSwitch with a mark.
    catalog, networks: whose it is, and for which networks.
    port: the interface of the host that we made its port.
    up: whether the host's own port of the bridge is up, which it is not to be.
    ports: which VLANs each port carries, in words.
    running: whether Open vSwitch runs."""

    name: str
    catalog: str
    networks: tuple[str, ...] = ()
    port: str = ""
    port_up: bool = True
    up: bool = False
    ports: Mapping[str, str] = field(default_factory=dict)
    running: bool = True


@dataclass(frozen=True)
class Inventory:
    """Holds all of this collection that is on a node, of whichever catalog.
    place: the system datastore below its root.
    foreign: domains without a mark, by name.
    bridges, others: bridges with a mark, and those without.
    devices: VLAN and VXLAN devices with a mark.
    interfaces: the names of all network interfaces.
    rules: what this catalog's nftables rules are called → how many there are.
    filters: machines' interfaces → the digest of the rules that filter them, "" if these are not whole.
    left: files below its root that a killed run was writing.
    unseen: what could not be looked at, and why.
    switches: bridges of Open vSwitch with a mark."""

    place: str = ""
    domains: tuple[Domain, ...] = ()
    foreign: tuple[str, ...] = ()
    directories: tuple[VmDirectory, ...] = ()
    bridges: tuple[Bridge, ...] = ()
    others: tuple[Bridge, ...] = ()
    devices: tuple[UplinkDevice, ...] = ()
    interfaces: tuple[str, ...] = ()
    table: str = ""
    rules: Mapping[str, int] = field(default_factory=dict)
    forwarding: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    switches: tuple[SwitchBridge, ...] = ()


# -- the catalog ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LedgerVm:
    """Describes a machine that is not DONE.
    error: why it failed, "" if it did not.
    awaits: it may have other disks and NICs than it is to have, until it is off.
    detached: ids of the disks that it is to have no more then.
    moving: the host that it moves to, where something of it may be, too."""

    vm: Vm
    host: str
    state: str
    wanted: str
    settled: bool
    generation: int
    error: str = ""
    awaits: bool = False
    detached: tuple[int, ...] = ()
    moving: str = ""


@dataclass(frozen=True)
class Ledger:
    """Holds what an engine takes to be the case.
    begun: there is a catalog.
    ended: ids of machines that are DONE.
    given_up: those of them that may run on, each with the host with which it was given up.
    held: addresses that nobody has, and nobody gets.
    guards: by host, what is filtered of machines' NICs.
    datastores: those that several hosts share.
    findings: what is wrong with the catalog in itself; if it is damaged, the rest is empty and means nothing."""

    catalog: str = ""
    plan: int = 0
    begun: bool = True
    damaged: bool = False
    hosts: Mapping[str, str] = field(default_factory=dict)
    vms: tuple[LedgerVm, ...] = ()
    ended: frozenset[int] = frozenset()
    given_up: Mapping[int, str] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    networks: tuple[Network, ...] = ()
    held: tuple[HeldLease, ...] = ()
    guards: Mapping[str, Sequence[Guard]] = field(default_factory=dict)
    datastores: tuple[Datastore, ...] = ()
    findings: tuple[Finding, ...] = ()

    # An audit asks for them once for each host, and for each thing that it finds there.
    @functools.cached_property
    def by_id(self) -> Mapping[int, LedgerVm]:
        return {each.vm.vm_id: each for each in self.vms}

    @functools.cached_property
    def by_uuid(self) -> Mapping[str, LedgerVm]:
        return {each.vm.uuid.lower(): each for each in reversed(self.vms)}

    @functools.cached_property
    def writers(self) -> Mapping[str, LedgerVm]:
        """Return the machines that write to files of images, by the names that these have on nodes."""
        return {
            name_of(disk.image_uuid, disk.generation): each for each in self.vms for disk in each.vm.disks if disk.save
        }

    def vm(self, vm_id: int) -> LedgerVm | None:
        return self.by_id.get(vm_id)

    def vms_on(self, host: str) -> Sequence[LedgerVm]:
        return self._by_host.get(host, ())

    def coming_to(self, host: str) -> frozenset[int]:
        """Return the ids of the machines that are on their way to the host."""
        return self._coming.get(host, frozenset())

    @functools.cached_property
    def _coming(self) -> Mapping[str, frozenset[int]]:
        moving = [each for each in self.vms if each.moving]
        hosts = {each.moving for each in moving}
        return {host: frozenset(each.vm.vm_id for each in moving if each.moving == host) for host in hosts}

    @functools.cached_property
    def _by_host(self) -> Mapping[str, Sequence[LedgerVm]]:
        found: dict[str, list[LedgerVm]] = {}
        for each in self.vms:
            found.setdefault(each.host, []).append(each)
        return found
