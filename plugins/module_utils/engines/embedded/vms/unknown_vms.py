# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds what nodes have with this catalog's mark, and the catalog does not have there; says what can be taken over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ....dataclass import dataclass, replace
from ....errors import Conflict, NotFound, WrongState
from ....model.audit import Domain, VmDirectory, copied_domains
from ....model.instantiate.demands import Demands
from ....model.plan import Comparison, Observed, ObservedVm
from ....model.vm import Growth, NumaNode, Topology

# The states that can be taken over: whoever stands still has to go on or end before.
_STATES = ("RUNNING", "POWEROFF", "SUSPENDED")
_DEPLOYMENT = re.compile(r"deployment\.(\d{1,9})")
REMEDY_KNOWN = "Playbook nebula.provision.audit names unknown machines with their hosts"


@dataclass(frozen=True)
class Found:
    """Describes a machine as its host has it.
    seq: the number of its newest deployment file. macs: in the order of its NICs.
    topology: None where each of its processors is a socket.
    growth: None where its memory and processors stay as they are.
    hotplug_slots: reserved for devices that come while it runs.
    hardware_version: as that of Vm.
    numa_nodes: which processors and memory of its host it has to itself; none for any.
    host_devices: addresses of devices that it has of its host.
    waits: it is to be otherwise from its next start on.
    exact: its context is filled in as those of new machines, and not as an earlier release did.
    compared: with what the list says; None if nobody has compared them."""

    host: str
    uuid: str
    state: str
    generation: int
    seq: int
    macs: tuple[str, ...] = ()
    port: int = 0
    topology: Topology | None = None
    growth: Growth | None = None
    hotplug_slots: int = 0
    hardware_version: int = 0
    numa_nodes: tuple[NumaNode, ...] = ()
    host_devices: tuple[str, ...] = ()
    waits: bool = False
    exact: bool = False
    compared: Comparison | None = None


def find(
    asked: str, vm_id: int, others: Mapping[str, Sequence[ObservedVm]], nodes: Mapping[str, Observed], catalog: str
) -> Found:
    """Return the machine of that id as its host has it, or raise the error that says why there is none.
    others: by host, the machines with the catalog's mark that the catalog does not have there.
    nodes: the hosts' reports."""
    places = [(nodes[host], vm) for host, machines in sorted(others.items()) for vm in machines if vm.vm_id == vm_id]
    if not places:
        unknown = ", ".join(f"{vm.vm_id} on {host}" for host, machines in sorted(others.items()) for vm in machines)
        raise NotFound(
            asked,
            f"no host of this run has it with the mark of catalog {catalog}; unknown machines with it: "
            f"{unknown or 'none'}{_of_others(vm_id, nodes, catalog)}",
            REMEDY_KNOWN,
        )
    if len(places) > 1:
        hosts = " and ".join(node.host for node, _vm in places)
        raise Conflict(asked, f"hosts {hosts} have it", "See which of them is right, and end the other there by hand")
    node, vm = places[0]
    if node.inventory is None:
        raise NotFound(
            asked,
            f"host {node.host} has not told what it keeps of it",
            "Ask it by nebula_deploy with state: audited, as role vm does for nebula_adopt_unknown",
        )
    inventory = node.inventory
    copied = copied_domains(inventory.domains)
    own = [each for each in inventory.domains if (each.catalog, each.vm_id) == (catalog, vm_id) and each not in copied]
    domain = next(iter(own), None)
    directory = next((each for each in inventory.directories if (each.catalog, each.vm_id) == (catalog, vm_id)), None)
    _refuse_incomplete(asked, node.host, vm, domain, directory)
    if domain is None or directory is None:
        raise NotFound(asked, f"host {node.host} does not have all of it", REMEDY_KNOWN)
    numbers = [int(found[1]) for file in directory.files if (found := _DEPLOYMENT.fullmatch(file.name))]
    if not numbers:
        raise NotFound(
            asked, f"its directory {directory.path} has no deployment file", "Put back what was there, from a backup"
        )
    return Found(
        host=node.host,
        uuid=domain.uuid.lower(),
        state=vm.state,
        generation=max(vm.generation, domain.generation, directory.generation, 1),
        seq=max(numbers),
        macs=tuple(mac.lower() for mac in domain.macs),
        port=domain.port,
        topology=domain.topology,
        growth=domain.growth,
        hotplug_slots=domain.hotplug_slots,
        hardware_version=domain.hardware_version,
        numa_nodes=domain.numa_nodes,
        host_devices=domain.host_devices,
        waits=vm.waits,
        exact=directory.exact,
        compared=next((each for each in node.compared if each.vm_id == vm_id), None),
    )


def _of_others(vm_id: int, nodes: Mapping[str, Observed], catalog: str) -> str:
    found = [
        f"; {domain.name} on {host} carries the mark of catalog {domain.catalog}, and is that front-end's"
        for host, node in sorted(nodes.items())
        for domain in (node.inventory.domains if node.inventory is not None else ())
        if domain.vm_id == vm_id and domain.catalog != catalog
    ]
    return "".join(found)


def _refuse_incomplete(
    asked: str, host: str, vm: ObservedVm, domain: Domain | None, directory: VmDirectory | None
) -> None:
    if domain is None or not domain.persistent:
        found = f"host {host} has no domain of it" if domain is None else f"its domain on host {host} is not defined"
        raise NotFound(asked, found, "Define it anew from its newest deployment file (virsh define), then run again")
    if directory is None or directory.uuid.lower() != domain.uuid.lower():
        raise NotFound(
            asked,
            f"its directory on host {host} has no vm.json of it",
            "Put back what was there, from a backup: without it nothing tells what was done to the machine",
        )
    if vm.state not in _STATES:
        raise WrongState(
            asked,
            f"it stands still on host {host}, paused or crashed",
            "Let it go on, or end it, by the hypervisor's own means, then run again",
        )


def with_macs(asked: str, demands: Demands, macs: Sequence[str]) -> Demands:
    """Return what is asked of networks, with the MAC addresses that the machine has."""
    if len(demands.nics) != len(macs):
        raise Conflict(
            asked,
            f"it has {len(macs)} NICs ({', '.join(macs) or 'none'}), and the list says {len(demands.nics)}",
            "Give the item the NICs that the machine has",
        )
    for nic, mac in zip(demands.nics, macs):
        if nic.mac and nic.mac.lower() != mac:
            raise Conflict(asked, f"it has a NIC {mac}, and the list says {nic.mac}", "Leave MAC out, or mend it")
    return replace(demands, nics=tuple(replace(nic, mac=mac) for nic, mac in zip(demands.nics, macs)))
