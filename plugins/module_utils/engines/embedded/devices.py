# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks and NICs that come to a machine that is there, or go: whose each is, by the ids that they keep."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...model.changes import matched
from ...model.instantiate import Kept
from ...model.nic import Nic
from ...model.template import Template
from ...model.vm import Vm


@dataclass(frozen=True)
class Devices:
    """kept: disks and context that stay. new_disks: of those that come, the id by number of DISK. nics: by number of
    NIC, those that stay; new_nics: of the others, the id. gone_disks, gone_nics: ids."""

    kept: Kept
    new_disks: Mapping[int, int]
    nics: Mapping[int, Nic]
    new_nics: Mapping[int, int]
    gone_disks: tuple[int, ...]
    gone_nics: tuple[int, ...]


def compare(vm: Vm, old: Template, new: Template, next_disk: int) -> Devices:
    """next_disk: an id that no disk of the machine, and no file that it uses, ever had."""
    disks = _matched("DISK", old, new, len(vm.disks))
    kept = tuple(None if index is None else vm.disks[index] for index in disks)
    new_disks, following = {}, next_disk
    for number, disk in enumerate(kept):
        if disk is None:
            new_disks[number] = following
            following += 1
    nics = _matched("NIC", old, new, len(vm.nics))
    staying = {number: vm.nics[index] for number, index in enumerate(nics) if index is not None}
    first = max([vm.next_nic, *(nic.nic_id + 1 for nic in vm.nics)], default=0)
    coming = [number for number, index in enumerate(nics) if index is None]
    there, left = {disk.disk_id for disk in kept if disk is not None}, {nic.nic_id for nic in staying.values()}
    return Devices(
        kept=Kept(kept, vm.context, next_disk),
        new_disks=new_disks,
        nics=staying,
        new_nics={number: first + place for place, number in enumerate(coming)},
        gone_disks=tuple(disk.disk_id for disk in vm.disks if disk.disk_id not in there),
        gone_nics=tuple(nic.nic_id for nic in vm.nics if nic.nic_id not in left),
    )


def _matched(name: str, old: Template, new: Template, count: int) -> list[int | None]:
    """What only changed of those that are there stays what it is: their number is the same then."""
    found = matched(name, old, new)
    return list(range(count)) if found is None else found


def gone(row: sqlite3.Row) -> dict[str, list[int]]:
    """Ids of the disks and NICs that a machine is to have no more, as decided and not done yet."""
    orders: dict[str, Any] = {} if row["settled"] else json.loads(row["orders"])
    return dict(orders.get("detached", {}))


def with_gone(row: sqlite3.Row, devices: Devices) -> dict[str, list[int]]:
    before = gone(row)
    found = {"disks": [*before.get("disks", ()), *devices.gone_disks]}
    found["nics"] = [*before.get("nics", ()), *devices.gone_nics]
    return {key: ids for key, ids in found.items() if ids}
