# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares rows that are there with rows that are wanted: what differs, and the operations of OVSDB (RFC 7047, section
5.2) that change it. Pure.

All of them go in one transaction. `wait` operations before them name what was read of whatever they change, so that
nothing happens at all if somebody changed it since. Rows without the catalog's mark are never changed; a row of
others that is a member of ours stays a member."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from ...dataclass import dataclass
from ...errors import ForeignObject
from .ovsdb_tables import (
    ATOM,
    CHILDREN,
    EXTERNAL_IDS,
    KINDS,
    LINK,
    MANAGED_KEYS,
    MAP,
    MARKS,
    MOVE_KEYS,
    MOVING,
    NAME,
    REFERENCES,
    ROOTS,
    TABLES,
    Identity,
    Owner,
    Uuid,
    decode_row,
    encode,
    identity_of,
    uuid_reference,
    wait_unchanged,
)

Desired = Mapping[Identity, Mapping[str, Any]]
# The row that has an object's name.
_MAIN = {
    "network": "Logical_Switch",
    "port": "Logical_Switch_Port",
    "router": "Logical_Router",
    "security group": "Port_Group",
}
# Members that come and go by others' hands, and in numbers: nothing depends on their being those that were read.
_MANY = "ports"
GLOBAL = "NB_Global"
_GENERATION = "nebula-generation-"


class DatabaseState:
    """Holds all that was read, and what of it is the catalog's."""

    def __init__(self, catalog: str, read: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.catalog = catalog
        self.rows: dict[Uuid, tuple[str, dict[str, Any]]] = {}
        self.identities: dict[Uuid, Identity] = {}
        self.ours: dict[Identity, Uuid] = {}
        # By the row that it is a member of: the rows' columns in which it is.
        self.parents: dict[Uuid, list[tuple[Uuid, str]]] = {}
        self.globals: dict[str, str] | None = None
        # Of ovn-northd, "" where none has written it.
        self.version = ""
        for row in read.get(GLOBAL, ()):
            self.globals = dict(row[EXTERNAL_IDS][1])
            self.version = str(dict(row["options"][1]).get("northd_internal_version", "")) if "options" in row else ""
        for table in TABLES:
            for row in read.get(table, ()):
                self._take(table, row)

    def _take(self, table: str, row: Mapping[str, Any]) -> None:
        uuid, columns = Uuid(row["_uuid"][1]), decode_row(table, row)
        self.rows[uuid] = table, columns
        identity = identity_of(table, columns[EXTERNAL_IDS], self.catalog)
        if identity is not None:
            self.identities[uuid] = identity
            # Of two that somebody made alike the first is it, in an order that does not depend on the reading.
            self.ours[identity] = min(uuid, self.ours.get(identity, uuid))
        for column in TABLES[table]:
            if (table, column) in CHILDREN:
                for member in columns[column]:
                    self.parents.setdefault(member, []).append((uuid, column))

    def foreign(self, table: str) -> Iterable[tuple[Uuid, dict[str, Any]]]:
        """Yield the table's rows that are not the catalog's."""
        for uuid, (its_table, columns) in self.rows.items():
            if its_table == table and uuid not in self.identities:
                yield uuid, columns

    def label(self, uuid: Uuid) -> str:
        """Return a row as users know it."""
        if uuid not in self.rows:
            return f"row {uuid}"
        table, columns = self.rows[uuid]
        return f"{table} {columns.get('name') or uuid}"


@dataclass
class Change:
    """Says what differs of one object. before and after: its rows and columns that differ; before is None for an
    object that is not there, after for an object that is not wanted."""

    owner: Owner
    name: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.owner.kind} {self.name or self.owner.uuid}"


