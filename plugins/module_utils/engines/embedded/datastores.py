# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about datastores. How much room each has is in storage/datastore_layout.py."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...dataclass import replace
from ...errors import Conflict, InUse, InvalidValue
from ...model.dataclass_json import to_plain
from ...model.datastore import FIRST, SYSTEM, Datastore, DatastoreType
from ...model.item_reader import read_item
from ...model.shared_datastores import datastore_of, faults, learned
from ...model.specifications.datastore import KEYS
from ..ports import DatastoresPort, Ref
from .references import check_new_name, resolve
from .store import Store

COLUMNS = ("name", "type", "capacity_check", "description", "shared")
_JSON = ("attributes", "hosts")
_SELECT = (
    "SELECT datastores.*, (SELECT count(*) FROM images WHERE datastore_id = datastores.id) AS images FROM datastores"
)


class Datastores(DatastoresPort):
    def __init__(self, store: Store) -> None:
        self.store = store

    def pool(self) -> list[Datastore]:
        found = [_datastore_of(row) for row in self.store.rows(f"{_SELECT} ORDER BY datastores.id")]
        return [self._with_hosts(each, found) for each in found]

    def info(self, ref: Ref) -> Datastore:
        return self._get(resolve(self.store, "datastores", ref)["id"])

    def allocate(self, datastore: Datastore) -> Datastore:
        check_new_name(self.store, "datastores", datastore.name)
        what = f"datastore {datastore.name}: type {datastore.type.name}"
        if datastore.type == DatastoreType.SYSTEM and not datastore.shared:
            # Each node has a system datastore, under the number 0.
            raise InvalidValue(
                what, "there is one on each host, and it is datastore 0", "Choose IMAGE or FILE, or set shared: true"
            )
        self._refuse_hosts(datastore, datastore.type, datastore.hosts)
        # Lower ids are those of every catalog, which no sequence has given.
        self.store.db.execute("INSERT OR IGNORE INTO sequences VALUES ('datastores', ?)", (FIRST,))
        number = self.store.take_ids("datastores")
        columns = (*COLUMNS, *_JSON)
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
        if "shared" in wanted:
            raise Conflict(
                f"datastore {datastore.name}: shared {str(wanted['shared']).lower()}",
                f"it is {'shared' if datastore.shared else 'not shared'}",
                "Make another one with type: SYSTEM, shared: true and its hosts",
            )
        if "hosts" in wanted:
            self._refuse_hosts(datastore, datastore.type, wanted["hosts"])
            self._refuse_used(f"datastore {datastore.name}: hosts", {*datastore.hosts} - {*wanted["hosts"]})
        if "name" in wanted:
            check_new_name(self.store, "datastores", wanted["name"])
        for name, value in wanted.items():
            if name not in (*COLUMNS, *_JSON):
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
        if datastore.shared:
            self._refuse_used(asked, datastore.hosts)
        self.store.db.execute("DELETE FROM datastores WHERE id = ?", (datastore.id,))
        return datastore

    def shared(self) -> list[Datastore]:
        """Return the shared ones. Most catalogs have none, and each decision asks for them."""
        rows = self.store.rows(f"{_SELECT} WHERE datastores.shared = 1 ORDER BY datastores.id")
        return [_datastore_of(row) for row in rows]

    def hear(self, shown: Mapping[str, str]) -> dict[str, str]:
        """Note by which marks shared datastores are known from now on, and return what is wrong with the system
        datastores of hosts, by name. shown: the marks that hosts have shown."""
        found = self.shared()
        if not found:
            return {}
        catalog = self.store.meta("catalog")
        for number, datastore in enumerate(found):
            known = datastore.mark
            if known and known not in shown.values() and not self._machines_on(datastore.hosts):
                # Nobody has anything there: it may be another directory now.
                known = ""
            others = [replace(each, mark="") if each is datastore else each for each in found]
            mark = known or learned(datastore, others, catalog, shown) or datastore.mark
            if mark != datastore.mark:
                self.store.db.execute("UPDATE datastores SET mark = ? WHERE id = ?", (mark, datastore.id))
                found[number] = replace(datastore, mark=mark)
        return faults(found, catalog, shown)

    def _refuse_hosts(self, datastore: Datastore, kind: DatastoreType, hosts: Sequence[str]) -> None:
        """Raise an error for hosts that can't have the datastore."""
        asked = f"datastore {datastore.name}: hosts {', '.join(hosts)}"
        if (hosts or datastore.shared) and (kind != DatastoreType.SYSTEM or not datastore.shared):
            raise InvalidValue(
                f"datastore {datastore.name}: shared, with hosts",
                "each host has datastore 0 for itself"
                if kind == DatastoreType.SYSTEM
                else f"it is of type {kind.name}",
                "Make a datastore with type: SYSTEM and shared: true for that",
            )
        for other in self.shared():
            both = [host for host in hosts if host in other.hosts and other.id != datastore.id]
            if both:
                raise Conflict(
                    asked,
                    f"{', '.join(both)}: of shared datastore {other.name} already, and a host has one at most",
                    f"Take it out of the hosts of {other.name} first",
                )

    def _refuse_used(self, asked: str, hosts: Collection[str]) -> None:
        """Raise InUse for hosts that have machines, whose files lie in their system datastore."""
        rows = self._machines_on(hosts)
        if rows:
            names = ", ".join(f"{row['name']} (on {row['host']})" for row in rows[:5]) + (" …" if rows[5:] else "")
            raise InUse(asked, f"the disks of machines lie there: {names}", "Move them away, or end them, first")

    def _machines_on(self, hosts: Collection[str]) -> list[sqlite3.Row]:
        marks = ", ".join("?" * len(hosts))
        return self.store.rows(
            "SELECT vms.name, hosts.name AS host FROM vms JOIN hosts ON hosts.id IN (vms.host_id, vms.move_host)"
            f" WHERE vms.state != 6 AND hosts.name IN ({marks}) ORDER BY vms.id LIMIT 6",
            *hosts,
        )

    def _with_hosts(self, datastore: Datastore, datastores: Sequence[Datastore]) -> Datastore:
        """Return the datastore of all hosts that have their own with the names of these, any other one as it is."""
        if datastore.id != SYSTEM:
            return datastore
        names = (row["name"] for row in self.store.rows("SELECT name FROM hosts ORDER BY id"))
        return replace(datastore, hosts=tuple(name for name in names if datastore_of(datastores, name) is None))

    def declare(self, item: Mapping[str, Any]) -> None:
        """Take as given, or as gone, what an earlier task of a check run would have made or removed."""
        # As a list says it, or as a result shows it.
        given = read_item({key: value for key, value in item.items() if key in KEYS}, KEYS, "datastore")
        name, checked = given["name"], given["capacity_check"]
        if given["state"] == "absent":
            self.store.db.execute("DELETE FROM datastores WHERE name = ? AND id >= ?", (name, FIRST))
        elif given["shared"]:
            # No image lies there, and no host has shown yet what only a real run writes.
            return
        elif self.store.row("SELECT id FROM datastores WHERE name = ?", name) is None:
            kind = DatastoreType[given["type"] or "IMAGE"]
            self.allocate(Datastore(None, name, kind, capacity_check=checked is None or checked))

    def _get(self, number: int | None) -> Datastore:
        found = _datastore_of(self.store.rows(f"{_SELECT} WHERE datastores.id = ?", number)[0])
        return self._with_hosts(found, self.shared()) if number == SYSTEM else found


def _stored(column: str, value: Any) -> Any:
    if column in _JSON:
        return json.dumps(to_plain(value))
    return int(value) if column in ("type", "capacity_check", "shared") else value


def _datastore_of(row: sqlite3.Row) -> Datastore:
    return Datastore(
        id=row["id"],
        name=row["name"],
        type=DatastoreType(row["type"]),
        capacity_check=bool(row["capacity_check"]),
        description=row["description"],
        images=row["images"],
        attributes=json.loads(row["attributes"]),
        shared=bool(row["shared"]),
        hosts=tuple(json.loads(row["hosts"])),
        mark=row["mark"],
    )
