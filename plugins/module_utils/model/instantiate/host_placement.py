# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds on a host what a machine wants of it to itself: processors, memory, devices, encryption. Nothing is given
twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ...dataclass import dataclass, replace
from ..host import HostHardware
from ..vm import HostDevice, MemoryEncryption, Numa, NumaNode, Topology, Vm
from . import host_devices, numa_placement
from .host_wants import HostWants
from .numa_placement import NoPlaceError, NumaPlace


@dataclass(frozen=True)
class HostPlace:
    """Holds what a host gives a machine, with the host's numbers and addresses."""

    numa: Optional[NumaPlace] = None
    devices: tuple[HostDevice, ...] = ()
    encryption: Optional[MemoryEncryption] = None


@dataclass(frozen=True)
class Taken:
    """Holds what a machine has of its host to itself.
    threads: of each core that it sees, 0 where it has no processors of its own.
    encrypted: its memory is."""

    numa: Optional[Numa] = None
    threads: int = 0
    devices: tuple[HostDevice, ...] = ()
    encrypted: bool = False

    @property
    def numa_place(self) -> NumaPlace | None:
        return NumaPlace(self.numa, self.threads) if self.numa is not None else None


NOTHING = Taken()


def place(
    wants: HostWants,
    hardware: HostHardware,
    taken: Sequence[Taken],
    isolated: frozenset[int],
    had: Sequence[Taken] = (),
) -> HostPlace:
    """Return what the host has for the machine. Raise NoPlaceError, which says what it lacks.
    taken: what other machines have.
    isolated: processors that no machine gets to itself.
    had: what the machine has itself, as it runs and as it was to be: what answers to its wants stays."""
    if wants.encryption is not None and wants.encryption.type not in hardware.encryption:
        known = ", ".join(hardware.encryption) or "none"
        raise NoPlaceError(
            f"it encrypts no memory by {wants.encryption.type} (known there: {known}): that is for processors of AMD "
            "on which the kernel's module kvm_amd has it"
        )
    devices = next((each.devices for each in had if _answers_devices(each.devices, wants.devices)), None)
    if devices is None:
        devices = host_devices.give(wants.devices, hardware, taken, had)
    numa = None
    if wants.numa is not None:
        numa = next((each.numa_place for each in had if _answers_numa(each.numa, wants.numa)), None)
        known_numa = [each.numa for each in taken if each.numa is not None]
        numa = numa or numa_placement.place(wants.numa, hardware.nodes, known_numa, isolated)
    return HostPlace(numa, devices, wants.encryption)


def _answers_numa(has: Numa | None, wanted: Numa) -> bool:
    return has is not None and _without_numbers(has) == wanted


def _answers_devices(has: Sequence[HostDevice], wanted: Sequence[HostDevice]) -> bool:
    """Return whether a machine has the devices that are wanted, those of a kind with whatever address."""
    asked = [device if device.by_address else replace(device, address="") for device in has]
    return asked == list(wanted)


def taken_by(vm: Vm) -> Taken:
    """Return what a machine has, or is to have."""
    return replace(taken_of(vm.numa, vm.topology), devices=vm.host_devices, encrypted=vm.encryption is not None)


def taken_of(numa: Numa | None, topology: Topology | None) -> Taken:
    """Return the same by its parts. topology: what the machine sees of its processors."""
    return Taken(numa, topology.threads if topology is not None and numa is not None else 0)


def wants_elsewhere(vm: Vm) -> HostWants | None:
    """Return what a machine is to have of another host, as it is to have it of its own; None for nothing. Devices are
    not among that: no other host has them."""
    numa = None if vm.numa is None else _without_numbers(vm.numa)
    return None if numa is None and vm.encryption is None else HostWants(numa, (), vm.encryption)


def _without_numbers(numa: Numa) -> Numa:
    return replace(numa, nodes=tuple(replace(node, cpus=(), memory_node=-1) for node in numa.nodes))


def overlap(one: Taken, other: Taken) -> str:
    """Return what both have, for people; "" for nothing."""
    pinned = [
        {cpu for node in each.numa.nodes for cpu in node.cpus} if each.numa is not None and each.numa.pins else set()
        for each in (one, other)
    ]
    cpus = ", ".join(map(str, sorted(pinned[0] & pinned[1])))
    devices = sorted({device.address for device in one.devices} & {device.address for device in other.devices})
    return f"processors {cpus}" if cpus else f"device {devices[0]}" if devices else ""


def found_place(
    wants: HostWants, nodes: Sequence[NumaNode], addresses: Sequence[str], topology: Topology | None
) -> HostPlace | None:
    """Return the place of a machine that is taken over as it is; None if it does not have what is wanted.
    nodes, addresses: as its definition has them."""
    numa = None if wants.numa is None else numa_placement.with_numbers(wants.numa, nodes)
    if (numa is None) != (wants.numa is None) or len(addresses) != len(wants.devices):
        return None
    devices = tuple(replace(device, address=address) for device, address in zip(wants.devices, addresses))
    if any(device.address not in ("", found.address) for device, found in zip(wants.devices, devices)):
        return None
    threads = topology.threads if topology is not None else 1
    return HostPlace(NumaPlace(numa, threads) if numa is not None else None, devices, wants.encryption)
