# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the slots of a running QEMU machine into which devices of PCI can still be plugged. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from ...dataclass import dataclass

ROOT_PORT, EXPRESS, BRIDGES = "pcie-root-port", "pcie-root", ("pcie-to-pci-bridge", "pci-bridge")
# NICs that are devices of PCI Express; all others are of conventional PCI, but those on virtio, which are either.
_EXPRESS_NICS = frozenset(("virtio", "virtio-non-transitional", "e1000e", "igb", "vmxnet3"))
# Slots of a bus of conventional PCI, of which the first is the bus's own.
_SLOTS = range(1, 32)
_WORDS = {"express": "PCI Express", "pci": "PCI"}


@dataclass(frozen=True)
class Slots:
    """Holds how many slots are free, by kind: "express" and "pci"."""

    express: int
    pci: int

    def lacking(self, kinds: Iterable[str]) -> str:
        """Return what is too little for devices of these kinds, as a sentence; "" if they all fit."""
        wanted = [kind for kind in kinds if kind]
        for kind in ("express", "pci"):
            free, count = getattr(self, kind), wanted.count(kind)
            if count > free:
                return f"free slots of {_WORDS[kind]}: {free} in this machine, {count} needed"
        return ""


def free_slots(domain: ET.Element) -> Slots:
    """Return the free slots of a running definition."""
    controllers = [each for each in domain.iterfind("devices/controller") if each.get("type") == "pci"]
    used: dict[int, set[int]] = {}
    for address in domain.iterfind("devices/*/address"):
        if address.get("type") == "pci" and address.get("domain", "0x0000") == "0x0000":
            used.setdefault(int(address.get("bus", "0"), 0), set()).add(int(address.get("slot", "0"), 0))
    ports = [_index(each) for each in controllers if each.get("model") == ROOT_PORT]
    buses = [_index(each) for each in controllers if each.get("model") in BRIDGES]
    if not has_express(domain):
        # Bus 0 of i440fx takes devices itself.
        buses.append(0)
    pci = sum(1 for bus in buses for slot in _SLOTS if slot not in used.get(bus, ()))
    return Slots(sum(1 for port in ports if port not in used), pci)


def slot_of(domain: ET.Element, device: ET.Element) -> str:
    """Return the kind of slot that a <disk> or <interface> takes in this machine, "" for none."""
    express = has_express(domain)
    target, model = device.find("target"), device.find("model")
    if device.tag == "disk":
        on_virtio = target is not None and target.get("bus") == "virtio"
        return ("express" if express else "pci") if on_virtio else ""
    name = "" if model is None else model.get("type", "")
    return "express" if express and name in _EXPRESS_NICS else "pci"


def has_express(domain: ET.Element) -> bool:
    return any(each.get("model") == EXPRESS for each in domain.iterfind("devices/controller"))


def _index(controller: ET.Element) -> int:
    return int(controller.get("index", "0"))
