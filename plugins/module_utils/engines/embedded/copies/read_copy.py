# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes copies of the catalog while others use it, looks at copies, and compares them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Callable

from ....errors import CatalogError
from ....host.files import explained
from ....model.catalog_backup import CatalogCopy
from ....model.image import Image
from .. import store as stores
from ..images.image_rows import image_of
from ..schema import VERSION, refuse_newer
from ..store import CATALOG, Store

_REMEDY = "Take another backup; this file was left as it is"


def take(store: Store, path: str) -> CatalogCopy:
    """Write a copy to the new file `path`: it shows one moment of the catalog, whoever works on that meanwhile."""
    with stores.in_our_words(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as target:
        copy_over(store.db, target, store.path)
        # A copy is one file: it needs nothing beside it.
        target.execute("PRAGMA journal_mode = DELETE")
    copy = look(path)
    with explained(path), Path(path).open("rb+") as file:
        os.fsync(file.fileno())
    return copy


def look(path: str) -> CatalogCopy:
    """Return what the copy is. Raise CatalogError for a file that is no sound copy, or newer than this collection."""
    asked = f"catalog {path}"
    try:
        with reading(path) as db:
            schema = int(db.execute("PRAGMA user_version").fetchone()[0])
            refuse_newer(schema, asked)
            wrong = [str(row[0]) for row in db.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
            wrong += [
                f"a row of {row[0]} refers to a {row[2]} that is not there"
                for row in db.execute("PRAGMA foreign_key_check")
            ]
            if wrong or not schema:
                raise CatalogError(asked, f"it is damaged: {'; '.join(wrong[:3]) or 'it is empty'}", _REMEDY)
            meta = dict(db.execute("SELECT key, value FROM meta"))
            known = frozenset(str(row[0]) for row in db.execute("SELECT uuid FROM vms WHERE state != 6"))
            next_ids = dict(db.execute("SELECT name, next FROM sequences"))
            images = _images(db, schema)
            restored = str(meta.get("restored", ""))
            key, since = str(meta.get("plan_key", "")), int(meta.get("plan_key_since", 0))
            plan = int(meta["plan"])
            return CatalogCopy(
                str(meta["catalog"]), plan, schema, len(known), images, next_ids, known, restored, key, since
            )
    except (sqlite3.Error, KeyError, ValueError) as error:
        raise CatalogError(asked, f"it is damaged, or no catalog: {error}", _REMEDY) from error


def _images(db: sqlite3.Connection, schema: int) -> tuple[Image, ...]:
    """Return the images of a copy. A copy of an older schema stays as it is: it is migrated in memory to be read."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as newest:
        if schema < VERSION:
            db.backup(newest)
            newest.execute("BEGIN")
            stores.migrate(newest)
            newest.execute("COMMIT")
            db = newest
        db.row_factory = sqlite3.Row
        return tuple(image_of(row) for row in db.execute("SELECT images.*, 0 AS vms FROM images ORDER BY id"))


def reading(path: str) -> contextlib.closing[sqlite3.Connection]:
    # A copy by other means may have its write-ahead log beside it. Without one nothing is to be made beside a copy.
    alone = "" if os.path.exists(f"{path}-wal") else "&immutable=1"
    place = f"{Path(os.path.abspath(path)).as_uri()}?mode=ro{alone}"
    return contextlib.closing(sqlite3.connect(place, uri=True))


def present(root: str) -> CatalogCopy | None:
    """Return the catalog that is in place; None if there is none, or only one in which nothing was ever made."""
    path = os.path.join(root, CATALOG)
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return None
    # Opened as a writer would: what is in the write-ahead log counts.
    with contextlib.closing(sqlite3.connect(path, timeout=stores.BUSY_SECONDS)) as db:
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            used = db.execute("SELECT count(*) FROM sequences WHERE name != 'hosts'").fetchone()[0]
            meta = dict(db.execute("SELECT key, value FROM meta"))
        except sqlite3.Error as error:
            raise CatalogError(f"catalog {path}", f"it is damaged, or no catalog: {error}") from error
    if not used and meta.get("plan") == "0":
        return None
    return look(path)


def origin_of(path: str) -> str:
    """Return what tells a copy from all others; "" for a catalog that is begun without a copy."""
    if not path:
        return ""
    with stores.in_our_words(path), reading(path) as db:
        return digest(db)


def made_of(origin: str, plan: int) -> str:
    return f"{origin} {plan}"


def differs(store: Store, root: str) -> bool:
    with contextlib.closing(sqlite3.connect(os.path.join(root, CATALOG), timeout=stores.BUSY_SECONDS)) as db:
        return digest(db) != digest(store.db)


def digest(db: sqlite3.Connection) -> str:
    """Return the SHA-256 of all that the catalog holds, however its file lies on the disk."""
    digested = hashlib.sha256()
    for line in db.iterdump():
        digested.update(line.encode())
    return digested.hexdigest()


def copy_over(
    source: sqlite3.Connection, target: sqlite3.Connection, path: str, held: Callable[[], None] | None = None
) -> None:
    """Copy the catalog `source` over `target`, whose path is for messages. held: called once the target is locked
    against all others, before anything of it is replaced for them."""
    limit = time.monotonic() + stores.BUSY_SECONDS
    asked = held is None

    def progress(status: int, _left: int, _total: int) -> None:
        nonlocal asked
        # Copying the first page locks the target until all is copied.
        if not asked and held is not None and status == sqlite3.SQLITE_OK:
            asked = True
            held()
        # SQLite's module waits for ever for a lock that is held.
        if time.monotonic() > limit:
            raise CatalogError(
                f"catalog {path}",
                f"another run has held it for over {stores.BUSY_SECONDS:g} s",
                "Wait for the other run to end, then run again",
            )

    source.backup(target, pages=-1 if held is None else 1, progress=progress)


def remove_parts(place: str) -> None:
    """Remove the catalog at `place`, with the files that SQLite keeps beside it."""
    for part in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place + part)
