# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog's database: opening, migrating, one transaction per module run, and ids that are never used again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import CatalogError, NotFound
from .schema import MIGRATIONS, VERSION

BUSY_SECONDS = 60
# On these SQLite's write-ahead log does not work (it needs memory shared between the processes of one kernel).
NETWORK_FILE_SYSTEMS = frozenset(("nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs", "9p"))


class Store:
    """One open catalog. `root` is nebula_root on the front-end.

    check_mode: everything runs as usual and is rolled back at the end; in memory where there is no catalog yet, or one
    of an older schema, of which it is a migrated copy.
    """

    def __init__(self, root: str, check_mode: bool = False, create: bool = False) -> None:
        self.root = root
        self.path = os.path.join(root, "nebula.db")
        self.check_mode = check_mode
        exists = os.path.exists(self.path)
        self.declared = not exists and check_mode
        if not exists and not check_mode and not create:
            raise NotFound(
                f"catalog {self.path}",
                "there is none on this host",
                "Run role nebula.provision.frontend first, or set nebula_root to where the catalog is",
            )
        if not self.declared:
            _refuse_network_file_system(root)
        with self._told():
            self.db = sqlite3.connect(
                ":memory:" if self.declared else self.path, timeout=BUSY_SECONDS, isolation_level=None
            )
            self.db.row_factory = sqlite3.Row
            self._prepare(new=not exists)

    def _prepare(self, new: bool) -> None:
        self.db.execute("PRAGMA foreign_keys = ON")
        if new and not self.declared:
            os.chmod(self.path, 0o600)
        if not self.check_mode:
            self.db.execute("PRAGMA journal_mode = WAL")
            # FULL, not WAL's usual NORMAL: what a run reported as done must survive a power cut.
            self.db.execute("PRAGMA synchronous = FULL")
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise CatalogError(
                f"catalog {self.path}",
                f"its schema is version {version}, this collection knows up to {VERSION}",
                "Use the newer nebula.provision that wrote it",
            )
        if version == VERSION:
            return
        if self.check_mode and not self.declared:
            self._copy_to_memory()
        self.db.execute("BEGIN EXCLUSIVE")
        try:
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            for step in MIGRATIONS[version:]:
                for statement in _statements(step):
                    self.db.execute(statement)
            self.db.execute("INSERT OR IGNORE INTO meta VALUES ('catalog', ?)", (str(uuid.uuid4()),))
            self.db.execute("INSERT OR IGNORE INTO meta VALUES ('plan', '0')")
            self.db.execute(f"PRAGMA user_version = {VERSION:d}")
            self.db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors in our words."""
        try:
            yield
        except sqlite3.Error as error:
            found, remedy = _explain(error)
            raise CatalogError(f"catalog {self.path}", found, remedy) from error

    def _roll_back(self) -> None:
        # Where the disk is full, SQLite may have done it itself.
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def _copy_to_memory(self) -> None:
        # Which versions of this collection can read the file is for a real run to change.
        file, self.db = self.db, sqlite3.connect(":memory:", isolation_level=None)
        self.db.row_factory = sqlite3.Row
        with contextlib.closing(file):
            file.backup(self.db)
        self.db.execute("PRAGMA foreign_keys = ON")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; in check mode, nothing."""
        with self._told():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("ROLLBACK" if self.check_mode else "COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def take_ids(self, sequence: str, count: int = 1) -> int:
        """The first of `count` ids in a row; called within a transaction."""
        self.db.execute("INSERT OR IGNORE INTO sequences VALUES (?, 0)", (sequence,))
        first: int = self.db.execute("SELECT next FROM sequences WHERE name = ?", (sequence,)).fetchone()[0]
        self.db.execute("UPDATE sequences SET next = next + ? WHERE name = ?", (count, sequence))
        return first

    def meta(self, key: str) -> str:
        row = self.row("SELECT value FROM meta WHERE key = ?", key)
        return str(row[0]) if row else ""

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None
        with self._told() if not self.db.in_transaction else contextlib.nullcontext():
            found = self.db.execute(sql, values).fetchone()
        return found

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        # Within a transaction an error of SQLite ends all of it, and must not look like that of one item.
        with self._told() if not self.db.in_transaction else contextlib.nullcontext():
            return self.db.execute(sql, values).fetchall()

    def close(self) -> None:
        self.db.close()


def _statements(script: str) -> list[str]:
    # executescript() would commit the surrounding transaction; the scripts hold no ';' but between statements.
    return [part for part in (piece.strip() for piece in script.split(";")) if part]


def _refuse_network_file_system(root: str) -> None:
    best, kind = "", ""
    try:
        with Path("/proc/self/mounts").open(encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                _device, point, fstype = line.split(" ")[:3]
                if (os.path.realpath(root) + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                    best, kind = point, fstype
    except OSError:
        return
    if kind in NETWORK_FILE_SYSTEMS:
        raise CatalogError(
            f"catalog in {root}",
            f"{best} is mounted by {kind}, on which SQLite's write-ahead log does not work",
            "Put nebula_root on a local file system of the front-end; image datastores may be links to shared ones",
        )


# What SQLite's words begin with or hold → what is the case, and what to do.
_EXPLAINED = (
    (("locked", "busy"), f"another run has held it for over {BUSY_SECONDS} s",
     "Wait for the other run to end, then run again"),
    (("disk is full", "disk I/O"), "there is no room for it on its file system, or that can't be written",
     "Make room, then run again; nothing was changed"),
    (("not a database", "malformed", "no such table", "no such column"), "the file is damaged, or not a catalog",
     "Restore it from a backup; nothing was changed"),
    (("readonly", "read-only"), "it can't be written", "Run as root, and see that its file system is writable"),
    (("unable to open",), "it can't be opened", "Run as root, and see that it is a file"),
)  # fmt: skip


def _explain(error: sqlite3.Error) -> tuple[str, str]:
    for signs, found, remedy in _EXPLAINED:
        if any(sign in str(error) for sign in signs):
            return found, remedy
    return (
        f"it refused what it was told ({error})",
        "Nothing was changed. This is a fault of nebula.provision: report it",
    )
