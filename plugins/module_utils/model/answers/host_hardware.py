# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a host tells of what machines can have of it to themselves, within the bounds of what a host can have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import InvalidValue
from ..dataclass_json import from_plain
from ..host import HostHardware, HostNode, PciDevice
from ..instantiate.encrypted_memory import ENCRYPTIONS
from . import answer_bounds

# Of the largest hosts that kernels are built for.
MOST_NODES, MOST_CPUS, MOST_SIZES, MOST_DEVICES = 1024, 8192, 8, 4096
# MiB, and pages.
_MOST = 1 << 32
_MOST_DISTANCE = 255
ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_DIGITS = re.compile(r"[0-9a-f]{4}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{0,64}")


def read_hardware(value: Any, where: str) -> HostHardware:
    """Return what a host tells; raise InvalidValue for what no host has. where: names the answer in the error."""
    if not isinstance(value, Mapping):
        raise InvalidValue(where, f"it is a {type(value).__name__}", "Give a dict, as nebula_node returns it")
    try:
        found = from_plain(HostHardware, value)
    except InvalidValue as error:
        raise answer_bounds.refusal(f"{where}: {error.asked}", error.found) from None
    answer_bounds.check_count(found.nodes, MOST_NODES, where, "it has {} nodes")
    answer_bounds.check_count(found.devices, MOST_DEVICES, where, "it has {} devices")
    for node in found.nodes:
        _check_node(node, where)
    for device in found.devices:
        _check_device(device, where)
    if not set(found.encryption) <= set(ENCRYPTIONS):
        raise answer_bounds.refusal(where, "it encrypts memory in a way that there is not")
    cpus = [cpu for node in found.nodes for core in node.cores for cpu in core]
    answer_bounds.check_count(cpus, MOST_CPUS, where, "it has {} processors")
    for name, each in (
        ("node", [node.number for node in found.nodes]),
        ("processor", cpus),
        ("device", [device.address for device in found.devices]),
    ):
        if len(set(each)) != len(each):
            raise answer_bounds.refusal(where, f"it has a {name} twice")
    return found


def _check_node(node: HostNode, where: str) -> None:
    answer_bounds.check_number(node.number, 0, MOST_NODES - 1, where, "number")
    answer_bounds.check_number(node.memory, 0, _MOST, where, "memory")
    answer_bounds.check_count(node.distances, MOST_NODES, where, "it has {} distances")
    answer_bounds.check_count(node.pages, MOST_SIZES, where, "it has huge pages of {} sizes")
    for core in node.cores:
        if not core:
            raise answer_bounds.refusal(where, "it has a core without processors")
        for cpu in core:
            answer_bounds.check_number(cpu, 0, MOST_CPUS - 1, where, "the number of a processor")
    for distance in node.distances:
        answer_bounds.check_number(distance, 0, _MOST_DISTANCE, where, "a distance")
    for size, count in node.pages.items():
        if not (size.isascii() and size.isdigit() and len(size) <= 5 and int(size)):
            raise answer_bounds.refusal(where, f"it has huge pages of {size[:20]!r} MiB")
        answer_bounds.check_number(count, 0, _MOST, where, "the number of huge pages")


def _check_device(device: PciDevice, where: str) -> None:
    if not ADDRESS.fullmatch(device.address):
        raise answer_bounds.refusal(where, f"it has a device at {device.address[:40]!r}, which is no address")
    if not all(_DIGITS.fullmatch(each) for each in (device.vendor, device.device, device.device_class)):
        raise answer_bounds.refusal(where, f"what it says of device {device.address} is not what a host says")
    if not (_NAME.fullmatch(device.driver) and _NAME.fullmatch(device.group)):
        raise answer_bounds.refusal(where, f"the driver or the group of device {device.address} has no name of one")
