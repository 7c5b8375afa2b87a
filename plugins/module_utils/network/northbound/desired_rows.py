# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects rows that the northbound database is to have, and makes names that things have there. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from .ovsdb_tables import EXTERNAL_IDS, NAME, Identity


class Rows:
    """Collects rows. wanted: the columns of each row, by its identity. Sets of references grow while rows are added."""

    def __init__(self, catalog: str) -> None:
        self.catalog = catalog
        self.wanted: dict[Identity, dict[str, Any]] = {}

    def identity(self, table: str, **marks: str) -> Identity:
        return Identity(table, self.catalog, **marks)

    def add(self, row: Identity, columns: Mapping[str, Any], name: str = "") -> Identity:
        ids = row.marks
        if name:
            ids[NAME] = name
        self.wanted[row] = {**columns, EXTERNAL_IDS: ids}
        return row

    def put(self, row: Identity, into: Identity, column: str) -> None:
        """Have a set of references lead to the row."""
        self.wanted[into].setdefault(column, set()).add(row)


def stable_mac(*of: str) -> str:
    """Return a MAC address that follows from names alone, beside those that catalogs give (02:00:…)."""
    digest = hashlib.sha256("\0".join(of).encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x0A, *digest[:5]))


def safe_name(kind: str, uuid: str) -> str:
    """Return the name of a port group or an address set, which expressions name."""
    return f"nebula_{kind}_{uuid.replace('-', '_')}"
