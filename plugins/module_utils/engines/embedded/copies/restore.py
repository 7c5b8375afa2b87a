# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a copy the catalog again: it is put together beside the catalog in place, and then replaces that."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence

from ....errors import CatalogError, Conflict, ForeignObject, InvalidValue, NebulaError
from ....host.files import lock, remove_file, sync_directory
from ....model.catalog_backup import CatalogCopy
from ....model.plan import Observed
from .. import store as stores
from ..store import CATALOG, PARTS, Store
from .read_copy import copy_over, made_of, present, reading, remove_parts

# Names beside the catalog: of the candidate while it is put together, and of what replaces a catalog that is damaged.
CANDIDATE = ".nebula.db.restoring"
REPLACEMENT = ".nebula.db.restored"


@contextlib.contextmanager
def candidate(root: str, path: str, catalog: str) -> Iterator[Store]:
    """Yield the copy at `path`, or without a path an empty catalog of that UUID, in this version's schema. It is
    removed at the end. root: where it lies meanwhile."""
    with contextlib.ExitStack() as stack:
        # In check mode there may be no such directory yet.
        root = root or stack.enter_context(tempfile.TemporaryDirectory())
        place = os.path.join(root, CANDIDATE)
        held = f"{place}.lock"
        stack.enter_context(lock(held, stores.BUSY_SECONDS))
        stack.callback(remove_file, held)
        remove_parts(place)
        stack.callback(remove_parts, place)
        if path:
            with stores.in_our_words(place), reading(path) as source:
                os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                with contextlib.closing(sqlite3.connect(place)) as target:
                    copy_over(source, target, place)
        with contextlib.closing(Store(root, create=True, name=CANDIDATE)) as store:
            if not path:
                with store.transaction() as db:
                    db.execute("UPDATE meta SET value = ? WHERE key = 'catalog'", (catalog,))
            yield store


class Watch:
    """Watches the catalog in place from before it is looked at until it is replaced: nobody may decide anything in
    between.
    act: it is going to be replaced."""

    def __init__(self, root: str, act: bool) -> None:
        self.path = os.path.join(root, CATALOG)
        self._file = self._identity()
        self._db: sqlite3.Connection | None = None
        self._version = -1
        if self._file is not None:
            self._db = sqlite3.connect(self.path, timeout=stores.BUSY_SECONDS)
            # A damaged catalog has no version: nobody can decide anything in it.
            with contextlib.suppress(sqlite3.DatabaseError):
                if act:
                    # A copy that somebody put there may have no log: then no version can be read while it is locked.
                    self._db.execute("PRAGMA journal_mode = WAL")
                self._version = self._data_version()

    def check(self) -> None:
        """Raise Conflict if another run has changed the catalog. It is called when no run can change it any more."""
        same = self._identity() == self._file
        if same and self._version >= 0:
            with contextlib.suppress(sqlite3.DatabaseError):
                same = self._data_version() == self._version
        if not same:
            raise Conflict(
                f"restoring the catalog {self.path}",
                "another run has changed it meanwhile",
                "Wait for that run to end, then run again. Nothing was changed",
            )

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino) if found.st_size else None

    def _data_version(self) -> int:
        # A connection that changes nothing itself reads another number once any other connection has changed something.
        return int(self._db.execute("PRAGMA data_version").fetchone()[0]) if self._db is not None else -1


def put(store: Store, root: str, stamp: str, watch: Watch) -> str:
    """Make the candidate the catalog. Return the path under which the former one is kept, "" if there was none."""
    path = os.path.join(root, CATALOG)
    aside = f"{path}.before-{stamp}"
    sound = os.path.exists(path) and os.path.getsize(path) > 0
    if sound:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=stores.BUSY_SECONDS)) as old:
                os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                with contextlib.closing(sqlite3.connect(aside)) as kept:
                    copy_over(old, kept, path)
                    kept.execute("PRAGMA journal_mode = DELETE")
                # In one transaction of the file that others have open: they see the old catalog, or the new one.
                copy_over(store.db, old, path, held=watch.check)
        except NebulaError:
            remove_parts(aside)
            raise
        except sqlite3.Error as error:
            sound = not any(sign in str(error) for sign in stores.DAMAGED)
            # What was put aside holds less than the file itself.
            remove_parts(aside)
            if sound:
                with stores.in_our_words(path):
                    raise
    if not sound:
        _put_aside(store, root, aside, watch)
    sync_directory(root)
    return aside if os.path.exists(aside) else ""


def _put_aside(store: Store, root: str, aside: str, watch: Watch) -> None:
    """Make the candidate the catalog where there is none, or one that can't be read: its files go to `aside`."""
    new = os.path.join(root, REPLACEMENT)
    remove_parts(new)
    try:
        # The whole candidate is written before what is there goes.
        with stores.in_our_words(new), contextlib.closing(sqlite3.connect(new)) as target:
            os.chmod(new, 0o600)
            copy_over(store.db, target, new)
            target.execute("PRAGMA journal_mode = DELETE")
        watch.check()
        # SQLite would remove the log of the new catalog, which has the same path.
        watch.close()
        for part in PARTS:
            with contextlib.suppress(FileNotFoundError):
                os.rename(os.path.join(root, part), aside + part[len(CATALOG) :])
        os.rename(new, os.path.join(root, CATALOG))
    finally:
        remove_parts(new)


def replaceable(root: str, copy: CatalogCopy | None, origin: str, catalog: str, force: bool) -> CatalogCopy | None:
    """Return the catalog in place, which may be replaced; None if there is none that could be used. Unless forced,
    raise ForeignObject for another catalog, and Conflict for one that knows more. One that was made of the same copy,
    and in which nothing was decided since, is what a restore left that did not come to its end: it may be replaced."""
    asked = f"restoring {f'plan {copy.plan} of ' if copy else ''}catalog {catalog} over {os.path.join(root, CATALOG)}"
    remedy = "Nothing was changed. nebula_restore_force: true replaces it all the same, and keeps it beside the new one"
    try:
        current = present(root)
    except CatalogError:
        # The catalog can't be used as it is; it is kept.
        return None
    if current is None or force:
        return current
    if current.catalog != catalog:
        raise ForeignObject(asked, f"catalog {current.catalog} is there, with {current.machines} machines", remedy)
    if current.restored == made_of(origin, current.plan):
        return current
    if copy is None:
        raise Conflict(asked, f"it is there, and sound: its newest plan is {current.plan}", remedy)
    if current.plan > copy.plan:
        raise Conflict(asked, f"it is newer: its newest plan is {current.plan}", remedy)
    return current


def refuse_others(catalog: str, observed: Sequence[Observed]) -> None:
    """Raise ForeignObject if a node follows another catalog than the one that is to be restored."""
    for node in observed:
        if node.catalog not in ("", catalog):
            raise ForeignObject(
                f"restoring catalog {catalog}",
                f"host {node.host} carries the marks of catalog {node.catalog}",
                "Restore a backup of that catalog, or take this host out of the inventory",
            )


def common(observed: Sequence[Observed]) -> str:
    """Return the UUID of the one catalog that all nodes follow. Raise InvalidValue where there is none, or several."""
    found = sorted({node.catalog for node in observed if node.catalog})
    if len(found) != 1:
        raise InvalidValue(
            "beginning the catalog anew",
            f"the nodes follow {' and '.join(found)}" if found else "no node carries the mark of a catalog",
            "Use inventories with one front-end each"
            if found
            else "Run playbook nebula.provision.site: it begins a catalog",
        )
    return found[0]
