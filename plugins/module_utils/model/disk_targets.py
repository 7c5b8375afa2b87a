# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which device a disk is in its machine: by OpenNebula's order of targets, and by bus and machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from ..dataclass import dataclass, replace
from ..errors import InvalidValue
from . import defaults

OS, CDROM, DATA, UNKNOWN = "OS", "CDROM", "DATA", "?"
# A directory of the host, which is no device of disks.
DIRECTORY = "DIRECTORY"

_TARGET = re.compile(r"(xvd|ubd|vd|sd|hd|fd)([a-z]{1,2})")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
# The path of a disk without a path of its own, as OpenNebula has it, before the disk's id.
MEDIA = "/media/one-disk."
# Directories that a container has already.
_TAKEN = ("context", "dev", "proc", "sys")
_BUSES = ("virtio", "scsi", "ide", "sata", "usb", "fdc", "xen", "uml")
_PREFIX_BUS = {"vd": "virtio", "xvd": "xen", "ubd": "uml", "fd": "fdc"}
# Devices that one machine can have on a bus.
_MOST = {"ide": 4, "scsi": 256, "fdc": 2}


@dataclass(frozen=True)
class DiskDevices:
    """Describes what a hypervisor has of disks.
    lacks: buses that it has no device model for.
    prefix: the prefix of a disk that says nothing; "" for what its board has.
    renamed, cdroms: the own prefix for each prefix of other hypervisors; for CDROMs, cdroms counts first.
    buses: buses of other hypervisors, likewise.
    shared: a letter stands for one device, whatever its prefix.
    emulated: so many devices from the first letter on are what a firmware sees; none of them can be a read-only disk.
    paths: a disk beside the root is a directory in it, and its target that directory's path."""

    lacks: tuple[str, ...] = ()
    prefix: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    cdroms: Mapping[str, str] = field(default_factory=dict)
    buses: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    emulated: int = 0
    paths: bool = False


@dataclass(frozen=True)
class Place:
    """Describes a disk, or the context, that wants a target.
    where: names it in errors.
    kind: UNKNOWN until its image is known.
    target, dev_prefix, bus: "" where nothing was said."""

    where: str
    kind: str
    target: str = ""
    dev_prefix: str = ""
    bus: str = ""
    readonly: bool = False
    context: bool = False


@dataclass(frozen=True)
class Board:
    """Describes what of a machine decides which buses its disks can be on.
    machine: OS/MACHINE with its default.
    sd_disk_bus: the bus of targets sda, sdb …; "" for scsi.
    hypervisor: its name, for errors.
    devices: what its hypervisor has of disks.
    firmware: whether a firmware boots from the disks."""

    machine: str = ""
    sd_disk_bus: str = ""
    hypervisor: str = ""
    devices: DiskDevices = DiskDevices()
    firmware: bool = True

    @property
    def has_ide(self) -> bool:
        return not self.cdrom_on_sd

    @property
    def emulated(self) -> int:
        return self.devices.emulated if self.firmware else 0

    @property
    def cdrom_on_sd(self) -> bool:
        """Return whether the board has no IDE: q35, or virt in its name; OpenNebula looks for the same two words."""
        return "q35" in self.machine or "virt" in self.machine


Assigned = tuple[str, str]
"""A target and its bus."""


def assign(places: Sequence[Place], board: Board) -> list[Assigned]:
    """Return target and bus of each place, in the order given. Raise InvalidValue for what no machine can have.

    Explicit targets are taken first; then letters go to the first OS disk, to CDROMs in order with the context as their
    last, and to all others: the first letter that is free for the prefix. A target that is a path is on no bus. A
    directory of the host has neither."""
    if any(place.kind == DIRECTORY for place in places):
        devices = iter(assign([place for place in places if place.kind != DIRECTORY], board))
        return [("", "") if place.kind == DIRECTORY else next(devices) for place in places]
    paths = _path_targets(places) if board.devices.paths else {}
    if paths:
        rest = iter(assign([place for index, place in enumerate(places) if index not in paths], board))
        return [(paths[index], "") if index in paths else next(rest) for index in range(len(places))]
    places = [with_own_words(place, board) for place in places]
    targets = {index: place.target for index, place in enumerate(places) if place.target}
    used = given_targets(places, board)
    for index in _assignment_order(places):
        prefix = places[index].dev_prefix or default_prefix(places[index], board)
        if not _TARGET.fullmatch(prefix + "a"):
            raise InvalidValue(
                f"{places[index].where}: DEV_PREFIX = {prefix}", "no such prefix of devices", "Use vd, sd or hd"
            )
        target = _free_target(places[index], prefix, board, used)
        used[without_suffix(target)] = used[_device_key(places[index], target, board)] = places[index].where
        targets[index] = target
    assigned = [(targets[index], check_target(place, targets[index], board)) for index, place in enumerate(places)]
    check_bus_capacity(assigned, [place.where for place in places])
    return assigned


