# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and changes databases of Open vSwitch and OVN, by `ovsdb-client`: one process reads all, one changes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import CommandFailed
from ...host.command import run

TIMEOUT = 30.0
Row = Mapping[str, Any]
# What every database of ours, and each row that we make, carries in external_ids.
MARK = "nebula-catalog"


def select(
    socket: str, database: str, tables: Sequence[str], columns: Sequence[str] | None = None
) -> dict[str, list[Row]]:
    """Return all rows of the tables, by the names of the tables; all columns, or these."""
    argv = ["ovsdb-client", "query", f"unix:{socket}", _selection(database, tables, columns)]
    return rows_of(tables, run(argv, timeout=TIMEOUT).stdout)


def select_file(
    path: str, database: str, tables: Sequence[str], columns: Sequence[str] | None = None
) -> dict[str, list[Row]]:
    """Return the rows of a database that no server has open, as select() does."""
    argv = ["ovsdb-tool", "query", path, _selection(database, tables, columns)]
    return rows_of(tables, run(argv, timeout=TIMEOUT).stdout)


def _selection(database: str, tables: Sequence[str], columns: Sequence[str] | None) -> str:
    limits = {} if columns is None else {"columns": list(columns)}
    return json.dumps([database, *({"op": "select", "table": table, "where": [], **limits} for table in tables)])


def transact(socket: str, database: str, operations: Sequence[Mapping[str, Any]]) -> None:
    """Carry out all of the operations, or none."""
    request = json.dumps([database, *operations])
    done = run(["ovsdb-client", "transact", f"unix:{socket}", request], timeout=TIMEOUT)
    _results(done.stdout)


def rows_of(tables: Sequence[str], text: str) -> dict[str, list[Row]]:
    """Return what a query of these tables has printed, by the names of the tables."""
    return {table: list(result.get("rows", ())) for table, result in zip(tables, _results(text))}


def _results(text: str) -> list[Mapping[str, Any]]:
    results: list[Mapping[str, Any]] = json.loads(text or "[]")
    for result in results:
        if isinstance(result, Mapping) and result.get("error"):
            raise CommandFailed(
                "transaction of ovsdb-server", f"{result['error']}: {result.get('details', '')}".rstrip(": ")
            )
    return results


def as_map(value: Any) -> dict[str, str]:
    return {str(key): str(item) for key, item in value[1]} if isinstance(value, list) and value[0] == "map" else {}


def as_list(value: Any) -> list[Any]:
    """Return a column of type set as a list; UUIDs as text. OVSDB writes a set with a single element as the element."""
    items = value[1] if isinstance(value, list) and value[:1] == ["set"] else [value]
    return [as_uuid(item) for item in items]


def as_text(value: Any) -> str:
    items = as_list(value)
    return str(items[0]) if items else ""


def as_uuid(value: Any) -> Any:
    return value[1] if isinstance(value, list) and value[:1] == ["uuid"] else value


def uuid_of(row: Row) -> str:
    return str(as_uuid(row["_uuid"]))


def mark_of(row: Row) -> str:
    """Return the UUID of the catalog whose row it is; "" for somebody else's."""
    return as_map(row.get("external_ids")).get(MARK, "")


def map_value(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]


def tls_of(row: Row) -> dict[str, str]:
    """Return what a row of table SSL names, as Files.as_dict() does."""
    names = {"private_key": "private_key", "certificate": "certificate", "ca_certificate": "ca_cert"}
    return {ours: str(row[theirs]) for ours, theirs in names.items()}
