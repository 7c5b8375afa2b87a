# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which devices of PCI this host has behind an IOMMU, from the kernel's sysfs."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ..model.host import PciDevice

SYSTEM = "/sys"
_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# The driver of devices that are kept for machines.
SET_ASIDE = "vfio-pci"
# Of bridges, which a machine can't have.
_BRIDGES = "06"


def has_iommu(system: str = SYSTEM) -> bool:
    return bool(_names(f"{system}/kernel/iommu_groups"))


def devices(system: str = SYSTEM) -> tuple[PciDevice, ...]:
    """Return the devices that are in a group of the IOMMU, in the order of their addresses."""
    found = []
    for name in sorted(_names(f"{system}/bus/pci/devices")):
        # What is taken out meanwhile is not there.
        with contextlib.suppress(FileNotFoundError):
            device = _device(name, f"{system}/bus/pci/devices/{name}")
            if device is not None and not device.device_class.startswith(_BRIDGES):
                found.append(device)
    return tuple(found)


def _device(name: str, place: str) -> PciDevice | None:
    if not _ADDRESS.fullmatch(name) or not os.path.islink(f"{place}/iommu_group"):
        return None
    driver = os.path.basename(os.readlink(f"{place}/driver")) if os.path.islink(f"{place}/driver") else ""
    return PciDevice(
        name,
        _digits(f"{place}/vendor"),
        _digits(f"{place}/device"),
        _digits(f"{place}/class")[:4],
        # libvirt binds it to this while a machine has it.
        "" if driver == SET_ASIDE else driver,
        os.path.basename(os.readlink(f"{place}/iommu_group")),
    )


def _digits(path: str) -> str:
    return Path(path).read_text(encoding="ascii").strip().removeprefix("0x")


def _names(place: str) -> list[str]:
    try:
        return os.listdir(place)
    except OSError:
        return []
