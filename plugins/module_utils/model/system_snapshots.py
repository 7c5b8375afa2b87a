# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes the system snapshots of a machine: all its disks at one moment, with its memory if it ran then. Says which
machines can have any, and why one can't go back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from ..dataclass import dataclass
from ..errors import InvalidValue, NotFound, Unsupported
from .dataclass_json import to_plain
from .disk import SHARED_DIRECTORY, Disk

if TYPE_CHECKING:
    from .vm import Vm

# The names that they have in the files of disks and at the hypervisor; those of one disk begin otherwise.
TAG = "nebula-system-"
# What a machine's memory belongs to, beside its size, disks and NICs: the fields of Vm, by what users call them.
_PARTS = {
    "OS": "os",
    "FEATURES": "features",
    "CPU_MODEL": "cpu_model",
    "INPUT": "inputs",
    "TPM": "tpm",
    "VIDEO": "video",
    "IOMMU": "iommu",
    "TOPOLOGY": "topology",
    "NUMA_NODE": "numa",
    "MEMORY_MAX, VCPU_MAX": "growth",
    "PCI": "host_devices",
    "MEMORY_ENCRYPTION": "encryption",
    "EMULATOR": "emulator",
    "RAW": "raw",
    "HYPERV_OPTIONS": "fragments",
}


