# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which DISK or NIC of a list is which of a machine that is there; no other place decides it.

A disk is what it holds, a NIC is its address. So a DISK is one of the machine's only if both are of the same image, or
both empty ones of the same kind; a NIC only if both are of the same network, and the machine has the address that the
list asks for, if it asks for one. Among several that could be meant, what the list says of it decides (TARGET; IP, IP6,
MAC), then what is said alike of both, then their order. The place in the list alone says nothing.

Vectors come normalised, as model/template_changes.py compares them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, Callable, Optional

from ..dataclass import dataclass
from ..errors import InvalidValue, Unsupported
from .disk import SHARED_DIRECTORY, TAR
from .disk_targets import without_suffix

DISK, NIC, ALIAS = "DISK", "NIC", "NIC_ALIAS"
# A node makes these; an alias is an address alone, and is matched as a NIC is.
DEVICES = (DISK, NIC)
FILE_SYSTEMS = ("ext2", "ext3", "ext4", "vfat", "xfs", "swap")
# What it takes to change them, the least first.
CATALOG, LIVE, HOTPLUG, POWEROFF, RECREATE = "catalog", "live", "hotplug", "poweroff", "recreate"

# A NIC of the list may ask for these, and a NIC of the machine has them.
_ADDRESSES = ("MAC", "IP", "IP6")
# These say which image or network it is, or what was decided: they never change a device that stays.
_REFERENCES = {
    DISK: frozenset(("IMAGE", "IMAGE_ID", "IMAGE_UNAME", "IMAGE_UID", "DISK_ID", "PERSISTENT")),
    NIC: frozenset(("NETWORK", "NETWORK_ID", "NETWORK_UNAME", "NETWORK_UID", "NIC_ID", "NAME", *_ADDRESSES)),
}
_REFERENCES[ALIAS] = _REFERENCES[NIC]
_PLACE = ("TARGET", "DEV_PREFIX")
# These limit a root that has no size of its own.
_LIMITS = ("SIZE", "DISKSPACE", "DISKINODES")
# Ways of being found, by what is to be thought of two that are found so.
_NAMED, _ALIKE, _IN_TURN = "named", "alike", "in turn"

Vector = Mapping[str, str]


@dataclass(frozen=True)
class MachineDevice:
    """Holds what a machine has of one DISK or NIC.
    values: its attributes by their names, with the target, size or addresses that it got.
    own: what it holds is this machine's alone, and lost with it.
    boots: the machine boots from it.
    limited: it has no size, but a limit, which may be another at any time."""

    values: Vector = field(default_factory=dict)
    own: bool = False
    boots: bool = False
    encrypted: bool = False
    snapshots: bool = False
    limited: bool = False

    @property
    def size(self) -> int:
        """Return the MB; 0 where nothing tells, or nobody may change the size."""
        return _size(self.values)


# Whether a vector of the machine's template, a vector of the list, and what the machine has are one device.
Fits = Callable[[Vector, Vector, MachineDevice], bool]


@dataclass(frozen=True)
class Pairing:
    """Says which device of a list is which of the machine's, by their numbers.
    stays: for each of the list, which of the machine's it is, None for a device that comes.
    gone: devices of the machine that the list has no more.
    doubtful: devices among these that are the machine's own and that nothing tells from a device that stays.
    moved: devices of the list that stay and get another target.
    grown: devices of the list that stay and become larger, with their MB.
    how: what it takes."""

    stays: tuple[Optional[int], ...] = ()
    gone: tuple[int, ...] = ()
    doubtful: tuple[int, ...] = ()
    moved: tuple[int, ...] = ()
    grown: Mapping[int, int] = field(default_factory=dict)
    how: str = CATALOG


def machine_devices(
    disks: Sequence[Mapping[str, Any]],
    nics: Sequence[Mapping[str, Any]],
    aliases: Sequence[Mapping[str, Any]] = (),
    held: Collection[int] = (),
) -> dict[str, tuple[MachineDevice, ...]]:
    """Return what a machine has, by its disks, NICs and aliases as plain values (model/disk.py, model/nic.py).
    held: ids of the disks that snapshots of the machine hold."""
    places = [(disk.get("boot_order") or len(disks) + 1, number) for number, disk in enumerate(disks) if _is_disk(disk)]
    first = min(places)[1] if places else None
    return {
        DISK: tuple(_has_disk(disk, number == first, held) for number, disk in enumerate(disks)),
        NIC: tuple(MachineDevice(_attribute_texts(nic, "NETWORK", "NETWORK_ID", *_ADDRESSES)) for nic in nics),
        ALIAS: tuple(MachineDevice(_attribute_texts(alias, "NETWORK", "NETWORK_ID", *_ADDRESSES)) for alias in aliases),
    }


