# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which disks and NICs a running QEMU machine has to get or lose. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import Unsupported
from ...model.vm import Vm
from ...storage import machine_disks
from ..base import nic_in_name
from .domain_xml import attribute_of
from .hotplug_slots import free_slots, slot_of
from .parsed_definitions import parsed

# Buses to which QEMU adds no disk while the machine runs, and from which it takes none.
FIXED_BUSES = frozenset(("sata", "ide", "fdc"))
_NO_MORE = "Power it off first (state: poweroff), then let it run again"
_NO_SLOT = f"{_NO_MORE}. More slots for later are reserved by nebula_hotplug_slots, or HOTPLUG_SLOTS in its template"


@dataclass(frozen=True)
class Step:
    """Describes what is done with one device of a running machine.
    name: for people.
    text: its element, as libvirt wants it.
    alias: of a device that goes, its name in the running definition; "" for one that comes.
    held: another disk has its target, which that one loses at the machine's next start.
    medium: a drive stays, and gets another medium, or none."""

    name: str
    text: str
    alias: str = ""
    held: bool = False
    medium: bool = False


def plan_steps(
    live: str, wanted: str, directory: str, vm: Vm, removes: bool, links: Mapping[str, int] = MappingProxyType({})
) -> list[Step]:
    """Return what has to be done, what goes before what comes. Raise Unsupported if one of them can't be done.
    live, wanted: the running definition, and that to which the machine is to come.
    removes: what goes is really taken from it, and its slots are free then.
    directory: of the machine.
    links: the disks whose files are images' own, by these files: links in the directory lead to them. All other disks
    outside the directory, and NICs of other names than the machine's have, were attached by somebody else, and stay.

    The drive of a CD-ROM stays while the machine runs: its medium is changed, or ejected."""
    running, asked = parsed(live), parsed(wanted)
    has, wants = devices_by_identity(running), devices_by_identity(asked)
    context = "" if vm.context is None else f"{directory}/disk.{vm.context.disk_id}"
    going = [
        (name, device)
        for key, device in has.items()
        # A device of RAW is in both definitions.
        if key not in wants and key != context and (name := _name_of_own(key, device, directory, vm.vm_id, links))
    ]
    names = {**_names_of_disks(vm), **{nic.mac.lower(): f"NIC {nic.nic_id}" for nic in vm.nics}}
    coming = [
        (names.get(key) or names.get(attribute_of(device, "target", "dev")) or key, device)
        for key, device in wants.items()
        if key not in has and key != context
    ]
    media, going, coming = _media(running, going, coming, removes)
    staying = [device for key, device in has.items() if not removes or all(device is not each for _name, each in going)]
    targets = {attribute_of(device, "target", "dev") for device in staying if device.tag == "disk"}
    held = [pair for pair in coming if pair[1].tag == "disk" and attribute_of(pair[1], "target", "dev") in targets]
    coming = [pair for pair in coming if pair not in held]
    where = f"virtual machine {vm.name}"
    for verb, some in (("detached", going if removes else ()), ("attached", coming)):
        for name, device in some:
            _refuse_fixed(f"{where}: {name}, {verb} while it runs", device)
    lacking = _lacking(running, [device for _name, device in going if removes], [device for _name, device in coming])
    if lacking:
        raise Unsupported(
            f"{where}: {', '.join(f'{name}, attached' for name, _device in coming)} while it runs", lacking, _NO_SLOT
        )
    return [
        *(Step(f"{name}, detached", _text(device), attribute_of(device, "alias", "name")) for name, device in going),
        *media,
        *(Step(f"{name}, attached", _attachable(device)) for name, device in coming),
        *(Step(f"{name}, attached", _attachable(device), held=True) for name, device in held),
    ]


def _name_of_own(key: str, device: ET.Element, directory: str, vm_id: int, links: Mapping[str, int]) -> str:
    """Return what a device of the running machine is called, "" for one that somebody else attached.
    key: as devices_by_identity() has it."""
    nic = nic_in_name(attribute_of(device, "target", "dev"), vm_id)
    if nic is not None:
        return f"NIC {nic}"
    number = machine_disks.id_of_file(key, directory, links)
    return "" if number is None else f"DISK {number}"


_Named = tuple[str, ET.Element]


