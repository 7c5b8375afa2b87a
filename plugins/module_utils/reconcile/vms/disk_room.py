# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses disks that are to become larger by more than the file system has room for on which they lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...errors import NoSpace
from ...model.datastore import SYSTEM, Datastore
from ...model.device_matching import DISK, MachineDevice
from ...model.template import Template
from ...model.template_changes import pair_devices
from ...model.transfer import SHARED
from ...storage import datastore_layout


def require_disk_room(
    engine: Engine, record: VmRecord, wanted: Template, has: Mapping[str, Sequence[MachineDevice]]
) -> None:
    """Raise NoSpace for a disk that would become larger than the rest of its file system allows. What it grows by takes
    no room yet: a datastore with capacity_check: false may promise it twice.
    wanted: what the list says.
    has: the disks of the machine, in the order of its request."""
    pairing = pair_devices(DISK, record.request or Template(), wanted, has)
    needed: dict[tuple[int, str], int] = {}
    for number, size in pairing.grown.items():
        index = pairing.stays[number]
        if index is None:
            continue
        place, directory = _place_of(engine, record, has[DISK][index], index)
        if not place.capacity_check:
            continue
        where = (place.id or SYSTEM, directory)
        needed[where] = needed.get(where, 0) + size - has[DISK][index].size
        free = datastore_layout.room(directory)[0] if directory else engine.vms.disk_room(record.host)
        if free is not None and needed[where] > free:
            raise NoSpace(
                f"VM {record.name} (id {record.id}): DISK {number}: SIZE = {size}",
                f"it has {has[DISK][index].size} MB, and {free} MB are free in "
                + (directory or f"datastore {place.name} of host {record.host}"),
                "Give a smaller SIZE, or make room there. Where the same room may be promised twice, set "
                f"capacity_check: false for datastore {place.name} (nebula_datastores)",
            )


def _place_of(engine: Engine, record: VmRecord, disk: MachineDevice, index: int) -> tuple[Datastore, str]:
    """Return the datastore of the disk, and the directory on this machine where its file lies; "" for one that lies on
    the machine's host."""
    number = record.disks[index]["image_id"]
    if disk.own or number is None:
        return engine.datastores.info(SYSTEM), ""
    image = engine.images.info(number)
    place = engine.datastores.info(image.datastore_id)
    shared = engine.hosts.info(record.host).transfer == SHARED
    return place, os.path.dirname(image.source) if shared else ""
