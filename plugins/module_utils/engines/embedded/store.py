# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens and migrates the catalog's database, has one transaction for each module run, and gives ids that are never
used again."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, TypeVar

from ...errors import CatalogError, NebulaError, NoSpace, NotFound, StorageFailed
from ...host import mounts
from ...host.files import explained, remove_file, sync_directory, why_not_writable
from . import schema

CATALOG = "nebula.db"
# The name of a catalog that has been ended, until the last of its files is removed.
ENDED = f"{CATALOG}.ended"
# The files beside a catalog while SQLite uses its write-ahead log.
BESIDE = (f"{CATALOG}-wal", f"{CATALOG}-shm")
PARTS = (CATALOG, *BESIDE)
# How long a run waits for others that hold the catalog. Each holds it for one decision: parts of a second.
BUSY_SECONDS = 60.0
# On these SQLite's write-ahead log does not work (it needs memory shared between the processes of one kernel).
NETWORK_FILE_SYSTEMS = frozenset(("nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs", "9p"))
# Values in one statement: SQLite's default limit is 999 in older versions.
CHUNK = 500
T = TypeVar("T")


class Store:
    """Holds one open catalog. `root` is nebula_root on the front-end.
    check_mode: everything runs as usual and is rolled back at the end. Where there is no catalog yet, it is in memory;
    where there is one of an older schema, a migrated copy is."""

    def __init__(self, root: str, check_mode: bool = False, create: bool = False, name: str = CATALOG) -> None:
        self.root = root
        self.path = os.path.join(root, name)
        self.check_mode = check_mode
        # What once() has read in this transaction.
        self.kept: dict[str, Any] = {}
        # A run that is killed while it begins a catalog leaves an empty file, and so does a full disk.
        exists = _size(self.path) > 0
        self.declared = not exists and check_mode
        if not exists and not check_mode and not create:
            raise NotFound(
                f"catalog {self.path}",
                "there is none on this host",
                "Run role nebula.provision.frontend first, or set nebula_root to where the catalog is",
            )
        if not self.declared:
            _refuse_network_file_system(root)
        if not exists and not self.declared:
            remove_ended(root)
            # No other user may ever read it. Not done to a catalog that is there: closing it would end SQLite's locks.
            with explained(self.path):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        self._file = self._identity()
        with self._explained():
            # rw: a catalog that is removed between these lines must not come back empty.
            place = ":memory:" if self.declared else f"{Path(os.path.abspath(self.path)).as_uri()}?mode=rw"
            self.db = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
            self.db.row_factory = sqlite3.Row
            self._prepare()
            # A catalog that is ended while it is opened lacks what was in its log: nothing would be found in it.
            self._check_still_there()

    def _identity(self) -> tuple[int, int]:
        """Return which file is at the path now: its device and inode."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return 0, 0
        return found.st_dev, found.st_ino

    def _prepare(self) -> None:
        self.db.execute("PRAGMA foreign_keys = ON")
        if not self.check_mode:
            self._use_write_ahead_log()
            # FULL, not WAL's usual NORMAL: what a run reported as done must survive a power cut.
            self.db.execute("PRAGMA synchronous = FULL")
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        schema.refuse_newer(version, f"catalog {self.path}")
        if version == schema.VERSION:
            return
        if self.check_mode and not self.declared:
            self._copy_to_memory()
        self.db.execute("BEGIN EXCLUSIVE")
        try:
            migrate(self.db)
            self.db.execute("INSERT OR IGNORE INTO meta VALUES ('catalog', ?)", (str(uuid.uuid4()),))
            self.db.execute("INSERT OR IGNORE INTO meta VALUES ('plan', '0')")
            self.db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _use_write_ahead_log(self) -> None:
        # SQLite does not wait here for other runs that open the same new catalog.
        limit = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self.db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > limit:
                    raise
            time.sleep(0.02)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        with in_our_words(self.path):
            try:
                yield
            except sqlite3.Error:
                # SQLite would say of a removed file that the disk is broken.
                self._check_still_there()
                raise

    def _roll_back(self) -> None:
        # Where the disk is full, SQLite may have rolled back itself.
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def _copy_to_memory(self) -> None:
        # Only a real run may change which versions of this collection can read the file.
        file, self.db = self.db, sqlite3.connect(":memory:", isolation_level=None)
        self.db.row_factory = sqlite3.Row
        with contextlib.closing(file):
            file.backup(self.db)
        self.db.execute("PRAGMA foreign_keys = ON")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep all that is done inside, or nothing; in check mode, nothing."""
        with self._explained():
            self.db.execute("BEGIN IMMEDIATE")
            self.kept.clear()
            try:
                self._check_still_there()
                yield self.db
                self.db.execute("ROLLBACK" if self.check_mode else "COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                self.kept.clear()

    def once(self, key: str, read: Callable[[], T]) -> T:
        """Return what `read` returned for this key before in the transaction, if nothing has dropped it since: whoever
        writes to what was read also changes it, or calls drop(). Outside a transaction everything is read anew."""
        if not self.db.in_transaction:
            return read()
        if key not in self.kept:
            self.kept[key] = read()
        found: T = self.kept[key]
        return found

    def drop(self, *keys: str) -> None:
        """Have once() read these anew. Without keys: all, since what was done since it was read is undone."""
        for key in keys or tuple(self.kept):
            self.kept.pop(key, None)

    def _check_still_there(self) -> None:
        """Raise CatalogError if the file was removed or replaced: what is written to it would be reported, and lost."""
        if not self.declared and self._identity() != self._file:
            raise CatalogError(
                f"catalog {self.path}",
                "another run has removed or replaced it meanwhile",
                "Run again once that run has ended; nothing was changed",
            )

    def remove(self, allowed: Callable[[], None]) -> None:
        """End the catalog, if `allowed` raises nothing: nobody decides anything in between, and those who wait for that
        find that it is gone. Its files are remove_ended()'s."""
        with self.transaction():
            allowed()
            # In one step: a run may be killed here, and a catalog without its log would tell an old state.
            os.rename(self.path, os.path.join(self.root, ENDED))
            sync_directory(self.root)

    def take_ids(self, sequence: str, count: int = 1) -> int:
        """Return the first of `count` new ids in a row. It is called within a transaction."""
        update = self.db.execute("UPDATE sequences SET next = next + ? WHERE name = ?", (count, sequence))
        if not update.rowcount:
            self.db.execute("INSERT INTO sequences VALUES (?, ?)", (sequence, count))
        following: int = self.db.execute("SELECT next FROM sequences WHERE name = ?", (sequence,)).fetchone()[0]
        return following - count

    def meta(self, key: str) -> str:
        row = self.row("SELECT value FROM meta WHERE key = ?", key)
        return str(row[0]) if row else ""

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None
        with self._explained() if not self.db.in_transaction else contextlib.nullcontext():
            found = self.db.execute(sql, values).fetchone()
        return found

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        # Within a transaction an error of SQLite ends all of it, and must not look like that of one item.
        with self._explained() if not self.db.in_transaction else contextlib.nullcontext():
            return self.db.execute(sql, values).fetchall()

    def close(self) -> None:
        self.db.close()


def chunks(values: Sequence[T]) -> Iterator[tuple[str, Sequence[T]]]:
    """Yield parts of the values for IN (…), each with its question marks."""
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        yield ", ".join("?" * len(part)), part


def compact(value: Any) -> str:
    """Return JSON as it is stored."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def begun(root: str) -> bool:
    return _size(os.path.join(root, CATALOG)) > 0


def remove_ended(root: str) -> None:
    """Take away what is left of a catalog that was ended."""
    if os.path.exists(os.path.join(root, ENDED)):
        # The file that tells that the others are to be removed goes last.
        for name in (*BESIDE, ENDED):
            remove_file(os.path.join(root, name))


def migrate(db: sqlite3.Connection) -> None:
    """Bring a catalog to this version's schema. The caller has begun a transaction, and commits it."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for step in schema.MIGRATIONS[version:]:
        for statement in _statements(step):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {schema.VERSION:d}")


def _statements(script: str) -> list[str]:
    # executescript() would commit the surrounding transaction; the scripts hold no ';' but between statements.
    return [part for part in (piece.strip() for piece in script.split(";")) if part]


def _refuse_network_file_system(root: str) -> None:
    best, kind = mounts.file_system(root)
    if kind in NETWORK_FILE_SYSTEMS:
        raise CatalogError(
            f"catalog in {root}",
            f"{best} is mounted by {kind}, on which SQLite's write-ahead log does not work",
            "Put nebula_root on a local file system of the front-end; image datastores may be links to shared ones",
        )


DAMAGED = ("not a database", "malformed")
# Words in SQLite's messages → what is the case, and what to do.
_EXPLAINED = (
    (("locked", "busy"), "another run has held it for over {seconds:g} s",
     "Wait for the other run to end, then run again"),
    ((*DAMAGED, "no such table", "no such column"), "the file is damaged, or not a catalog",
     "Restore it from a backup; nothing was changed"),
    (("readonly", "read-only"), "it can't be written", "Run as root, and see that its file system is writable"),
    (("unable to open",), "it can't be opened", "Run as root, and see that it is a file"),
)  # fmt: skip
_FULL = "disk is full"
# SQLite also says these of a file that can't be made or extended, whatever the reason.
_VAGUE = ("disk I/O", "unable to open", "readonly")


def _may_be_opened(path: str) -> bool:
    """Return whether nothing that we can see keeps the file from being opened: then its disk did."""
    own = (path, f"{path}-journal", f"{path}-wal", f"{path}-shm")
    return (
        os.path.isfile(path)
        and os.access(os.path.dirname(path), os.W_OK | os.X_OK)
        and all(os.path.isfile(name) and os.access(name, os.R_OK | os.W_OK) for name in own if os.path.lexists(name))
    )


@contextlib.contextmanager
def in_our_words(path: str) -> Iterator[None]:
    """Raise errors of SQLite about the catalog at `path` as those of the collection, with what to do about them."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path) from error


def _explain(error: sqlite3.Error, path: str) -> NebulaError:
    asked, text = f"catalog {path}", str(error)
    reason = why_not_writable(os.path.dirname(path)) if any(sign in text for sign in _VAGUE) else None
    if _FULL in text or isinstance(reason, NoSpace):
        found = reason.found if reason is not None else "there is no room for it on its file system"
        return NoSpace(asked, found, "Make room there, then run again: it goes on from what was kept")
    if reason is not None:
        return type(reason)(asked, reason.found, reason.remedy)
    if "disk I/O" in text or ("unable to open" in text and _may_be_opened(path)):
        return StorageFailed(
            asked,
            "its file system failed to read or write it",
            "See dmesg, and the quota; mend that, then run again: it goes on from what was kept",
        )
    for signs, found, remedy in _EXPLAINED:
        if any(sign in text for sign in signs):
            return CatalogError(asked, found.format(seconds=BUSY_SECONDS), remedy)
    return CatalogError(
        asked,
        f"it refused what it was told ({error})",
        "Nothing was changed. This is a fault of nebula.provision: report it",
    )