def is_path(target: str) -> bool:
    return target.startswith("/")


def _path_targets(places: Sequence[Place]) -> dict[int, str]:
    """Return the targets that are paths; raise InvalidValue where nothing can be, and for two that are alike."""
    found: dict[int, str] = {}
    for index, place in enumerate(places):
        if place.context or not is_path(place.target):
            continue
        shown, path = f"{place.where}: TARGET = {place.target}", place.target
        words = path.split("/")[1:]
        if not all(words) or {".", ".."} & set(words) or ":" in path or not path.isprintable():
            raise InvalidValue(
                shown,
                "it is no plain path of a directory",
                "Write it as /srv/data: from the root on, without . and .., colons, line feeds and a / at its end",
            )
        if words[0] in _TAKEN:
            raise InvalidValue(
                shown, f"/{words[0]} is something else in a container", "Use another path, or leave TARGET out"
            )
        if path in found.values():
            other = next(places[number].where for number, known in found.items() if known == path)
            raise InvalidValue(
                shown, f"{other} has the same", "Give them different targets, or leave one out to have it in /media"
            )
        found[index] = path
    return found


def _free_target(place: Place, prefix: str, board: Board, used: Mapping[str, str]) -> str:
    """Return the first target of that prefix that nothing has; raise InvalidValue where there is none."""
    taken = []
    for letters in _letters():
        target = prefix + letters
        if not _can_be_at(place, target, board):
            continue
        if without_suffix(target) not in used and _device_key(place, target, board) not in used:
            return target
        taken.append(target)
    most = board.emulated
    if len(taken) != most:
        raise InvalidValue(
            f"{place.where}: DEV_PREFIX = {prefix}",
            f"all of its {len(taken)} targets are taken",
            "Put some of the disks on another prefix",
        )
    # The name of the machine, to which all of them belong, is left out.
    holders = ", ".join(f"{target} is {used[_device_key(place, target, board)].partition(': ')[2]}" for target in taken)
    remedy = f"Give a disk that is no CDROM a TARGET such as {prefix}{_ALPHABET[most]}, or take a CDROM away"
    if place.context:
        remedy += '. Or have the context on a disk: CONTEXT_DEVICE = "disk"'
    raise InvalidValue(
        place.where,
        f"a CDROM has to be one of the {most} emulated drives of a machine with a firmware, and all are taken: "
        + holders,
        remedy,
    )


def with_own_words(place: Place, board: Board) -> Place:
    """Return the place with what was said in the words of another hypervisor in those of this one."""
    devices, prefix = board.devices, prefix_of(place.target)
    renamed = {**devices.renamed, **devices.cdroms} if place.kind == CDROM else devices.renamed
    return replace(
        place,
        # What xl adds to a CDROM's name (:cdrom) is left out.
        target=renamed.get(prefix, prefix) + without_suffix(place.target)[len(prefix) :] if prefix else place.target,
        dev_prefix=renamed.get(place.dev_prefix, place.dev_prefix),
        bus=devices.buses.get(place.bus, place.bus),
    )


def _device_key(place: Place, target: str, board: Board) -> str:
    """Return what two targets that are one device have in common."""
    if board.devices.shared:
        return str(letter_index(target))
    # libvirt makes a device's address, or its alias, of bus and letter.
    return f"{place.bus or bus_of(target, board)} {letter_index(target)}"


def _can_be_at(place: Place, target: str, board: Board) -> bool:
    """Return whether it can be there: where disks are emulated, they are never read-only, and CDROMs are among them."""
    emulated = board.emulated
    if not emulated or place.kind == UNKNOWN:
        return True
    if place.kind == CDROM:
        return letter_index(target) < emulated
    return not place.readonly or letter_index(target) >= emulated


def given_targets(places: Sequence[Place], board: Board | None = None) -> dict[str, str]:
    """Return the targets that are given, with what has each; raise InvalidValue for two that want the same target."""
    board = board or Board()
    used: dict[str, str] = {}
    for place in places:
        if not place.target:
            continue
        device = without_suffix(place.target)
        if not _TARGET.fullmatch(device):
            raise InvalidValue(
                f"{place.where}: TARGET = {place.target}",
                "it is no name of a disk device",
                "Use a prefix and letters: vda, sdb, hdc; or leave it out"
                + ('. Containers of LXC have paths: HYPERVISOR = "lxc"' if is_path(device) else "")
                + (". A path in the container begins with a /" if board.devices.paths else ""),
            )
        unit = _device_key(place, device, board)
        other = used.get(device) or used.get(unit)
        if other:
            on_bus = "" if device in used or board.devices.shared else f" letter on bus {unit.partition(' ')[0]}"
            raise InvalidValue(
                f"{place.where}: TARGET = {place.target}",
                f"{other} has the same{on_bus}",
                "Give them different targets, or leave one out to get the next free letter",
            )
        used[device] = used[unit] = place.where
    return used


