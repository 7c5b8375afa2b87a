# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says, part by part, what a running machine is to become: at once, or at its next start. A part is an attribute of
its template, or one disk or NIC."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Optional

from ..dataclass import dataclass, replace
from . import device_matching
from .context import Context
from .device_matching import CATALOG, DEVICES, DISK, MachineDevice, is_shared_directory
from .flags import TRUE
from .template import Template
from .template_changes import (
    CONTEXT,
    DISK_SIZE,
    Change,
    Normal,
    is_another_password,
    keys_of,
    normal_values,
    normal_vector,
    pair_devices,
    values_text,
)
from .vm import Vm
from .whole_numbers import whole

AT_ONCE, NEXT_START, RESTARTED = "at once", "at its next start", "restarted now"
NOTHING = "nothing"
# The part of a machine of which nobody noted which of its disks and NICs wait.
UNTOLD = "/".join(DEVICES)
# The part of a machine that no attribute of its own says: what is brought by a newer hardware version.
HARDWARE = "hardware"
# The part of a machine whose context is another, for whatever reason: a NIC that came, a name, a network's values.
VARIABLES = "context"
# The name of a change of the owner, which is no attribute of a template.
OWNER = "owner"
# What tells people which device it is, by the first that it has.
_NAMES = ("IMAGE", "IMAGE_ID", "NETWORK", "NETWORK_ID")

# As values_text() takes a vector.
_Vector = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Waiting:
    """Holds a part of a machine that is otherwise while the machine runs, and changes at its next start.
    found, wanted: for people, without secrets.
    had: the values with which it runs, as they are compared, as JSON; they may be secret. None for a device that comes.
    goes: it is a device that only the running machine has.
    directory: it is a directory of the host."""

    found: str
    wanted: str
    had: Optional[str] = None
    goes: bool = False
    directory: bool = False

    @property
    def comes(self) -> bool:
        """Return whether it is a device that the running machine does not have."""
        return self.had is None


@dataclass(frozen=True)
class PartChange:
    """Describes what becomes of one part of a running machine.
    part: for people: MEMORY, NIC 1, DISK of image data.
    when: AT_ONCE, NEXT_START, or RESTARTED where this run makes that start; "" of what only the catalog has."""

    part: str
    found: str
    wanted: str
    when: str


@dataclass(frozen=True)
class DeviceIds:
    """Holds the ids of a machine's disks and NICs.
    had: by DISK and NIC, of those that it had, in their order.
    new: by DISK and NIC, of those that come, by their number in the list."""

    had: Mapping[str, Sequence[int]]
    new: Mapping[str, Mapping[int, int]]


def waiting_after(
    before: Mapping[str, Waiting],
    templates: tuple[Template, Template],
    changes: Iterable[Change],
    has: Mapping[str, Sequence[MachineDevice]],
    ids: DeviceIds,
    live: Collection[str],
    removes: bool,
) -> dict[str, Waiting]:
    """Return what a running machine waits for once it is to be another.
    before: what it waited for already.
    templates: what it was to be, and what it is to be now.
    changes: between both.
    has: what it had of each DISK and NIC of the former.
    live: attributes that change while it runs.
    removes: what it is to have no more is taken from it while it runs."""
    old, new = templates
    found: dict[str, Optional[Waiting]] = dict(before)
    for change in changes:
        name = change.attribute
        if name in DEVICES:
            found.update(_devices_waiting(name, before, templates, has, ids, live))
            found.update(_devices_going(name, before, templates, has, ids, live, removes))
        elif change.how == "poweroff" and name in live and name != CONTEXT:
            # A former release may have had it wait.
            found[name] = None
        elif change.how == "poweroff":
            had = _values_of(before[name]) if name in before else normal_values(old, name)
            wanted = normal_values(new, name)
            # The node sets another password as soon as nothing else of the console waits.
            at_once = f"{name}/PASSWD" in live and is_another_password(had, wanted)
            found[name] = None if at_once else _waiting(name, had, wanted)
    return {part: each for part, each in found.items() if each is not None}


def with_owner(before: Mapping[str, Waiting], had: str, wanted: str) -> dict[str, Waiting]:
    """Return the same for a machine whose guest is told of its owner by a context that it reads at its start.
    had: the owner's name until now."""
    kept = before[OWNER].had if OWNER in before else _as_json([had])
    if kept == _as_json([wanted]):
        return {part: each for part, each in before.items() if part != OWNER}
    return {**before, OWNER: Waiting(had, wanted, kept)}


def with_context(before: Mapping[str, Waiting], had: Vm, wanted: Vm) -> dict[str, Waiting]:
    """Return the same for a machine whose guest reads its context at its start only.
    had, wanted: as it was until now, and as it is to be."""
    others = {part: each for part, each in before.items() if part != VARIABLES}
    if had.context is None or wanted.context is None:
        return others
    kept = before[VARIABLES].had if VARIABLES in before else _as_json([_digest_of(had.context)])
    if kept == _as_json([_digest_of(wanted.context)]):
        return others
    return {**others, VARIABLES: Waiting("as it was started with", "as it is made now", kept)}


