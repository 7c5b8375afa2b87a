# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the row of the catalog that a user means by a name or an id."""

from __future__ import annotations

import sqlite3
from typing import Union

from ...errors import Conflict, NotFound
from ...model.object_names import check_name, nearest_word
from .store import Store

Ref = Union[str, int]

# What users call the objects of each table. No other word gets into SQL as a table.
KINDS = {
    "datastores": "datastore",
    "images": "image",
    "networks": "network",
    "security_groups": "security group",
    "routers": "router",
    "templates": "template",
    "hosts": "host",
}
_SHOWN = 5


def resolve(store: Store, table: str, ref: Ref) -> sqlite3.Row:
    """Return the row whose name is `ref`, else the row of that id if `ref` is digits. Raise NotFound otherwise."""
    row = find(store, table, ref)
    if row is None:
        raise missing(store, table, ref)
    return row


def find(store: Store, table: str, ref: Ref) -> sqlite3.Row | None:
    kind = KINDS[table]
    if isinstance(ref, bool) or (isinstance(ref, str) and not ref):
        raise NotFound(f"{kind} {ref!r}", "that is neither a name nor an id", f"Give the {kind}'s name or id")
    row = None
    if isinstance(ref, str):
        row = store.row(f"SELECT * FROM {table} WHERE name = ?", ref)
    if row is None and is_id(ref):
        row = store.row(f"SELECT * FROM {table} WHERE id = ?", int(ref))
    return row


def is_id(ref: Ref) -> bool:
    """Return whether it can be an id: 0 is one. Longer digits than SQLite's integers are only names."""
    if isinstance(ref, int):
        return 0 <= ref < 2**63
    return ref.isascii() and ref.isdigit() and len(ref) <= 18


def check_new_name(store: Store, table: str, name: str) -> None:
    """Raise InvalidValue for what is no name, and Conflict for a name that an object of the table has."""
    kind = KINDS[table]
    check_name(kind, name)
    row = store.row(f"SELECT id FROM {table} WHERE name = ?", name)
    if row is not None:
        raise Conflict(f"{kind} {name}", f"id {row['id']} has that name", "Choose another name")


def missing(store: Store, table: str, ref: Ref) -> NotFound:
    """Return the error for a reference that fits nothing, with the nearest name."""
    kind = KINDS[table]
    names = [str(row[0]) for row in store.rows(f"SELECT name FROM {table} ORDER BY id LIMIT 10000")]
    near = nearest_word(str(ref), names)
    if near:
        remedy = f"Did you mean {near!r}?"
    elif names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        remedy = "There are " + ", ".join(names[:_SHOWN]) + more if len(names) > 1 else f"There is {names[0]}"
    else:
        remedy = f"There is no {kind} at all; create it first"
    return NotFound(f"{kind} {ref!r}", "the catalog has none of that name or id", remedy)
