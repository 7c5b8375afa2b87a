# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a virtual machine as a hypervisor renders it: every reference resolved, every default applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass
from . import defaults
from .context import Context
from .disk import Disk
from .nic import Alias, Nic
from .owner import Owner
from .system_snapshots import SystemSnapshot


@dataclass(frozen=True)
class Os:
    """Describes OS = [ … ].
    kernel, initrd: paths on the node.
    boot: names of devices: disk0, nic0 …
    suspends: whether its guest may put it to sleep."""

    arch: str = defaults.ARCH
    machine: str = ""
    boot: tuple[str, ...] = ()
    kernel: str = ""
    initrd: str = ""
    kernel_cmd: str = ""
    root: str = ""
    bootloader: str = ""
    firmware: str = ""
    firmware_secure: bool = False
    sd_disk_bus: str = ""
    suspends: bool = True

    @property
    def type_keys(self) -> dict[str, str]:
        """Return the keys of OS that say what kind of machine it is."""
        return type_keys_of(vars(self))


def type_keys_of(os: Mapping[str, Any]) -> dict[str, str]:
    """Return the same of the plain form of an Os."""
    return {key: str(os.get(key.lower()) or "") for key in ("MACHINE", "KERNEL", "BOOTLOADER")}


@dataclass(frozen=True)
class Graphics:
    """Describes GRAPHICS = [ … ].
    type: VNC or SPICE, in lower case.
    password: cut by the hypervisor's rule, not here.
    made_up: the template leaves the password to the catalog, which makes one up and keeps it.
    companions: the console brings a sound card, ports for USB devices and a channel with it, as that of SPICE does."""

    type: str = defaults.GRAPHICS_TYPE
    listen: str = defaults.GRAPHICS_LISTEN
    port: int = 0
    password: str = field(default="", repr=False)
    keymap: str = ""
    made_up: bool = False
    companions: bool = False


@dataclass(frozen=True)
class Video:
    """Describes VIDEO = [ … ].
    type: as libvirt calls it; none for no video device.
    vram: KiB, 0 for the hypervisor's default.
    resolution: pixels across and down, None for the guest's own.
    iommu, ats: whether its memory is reached through an IOMMU, and whether it keeps what that told it."""

    type: str
    vram: int = 0
    resolution: Optional[tuple[int, int]] = None
    iommu: bool = False
    ats: bool = False


@dataclass(frozen=True)
class Iommu:
    """Describes IOMMU = [ … ]. options: as libvirt calls them, on or off, or a number."""

    model: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tpm:
    """Describes TPM = [ … ]: emulated, its state beside the machine's definition. model: tpm-crb or tpm-tis."""

    model: str = "tpm-crb"
    version: str = "2.0"


@dataclass(frozen=True)
class Topology:
    """Describes TOPOLOGY = [ … ]: in what the guest sees its virtual processors, as many as the three make together."""

    sockets: int
    cores: int
    threads: int


@dataclass(frozen=True)
class NumaNode:
    """Describes a node of memory and processors that a guest sees.
    vcpus: how many of the machine's, MiB: its memory.
    distances: to the guest's nodes, as NUMA_NODE/DISTANCE has them ("1:20,2-3:30"); "" for what QEMU has by itself.
    cpus: numbers of the host's processors: one for each virtual one, or those that all of them share.
    memory_node: number of the host's node that its memory is of, -1 for any."""

    vcpus: int
    memory: int
    distances: str = ""
    cpus: tuple[int, ...] = ()
    memory_node: int = -1


@dataclass(frozen=True)
class Numa:
    """Describes which processors and memory of its host a machine has, by TOPOLOGY = [ … ] and NUMA_NODE = [ … ].
    policy: none, core, thread or shared (model/instantiate/numa_nodes.py).
    sockets, threads: of what the guest sees; threads 0 for as many as fit the host's cores.
    affinity: number of the host's node that it runs on, -1 for any.
    page_size: MiB of the huge pages that its memory is of, 0 for ordinary ones.
    access: of its memory, private or shared; "" for QEMU's own."""

    policy: str
    nodes: tuple[NumaNode, ...]
    sockets: int = 1
    threads: int = 0
    affinity: int = -1
    page_size: int = 0
    access: str = ""

    @property
    def pins(self) -> bool:
        """Return whether it has processors of its own, which no other such machine gets."""
        return self.policy != "none"


