# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the marks by which hosts are known. Each name of the inventory has a mark, which nobody can guess; the host
keeps it in nebula.node, and shows it from then on under whatever name it is asked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .store import Store

# The migration that gave the first marks has the same length.
MARK_BYTES = 16


class HostMarks:
    """Reads and writes the table of marks. Methods that write are called within a transaction of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def of(self, names: Iterable[str]) -> dict[str, str]:
        """Return the marks of those names that have one."""
        known = {row["name"]: row["mark"] for row in self.store.rows("SELECT name, mark FROM host_marks")}
        return {name: known[name] for name in names if name in known}

    def make(self, names: Iterable[str]) -> None:
        """Give each name a mark that has none."""
        self.store.db.executemany(
            "INSERT OR IGNORE INTO host_marks (name, mark) VALUES (?, ?)",
            [(name, os.urandom(MARK_BYTES).hex()) for name in names],
        )

    def owner(self, mark: str) -> str:
        row = self.store.row("SELECT name FROM host_marks WHERE mark = ?", mark)
        return str(row["name"]) if row else ""

    def was_shown(self, name: str) -> bool:
        return self.store.row("SELECT 1 FROM host_marks WHERE name = ? AND shown = 1", name) is not None

    def keep(self, name: str, mark: str) -> None:
        row = self.store.row("SELECT shown FROM host_marks WHERE name = ? AND mark = ?", name, mark)
        if row is None:
            self.store.db.execute("DELETE FROM host_marks WHERE name = ? OR mark = ?", (name, mark))
            self.store.db.execute("INSERT INTO host_marks (name, mark, shown) VALUES (?, ?, 1)", (name, mark))
        elif not row["shown"]:
            self.store.db.execute("UPDATE host_marks SET shown = 1 WHERE name = ?", (name,))

    def rename(self, old: str, new: str) -> None:
        self.store.db.execute("DELETE FROM host_marks WHERE name = ?", (new,))
        self.store.db.execute("UPDATE host_marks SET name = ? WHERE name = ?", (new, old))

    def forget(self, name: str) -> None:
        self.store.db.execute("DELETE FROM host_marks WHERE name = ?", (name,))