def _media(
    running: ET.Element, going: list[_Named], coming: list[_Named], removes: bool
) -> tuple[list[Step], list[_Named], list[_Named]]:
    """Return what becomes of media of CD-ROMs, and what else goes and comes."""
    drives = {attribute_of(each, "target", "dev"): each for each in running.iterfind("devices/disk") if _is_cdrom(each)}
    # A drive that is to be empty is taken as one already where its medium really goes.
    free = {
        target: drive
        for target, drive in drives.items()
        if not _file_of(drive) or (removes and any(drive is each for _name, each in going))
    }
    steps, left = [], []
    for name, device in coming:
        drive = free.pop(attribute_of(device, "target", "dev"), None) if _is_cdrom(device) else None
        if drive is None:
            left.append((name, device))
            continue
        going = [pair for pair in going if pair[1] is not drive]
        steps.append(Step(f"{name}, its medium", _with_medium(drive, device), medium=True))
    ejected = [pair for pair in going if _is_cdrom(pair[1])]
    steps += [
        Step(f"{name}, ejected", _with_medium(drive, None), attribute_of(drive, "alias", "name"), medium=True)
        for name, drive in ejected
    ]
    return steps, [pair for pair in going if pair not in ejected], left


def _file_of(disk: ET.Element) -> str:
    """Return the path of a disk's file, by whatever name it has it; "" for none."""
    return usual_name(_source_of(disk))


def usual_name(path: str) -> str:
    """Return a path without what another_name() puts into it."""
    directory, slash, name = path.rpartition("/")
    return f"{directory.rstrip('/')}{slash}{name}" if directory.endswith("/") else path


def _source_of(disk: ET.Element) -> str:
    return attribute_of(disk, "source", "file") or attribute_of(disk, "source", "dev")


def _is_cdrom(device: ET.Element) -> bool:
    return device.tag == "disk" and device.get("device") == "cdrom"


def _with_medium(drive: ET.Element, other: ET.Element | None) -> str:
    """Return the running machine's drive with the medium of another one, or with none."""
    changed = ET.fromstring(_text(drive))
    for tag in ("source", "backingStore"):
        for each in changed.findall(tag):
            changed.remove(each)
    source = None if other is None else other.find("source")
    if other is not None and source is not None:
        changed.set("type", other.get("type", "file"))
        changed.append(source)
    return _text(changed)


def another_name(live: str, path: str) -> str:
    """Return a name of the file that no disk of the running machine has: its path, or that with a second slash."""
    used = {_source_of(disk) for disk in parsed(live).iterfind("devices/disk")}
    directory, _slash, name = path.rpartition("/")
    return path if path not in used else f"{directory}//{name}"


def has_drive(live: str, target: str) -> bool:
    """Return whether the running machine has a CD-ROM drive there."""
    disks = parsed(live).iterfind("devices/disk")
    return any(disk.get("device") == "cdrom" and attribute_of(disk, "target", "dev") == target for disk in disks)


def names_left(live: str, directory: str, vm: Vm, links: Mapping[str, int] = MappingProxyType({})) -> tuple[str, ...]:
    """Return which disks and NICs of its own a running machine has that it is to have no more, each as DISK or NIC with
    its id. directory, links: as plan_steps() has them."""
    context = () if vm.context is None else (f"DISK {vm.context.disk_id}",)
    wants = {*context, *(f"DISK {disk.disk_id}" for disk in vm.disks), *(f"NIC {nic.nic_id}" for nic in vm.nics)}
    return tuple(sorted(own_names(live, directory, vm.vm_id, links) - wants))


def own_names(definition: str, directory: str, vm_id: int, links: Mapping[str, int]) -> set[str]:
    """Return which disks and NICs of the machine a definition of libvirt's has, each as DISK or NIC with its id."""
    devices = devices_by_identity(ET.fromstring(definition)).items()
    return {_name_of_own(key, device, directory, vm_id, links) for key, device in devices} - {""}


def targets_by_path(live: str) -> dict[str, str]:
    """Return the targets of a running definition's disks, by their files."""
    devices = devices_by_identity(ET.fromstring(live)).items()
    return {path: attribute_of(device, "target", "dev") for path, device in devices if device.tag == "disk"}


def devices_by_identity(domain: ET.Element) -> dict[str, ET.Element]:
    """Return a definition's disks by their files, and its NICs by their MAC addresses. A disk without a file is not
    among them."""
    found = {}
    for disk in domain.iterfind("devices/disk"):
        path = _file_of(disk)
        if path:
            found[path] = disk
    for nic in domain.iterfind("devices/interface"):
        mac = attribute_of(nic, "mac", "address").lower()
        if mac:
            found[mac] = nic
    return found


def _names_of_disks(vm: Vm) -> dict[str, str]:
    return {disk.target: f"DISK {disk.disk_id} ({disk.target})" for disk in vm.disks}


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
    copied = ET.Element(device.tag, device.attrib)
    copied.extend(each for each in device if each.tag != "boot")
    return _text(copied)


def _text(device: ET.Element) -> str:
    return ET.tostring(device, encoding="unicode")