@dataclass(frozen=True)
class HostDevice:
    """Describes a device of PCI that a machine has of its host: by its address (0000:01:00.0), or by what it is, four
    hexadecimal digits each."""

    address: str = ""
    vendor: str = ""
    device: str = ""
    device_class: str = ""

    @property
    def by_address(self) -> bool:
        """Return whether the template names it by its address, and not by what it is."""
        return not (self.vendor or self.device or self.device_class)


@dataclass(frozen=True)
class MemoryEncryption:
    """Describes MEMORY_ENCRYPTION = [ … ]. type: SEV or SEV-ES. offset: MiB that QEMU may lock beside the memory."""

    type: str
    offset: int


@dataclass(frozen=True)
class Growth:
    """Describes how far a machine may grow while it runs.
    memory: MiB that it can have, 0 where its memory stays as it is.
    vcpu: virtual processors that it can have, 0 likewise.
    slots: for modules of memory, by which it grows; 0 where it grows by a balloon that lets go of memory."""

    memory: int = 0
    vcpu: int = 0
    slots: int = 0


@dataclass(frozen=True)
class Input:
    type: str
    bus: str = ""


@dataclass(frozen=True)
class Vm:
    """Describes one machine.
    cpu: share of physical processors (0.5 is half a one).
    vcpu: virtual processors, None for the hypervisor's default.
    memory: MiB.
    disks: in the order of the template, without the context, whose place is context.disk_id.
    next_disk, next_nic: ids that no disk, and no NIC or alias, of it ever had, 0 for those after the last.
    cpu_limit: percents of one processor that it gets at most, 0 for no limit.
    emulator: path of a QEMU of its own on the node, "" for the node's.
    container: what only containers have, by the names that their hypervisor has for it (KMEMSIZE, CPUUNITS …).
    features, cpu_model: upper-case attribute names.
    raw: text for the file of a hypervisor, by its name ("kvm").
    attributes: the user's own attributes, single values only.
    owner: whose it was when its context was made.
    topology: how it shows its virtual processors, None where each is a socket.
    growth: None for one that has what it has until its next start.
    hotplug_slots: for disks and NICs that come while it runs; 0 for those that it has by itself.
    hardware_version: which attributes of its template act on it (model/instantiate/hardware_version.py).
    video: None for the one that its hypervisor gives it.
    numa: which processors and memory of its host it has, None for any.
    host_devices: devices of its host that it has.
    encryption: how its memory is encrypted, None for not at all.
    fragments: what stands in place of the hypervisor's own in its file, by attribute (HYPERV_OPTIONS …).
    former: the host name that its guest was started with, where its context has another by now.
    system_snapshots: in the order in which they were made, as recorded."""

    vm_id: int
    uuid: str
    name: str
    hypervisor: str
    cpu: float
    memory: int
    vcpu: Optional[int] = None
    os: Os = Os()
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    aliases: tuple[Alias, ...] = ()
    context: Optional[Context] = None
    graphics: Optional[Graphics] = None
    inputs: tuple[Input, ...] = ()
    tpm: Optional[Tpm] = None
    features: Mapping[str, str] = field(default_factory=dict)
    cpu_model: Mapping[str, str] = field(default_factory=dict)
    cpu_limit: int = 0
    emulator: str = ""
    raw: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    owner: Owner = Owner()
    next_disk: int = 0
    next_nic: int = 0
    container: Mapping[str, str] = field(default_factory=dict)
    former: str = ""
    topology: Optional[Topology] = None
    growth: Optional[Growth] = None
    hotplug_slots: int = 0
    hardware_version: int = 0
    video: Optional[Video] = None
    iommu: Optional[Iommu] = None
    numa: Optional[Numa] = None
    host_devices: tuple[HostDevice, ...] = ()
    encryption: Optional[MemoryEncryption] = None
    fragments: Mapping[str, str] = field(default_factory=dict)
    system_snapshots: tuple[SystemSnapshot, ...] = ()

    @property
    def most_memory(self) -> int:
        """Return the MiB that it has at most while it runs."""
        return max(self.memory, self.growth.memory if self.growth else 0)

    @property
    def ordinary_memory(self) -> int:
        """Return the MiB that it takes at most of what its host has beside huge pages."""
        return 0 if self.numa is not None and self.numa.page_size else self.most_memory

    @property
    def most_vcpus(self) -> int:
        """Return the virtual processors that it has at most while it runs."""
        return max(self.vcpu or 1, self.growth.vcpu if self.growth else 0)

    @property
    def nics_and_aliases(self) -> tuple[Nic | Alias, ...]:
        """Return all NICs and aliases: each has a lease."""
        return (*self.nics, *self.aliases)
