# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what an item of a list of machines wants to be done with disks: save_as, disk_snapshots, system_snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...dataclass import dataclass
from ...errors import InvalidValue
from ...model.image import Image
from ...model.item_reader import duplicate_error, value_of
from ...model.object_names import check_name
from ...model.plan import AGENT
from ...model.specifications.vm import KEYS
from ...model.states import ImageType


@dataclass(frozen=True)
class SaveAs:
    """Holds an entry of save_as. image: with name, type and description; the type is CDROM if the entry has none,
    since no disk is saved as a CDROM."""

    disk: int
    image: Image
    consistency: str = AGENT


@dataclass(frozen=True)
class DiskSnapshot:
    disk: int
    name: str
    state: str = "present"


@dataclass(frozen=True)
class WantedSnapshot:
    """Holds an entry of system_snapshots."""

    name: str
    state: str = "present"


def saves(item: Mapping[str, Any], where: str) -> tuple[SaveAs, ...]:
    found = [
        SaveAs(
            entry["disk"],
            Image(
                None,
                _name("image", entry["image"], where, "save_as", index),
                type=ImageType[entry["type"] or ImageType.CDROM.name],
                description=entry["description"] or "",
            ),
            entry["consistency"],
        )
        for index, entry in enumerate(_entries(item, "save_as", where))
    ]
    _refuse_twins([save.image.name for save in found], f"{where}: save_as: image")
    return tuple(found)


def disk_snapshots(item: Mapping[str, Any], where: str) -> tuple[DiskSnapshot, ...]:
    found = [
        DiskSnapshot(entry["disk"], _name("snapshot", entry["name"], where, "disk_snapshots", index), entry["state"])
        for index, entry in enumerate(_entries(item, "disk_snapshots", where))
    ]
    _refuse_twins([f"{each.name} of disk {each.disk}" for each in found], f"{where}: disk_snapshots: snapshot")
    return tuple(found)


def system_snapshots(item: Mapping[str, Any], where: str) -> tuple[WantedSnapshot, ...]:
    found = [
        WantedSnapshot(_name("snapshot", entry["name"], where, "system_snapshots", index), entry["state"])
        for index, entry in enumerate(_entries(item, "system_snapshots", where))
    ]
    _refuse_twins([each.name for each in found], f"{where}: system_snapshots: snapshot")
    return tuple(found)


def _entries(item: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """Return the entries with values of their types. Names stay as they were given: a number is no name."""
    given = item.get(key)
    if given is None:
        return []
    read = value_of(given, KEYS[key], where, key)
    return [{**entry, **{name: each.get(name) for name in ("image", "name")}} for entry, each in zip(read, given)]


def _name(kind: str, name: Any, where: str, key: str, index: int) -> str:
    try:
        return check_name(kind, name)
    except InvalidValue as error:
        error.asked = f"{where}: {key}[{index}]: {error.asked}"
        raise


def _refuse_twins(names: Sequence[str], where: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise duplicate_error(f"{where} {name}")
