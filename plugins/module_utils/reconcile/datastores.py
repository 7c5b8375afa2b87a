# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog, and the directory of a datastore, to what an item of a list of datastores wants."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..engines.base import Engine, named
from ..errors import InUse, NebulaError, NotFound
from ..host import files
from ..model.datastore import SYSTEM, Datastore, DatastoreType
from ..model.item_reader import read_item
from ..model.object_ids import id_of
from ..model.object_names import check_name, did_you_mean, nearest_word
from ..model.specifications.datastore import KEYS
from ..model.template import vector_key
from ..storage import datastore_layout as places
from ..sync import Item, differences


def apply(engine: Engine, item: Mapping[str, Any], root: str, check_mode: bool, nodes: Collection[str] = ()) -> Item:
    """Carry the item out. To be called within a session. nodes: the hosts of the inventory."""
    name = str(item.get("name") or "")
    try:
        check_name("datastore", item.get("name"))
        with engine.attempt():
            return _apply(engine, name, item, root, check_mode, nodes)
    except NebulaError as error:
        return Item(name or "?", error=error, changed=False)


def _apply(
    engine: Engine, name: str, item: Mapping[str, Any], root: str, check_mode: bool, nodes: Collection[str]
) -> Item:
    item = read_item(item, KEYS, f"datastore {name}", removal={"absent": ("name", "state")})
    state = item["state"] or "present"
    found = named(engine.datastores.info, name)
    before = datastore_view(found, root) if found else None
    if state == "absent":
        if found is not None:
            if found.type != DatastoreType.SYSTEM:
                _refuse_strange_files(found, root)
            engine.datastores.delete(id_of(found))
            if not check_mode and found.type != DatastoreType.SYSTEM:
                _remove_directory(found, root)
        return Item(name, before, None, changed=found is not None)
    desired = _desired(name, item, found)
    _refuse_unknown_hosts(engine, name, desired.get("hosts", ()), nodes)
    if found is None:
        made = engine.datastores.allocate(Datastore(None, name, **desired))
    else:
        changes = differences({key: getattr(found, key) for key in desired}, desired)
        made = engine.datastores.update(id_of(found), **changes)
    if not check_mode and made.type != DatastoreType.SYSTEM:
        places.prepare_directories(root, id_of(made))
    # The room that is free changes by itself.
    return Item(name, before, datastore_view(made, root), changed=made != found)


def _desired(name: str, item: Mapping[str, Any], found: Datastore | None) -> dict[str, Any]:
    what = f"datastore {name}"
    desired: dict[str, Any] = {}
    if item.get("type") is not None:
        desired["type"] = DatastoreType[item["type"]]
    desired.update({key: item[key] for key in ("capacity_check", "description", "shared") if item[key] is not None})
    if item.get("hosts") is not None:
        desired["hosts"] = tuple(dict.fromkeys(item["hosts"]))
    attributes = item.get("attributes")
    if attributes is not None:
        both: dict[str, str | None] = dict(found.attributes if found else {})
        both.update({vector_key(key, what): None if value is None else str(value) for key, value in attributes.items()})
        desired["attributes"] = {key: value for key, value in both.items() if value is not None}
    return desired


def _refuse_unknown_hosts(engine: Engine, name: str, hosts: Sequence[str], nodes: Collection[str]) -> None:
    if not hosts:
        return
    known = {*nodes, *(host.name for host in engine.hosts.pool())}
    unknown = next((host for host in hosts if host not in known), None)
    if unknown is not None:
        near = nearest_word(unknown, sorted(known))
        raise NotFound(
            f"datastore {name}: host {unknown!r}",
            "there is no such host in the catalog, nor in group nebula_nodes",
            did_you_mean(near) + "Give names of hosts of group nebula_nodes",
        )


def _refuse_strange_files(found: Datastore, root: str) -> None:
    directory = places.image_directory(root, id_of(found))
    try:
        left = sorted(os.listdir(directory))
    except OSError:
        return
    if found.images == 0 and left:
        raise InUse(
            f"datastore {found.name} (id {found.id}): delete",
            f"files that belong to no image are in {directory}: {', '.join(left[:5])}",
            "See what they are; remove them first",
        )


def _remove_directory(found: Datastore, root: str) -> None:
    directory = places.image_directory(root, id_of(found))
    # A link or a file system that an administrator put there stays.
    if not os.path.islink(directory) and not os.path.ismount(directory):
        files.remove_empty_directory(directory)


def datastore_view(found: Datastore, root: str) -> dict[str, Any]:
    """Return a datastore as results show it; its room as it is now, None where that can't be told."""
    number = SYSTEM if found.shared else found.id
    path = places.image_directory(root, number) if number is not None else ""
    # Whether the front-end sees it as well is not known.
    free, total = places.room(path) if path and not found.shared else (None, None)
    return {
        "id": found.id,
        "name": found.name,
        "type": found.type.name,
        "capacity_check": found.capacity_check,
        "description": found.description,
        "shared": found.shared,
        "hosts": list(found.hosts),
        "images": found.images,
        "attributes": dict(found.attributes),
        "path": path,
        "free": free,
        "total": total,
    }