def check_target(place: Place, target: str, board: Board) -> str:
    """Return the bus. Raise InvalidValue for what libvirt takes into a definition and then refuses or hides."""
    bus = place.bus or bus_of(target, board)
    shown = f"{place.where}: TARGET = {target}" + (f", BUS = {bus}" if place.bus else "")
    machine = f"machine {board.machine}"
    check_bus(bus, shown, board)
    if not _can_be_at(place, target, board):
        most = board.devices.emulated
        raise InvalidValue(
            shown,
            f"the first {most} devices of a machine with a firmware are emulated IDE, where "
            + ("CDROMs have to be" if place.kind == CDROM else "no disk can be read-only"),
            f"Use a target with letter {'a to d' if place.kind == CDROM else 'e or later'}, or leave it out",
        )
    if bus == "ide" and not board.has_ide:
        raise InvalidValue(
            shown, f"{machine} has no IDE", 'Use TARGET = "sda" (SCSI) or "vda" (virtio), or MACHINE = "pc"'
        )
    if place.kind == CDROM and bus == "virtio":
        raise InvalidValue(
            shown,
            "virtio has no CDROM drives",
            "Use a target with sd (SCSI)" + (", or hd (IDE)" if board.has_ide else ""),
        )
    if place.kind in (OS, DATA) and place.readonly and bus in ("ide", "sata"):
        raise InvalidValue(
            shown,
            f"a disk on {bus} can't be read-only",
            'Use TARGET = "vda" (virtio) or "sda" (SCSI), or READONLY = "NO"',
        )
    if bus == "ide" and letter_index(target) >= _MOST["ide"]:
        raise InvalidValue(shown, f"{machine} has four IDE devices, hda to hdd", "Use a target with vd or sd")
    return bus


def check_bus(bus: str, shown: str, board: Board) -> None:
    if bus not in _BUSES:
        raise InvalidValue(shown, "no such bus", "Use one of " + ", ".join(_BUSES[:4]))
    if bus in board.devices.lacks:
        examples = "xvda or hda" if board.devices.prefix == "xvd" else "vda or sda"
        raise InvalidValue(shown, f"{board.hypervisor} has no bus {bus}", f"Use a target such as {examples}")


def bus_of(target: str, board: Board) -> str:
    prefix = prefix_of(target)
    if prefix == "sd":
        return board.sd_disk_bus.lower() or "scsi"
    if prefix == "hd":
        return "ide" if board.has_ide else "sata"
    return _PREFIX_BUS.get(prefix, "")


def check_bus_capacity(assigned: Sequence[Assigned], names: Sequence[str]) -> None:
    """Raise InvalidValue for more devices than a bus has, naming the first that is too many."""
    for bus, most in _MOST.items():
        on_bus = [index for index, (_target, its_bus) in enumerate(assigned) if its_bus == bus]
        if len(on_bus) > most:
            raise InvalidValue(
                f"{names[on_bus[most]]}: TARGET = {assigned[on_bus[most]][0]}",
                f"{len(on_bus)} devices on {bus}, and a machine has {most} at most (the context is one too)",
                'Put some on virtio: DEV_PREFIX = "vd"',
            )


def default_prefix(place: Place, board: Board) -> str:
    if board.devices.prefix:
        return board.devices.prefix
    if place.kind == CDROM:
        # Where hd would be SATA: Debian's cloud kernel, for one, has no driver for that.
        return defaults.DEV_PREFIX if board.cdrom_on_sd else defaults.CDROM_DEV_PREFIX
    return defaults.DEV_PREFIX


def without_suffix(target: str) -> str:
    """Return the target without what Xen wants to hear of a CDROM: xvdc:cdrom names the device xvdc."""
    return target.partition(":")[0]


def prefix_of(target: str) -> str:
    match = _TARGET.fullmatch(without_suffix(target))
    return match.group(1) if match else ""


def letter_index(target: str) -> int:
    """Return 0 for …a, 25 for …z, 26 for …aa."""
    match = _TARGET.fullmatch(without_suffix(target))
    index = 0
    for letter in match.group(2) if match else "":
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


def _assignment_order(places: Sequence[Place]) -> list[int]:
    open_ = [index for index, place in enumerate(places) if not place.target]
    first = [index for index in open_ if places[index].kind == OS][:1]
    cdroms = [index for index in open_ if places[index].kind == CDROM]
    cdroms.sort(key=lambda index: places[index].context)
    return first + cdroms + [index for index in open_ if index not in first and index not in cdroms]


def _letters() -> Iterator[str]:
    yield from _ALPHABET
    yield from (first + second for first in _ALPHABET for second in _ALPHABET)
