# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about datastores. How much room each has is in storage/datastore_layout.py."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from ...errors import Conflict, InUse, InvalidValue
from ...model.datastore import FIRST, Datastore, DatastoreType
from ..ports import DatastoresPort, Ref
from .references import check_new_name, resolve
from .store import Store

COLUMNS = ("name", "type", "capacity_check", "description")
_SELECT = (
    "SELECT datastores.*, (SELECT count(*) FROM images WHERE datastore_id = datastores.id) AS images FROM datastores"
)


class Datastores(DatastoresPort):
    def __init__(self, store: Store) -> None:
        self.store = store

    def pool(self) -> list[Datastore]:
        return [_datastore_of(row) for row in self.store.rows(f"{_SELECT} ORDER BY datastores.id")]

    def info(self, ref: Ref) -> Datastore:
        return self._get(resolve(self.store, "datastores", ref)["id"])

    def allocate(self, datastore: Datastore) -> Datastore:
        check_new_name(self.store, "datastores", datastore.name)
        what = f"datastore {datastore.name}: type {datastore.type.name}"
        if datastore.type == DatastoreType.SYSTEM:
            # Each node has a system datastore, under the number 0.
            raise InvalidValue(what, "there is one on each host, and it is datastore 0", "Choose IMAGE or FILE")
        # Lower ids are those of every catalog, which no sequence has given.
        self.store.db.execute("INSERT OR IGNORE INTO sequences VALUES ('datastores', ?)", (FIRST,))
        number = self.store.take_ids("datastores")
        columns = (*COLUMNS, "attributes")
        self.store.db.execute(
            f"INSERT INTO datastores (id, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})",
            (number, *(_stored(column, getattr(datastore, column)) for column in columns)),
        )
        return self._get(number)

    def update(self, ref: Ref, **changes: Any) -> Datastore:
        datastore = self.info(ref)
        wanted = {name: value for name, value in changes.items() if getattr(datastore, name) != value}
        if "type" in wanted:
            raise Conflict(
                f"datastore {datastore.name}: type {wanted['type'].name}",
                f"it is {datastore.type.name}",
                "A datastore keeps its type: make another one",
            )
        if "name" in wanted:
            check_new_name(self.store, "datastores", wanted["name"])
        for name, value in wanted.items():
            if name not in (*COLUMNS, "attributes"):
                raise InvalidValue(f"datastore {datastore.name}: {name}", "it is not changed by request")
            self.store.db.execute(
                f"UPDATE datastores SET {name} = ? WHERE id = ?", (_stored(name, value), datastore.id)
            )
        return self._get(datastore.id) if wanted else datastore

    def delete(self, ref: Ref) -> Datastore:
        datastore = self.info(ref)
        asked = f"datastore {datastore.name} (id {datastore.id}): delete"
        if datastore.id is not None and datastore.id < FIRST:
            raise Conflict(asked, "it is one of those that every catalog has", "Leave it")
        if datastore.images:
            rows = self.store.rows("SELECT name FROM images WHERE datastore_id = ? ORDER BY id LIMIT 5", datastore.id)
            names = ", ".join(row["name"] for row in rows) + (" …" if datastore.images > len(rows) else "")
            raise InUse(asked, f"{datastore.images} images lie in it: {names}", "Remove these first (state: absent)")
        self.store.db.execute("DELETE FROM datastores WHERE id = ?", (datastore.id,))
        return datastore

    def declare(self, item: Mapping[str, Any]) -> None:
        """Take as given, or as gone, what an earlier task of a check run would have made or removed."""
        if item.get("state") == "absent":
            self.store.db.execute("DELETE FROM datastores WHERE name = ? AND id >= ?", (item["name"], FIRST))
        elif self.store.row("SELECT id FROM datastores WHERE name = ?", item["name"]) is None:
            kind = DatastoreType[item.get("type") or "IMAGE"]
            self.allocate(Datastore(None, item["name"], kind, capacity_check=bool(item.get("capacity_check", True))))

    def _get(self, number: int | None) -> Datastore:
        return _datastore_of(self.store.rows(f"{_SELECT} WHERE datastores.id = ?", number)[0])


def _stored(column: str, value: Any) -> Any:
    if column == "attributes":
        return json.dumps(dict(value))
    return int(value) if column in ("type", "capacity_check") else value


def _datastore_of(row: sqlite3.Row) -> Datastore:
    return Datastore(
        id=row["id"],
        name=row["name"],
        type=DatastoreType(row["type"]),
        capacity_check=bool(row["capacity_check"]),
        description=row["description"],
        images=row["images"],
        attributes=json.loads(row["attributes"]),
    )