def _has_disk(disk: Mapping[str, Any], boots: bool, held: Collection[int]) -> MachineDevice:
    writable = _is_disk(disk)
    limited = bool(disk.get("by_hypervisor")) and disk.get("format") == TAR
    return MachineDevice(
        _attribute_texts(disk, "IMAGE", "IMAGE_ID", "TARGET", *(["SIZE"] if writable and not limited else [])),
        own=writable and not disk.get("save"),
        boots=boots,
        encrypted=bool(disk.get("luks_secret")),
        snapshots=bool(disk.get("snapshots")) or disk.get("disk_id") in held,
        limited=limited,
    )


def _is_disk(disk: Mapping[str, Any]) -> bool:
    return disk.get("type") not in ("CDROM", SHARED_DIRECTORY)


def is_shared_directory(vector: Vector) -> bool:
    """Return whether a DISK is a directory of the host."""
    return vector.get("TYPE", "").strip().upper() == SHARED_DIRECTORY and not _is_of_image(vector)


def _attribute_texts(device: Mapping[str, Any], *names: str) -> dict[str, str]:
    found = {name: device.get(name.lower()) for name in names}
    return {name: str(value) for name, value in found.items() if value is not None and value != ""}


def pair_vectors(
    name: str,
    old: Sequence[Vector],
    new: Sequence[Vector],
    has: Sequence[MachineDevice] = (),
    live: Collection[str] = (),
) -> Pairing:
    """Return which device of `new` is which of the machine's.
    name: DISK, NIC or NIC_ALIAS.
    old, new: what the list said before, in the order of `has`, and what it says now.
    has: what the machine has, as far as that is known.
    live: keys that are changed of a device while its machine runs."""
    known = [has[index] if index < len(has) else MachineDevice(vector) for index, vector in enumerate(old)]
    stays = _unchanged_places(old, new)
    if _asks_for_held_address(old, new, known, stays):
        # The address says before all else which NIC it is.
        stays = [None] * len(new)
    named = [bool(wanted.get("TARGET") or _asked(wanted)) for wanted in new]
    ways = ["" if index is None else _NAMED if named[n] else _ALIKE for n, index in enumerate(stays)]
    free = [index for index in range(len(old)) if index not in stays]
    for way, fits in _WAYS[name]:
        for number, wanted in enumerate(new):
            if stays[number] is not None:
                continue
            index = next((each for each in free if fits(old[each], wanted, known[each])), None)
            if index is not None:
                stays[number], ways[number] = index, way
                free.remove(index)
    there = [(number, index) for number, index in enumerate(stays) if index is not None]
    disks = there if name == DISK else []
    moved = tuple(number for number, index in disks if _is_moved(old[index], new[number], known[index]))
    sizes = [(number, _size(new[number]), known[index].size) for number, index in disks]
    grown = {number: size for number, size, had in sizes if 0 < had < size}
    return Pairing(
        stays=tuple(stays),
        gone=tuple(free),
        doubtful=tuple(
            index
            for index in free
            if known[index].own
            and any(
                _could_be_other(name, old[index], old[other], known[index], known[other], ways[n]) for n, other in there
            )
        ),
        moved=moved,
        grown=grown,
        how=_how_to_change(name, old, new, known, stays, free, bool(moved), bool(grown), live),
    )


def refuse_sizes(new: Sequence[Vector], has: Sequence[MachineDevice], pairing: Pairing, where: str) -> None:
    """Raise InvalidValue, or Unsupported, for a disk that stays and can't have the SIZE that the list says."""
    for number, index in enumerate(pairing.stays):
        if index is None or index >= len(has) or not has[index].size:
            continue
        wanted, had = _size(new[number]), has[index].size
        asked = f"{where}: DISK {number}: SIZE = {wanted}"
        if 0 < wanted < had:
            raise InvalidValue(
                asked,
                f"the disk has {had} MB, and would lose what lies behind that",
                f"Give at least {had}, or leave SIZE out. A smaller one is made by recreate: true, which makes the "
                "machine's own disks anew",
            )
        if wanted > had and has[index].encrypted:
            raise Unsupported(
                asked, f"the disk has {had} MB, is encrypted, and no host changes it without its secret", "Leave it out"
            )
        if wanted > had and has[index].snapshots:
            raise Unsupported(
                asked,
                f"the disk has {had} MB, and snapshots of that size",
                "Delete its snapshots first (disk_snapshots, system_snapshots with state: absent), or leave SIZE out",
            )