def _digest_of(context: Context) -> str:
    """Return what tells contexts apart, and none of their secrets."""
    shown = [context.format, dict(context.variables), [[file.target, file.key] for file in context.files]]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def hardware_brought(had: Vm, wanted: Vm, template: Template) -> dict[str, Waiting]:
    """Return what else a machine gets at its next start, if from then on more attributes of its template act on it.
    had, wanted: as it runs, and as it is to be."""
    if had.hardware_version or not wanted.hardware_version:
        # What came since has attributes of its own.
        return {}
    consoles = [each.graphics is not None and each.graphics.companions for each in (had, wanted)]
    timed = template.vector("FEATURES").get("HYPERV", "").strip().upper() in TRUE
    same = (had.os.suspends, had.os.boot) == (wanted.os.suspends, wanted.os.boot)
    if same and not timed and consoles[0] == consoles[1]:
        return {}
    return {HARDWARE: Waiting("as it was made", "as machines are made now", _as_json([]))}


def running_number(waiting: Mapping[str, Waiting], name: str, wanted: Optional[int]) -> Optional[int]:
    """Return the number of the attribute with which the machine runs. wanted: what it is to have."""
    if name not in waiting:
        return wanted
    values = _values_of(waiting[name])
    return whole(values[0]) if values and isinstance(values[0], str) else None


def without_devices_that_fit(before: Mapping[str, Waiting]) -> dict[str, Waiting]:
    """Return the same once the machine's node has said that it has all disks and NICs, and no others. Directories of
    the host are none of these."""
    return {part: each for part, each in before.items() if each.directory or not (each.comes or each.goes)}


def part_changes(
    change: Change,
    old: Template,
    new: Template,
    has: Mapping[str, Sequence[MachineDevice]],
    had_ids: Mapping[str, Sequence[int]],
    live: Collection[str],
    at_once: bool,
) -> list[PartChange]:
    """Return what becomes of each part that a change is about.
    had_ids: as DeviceIds.had.
    at_once: the change as a whole is made while the machine runs."""
    name = change.attribute
    if name not in DEVICES:
        return [PartChange(name, change.old, change.new, _when(change, at_once))]
    pairing = pair_devices(name, old, new, has)
    olds, news = old.vectors(name), new.vectors(name)
    goes = AT_ONCE if name in live else NEXT_START
    # The target of a disk that comes may be held, until then, by one that is moved.
    comes = NEXT_START if pairing.moved else goes
    found = [
        PartChange(
            f"{name} {had_ids[name][index]}", _described(olds[index]), NOTHING, _unless_shared(olds[index], goes)
        )
        for index in pairing.gone
    ]
    for number, index in enumerate(pairing.stays):
        if index is None:
            described = _described(news[number])
            found.append(PartChange(f"{name} of {described}", NOTHING, described, _unless_shared(news[number], comes)))
            continue
        part = f"{name} {had_ids[name][index]}"
        keys = device_matching.changed_keys(
            name, normal_vector(olds[index]), normal_vector(news[number]), _device(has, name, index)
        )
        at_once_keys = keys_of(name, tuple(live))
        for when, some in ((AT_ONCE, at_once_keys.intersection(keys)), (NEXT_START, set(keys) - at_once_keys)):
            if some:
                vectors = _chosen(olds[index], some), _chosen(news[number], some)
                found.append(PartChange(part, *_texts(name, *vectors), when))
        if number in pairing.grown:
            when = AT_ONCE if DISK_SIZE in live else NEXT_START
            sizes = _device(has, name, index).size, pairing.grown[number]
            found.append(PartChange(part, f"[ SIZE = {sizes[0]} ]", f"[ SIZE = {sizes[1]} ]", when))
    return found or [PartChange(name, change.old, change.new, _when(change, at_once))]


def _unless_shared(vector: Mapping[str, str], when: str) -> str:
    return NEXT_START if is_shared_directory(vector) else when


def _when(change: Change, at_once: bool) -> str:
    return "" if change.how == CATALOG else AT_ONCE if at_once else NEXT_START


def _devices_waiting(
    name: str,
    before: Mapping[str, Waiting],
    templates: tuple[Template, Template],
    has: Mapping[str, Sequence[MachineDevice]],
    ids: DeviceIds,
    live: Collection[str],
) -> dict[str, Optional[Waiting]]:
    """Return by part what the devices that stay, and those that come, wait for; None for nothing."""
    old, new = templates
    pairing = pair_devices(name, old, new, has)
    olds, news = old.vectors(name), new.vectors(name)
    found: dict[str, Optional[Waiting]] = {}
    # The target of a disk that comes may be held, until then, by one that is moved.
    held = bool(pairing.moved) or (name == DISK and _has_moved(before, _by_part(ids, has)))
    for number, index in enumerate(pairing.stays):
        wanted = normal_vector(news[number])
        if index is None:
            if name not in live or held or is_shared_directory(wanted):
                is_directory = is_shared_directory(wanted)
                described = _described(news[number])
                found[f"{name} {ids.new[name][number]}"] = Waiting(NOTHING, described, directory=is_directory)
            continue
        part = f"{name} {ids.had[name][index]}"
        if part in before and before[part].comes:
            found[part] = replace(before[part], wanted=_described(news[number]))
            continue
        device = _device(has, name, index)
        had = _vector_of(before[part]) if part in before else _with_place(name, normal_vector(olds[index]), device)
        had = {**had, **{key: wanted.get(key, "") for key in keys_of(name, tuple(live)) & {*had, *wanted}}}
        keys = set(device_matching.changed_keys(name, had, wanted, device)) - {"TARGET"}
        if name == DISK and _is_elsewhere(had, wanted, device):
            keys.update(("TARGET", "DEV_PREFIX"))
        if number in pairing.grown and DISK_SIZE not in live:
            keys.add("SIZE")
            had = {"SIZE": str(device.size), **had}
        texts = _texts(name, _chosen(had, keys), _chosen(wanted, keys))
        found[part] = Waiting(*texts, _as_json([tuple(had.items())])) if keys else None
    return found


