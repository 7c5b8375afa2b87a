# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a host: a node as the front-end knows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Optional

from ..dataclass import dataclass
from . import defaults
from .states import HostState
from .transfer import SHARED


@dataclass(frozen=True)
class Overhead:
    """Describes what a machine takes of its host beside its own memory, as its hypervisor says: fixed MiB, MiB for each
    virtual processor (vcpu), and a share of the machine's memory."""

    fixed: float = 0.0
    vcpu: float = 0.0
    share: float = 0.0

    def of(self, memory: int, vcpu: int | None) -> int:
        return math.ceil(self.fixed + self.vcpu * (vcpu or 1) + self.share * memory)


@dataclass(frozen=True)
class HostNode:
    """Describes a node of memory and processors (NUMA) that a host has.
    memory: MiB, without what is set aside as huge pages.
    cores: the numbers of the processors of each core.
    pages: how many huge pages it has, by their MiB.
    distances: to each node of the host, in the order of their numbers."""

    number: int
    memory: int
    cores: tuple[tuple[int, ...], ...] = ()
    pages: Mapping[str, int] = field(default_factory=dict)
    distances: tuple[int, ...] = ()


@dataclass(frozen=True)
class PciDevice:
    """Describes a device of a host that a machine could have.
    address: domain, bus, slot and function: 0000:01:00.0.
    vendor, device, device_class: four hexadecimal digits each.
    driver: of the host's kernel, which uses it; "" for none, and for one that keeps it for machines.
    group: of the IOMMU, which keeps apart groups of devices only."""

    address: str
    vendor: str
    device: str
    device_class: str
    driver: str = ""
    group: str = ""


@dataclass(frozen=True)
class HostHardware:
    """Describes what a host can give a machine to itself.
    nodes: of memory and processors (NUMA); none where it does not tell them.
    iommu: it keeps a machine's devices from the memory of others; without one no machine gets a device.
    devices: behind the IOMMU.
    encryption: how memory of machines can be encrypted: SEV, SEV-ES."""

    nodes: tuple[HostNode, ...] = ()
    iommu: bool = False
    devices: tuple[PciDevice, ...] = ()
    encryption: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """Describes a host.
    memory, reserved_memory: MiB.
    cpu: processors.
    memory_used, cpu_used: what its machines were promised.
    overhead_used: what their hypervisor takes besides, by `overhead`.
    memory_overcommit, cpu_overcommit: factors on what may be promised (1.0: memory is never promised twice).
    transfer: how files of images get there, by model/transfer.py.
    hardware: what machines can have of it to themselves."""

    id: Optional[int]
    name: str
    hypervisor: str = "kvm"
    state: HostState = HostState.INIT
    memory: int = 0
    cpu: float = 0.0
    reserved_memory: int = 0
    memory_overcommit: float = defaults.MEMORY_OVERCOMMIT
    cpu_overcommit: float = defaults.CPU_OVERCOMMIT
    memory_used: int = 0
    overhead: Overhead = Overhead()
    overhead_used: int = 0
    cpu_used: float = 0.0
    vms: int = 0
    transfer: str = SHARED
    attributes: Mapping[str, str] = field(default_factory=dict)
    hardware: HostHardware = field(default_factory=HostHardware)