# -- which is which ----------------------------------------------------------------------------------------------------
def _unchanged_places(old: Sequence[Vector], new: Sequence[Vector]) -> list[int | None]:
    """Return where each of the list was, if some only came, or some only went, and the others are as they were; no
    place for any otherwise."""
    if len(new) <= len(old):
        found = _places_among(new, old)
        return [None] * len(new) if found is None else list(found)
    known = {place: index for index, place in enumerate(_places_among(old, new) or ())}
    return [known.get(number) for number in range(len(new))]


def _asks_for_held_address(
    old: Sequence[Vector], new: Sequence[Vector], has: Sequence[MachineDevice], stays: Sequence[int | None]
) -> bool:
    """Return whether a NIC that would come asks for an address that a NIC of the machine has."""
    coming = [wanted for wanted, index in zip(new, stays) if index is None and _asked(wanted)]
    return any(
        _has_asked_addresses(old[index], wanted, has[index])
        for wanted in coming
        for index in stays
        if index is not None and not _asked(old[index])
    )


def _places_among(some: Sequence[Vector], others: Sequence[Vector]) -> list[int] | None:
    """Return where each of `some` is among the others, in the same order, at the first place; None unless all are."""
    rest = iter(enumerate(others))
    found = [next((place for place, other in rest if other == value), None) for value in some]
    known = [place for place in found if place is not None]
    return known if len(known) == len(found) else None


