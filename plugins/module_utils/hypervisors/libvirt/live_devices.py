# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which disks and NICs a running QEMU machine has to get or lose. Pure."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import Unsupported
from ...model.vm import Vm
from ..base import domain_name
from .domain_xml import attribute_of
from .hotplug_slots import free_slots, slot_of

# Buses to which QEMU adds no disk while the machine runs, and from which it takes none.
FIXED_BUSES = frozenset(("sata", "ide", "fdc"))
_NO_MORE = "Power it off first (state: poweroff), then let it run again"


@dataclass(frozen=True)
class Step:
    """Describes what is done with one device of a running machine.
    name: for people.
    text: its element, as libvirt wants it.
    alias: of a device that goes, its name in the running definition; "" for one that comes.
    held: another disk has its target, which that one loses at the machine's next start."""

    name: str
    text: str
    alias: str = ""
    held: bool = False


def plan_steps(live: str, wanted: str, directory: str, vm: Vm, removes: bool) -> list[Step]:
    """Return what has to be done, what goes before what comes. Raise Unsupported if one of them can't be done.
    live, wanted: the running definition, and that to which the machine is to come.
    removes: what goes is really taken from it, and its slots are free then.
    directory: of the machine. Devices that are in neither it nor the name of the machine's NICs were attached by
    somebody else, and stay."""
    running, asked = ET.fromstring(live), ET.fromstring(wanted)
    has, wants = devices_by_identity(running), devices_by_identity(asked)
    own_disk = re.compile(re.escape(directory) + r"/disk\.(\d+)")
    own_nic = re.compile(re.escape(domain_name(vm.vm_id)) + r"-(\d+)")
    context = "" if vm.context is None else f"{directory}/disk.{vm.context.disk_id}"
    going = []
    for key, device in has.items():
        found = own_disk.fullmatch(key) or own_nic.fullmatch(attribute_of(device, "target", "dev"))
        # An image's own file is not in the directory; a device of RAW is in both definitions.
        if key not in wants and found is not None and key != context:
            going.append((f"{_kind(device)} {found[1]}, detached", device))
    names = {**_names_of_disks(vm), **{nic.mac.lower(): f"NIC {nic.nic_id}" for nic in vm.nics}}
    coming = [
        (f"{names.get(key) or names.get(attribute_of(device, 'target', 'dev')) or key}, attached", device)
        for key, device in wants.items()
        if key not in has and key != context
    ]
    staying = [device for key, device in has.items() if not removes or all(device is not each for _name, each in going)]
    targets = {attribute_of(device, "target", "dev") for device in staying if device.tag == "disk"}
    held = [pair for pair in coming if pair[1].tag == "disk" and attribute_of(pair[1], "target", "dev") in targets]
    coming = [pair for pair in coming if pair not in held]
    where = f"virtual machine {vm.name}"
    for name, device in (*(going if removes else ()), *coming):
        _refuse_fixed(f"{where}: {name} while it runs", device)
    lacking = _lacking(running, [device for _name, device in going if removes], [device for _name, device in coming])
    if lacking:
        raise Unsupported(f"{where}: {', '.join(name for name, _device in coming)} while it runs", lacking, _NO_MORE)
    return [
        *(Step(name, _text(device), attribute_of(device, "alias", "name")) for name, device in going),
        *(Step(name, _attachable(device)) for name, device in coming),
        *(Step(name, _attachable(device), held=True) for name, device in held),
    ]


def targets_by_path(live: str) -> dict[str, str]:
    """Return the targets of a running definition's disks, by their files."""
    devices = devices_by_identity(ET.fromstring(live)).items()
    return {path: attribute_of(device, "target", "dev") for path, device in devices if device.tag == "disk"}


def devices_by_identity(domain: ET.Element) -> dict[str, ET.Element]:
    """Return a definition's disks by their files, and its NICs by their MAC addresses. A disk without a file is not
    among them."""
    found = {}
    for disk in domain.iterfind("devices/disk"):
        path = attribute_of(disk, "source", "file") or attribute_of(disk, "source", "dev")
        if path:
            found[path] = disk
    for nic in domain.iterfind("devices/interface"):
        mac = attribute_of(nic, "mac", "address").lower()
        if mac:
            found[mac] = nic
    return found


def _names_of_disks(vm: Vm) -> dict[str, str]:
    return {disk.target: f"DISK {disk.disk_id} ({disk.target})" for disk in vm.disks}


def _kind(device: ET.Element) -> str:
    return "DISK" if device.tag == "disk" else "NIC"


def _refuse_fixed(asked: str, device: ET.Element) -> None:
    bus = attribute_of(device, "target", "bus")
    if device.tag == "disk" and bus in FIXED_BUSES:
        what = "drive" if device.get("device") == "cdrom" else "disk"
        raise Unsupported(
            asked, f"no {what} on bus {bus} comes or goes while a machine runs: those on virtio and scsi do", _NO_MORE
        )


def _lacking(running: ET.Element, going: list[ET.Element], coming: list[ET.Element]) -> str:
    free = free_slots(running)
    freed = [slot_of(running, device) for device in going]
    slots = type(free)(free.express + freed.count("express"), free.pci + freed.count("pci"))
    return slots.lacking(slot_of(running, device) for device in coming)


def _attachable(device: ET.Element) -> str:
    """Return the element without its place among what the machine boots from, which counts at its next start."""
    copied = ET.fromstring(_text(device))
    for boot in copied.findall("boot"):
        copied.remove(boot)
    return _text(copied)


def _text(device: ET.Element) -> str:
    return ET.tostring(device, encoding="unicode")