@dataclass(frozen=True)
class SystemSnapshot:
    """Describes one snapshot.
    id: its number on this machine, from 0 on.
    mark: tells it in the files from another of that id, which nobody remembers.
    memory: it holds the memory, too: going back to it has the machine run on from there.
    date: s since the epoch.
    disks: ids of the disks that it holds.
    definition: what the machine was then, by parts."""

    id: int
    name: str
    memory: bool = False
    date: int = 0
    mark: str = ""
    disks: tuple[int, ...] = ()
    definition: Mapping[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        return tag_of(self.id, self.mark)


def tag_of(snapshot_id: int, mark: str) -> str:
    """Return the name in the files."""
    return f"{TAG}{snapshot_id}-{mark}"


def find(snapshots: Sequence[SystemSnapshot], name: str) -> SystemSnapshot | None:
    return next((each for each in snapshots if each.name == name), None)


def next_id(snapshots: Sequence[SystemSnapshot]) -> int:
    return max((each.id for each in snapshots), default=-1) + 1


def without(snapshots: Sequence[SystemSnapshot], snapshot_id: int) -> tuple[SystemSnapshot, ...]:
    if all(each.id != snapshot_id for each in snapshots):
        raise NotFound(f"system snapshot {snapshot_id}", "the machine has none of that id", "List them: nebula_info")
    return tuple(each for each in snapshots if each.id != snapshot_id)


def held_disks(vm: Vm) -> tuple[Disk, ...]:
    """Return the disks that a snapshot of the machine holds: all that are written to."""
    return tuple(disk for disk in vm.disks if disk.type != "CDROM" and not disk.readonly)


def holding(vm: Vm, disk_id: int) -> list[str]:
    """Return the names of the snapshots that hold the disk."""
    return [each.name for each in vm.system_snapshots if disk_id in each.disks]


def refuse_without(vm: Vm, memory: bool, asked: str) -> None:
    """Raise Unsupported, or InvalidValue, for a machine that can't have a snapshot. memory: of one that runs."""
    disks = held_disks(vm)
    if not disks:
        raise InvalidValue(asked, "nothing is ever written to its disks, and none of them can hold it", "Leave it out")
    for disk in disks:
        _refuse_disk(disk, f"{asked}: disk {disk.disk_id}")
    if not memory:
        return
    off = "or make the snapshot while it is off (state: poweroff), of its disks without its memory"
    if vm.os.firmware and vm.os.firmware.upper() != "BIOS":
        raise Unsupported(
            f"{asked}: FIRMWARE",
            f"it starts by UEFI ({vm.os.firmware}), and QEMU keeps no memory together with the variables of that",
            f"Make it anew with FIRMWARE = BIOS in OS, if its system boots so, {off}",
        )
    if vm.host_devices:
        raise Unsupported(
            f"{asked}: PCI",
            "it has devices of its host, whose state nothing saves",
            f"Take PCI out of its template and start it anew, {off}",
        )
    if vm.encryption is not None:
        raise Unsupported(
            f"{asked}: MEMORY_ENCRYPTION",
            "its memory is encrypted, and nobody but its processor can read it",
            f"Take MEMORY_ENCRYPTION out of its template and start it anew, {off}",
        )


def _refuse_disk(disk: Disk, asked: str) -> None:
    if disk.type == SHARED_DIRECTORY:
        raise Unsupported(
            f"{asked} (TYPE = FILESYSTEM)",
            f"it is directory {disk.source} of its host, which no snapshot holds, and QEMU saves no machine with one",
            "Take it out of the machine first, and start it anew",
        )
    if disk.luks_secret:
        raise Unsupported(
            asked,
            "it is encrypted, and no host could go back to it without its secret",
            "Save it as an image (save_as) while the machine is off",
        )
    if disk.save:
        raise Unsupported(
            asked,
            f"it is persistent image {disk.image}, which other machines have after this one, and they would have the "
            "snapshots in it",
            "Use disk_snapshots, which stay with the image",
        )
    if disk.driver != "qcow2":
        raise Unsupported(
            asked,
            "it is a raw disk, which has no place for a snapshot",
            "Make the machine anew with DRIVER = qcow2 in this DISK (FORMAT = qcow2 where it has no image)",
        )


def definition_of(vm: Vm) -> dict[str, str]:
    """Return what a machine's memory belongs to, by parts. Values that change at once while it runs are not among them:
    passwords, limits, weights, the context."""
    parts = {"MEMORY": f"{vm.memory} MiB", "VCPU": str(vm.vcpu or 1)}
    for disk in vm.disks:
        what = f"image {disk.image}" if disk.image else disk.type
        parts[f"DISK {disk.disk_id}"] = f"{what} at {disk.target}{f' ({disk.bus})' if disk.bus else ''}"
        if disk in held_disks(vm):
            parts[f"DISK {disk.disk_id}"] += f", {disk.size} MiB"
    for nic in vm.nics:
        model = f" ({nic.model})" if nic.model else ""
        parts[f"NIC {nic.nic_id}"] = f"{nic.mac} in network {nic.network}{model}"
    if vm.graphics is not None:
        graphics = vm.graphics
        parts["GRAPHICS"] = f"{graphics.type} at {graphics.listen}, port {graphics.port}"
    for name, attribute in _PARTS.items():
        value = to_plain(getattr(vm, attribute))
        if value:
            text = json.dumps(value, sort_keys=True, separators=(",", ":"))
            parts[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return parts


def refuse_changed(snapshot: SystemSnapshot, vm: Vm, asked: str) -> None:
    """Raise InvalidValue, by name, if the machine is not what it was: memory goes back to nothing else. Of a snapshot
    without memory only the disks count."""
    differs = differences(snapshot, vm)
    if differs:
        raise InvalidValue(
            asked,
            f"the machine is not what it was then: {'; '.join(differs)}",
            "Have the list say what was so then, and go back in the run after that; or delete the snapshot "
            "(state: absent)",
        )


def differences(snapshot: SystemSnapshot, vm: Vm) -> list[str]:
    now, then = definition_of(vm), snapshot.definition
    found = []
    for name in sorted({*now, *then}):
        if now.get(name) == then.get(name) or not (snapshot.memory or name.startswith("DISK ")):
            continue
        if name in _PARTS:
            found.append(f"{name} differs")
        else:
            found.append(f"{name} was {then.get(name, 'not there')}, and is {now.get(name, 'not there')}")
    return found