@dataclass
class Plan:
    operations: list[dict[str, Any]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def compare(found: DatabaseState, desired: Desired) -> Plan:
    """Return what is to be done, and what that changes of each object. Raise ForeignObject if it can't be done without
    rows of others."""
    return _Comparison(found, desired).plan()


class _Comparison:
    def __init__(self, found: DatabaseState, desired: Desired) -> None:
        self.found, self.desired = found, desired
        self.removed = [
            uuid
            for uuid, identity in found.identities.items()
            if identity not in desired or found.ours[identity] != uuid
        ]
        self.numbers: dict[Identity, str] = {}
        self.waits: list[dict[str, Any]] = []
        self.acts: list[dict[str, Any]] = []
        self.before: dict[Owner, dict[str, Any]] = {}
        self.after: dict[Owner, dict[str, Any]] = {}

    def plan(self) -> Plan:
        self._refuse_removals()
        for identity, columns in self.desired.items():
            uuid = self.found.ours.get(identity)
            if uuid is None:
                self._insert(identity, columns)
            else:
                self._update(uuid, identity, columns)
                self._leave_others(uuid)
        for uuid in self.removed:
            self._remove(uuid)
        if self.acts:
            self._next_generation()
        return Plan([*self.waits, *self.acts], self._changes())

    # -- rows ---------------------------------------------------------------------------------------------------------
    def _insert(self, identity: Identity, columns: Mapping[str, Any]) -> None:
        table, kinds = identity.table, KINDS[identity.table]
        row, shown = {}, {}
        for column, value in columns.items():
            # As OVSDB has it by itself.
            if not value and value != 0:
                continue
            row[column] = encode(kinds[column], value, self._reference)
            if column != EXTERNAL_IDS and (table, column) not in CHILDREN:
                shown[column] = self._shown(kinds[column], value)
        self.acts.append({"op": "insert", "table": table, "uuid-name": self._number(identity), "row": row})
        self.after.setdefault(identity.owner, {})[str(identity)] = shown

    def _update(self, uuid: Uuid, identity: Identity, columns: Mapping[str, Any]) -> None:
        table, now = self.found.rows[uuid]
        kinds = KINDS[table]
        read: dict[str, Any] = {}
        written: dict[str, Any] = {}
        mutations: list[list[Any]] = []
        for column, value in columns.items():
            kind = kinds[column]
            if kind == REFERENCES:
                gone, come = self._membership(now[column], value)
                if not gone and not come:
                    continue
                if column != _MANY:
                    read[column] = now[column]
                mutations += [
                    [column, mutator, encode(kind, rows, self._reference)]
                    for mutator, rows in (("delete", gone), ("insert", come))
                    if rows
                ]
                if (table, column) not in CHILDREN:
                    self._note_difference(identity, column, self._shown(kind, gone), self._shown(kind, come))
                continue
            if value == now[column]:
                continue
            wanted = self._merged(table, column, now, value)
            if wanted == now[column]:
                continue
            read[column], written[column] = now[column], wanted
            before, after = (self._shown(kind, each) for each in (now[column], wanted))
            self._note_difference(identity, column, before, after)
        if written or mutations:
            self._wait(uuid, read)
        if written:
            row = {column: encode(kinds[column], value, self._reference) for column, value in written.items()}
            self.acts.append({"op": "update", "table": table, "where": _where(uuid), "row": row})
        if mutations:
            self.acts.append({"op": "mutate", "table": table, "where": _where(uuid), "mutations": mutations})

    def _merged(self, table: str, column: str, row: Mapping[str, Any], value: Any) -> Any:
        """Return the value in the form of what is there, with what others put beside ours. row: all that is there."""
        kind = KINDS[table][column]
        if kind == LINK:
            rows = {self.found.ours.get(each, each) for each in value}
            return frozenset(rows)
        if kind == MAP:
            ours = MARKS if column == EXTERNAL_IDS else MANAGED_KEYS.get((table, column))
            if ours is not None and column != EXTERNAL_IDS and MOVING in row[EXTERNAL_IDS]:
                ours |= MOVE_KEYS
            kept = {} if ours is None else {key: text for key, text in row[column].items() if key not in ours}
            return {**kept, **value}
        return value

    def _membership(self, now: Collection[Uuid], wanted: Collection[Identity]) -> tuple[set[Uuid], set[Identity]]:
        """Return members of ours that are to go, and members that are to come."""
        ours = {uuid: self.found.identities[uuid] for uuid in now if uuid in self.found.identities}
        gone = {uuid for uuid, each in ours.items() if each not in wanted or self.found.ours[each] != uuid}
        there = {each for uuid, each in ours.items() if uuid not in gone}
        return gone, {each for each in wanted if each not in there}

    def _leave_others(self, uuid: Uuid) -> None:
        """Take a row of ours out of rows that are not ours: it belongs to a single row."""
        for parent, column in self.found.parents.get(uuid, ()):
            if parent not in self.found.identities:
                self._take_out(parent, column, uuid)

    def _take_out(self, parent: Uuid, column: str, uuid: Uuid) -> None:
        table = self.found.rows[parent][0]
        mutation = [column, "delete", encode(REFERENCES, (uuid,), uuid_reference)]
        self.acts.append({"op": "mutate", "table": table, "where": _where(parent), "mutations": [mutation]})

    def _remove(self, uuid: Uuid) -> None:
        table, columns = self.found.rows[uuid]
        # Whatever anybody made a member of it meanwhile must not end with it.
        self._wait(uuid, {column: columns[column] for column in columns if (table, column) in CHILDREN})
        if table in ROOTS:
            self.acts.append({"op": "delete", "table": table, "where": _where(uuid)})
        else:
            for parent, column in self.found.parents.get(uuid, ()):
                # One of ours that stays lets go of it with the rest of its members.
                if parent not in self.found.identities:
                    self._take_out(parent, column, uuid)
        identity = self.found.identities[uuid]
        shown = {
            column: self._shown(KINDS[table][column], value)
            for column, value in columns.items()
            if (value or value == 0) and column != EXTERNAL_IDS and (table, column) not in CHILDREN
        }
        self.before.setdefault(identity.owner, {})[str(identity)] = shown

    def _refuse_removals(self) -> None:
        for uuid in self.removed:
            table, columns = self.found.rows[uuid]
            for column in TABLES[table]:
                if (table, column) not in CHILDREN:
                    continue
                others = sorted(self.found.label(each) for each in columns[column] - self.found.identities.keys())
                if others:
                    raise ForeignObject(
                        f"remove {self.found.label(uuid)} from OVN's northbound database",
                        f"its {column} have some that are not of catalog {self.found.catalog}: {', '.join(others)}",
                        "They would end with it: remove them, or move them, with the tool that made them",
                    )

    # -- operations ---------------------------------------------------------------------------------------------------
    def _wait(self, uuid: Uuid, read: Mapping[str, Any]) -> None:
        """Make the transaction fail unless these columns are still as they were read, and the row still is marked as
        ours."""
        table, columns = self.found.rows[uuid]
        read = {EXTERNAL_IDS: columns[EXTERNAL_IDS], **read}
        values = {column: encode(KINDS[table][column], value, uuid_reference) for column, value in read.items()}
        self.waits.append(wait_unchanged(table, uuid_reference(uuid), values))

    def _next_generation(self) -> None:
        """Count the generation up, so that of two runs that change rows of this catalog at the same time one begins
        again: rows that are new are not there to be waited for."""
        key, now = _GENERATION + self.found.catalog, self.found.globals
        if now is None:
            ids = {key: "1"}
            self.acts.append({"op": "insert", "table": GLOBAL, "row": {EXTERNAL_IDS: encode(MAP, ids, uuid_reference)}})
            return
        condition: dict[str, Any] = {"op": "wait", "table": GLOBAL, "timeout": 0}
        if key in now:
            included = encode(MAP, {key: now[key]}, uuid_reference)
            condition.update(where=[[EXTERNAL_IDS, "includes", included]], columns=["_uuid"], until="!=", rows=[])
        else:
            read = {EXTERNAL_IDS: encode(MAP, now, uuid_reference)}
            condition.update(where=[], columns=[EXTERNAL_IDS], until="==", rows=[read])
        self.waits.append(condition)
        mutations: list[list[Any]] = [[EXTERNAL_IDS, "delete", ["set", [key]]]]
        if self.desired:
            following = {key: str(int(now.get(key, "0")) + 1)}
            mutations.append([EXTERNAL_IDS, "insert", encode(MAP, following, uuid_reference)])
        self.acts.append({"op": "mutate", "table": GLOBAL, "where": [], "mutations": mutations})

    def _reference(self, row: Any) -> list[str]:
        if isinstance(row, Identity):
            uuid = self.found.ours.get(row)
            return ["named-uuid", self._number(row)] if uuid is None else uuid_reference(uuid)
        return uuid_reference(row)

    def _number(self, identity: Identity) -> str:
        return self.numbers.setdefault(identity, f"row{len(self.numbers)}")

    # -- what users see -----------------------------------------------------------------------------------------------
    def _note_difference(self, identity: Identity, column: str, before: Any, after: Any) -> None:
        for side, value in ((self.before, before), (self.after, after)):
            side.setdefault(identity.owner, {}).setdefault(str(identity), {})[column] = value

    def _shown(self, kind: str, value: Any) -> Any:
        if kind == ATOM:
            return value
        if kind == MAP:
            return dict(sorted(value.items()))
        if kind in (REFERENCES, LINK):
            return sorted(self._label(each) for each in value)
        return sorted(value)

    def _label(self, row: Any) -> str:
        if isinstance(row, Identity):
            return str(self.desired[row].get("name") or row)
        identity = self.found.identities.get(row)
        return str(self.found.rows[row][1].get("name") or identity or row) if row in self.found.rows else str(row)

    def _changes(self) -> list[Change]:
        there = {identity.owner for identity in self.found.ours}
        wanted = {identity.owner for identity in self.desired}
        names = self._names()
        return [
            Change(
                owner,
                names.get(owner, ""),
                self.before.get(owner, {}) if owner in there else None,
                self.after.get(owner, {}) if owner in wanted else None,
            )
            for owner in sorted({*self.before, *self.after})
        ]

    def _names(self) -> dict[Owner, str]:
        names: dict[Owner, str] = {}
        found = ((identity, self.found.rows[uuid][1]) for identity, uuid in self.found.ours.items())
        for identity, columns in (*found, *self.desired.items()):
            if _MAIN.get(identity.owner.kind) == identity.table and not identity.part:
                names[identity.owner] = columns[EXTERNAL_IDS].get(NAME) or columns["name"]
        return names


def _where(uuid: Uuid) -> list[list[Any]]:
    return [["_uuid", "==", uuid_reference(uuid)]]
