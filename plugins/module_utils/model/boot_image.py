# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether a machine is what the system on its disk was installed with: firmware and bus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..dataclass import replace
from ..errors import InvalidValue
from .flags import TRUE
from .image import Image
from .states import ImageType
from .template import Template
from .vm import Os, Vm

BIOS, UEFI, SECURE = "BIOS", "UEFI", "UEFI_SECURE"
FIRMWARES = (BIOS, UEFI, SECURE)
# The prefix that stands for an image's bus where nothing else is said of its disk.
PREFIXES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd"}
# Attributes of an image in which users say what system is in it, and what is said of one that install/ makes.
GUEST_OS, WINDOWS = "GUEST_OS", "windows"
_SYSTEM = (GUEST_OS, "OS", "OS_FAMILY")


def boot_disk(os: Os, images: Mapping[int, Image]) -> int | None:
    """Return the index of the disk whose system the machine boots, None if that is no image of type OS."""
    if os.kernel:
        return None
    named = [int(device[4:]) for device in os.boot if device.startswith("disk")]
    systems = [index for index, image in sorted(images.items()) if image.type == ImageType.OS]
    return next((index for index in [*named, *systems] if index in systems), None)


def with_firmware(os: Os, template: Template, images: Mapping[int, Image], where: str) -> Os:
    """Return OS with the firmware of the image that it boots from, where the template leaves that open; raise
    InvalidValue where it says another."""
    index = boot_disk(os, images)
    image = images[index] if index is not None else None
    if image is None or image.firmware not in FIRMWARES:
        return os
    vector = template.vector("OS")
    wants_uefi = image.firmware != BIOS
    given = vector.get("FIRMWARE", "")
    if not given:
        if image.firmware == BIOS:
            return os
        secure = image.firmware == SECURE if not vector.get("FIRMWARE_SECURE") else os.firmware_secure
        if secure and "q35" not in os.machine:
            raise InvalidValue(
                f"{where}: OS/MACHINE = {os.machine}",
                f"image {image.name} was installed with secure boot, which this machine can't protect",
                'Set MACHINE = "q35", or FIRMWARE_SECURE = "NO"',
            )
        return replace(os, firmware=UEFI, firmware_secure=secure)
    # A path is that of a UEFI firmware's code.
    if (given.upper() != BIOS) != wants_uefi:
        raise InvalidValue(
            f"{where}: OS/FIRMWARE = {given}",
            f"image {image.name}, from which it boots, was installed with {'UEFI' if wants_uefi else 'BIOS'}",
            "Leave FIRMWARE out, which takes the image's. If the image is not what it is said to be: nebula_image with "
            f"firmware: {BIOS if wants_uefi else UEFI}",
        )
    return os


def check_boot_bus(template: Template, vm: Vm, images: Mapping[int, Image], where: str) -> list[str]:
    """Return warnings where the system that it boots stands on another bus than it was installed on; raise InvalidValue
    for a system that does not start there."""
    index = boot_disk(vm.os, images)
    image = images[index] if index is not None else None
    if image is None or index is None or image.bus not in PREFIXES:
        return []
    disk, vector = vm.disks[index], template.vectors("DISK")[index]
    if disk.bus == image.bus or vector.get("FORCE_BUS", "").upper() in TRUE:
        return []
    asked = f"{where}: DISK {index}: TARGET = {disk.target}, which is on {disk.bus}"
    found = f"image {image.name} was installed on {image.bus}"
    if is_windows(template, image):
        raise InvalidValue(
            asked,
            f"{found}, and Windows does not start from a bus whose driver it does not start with",
            f'Leave TARGET, DEV_PREFIX and BUS out, which takes {image.bus}; if the driver is there: FORCE_BUS = "YES" '
            "in DISK",
        )
    doubt = (
        f"DISK {index}: {found}, and TARGET = {disk.target} is on {disk.bus}: it starts if its initial RAM disk has "
        "that driver, and if it finds its file systems by UUID. FORCE_BUS = YES in DISK says that this is known"
    )
    return [doubt]


def boots_windows(os: Os, template: Template, images: Mapping[int, Image]) -> bool:
    """Return whether the machine's guest is a Windows: by the image of a disk that it boots from, or where none is
    there yet, by any of its images (the ISO that installs it); or by what its template has for Windows alone."""
    index = boot_disk(os, images)
    booted = list(images.values()) if index is None else [images[index]]
    return _has_hyperv(template.vectors("FEATURES")) or any(is_windows(template, image) for image in booted)


def is_windows(template: Template, image: Image) -> bool:
    words = [image.attributes.get(name, "").lower() for name in _SYSTEM]
    return any(word.startswith("win") for word in words) or _has_hyperv(template.vectors("FEATURES"))


def _has_hyperv(vectors: Sequence[Mapping[str, str]]) -> bool:
    return any(vector.get("HYPERV", "").upper() in TRUE for vector in vectors)
