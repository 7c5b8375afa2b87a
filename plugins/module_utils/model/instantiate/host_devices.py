# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses for a machine the devices of PCI that its host gives it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ...dataclass import replace
from ..host import HostHardware, PciDevice
from ..vm import HostDevice
from .numa_placement import NoPlaceError

# The driver of devices that a host keeps for machines.
SET_ASIDE = "vfio-pci"


class HasDevices(Protocol):
    @property
    def devices(self) -> tuple[HostDevice, ...]: ...


def give(
    wanted: Sequence[HostDevice], hardware: HostHardware, taken: Sequence[HasDevices], had: Sequence[HasDevices]
) -> tuple[HostDevice, ...]:
    """Return the devices with their addresses. Raise NoPlaceError, which says what the host lacks.
    taken: what other machines have.
    had: what the machine itself has, whatever driver it is bound to meanwhile."""
    if not wanted:
        return ()
    if not hardware.iommu:
        raise NoPlaceError(
            "it has no IOMMU that would keep a machine's device from the memory of others: switch on VT-d or AMD-Vi in "
            "its firmware, and intel_iommu=on or amd_iommu=on for its kernel"
        )
    others, own = ({device.address for each in some for device in each.devices} for some in (taken, had))
    # Those with an address first: any of a kind must not take them.
    found: dict[int, HostDevice] = {}
    for index in sorted(range(len(wanted)), key=lambda number: not wanted[number].by_address):
        picked = {device.address for device in found.values()}
        device = _one(wanted[index], hardware.devices, others, own, picked)
        found[index] = replace(wanted[index], address=device.address)
    return tuple(found[index] for index in range(len(wanted)))


def _one(
    wanted: HostDevice,
    devices: Sequence[PciDevice],
    others: Collection[str],
    own: Collection[str],
    picked: Collection[str],
) -> PciDevice:
    fits = [device for device in devices if _fits(wanted, device)]
    if not fits:
        raise NoPlaceError(f"it has no device {described(wanted)} behind its IOMMU")
    # The IOMMU tells apart groups of devices, so that each has one owner.
    groups = {device.group for device in devices if device.group and device.address in others}
    free = [each for each in fits if each.address not in {*others, *picked} and each.group not in groups]
    if not free:
        raise NoPlaceError(f"each of its devices {described(wanted)}, or of their groups, is another machine's")
    busy = [each for each in devices if each.driver not in ("", SET_ASIDE) and each.address not in own]
    used = {each.group or each.address: each for each in busy}
    usable = [each for each in free if (each.group or each.address) not in used]
    if not usable:
        blocking = [used[each.group or each.address] for each in free]
        named = ", ".join(f"{each.address} (driver {each.driver})" for each in blocking[:4])
        raise NoPlaceError(
            f"it uses its devices {described(wanted)}, or others of their groups, itself: {named}. Set these aside for "
            f"machines: driverctl set-override {blocking[0].address} {SET_ASIDE}"
        )
    return min(usable, key=lambda each: each.address not in own)


def _fits(wanted: HostDevice, device: PciDevice) -> bool:
    if wanted.by_address:
        return wanted.address == device.address
    pairs = (
        (wanted.vendor, device.vendor),
        (wanted.device, device.device),
        (wanted.device_class, device.device_class),
    )
    return all(not asked or asked == has for asked, has in pairs)


def described(wanted: HostDevice) -> str:
    """Return which device it is, for people."""
    if wanted.by_address:
        return f"at {wanted.address}"
    named = (("vendor", wanted.vendor), ("device", wanted.device), ("class", wanted.device_class))
    return "with " + ", ".join(f"{name} {text}" for name, text in named if text)