def _same_network(old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    return _refers_to_same("NETWORK", old, wanted, has)


def _same_source(old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    images = ("IMAGE", "IMAGE_ID")
    if any(old.get(key) for key in images) != any(wanted.get(key) for key in images):
        return False
    if any(old.get(key) for key in images):
        return _refers_to_same("IMAGE", old, wanted, has)
    return kind_of_empty(old) == kind_of_empty(wanted)


def _refers_to_same(name: str, old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    """Return whether both name the same object: by id where the list says an id, as instantiation does."""
    key = f"{name}_ID" if wanted.get(f"{name}_ID") else name
    return bool(wanted.get(key)) and wanted[key] in (old.get(key), has.values.get(key))


def kind_of_empty(vector: Vector) -> tuple[str, str, str]:
    """Return TYPE, format and file system of a disk without an image, in lower case. In older templates FORMAT may be
    the file system."""
    kind, format_, fs = (vector.get(key, "").strip().lower() for key in ("TYPE", "FORMAT", "FS"))
    if format_ in FILE_SYSTEMS and not fs:
        format_, fs = "", format_
    return kind, format_ or vector.get("DRIVER", "").strip().lower() or "raw", fs


def _asked(wanted: Vector) -> dict[str, str]:
    return {key: wanted[key] for key in _ADDRESSES if wanted.get(key)}


def _has_asked_addresses(old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    asked = _asked(wanted)
    return bool(asked) and _same_network(old, wanted, has) and all(has.values.get(k) == v for k, v in asked.items())


def _if_same_network(fits: Fits) -> Fits:
    return lambda old, wanted, has: not _asked(wanted) and _same_network(old, wanted, has) and fits(old, wanted, has)


def _if_same_source(fits: Fits) -> Fits:
    return lambda old, wanted, has: _same_source(old, wanted, has) and fits(old, wanted, has)


def _has_target(old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    target = _device_name(wanted.get("TARGET", ""))
    return bool(target) and target in (_device_name(old.get("TARGET", "")), _device_name(has.values.get("TARGET", "")))


def _device_name(target: str) -> str:
    """Return the device in the words of all hypervisors: vdb and xvdb:disk are the same device."""
    name = without_suffix(target)
    return name[1:] if name.startswith("xvd") else name


def _is_stated_alike(old: Vector, wanted: Vector, _has: MachineDevice) -> bool:
    stated = (*_PLACE, "SIZE")
    return all(old.get(key, "") == wanted.get(key, "") for key in stated) and not _differing_keys(DISK, old, wanted)


def _is_alike(old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    return _has_size(old, wanted, has) and not _differing_keys(DISK, old, wanted)


def _has_size(_old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    return _size(wanted) in (0, has.size)


def _can_grow(_old: Vector, wanted: Vector, has: MachineDevice) -> bool:
    return not _size(wanted) or _size(wanted) >= has.size


# Each is tried for the whole list before the next one is.
_WAYS: dict[str, tuple[tuple[str, Fits], ...]] = {
    DISK: (
        (_NAMED, _if_same_source(_has_target)),
        (_ALIKE, _if_same_source(_is_stated_alike)),
        (_ALIKE, _if_same_source(_is_alike)),
        (_IN_TURN, _if_same_source(_has_size)),
        (_IN_TURN, _if_same_source(_can_grow)),
        (_IN_TURN, _if_same_source(lambda _old, _wanted, _has: True)),
    ),
    NIC: (
        (_NAMED, _has_asked_addresses),
        (_ALIKE, _if_same_network(lambda old, wanted, _has: not _asked(old) and not _differing_keys(NIC, old, wanted))),
        (_ALIKE, _if_same_network(lambda old, wanted, _has: not _differing_keys(NIC, old, wanted))),
        (_IN_TURN, _if_same_network(lambda _old, _wanted, _has: True)),
    ),
}  # fmt: skip
_WAYS[ALIAS] = _WAYS[NIC]


def _could_be_other(name: str, gone: Vector, stays: Vector, had: MachineDevice, has: MachineDevice, way: str) -> bool:
    """Return whether the device that goes could be the device that stays just as well."""
    if way == _NAMED or not _same_source(gone, stays, had):
        return False
    if way == _IN_TURN:
        return True
    places = [{key: vector.get(key, "") for key in _PLACE} for vector in (gone, stays)]
    return had.size == has.size and places[0] == places[1] and not _differing_keys(name, gone, stays)


# -- what it takes -----------------------------------------------------------------------------------------------------
def changed_keys(name: str, old: Vector, new: Vector, has: MachineDevice) -> tuple[str, ...]:
    """Return the keys in which a device that stays becomes another, but for its size."""
    keys = _differing_keys(name, old, new, has.limited)
    return tuple(sorted(keys | ({"TARGET"} if name == DISK and _is_moved(old, new, has) else set())))


def is_same_target(one: str, other: str) -> bool:
    """Return whether both name the same device, in the words of any hypervisor."""
    return _device_name(one) == _device_name(other)


def _how_to_change(
    name: str,
    old: Sequence[Vector],
    new: Sequence[Vector],
    has: Sequence[MachineDevice],
    stays: Sequence[int | None],
    gone: Sequence[int],
    moved: bool,
    grown: bool,
    live: Collection[str],
) -> str:
    there = [(number, index) for number, index in enumerate(stays) if index is not None]
    differing = [(index, _differing_keys(name, old[index], new[number], has[index].limited)) for number, index in there]
    # A disk of the machine's own keeps its format, and the disk that it boots from is its operating system.
    own = [(index, keys) for index, keys in differing if has[index].own and name == DISK]
    if any("DRIVER" in keys and _is_of_image(old[index]) for index, keys in own):
        return RECREATE
    if any(has[index].boots and has[index].own for index in gone):
        return RECREATE
    order = [index for _number, index in there]
    comes_or_goes = [*(old[index] for index in gone), *(new[n] for n, index in enumerate(stays) if index is None)]
    if name == DISK and any(is_shared_directory(vector) for vector in comes_or_goes):
        # No running machine gets one, or loses one.
        return POWEROFF
    if moved or any(keys.difference(live) for _index, keys in differing) or order != sorted(order):
        return POWEROFF
    if grown or gone or None in stays:
        return HOTPLUG
    limits = any(
        old[index].get(key, "") != new[number].get(key, "")
        for number, index in there
        if has[index].limited
        for key in _LIMITS
    )
    return LIVE if limits or any(keys for _index, keys in differing) else CATALOG


def _is_of_image(vector: Vector) -> bool:
    return bool(vector.get("IMAGE") or vector.get("IMAGE_ID"))


def _differing_keys(name: str, old: Vector, new: Vector, limited: bool = False) -> set[str]:
    """Return the keys in which both differ, but for where a disk is, how large it is, or how large it may become."""
    unsaid = {"TARGET", "DEV_PREFIX", "SIZE", *(_LIMITS if limited else ())} if name == DISK else set()
    if name == DISK:
        # Empty ones are of the same kind, in whatever words; of others the image says where it is.
        unsaid |= {"SOURCE"} if _is_of_image(new) else {"TYPE", "FORMAT", "FS", "DRIVER"}
    names = (set(old) | set(new)) - _REFERENCES[name] - unsaid
    return {key for key in names if old.get(key, "") != new.get(key, "")}


def _is_moved(old: Vector, new: Vector, has: MachineDevice) -> bool:
    """Return whether the disk gets another target. A disk of which the list says nothing more keeps its target."""
    if new.get("TARGET"):
        return not _has_target(old, new, has)
    prefix = new.get("DEV_PREFIX", "")
    if not prefix or prefix == old.get("DEV_PREFIX"):
        return False
    return not _device_name(has.values.get("TARGET", "")).startswith(_device_name(prefix))


def _size(vector: Vector) -> int:
    text = vector.get("SIZE", "").strip()
    return int(text) if text.isascii() and text.isdigit() else 0
