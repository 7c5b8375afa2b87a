# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of machines wants to be done with disks: save_as and disk_snapshots."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidValue
from ...model.image import Image
from ...model.names import check_name
from ...model.numbers import whole
from ...model.plan import AGENT, CRASH
from ...model.reader import check_keys, chosen, twice
from ...model.specifications.vm import KEYS
from ...model.states import ImageType

CONSISTENCIES = (AGENT, CRASH)
SNAPSHOT_STATES = ("present", "absent", "reverted")
IMAGE_TYPES = ("OS", "DATABLOCK")
_SAVE_KEYS, _SNAPSHOT_KEYS = KEYS["save_as"].options or {}, KEYS["disk_snapshots"].options or {}


@dataclass(frozen=True)
class SaveAs:
    """image: with name, type and description; the type is CDROM where none was given: no disk is saved as one."""

    disk: int
    image: Image
    consistency: str = AGENT


@dataclass(frozen=True)
class DiskSnapshot:
    disk: int
    name: str
    state: str = "present"


def saves(item: Mapping[str, Any], where: str) -> tuple[SaveAs, ...]:
    found = []
    for index, entry in _entries(item, "save_as", where, _SAVE_KEYS):
        here = f"{where}: save_as {index}"
        name = check_name("image", entry.get("image"))
        kind = str(entry.get("type") or "").upper()
        if kind and kind not in IMAGE_TYPES:
            raise InvalidValue(f"{here}: type {entry['type']!r}", "no disk is saved as that", "Use OS or DATABLOCK")
        found.append(
            SaveAs(
                _disk(entry, here),
                Image(
                    None,
                    name,
                    type=ImageType[kind] if kind else ImageType.CDROM,
                    description=str(entry.get("description") or ""),
                ),
                _word(entry, "consistency", CONSISTENCIES, here),
            )
        )
    _refuse_twins([save.image.name for save in found], f"{where}: save_as: image")
    return tuple(found)


def disk_snapshots(item: Mapping[str, Any], where: str) -> tuple[DiskSnapshot, ...]:
    found = []
    for index, entry in _entries(item, "disk_snapshots", where, _SNAPSHOT_KEYS):
        here = f"{where}: disk_snapshots {index}"
        name = check_name("snapshot", entry.get("name"))
        found.append(DiskSnapshot(_disk(entry, here), name, _word(entry, "state", SNAPSHOT_STATES, here)))
    _refuse_twins([f"{each.name} of disk {each.disk}" for each in found], f"{where}: disk_snapshots: snapshot")
    return tuple(found)


def _entries(
    item: Mapping[str, Any], key: str, where: str, known: Collection[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    given = item.get(key)
    if given is None:
        return
    if not isinstance(given, (list, tuple)):
        raise InvalidValue(f"{where}: {key}", f"it is a {type(given).__name__}", "Give a list of dicts")
    for index, entry in enumerate(given):
        check_keys(entry, known, f"{where}: {key} {index}")
        yield index, entry


def _disk(entry: Mapping[str, Any], where: str) -> int:
    value = entry.get("disk")
    number = whole(0 if value is None else value)
    if number is None:
        raise InvalidValue(f"{where}: disk {value!r}", "it is no number of a disk", "They count from 0")
    return number


def _word(entry: Mapping[str, Any], key: str, known: Sequence[str], where: str) -> str:
    value = entry.get(key)
    return known[0] if value is None else chosen(value, known, where, key)


def _refuse_twins(names: Sequence[str], where: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise twice(f"{where} {name}")
