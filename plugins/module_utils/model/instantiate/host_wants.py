# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads PCI, and gathers what a template wants of a host for its machine alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Optional

from ...dataclass import dataclass
from ...errors import InvalidValue
from ..template import Template
from ..vm import HostDevice, MemoryEncryption, Numa
from .encrypted_memory import read_encryption
from .former_machine import FormerMachine
from .hardware_version import acts, hardware_version_of
from .numa_nodes import ATTRIBUTE, read_numa

_SHORT_ADDRESS = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_CLASSES = ("VENDOR", "DEVICE", "CLASS")
_HEX = re.compile(r"[0-9a-f]{4}")


@dataclass(frozen=True)
class HostWants:
    """Holds what a machine is to have of its host to itself.
    numa: without the host's numbers.
    devices: without addresses where any of a kind will do."""

    numa: Optional[Numa] = None
    devices: tuple[HostDevice, ...] = ()
    encryption: Optional[MemoryEncryption] = None


def wants_of(template: Template, hypervisor: str, where: str, former: FormerMachine | None = None) -> HostWants | None:
    """Return what a machine of the template wants of its host to itself; None for nothing of the kind. Raise
    InvalidValue for what no machine can have.
    former: what a machine has that is there."""
    if not acts(ATTRIBUTE, hardware_version_of(template, hypervisor, former)):
        return None
    found = HostWants(read_numa(template, where), read_devices(template, where), read_encryption(template, where))
    return None if found == HostWants() else found


def read_devices(template: Template, where: str) -> tuple[HostDevice, ...]:
    """Return the devices of PCI that the template asks for."""
    devices = tuple(
        _read_device(vector, f"{where}: PCI {index}") for index, vector in enumerate(template.vectors("PCI"))
    )
    addresses = [device.address for device in devices if device.address]
    for address in addresses:
        if addresses.count(address) > 1:
            raise InvalidValue(f"{where}: PCI: SHORT_ADDRESS = {address}", "it is there twice", "Keep one of the two")
    return devices


def _read_device(vector: Mapping[str, str], where: str) -> HostDevice:
    if vector.get("TYPE", "").strip().upper() == "NIC":
        raise InvalidValue(
            f"{where}: TYPE = NIC",
            "no interface of a host is handed to a machine with an address of a network",
            "Give it a NIC; or leave TYPE out: its guest configures the device itself",
        )
    address = vector.get("SHORT_ADDRESS", "").strip().lower()
    kinds = {key: vector.get(key, "").strip().lower().removeprefix("0x") for key in _CLASSES}
    if address:
        found = _SHORT_ADDRESS.fullmatch(address)
        if found is None:
            raise InvalidValue(
                f"{where}: SHORT_ADDRESS = {vector['SHORT_ADDRESS']!r}",
                "it is no address of a device",
                "Write it as lspci does: 01:00.0",
            )
        return HostDevice(f"{found[1] or '0000'}:{found[2]}:{found[3]}.{found[4]}")
    for key, text in kinds.items():
        if text and not _HEX.fullmatch(text):
            raise InvalidValue(
                f"{where}: {key} = {vector[key]!r}",
                "it is not four hexadecimal digits",
                "Write it as lspci -n does: 10de",
            )
    if not any(kinds.values()):
        raise InvalidValue(where, "it says of no device which one", "Give SHORT_ADDRESS, or VENDOR, DEVICE or CLASS")
    return HostDevice("", kinds["VENDOR"], kinds["DEVICE"], kinds["CLASS"])
