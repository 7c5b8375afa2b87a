# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses disks that are to become larger, or to come empty, where the file system has no room for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence

from ...dataclass import dataclass
from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...errors import NoSpace
from ...model.datastore import SYSTEM, Datastore
from ...model.device_matching import DISK, MachineDevice, is_shared_directory
from ...model.object_ids import id_of
from ...model.shared_datastores import datastore_of
from ...model.template import Template
from ...model.template_changes import pair_devices
from ...model.transfer import SHARED
from ...model.whole_numbers import whole
from ...storage import datastore_layout


@dataclass(frozen=True)
class _Place:
    """Describes where files of disks lie.
    key: the same for two places on one file system, as far as that can be told.
    text: for people.
    free: MiB, None if nobody has told."""

    datastore: Datastore
    key: str
    text: str
    free: int | None


def require_disk_room(
    engine: Engine, record: VmRecord, wanted: Template, has: Mapping[str, Sequence[MachineDevice]]
) -> None:
    """Raise NoSpace for a disk that its file system would have no room for, with all else that this run lets grow
    there. What a disk grows by, and an empty one, take no room yet: a datastore with capacity_check: false may promise
    it twice.
    wanted: what the list says.
    has: the disks of the machine, in the order of its request."""
    pairing, vectors = pair_devices(DISK, record.request or Template(), wanted, has), wanted.vectors(DISK)
    needed: dict[str, int] = {}
    for number, index in enumerate(pairing.stays):
        had = 0 if index is None else has[DISK][index].size
        size = pairing.grown.get(number, 0) if index is not None else _size_of_empty(vectors[number])
        if size <= had:
            continue
        place = _own_place(engine, record) if index is None else _place_of(engine, record, has[DISK][index], index)
        if not place.datastore.capacity_check:
            continue
        needed[place.key] = needed.get(place.key, 0) + size - had
        others = engine.vms.take_disk_room(id_of(record), place.key, needed[place.key], place.free)
        if others is not None:
            given = others + needed[place.key] - (size - had)
            raise NoSpace(
                f"VM {record.name} (id {record.id}): DISK {number}: SIZE = {size}",
                (f"it has {had} MB, and " if had else "")
                + f"{place.free} MB are free in {place.text}"
                + (f", of which this run has given {given}" if given else ""),
                "Give a smaller SIZE, or make room there. Where the same room may be promised twice, set "
                f"capacity_check: false for datastore {place.datastore.name} (nebula_datastores)",
            )


def _size_of_empty(vector: Mapping[str, str]) -> int:
    """Return the MB of a disk that comes without an image."""
    if vector.get("IMAGE") or vector.get("IMAGE_ID") or is_shared_directory(vector):
        return 0
    return whole(vector.get("SIZE", "").strip()) or 0


def _place_of(engine: Engine, record: VmRecord, disk: MachineDevice, index: int) -> _Place:
    number = record.disks[index]["image_id"]
    if disk.own or number is None:
        return _own_place(engine, record)
    image = engine.images.info(number)
    datastore = engine.datastores.info(image.datastore_id)
    if engine.hosts.info(record.host).transfer != SHARED:
        text = f"nebula_root of host {record.host}"
        return _Place(datastore, f"images of {record.host}", text, engine.vms.disk_room(record.host, images=True))
    directory = os.path.dirname(image.source)
    key = directory
    with contextlib.suppress(OSError):
        key = f"device {os.stat(directory).st_dev}"
    return _Place(datastore, key, directory, datastore_layout.room(directory)[0])


def _own_place(engine: Engine, record: VmRecord) -> _Place:
    shared = datastore_of(engine.datastores.shared(), record.host)
    if shared is not None:
        # All of its hosts have the same room.
        text = f"shared datastore {shared.name}"
        return _Place(shared, f"disks in {shared.name}", text, engine.vms.disk_room(record.host))
    datastore = engine.datastores.info(SYSTEM)
    text = f"datastore {datastore.name} of host {record.host}"
    return _Place(datastore, f"disks of {record.host}", text, engine.vms.disk_room(record.host))
