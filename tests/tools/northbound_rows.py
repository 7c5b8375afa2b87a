# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A northbound database as it is read, made of rows that are wanted: what unit tests begin with."""

from __future__ import annotations

import uuid
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import LogicalNetworks
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_tables import (
    KINDS,
    LINK,
    REFERENCES,
    TABLES,
    Identity,
    encode,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.render import render

Read = dict[str, list[dict[str, Any]]]
EMPTY: dict[str, Any] = {
    "atom": "",
    "set": ["set", []],
    "map": ["map", []],
    "references": ["set", []],
    "link": ["set", []],
}


def uuid_of(row: Identity) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, repr(tuple(row))))


def as_read(catalog: str, desired: LogicalNetworks, generation: str = "1") -> Read:
    """As ovsdb-server gives it, where everything is as it is wanted."""
    read: Read = {table: [] for table in TABLES}
    for row, columns in render(catalog, desired).items():
        kinds = KINDS[row.table]
        found = {column: EMPTY[kind] for column, kind in kinds.items()}
        for column, value in columns.items():
            found[column] = encode(kinds[column], value, lambda each: ["uuid", uuid_of(each)])
        read[row.table].append({"_uuid": ["uuid", uuid_of(row)], **found})
    key = f"nebula-generation-{catalog}"
    read["NB_Global"] = [{"_uuid": ["uuid", str(uuid.UUID(int=1))], "external_ids": ["map", [[key, generation]]]}]
    return read


def foreign(read: Read, table: str, number: int, **columns: Any) -> str:
    """Add a row of somebody else's; its UUID."""
    its_uuid = str(uuid.UUID(int=number))
    kinds = KINDS[table]
    row = {column: EMPTY[kind] for column, kind in kinds.items()}
    for column, value in columns.items():
        of_rows = kinds[column] in (REFERENCES, LINK)
        row[column] = (
            encode(kinds[column], value, lambda each: ["uuid", each])
            if not of_rows
            else (["set", [["uuid", each] for each in value]])
        )
    read[table].append({"_uuid": ["uuid", its_uuid], **row})
    return its_uuid


def row_of(read: Read, table: str, **columns: Any) -> dict[str, Any]:
    (found,) = [row for row in read[table] if all(row[column] == value for column, value in columns.items())]
    return found