def _by_part(ids: DeviceIds, has: Mapping[str, Sequence[MachineDevice]]) -> dict[str, MachineDevice]:
    return {f"{DISK} {disk_id}": _device(has, DISK, index) for index, disk_id in enumerate(ids.had[DISK])}


def _has_moved(before: Mapping[str, Waiting], devices: Mapping[str, MachineDevice]) -> bool:
    """Return whether the running machine has a disk at another target than it is to have."""
    return any(
        not device_matching.is_same_target(_vector_of(before[part]).get("TARGET", ""), device.values.get("TARGET", ""))
        for part, device in devices.items()
        if part in before and not (before[part].comes or before[part].goes)
    )


def _devices_going(
    name: str,
    before: Mapping[str, Waiting],
    templates: tuple[Template, Template],
    has: Mapping[str, Sequence[MachineDevice]],
    ids: DeviceIds,
    live: Collection[str],
    removes: bool,
) -> dict[str, Optional[Waiting]]:
    """Return by part what the devices wait for that the machine is to have no more; None for nothing."""
    found: dict[str, Optional[Waiting]] = {}
    for index in pair_devices(name, *templates, has).gone:
        part = f"{name} {ids.had[name][index]}"
        vector = templates[0].vectors(name)[index]
        goes_now = removes and name in live and not is_shared_directory(vector)
        stays = not goes_now and not (part in before and before[part].comes)
        had = _as_json([tuple(normal_vector(vector).items())])
        is_directory = is_shared_directory(vector)
        found[part] = Waiting(_described(vector), NOTHING, had, True, is_directory) if stays else None
    return found


def _waiting(name: str, had: Sequence[Normal], wanted: Sequence[Normal]) -> Optional[Waiting]:
    if list(had) == list(wanted):
        return None
    texts = values_text(name, had, wanted), values_text(name, wanted, had, new=True)
    return Waiting(*texts, _as_json(had))


def _as_json(values: Sequence[Normal]) -> str:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def _values_of(waiting: Waiting) -> list[Normal]:
    found: list[Any] = json.loads(waiting.had or "[]")
    return [each if isinstance(each, str) else tuple((str(key), str(text)) for key, text in each) for each in found]


def _with_place(name: str, vector: Mapping[str, str], device: MachineDevice) -> dict[str, str]:
    """Return the vector with the target that the disk got."""
    target = device.values.get("TARGET", "")
    return {**vector, "TARGET": target} if name == DISK and target else dict(vector)


def _is_elsewhere(had: Mapping[str, str], wanted: Mapping[str, str], device: MachineDevice) -> bool:
    """Return whether a disk is at another target than that with which its machine runs."""
    if wanted.get("TARGET"):
        return not device_matching.is_same_target(had.get("TARGET", ""), wanted["TARGET"])
    moved = "TARGET" in device_matching.changed_keys(DISK, {**had, "TARGET": ""}, wanted, device)
    return moved or not device_matching.is_same_target(had.get("TARGET", ""), device.values.get("TARGET", ""))


def _device(has: Mapping[str, Sequence[MachineDevice]], name: str, index: int) -> MachineDevice:
    devices = has.get(name, ())
    return devices[index] if index < len(devices) else MachineDevice()


def _vector_of(waiting: Waiting) -> dict[str, str]:
    values = _values_of(waiting)
    return {} if not values or isinstance(values[0], str) else dict(values[0])


def _chosen(vector: Mapping[str, str], keys: Iterable[str]) -> _Vector:
    return tuple((key, vector[key]) for key in sorted(keys) if vector.get(key))


def _texts(name: str, old: _Vector, new: _Vector) -> tuple[str, str]:
    return values_text(name, [old], [new]), values_text(name, [new], [old], new=True)


def _described(vector: Mapping[str, str]) -> str:
    key = next((key for key in _NAMES if vector.get(key)), "")
    if key:
        return f"{key.removesuffix('_ID').lower()} {vector[key]}"
    if is_shared_directory(vector):
        return f"directory {vector.get('SOURCE', '')}"
    return f"{vector['SIZE']} MB" if vector.get("SIZE") else NOTHING
