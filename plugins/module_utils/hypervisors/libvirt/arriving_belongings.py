# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether this host has what a machine of another host needs beside its disks and hardware: the secrets of its
encrypted disks, the firmware by which it starts, and what emulates its TPM. None of them is brought by a move."""

from __future__ import annotations

import os
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import NotFound, Unsupported
from ...model import defaults
from ...model.vm import Tpm, Vm
from ..base import Site
from .domain_xml import FIRMWARE_WORDS, machine_type, starts_by_uefi


def require(lv: Any, connection: Any, vm: Vm, site: Site, emulator: str, asked: str) -> None:
    """Raise NotFound or Unsupported, by name, for what this host lacks of it."""
    for disk in vm.disks:
        if disk.luks_secret and not _has_secret(lv, connection, disk.luks_secret):
            raise NotFound(
                asked,
                f"its disk {disk.disk_id} is encrypted, and this host does not have its secret {disk.luks_secret}",
                "Name it in nebula_luks_secrets of this host as well, and run role nebula.provision.node",
            )
    place = (emulator, vm.os.arch or defaults.ARCH, machine_type(vm), site.accelerator)
    if vm.tpm is not None:
        _require_tpm(ET.fromstring(connection.getDomainCapabilities(*place, 0)), vm.tpm, asked)
    if not starts_by_uefi(vm):
        return
    if vm.os.firmware.upper() not in FIRMWARE_WORDS:
        if not os.path.isfile(vm.os.firmware):
            found = f"it starts by {vm.os.firmware}, which this host does not have"
            raise NotFound(asked, found, "Install it there, or set FIRMWARE = UEFI in OS of its template")
        return
    known = ET.fromstring(connection.getDomainCapabilities(*place, 0)).find("os")
    if known is None or not _has(known, "enum[@name='firmware']", "efi"):
        raise Unsupported(asked, "it starts by UEFI, and this host has no such firmware", "Install the package ovmf")
    if vm.os.firmware_secure and not _has(known, "loader/enum[@name='secure']", "yes"):
        found = "it starts by UEFI with secure boot, and this host has no such firmware"
        raise Unsupported(asked, found, "Install a newer package ovmf")


def _require_tpm(known: ET.Element, tpm: Tpm, asked: str) -> None:
    devices = known.find("devices/tpm")
    # Of an older libvirt, which does not tell the versions.
    versions = None if devices is None else devices.find("enum[@name='backendVersion']")
    if devices is None or not _has(devices, "enum[@name='backendModel']", "emulator"):
        found = "it has a TPM, and this host has nothing that emulates one"
    elif not _has(devices, "enum[@name='model']", tpm.model):
        found = f"it has a TPM of model {tpm.model}, which this host's QEMU does not have"
    elif versions is not None and all(each.text != tpm.version for each in versions.iterfind("value")):
        found = f"it has a TPM of version {tpm.version}, which this host's swtpm does not have"
    else:
        return
    raise Unsupported(asked, found, "Install the packages swtpm and swtpm-tools there, as on its present host")


def _has_secret(lv: Any, connection: Any, uuid: str) -> bool:
    try:
        connection.secretLookupByUUIDString(uuid)
    except lv.libvirtError as error:
        if error.get_error_code() != lv.VIR_ERR_NO_SECRET:
            raise
        return False
    return True


def _has(known: ET.Element, place: str, value: str) -> bool:
    return any(each.text == value for each in known.iterfind(f"{place}/value"))
