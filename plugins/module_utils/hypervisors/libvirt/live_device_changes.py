# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attaches devices to a running QEMU machine, detaches them from it, makes its disks larger, and changes media, memory,
processors, and limits of devices."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import InUse, TimedOut
from ...model.disk import DiskFiles
from ...model.vm import Vm
from . import guest_file_systems, live_devices
from .domain_events import DomainEvents, Removal
from .domains import message_of
from .live_capacity import Resizing
from .live_devices import Step
from .live_values import DISK, NIC, ValueChange

# How often the definition is looked at beside the events: one that came before anybody listened is not told again.
LOOK_AGAIN = 1.0
MIB = 1 << 20
# QEMU's words for a device that was asked for before, by a run that did not wait long enough.
_ASKED_BEFORE = "in the process of unplug"
_TRAY_LOCKED = re.compile(r"[Tt]ray|is locked")


@dataclass(frozen=True)
class DiskGrowth:
    """Describes a disk that is to be larger. size: MiB."""

    name: str
    target: str
    size: int


class LiveDeviceChanges:
    """Changes one running domain. Whoever uses it explains what libvirt says.
    heard: gives the events, which are only needed where a device goes.
    timeout: seconds that the guest has to let go of a device.
    waiting: what is entered while it is waited for."""

    def __init__(
        self,
        libvirt: Any,
        heard: Callable[[], DomainEvents],
        domain: Any,
        asked: str,
        timeout: int,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._libvirt = libvirt
        self._heard = heard
        self._domain = domain
        self._asked = asked
        self._timeout = timeout
        self._waiting = waiting

    def smaller_than_wanted(self, vm: Vm, files: Mapping[int, DiskFiles], grown: Collection[int]) -> list[DiskGrowth]:
        """Return those of these disks that are smaller than they are to be. files: by disk id."""
        # A disk that is to be moved has its former target while the machine runs.
        targets = live_devices.targets_by_path(self._domain.XMLDesc(0)) if grown else {}
        found = []
        for disk in vm.disks:
            target = targets.get(files[disk.disk_id].path, "") if disk.disk_id in grown else ""
            if target and self._domain.blockInfo(target)[0] < disk.size * MIB:
                name = f"DISK {disk.disk_id} ({target}), made larger: {disk.size} MB"
                found.append(DiskGrowth(name, target, disk.size))
        return found

    def contents_left(self, vm: Vm, files: Mapping[int, DiskFiles], grown: Collection[int]) -> tuple[str, ...]:
        """Have the guest make the file systems larger on disks that are larger now. Return what is left to be done in
        it, a sentence for each disk. Also of those that a run made larger which was broken off."""
        targets = live_devices.targets_by_path(self._domain.XMLDesc(0)) if grown else {}
        found = []
        for disk in vm.disks:
            target = targets.get(files[disk.disk_id].path, "") if disk.disk_id in grown else ""
            if not target:
                continue
            with self._waiting():
                why = self._why_contents_stay(target, disk.size)
            if why:
                found.append(
                    f"DISK {disk.disk_id} ({target}) is larger, and the file system in it is not: {why}. Make its "
                    "partition and its file system larger in the guest (growpart, then resize2fs or xfs_growfs), or "
                    "start the machine anew if its system does that when it boots"
                )
        return tuple(found)

    def _why_contents_stay(self, target: str, size: int) -> str:
        try:
            return guest_file_systems.grow(self._libvirt, self._domain, target, size * MIB)
        except Exception as error:
            # Whatever a guest does or answers while it is asked: its disk is larger.
            return f"its guest could not be asked ({type(error).__name__})"

    def carry_out(self, steps: Sequence[Step], grown: Sequence[DiskGrowth]) -> None:
        for step in steps:
            if step.medium:
                self._change_medium(step)
            elif step.alias:
                self._detach(step)
            else:
                self._domain.attachDeviceFlags(step.text, self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
        for growth in grown:
            flags = self._libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
            self._domain.blockResize(growth.target, growth.size * MIB, flags)

    def resize(self, resizing: Resizing, removes: bool) -> bool:
        """Give the machine its processors and memory. Return whether it had others.
        removes: its guest is to give back what it has too much of."""
        if resizing.vcpu is not None:
            self._set_processors(resizing.vcpu)
        self.carry_out(resizing.modules, ())
        changed = resizing.balloon is not None and self._set_balloon(resizing.balloon, removes)
        return changed or bool(resizing.modules) or resizing.vcpu is not None

    def set_values(self, changes: Sequence[ValueChange]) -> None:
        """Give disks and NICs their limits, NICs their VLANs and links, and the console its password."""
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        for change in changes:
            if change.kind == DISK:
                self._domain.setBlockIoTune(change.target, dict(change.limits), live)
            elif change.kind == NIC:
                self._domain.setInterfaceParameters(change.target, dict(change.limits), live)
            else:
                self._domain.updateDeviceFlags(change.text, live)

    def _set_processors(self, wanted: int) -> None:
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        had = self._domain.vcpusFlags(live)
        try:
            self._domain.setVcpusFlags(wanted, live)
        except self._libvirt.libvirtError as error:
            has = self._domain.vcpusFlags(live)
            if has == wanted:
                return
            if has == had and wanted > had:
                raise
            raise InUse(
                f"{self._asked}: VCPU = {wanted}",
                f"it runs with {has} processors, and gives no more of them back ({message_of(error)})",
                "A guest gives back only processors that came while it ran, and emulation none: power it off first "
                "(state: poweroff), then let it run again; or ask for as many as it has",
            ) from error

    def _set_balloon(self, wanted: int, removes: bool) -> bool:
        had = self._guest_memory()
        if had == wanted or (wanted < had and not removes):
            return False
        with self._heard().changed(self._domain.UUIDString()) as changed:
            limit = time.monotonic() + self._timeout
            self._domain.setMemoryFlags(wanted * 1024, self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
            while (has := self._guest_memory()) != wanted:
                left = limit - time.monotonic()
                if left <= 0:
                    raise TimedOut(
                        f"{self._asked}: MEMORY = {wanted}",
                        f"its guest has {has} MB after {self._timeout} s, and had {had}",
                        "A guest that boots, is halted or has no driver of virtio-balloon answers nothing, and one "
                        "that needs its memory keeps it: look at its console, then run again; or power it off first",
                    )
                with self._waiting():
                    changed.wait(min(LOOK_AGAIN, left))
                changed.clear()
        return True

    def _guest_memory(self) -> int:
        """Return the MiB that its balloon leaves to the guest."""
        return int(self._domain.memoryStats().get("actual", 0)) // 1024

    def _detach(self, step: Step) -> None:
        with self._heard().removed(self._domain.UUIDString(), step.alias) as removal:
            limit = time.monotonic() + self._timeout
            self._ask(step)
            while self._has(step.alias):
                if removal.refused:
                    raise InUse(f"{self._asked}: {step.name}", "its guest refuses to let it go", _REMEDY)
                left = limit - time.monotonic()
                if left <= 0:
                    found = f"its guest has not let it go within {self._timeout} s, and still has it"
                    raise TimedOut(f"{self._asked}: {step.name}", found, _REMEDY)
                self._wait(removal, left)

    def _change_medium(self, step: Step) -> None:
        with self._heard().changed(self._domain.UUIDString()) as moved:
            limit = time.monotonic() + self._timeout
            while True:
                try:
                    self._domain.updateDeviceFlags(step.text, self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
                except self._libvirt.libvirtError as error:
                    left = limit - time.monotonic()
                    if not _TRAY_LOCKED.search(str(error)):
                        raise
                    if left <= 0:
                        raise InUse(
                            f"{self._asked}: {step.name}",
                            f"its guest keeps the tray closed ({message_of(error)})",
                            "Unmount the medium in it, and eject it there, then run again; or power it off first",
                        ) from error
                    with self._waiting():
                        moved.wait(min(LOOK_AGAIN, left))
                    moved.clear()
                else:
                    return

    def _ask(self, step: Step) -> None:
        try:
            # It waits itself for some seconds.
            with self._waiting():
                self._domain.detachDeviceFlags(step.text, self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except self._libvirt.libvirtError as error:
            if _ASKED_BEFORE not in str(error) and self._has(step.alias):
                raise

    def _wait(self, removal: Removal, left: float) -> None:
        with self._waiting():
            reported = removal.reported.wait(min(LOOK_AGAIN, left))
        if reported and not removal.refused:
            # libvirt tells it before its definition says it.
            removal.reported.clear()

    def _has(self, alias: str) -> bool:
        devices = ET.fromstring(self._domain.XMLDesc(0)).iterfind("devices/*/alias")
        return any(each.get("name") == alias for each in devices)


_REMEDY = (
    "A guest that boots, is halted or has no driver for it answers nothing, and one that uses a disk keeps it: look at "
    "its console, unmount the disk or take the interface down in it, then run again; or power it off first"
)
