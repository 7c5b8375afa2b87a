# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of the catalog: taken while others use it, looked at, and made the catalog again, above all that the nodes
have seen since."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable

from ...errors import CatalogError, Conflict, ForeignObject, InvalidValue, NebulaError
from ...host.files import explained, lock, remove_file, sync_directory
from ...model import orders
from ...model.backup import Copy, Restored, Stranger
from ...model.image import Image
from ...model.plain import from_plain, to_plain
from ...model.plan import Observed
from ...model.states import ImageState, LcmState, VmState
from ...model.vm import Vm
from ...network import addresses
from . import store as stores
from .images.rows import image_of
from .networks.verbs import Networks
from .schema import VERSION
from .store import CATALOG, PARTS, Store, compact
from .vms.devices import next_disk
from .vms.rows import orders_of

# Between what the nodes know and what is decided next.
PLANS_APART = 1000
IDS_APART = 100
# Beside the catalog while it is put together, and where there is none that it can replace from within.
CANDIDATE = ".nebula.db.restoring"
REPLACEMENT = ".nebula.db.restored"
_REMEDY = "Take another backup; this file was left as it is"


def take(store: Store, path: str) -> Copy:
    """Write a copy to the new file `path`: one moment of the catalog, whoever works on it meanwhile."""
    with stores.in_our_words(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as target:
        _copy(store.db, target, store.path)
        # One file: nothing may have to be found beside it.
        target.execute("PRAGMA journal_mode = DELETE")
    copy = look(path)
    with explained(path), Path(path).open("rb+") as file:
        os.fsync(file.fileno())
    return copy


def look(path: str) -> Copy:
    """CatalogError if the file is not a sound copy, or newer than this collection."""
    asked = f"catalog {path}"
    try:
        with _reading(path) as db:
            schema = int(db.execute("PRAGMA user_version").fetchone()[0])
            if schema > VERSION:
                raise CatalogError(
                    asked,
                    f"its schema is version {schema}, this collection knows up to {VERSION}",
                    "Use the newer nebula.provision that wrote it",
                )
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
            return Copy(str(meta["catalog"]), int(meta["plan"]), schema, len(known), images, next_ids, known, restored)
    except (sqlite3.Error, KeyError, ValueError) as error:
        raise CatalogError(asked, f"it is damaged, or no catalog: {error}", _REMEDY) from error


def _images(db: sqlite3.Connection, schema: int) -> tuple[Image, ...]:
    """The images of a copy. One of an older schema is left as it is: they are read from a migrated copy in memory."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as newest:
        if schema < VERSION:
            db.backup(newest)
            newest.execute("BEGIN")
            stores.migrate(newest)
            newest.execute("COMMIT")
            db = newest
        db.row_factory = sqlite3.Row
        return tuple(image_of(row) for row in db.execute("SELECT images.*, 0 AS vms FROM images ORDER BY id"))


def _reading(path: str) -> contextlib.closing[sqlite3.Connection]:
    # A copy by other means may have its write-ahead log beside it. Without one nothing is to be made beside a copy.
    alone = "" if os.path.exists(f"{path}-wal") else "&immutable=1"
    place = f"{Path(os.path.abspath(path)).as_uri()}?mode=ro{alone}"
    return contextlib.closing(sqlite3.connect(place, uri=True))


def present(root: str) -> Copy | None:
    """The catalog that is in place; None if there is none, or only one in which nothing was ever made."""
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


@contextlib.contextmanager
def candidate(root: str, path: str, catalog: str) -> Iterator[Store]:
    """The copy at `path`, or without one an empty catalog of that UUID, in this version's schema; gone at the end.
    root: where it lies meanwhile."""
    with contextlib.ExitStack() as stack:
        # In check mode there may be no such directory yet.
        root = root or stack.enter_context(tempfile.TemporaryDirectory())
        place = os.path.join(root, CANDIDATE)
        held = f"{place}.lock"
        stack.enter_context(lock(held, stores.BUSY_SECONDS))
        stack.callback(remove_file, held)
        _remove(place)
        stack.callback(_remove, place)
        if path:
            with stores.in_our_words(place), _reading(path) as source:
                os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                with contextlib.closing(sqlite3.connect(place)) as target:
                    _copy(source, target, place)
        with contextlib.closing(Store(root, create=True, name=CANDIDATE)) as store:
            if not path:
                with store.transaction() as db:
                    db.execute("UPDATE meta SET value = ? WHERE key = 'catalog'", (catalog,))
            yield store


def raise_above(
    store: Store, observed: Sequence[Observed], current: Copy | None, origin: str, keep: bool, now: int
) -> Restored:
    """Bring the candidate above all that the nodes have seen, so that they follow it again and no id is used twice.
    current: what it replaces. origin: of what it is made. keep: machines that it does not know are not ended."""
    catalog, plan = store.meta("catalog"), int(store.meta("plan"))
    hosts = tuple(node.host for node in observed if node.catalog == catalog)
    replaced = current if current is not None and current.catalog == catalog else None
    seen = max([node.plan_number for node in observed if node.catalog == catalog], default=0)
    seen = max(seen, replaced.plan if replaced is not None else 0)
    ahead = seen > plan
    # A run that was under way when the catalog was lost may have taken numbers that no node has seen.
    lost = replaced is None and bool(hosts)
    with store.transaction() as db:
        strangers, raised, missing, own = _compare(store, observed, ahead, now)
        if replaced is not None:
            strangers = [replace(each, known=each.uuid in replaced.known) for each in strangers]
        known = dict(replaced.next_ids) if replaced is not None else {}
        known["vms"] = max([known.get("vms", 0), *(each.vm_id + 1 for each in strangers)])
        above = ahead or bool(strangers) or lost
        for name, following in known.items():
            # Of what there never was any, a catalog has no number, and the same one is to be the same.
            if following or above:
                db.execute("INSERT OR IGNORE INTO sequences VALUES (?, 0)", (name,))
                db.execute("UPDATE sequences SET next = max(next, ?) WHERE name = ?", (following, name))
        if above:
            plan = max(plan, seen) + PLANS_APART
            db.execute("UPDATE meta SET value = ? WHERE key = 'plan'", (str(plan),))
            db.execute("UPDATE sequences SET next = next + ?", (IDS_APART,))
            _leave_out_disks(store)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('restored', ?)", (_made_of(origin, plan),))
        held = list(_hold(store, strangers))
        rested = list(_hold_images(store, [each for each in strangers if keep or each.known], own))
        row = store.row("SELECT next FROM sequences WHERE name = 'vms'")
    return Restored(
        catalog,
        plan,
        row["next"] if row else 0,
        ahead,
        tuple(raised),
        tuple(missing),
        tuple(strangers),
        tuple(held),
        tuple(rested),
        hosts,
    )


def _leave_out_disks(store: Store) -> None:
    """Raise each machine's next disk id above those of disks that may have come after the copy was made: their files
    are on the hosts yet."""
    for row in store.rows("SELECT id, body FROM vms WHERE state != 6 AND body != ''"):
        vm = from_plain(Vm, json.loads(row["body"]))
        body = compact(to_plain(replace(vm, next_disk=next_disk(store, vm) + IDS_APART)))
        store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (body, row["id"]))


def _compare(
    store: Store, observed: Sequence[Observed], ahead: bool, now: int
) -> tuple[list[Stranger], list[str], list[str], list[Stranger]]:
    """What it does not know, machines that were raised, those that are missing; and its own, as hosts have them."""
    catalog = store.meta("catalog")
    rows = store.rows(
        "SELECT vms.*, hosts.name AS host FROM vms LEFT JOIN hosts ON hosts.id = vms.host_id"
        " WHERE vms.state != 6 ORDER BY vms.id"
    )
    known = {(row["host"], row["id"], row["uuid"]): row for row in rows}
    strangers: list[Stranger] = []
    own: list[Stranger] = []
    raised, missing = [], []
    found: dict[tuple[str, int, str], tuple[str, int]] = {}
    for node in observed:
        for each in _machines_on(node, catalog):
            key = (each.host, each.vm_id, each.uuid)
            found[key] = (each.state, each.generation)
            (own if key in known else strangers).append(each)
    reached = {node.host for node in observed if node.reached}
    for key, row in known.items():
        name = f"VM {row['name']} (id {row['id']}) on host {row['host']}"
        if key in found:
            state, generation = found[key]
            if generation > row["generation"]:
                # What the copy says of it is made true again, and nothing is started or ended by that.
                wanted = state if state in ("RUNNING", "POWEROFF", "SUSPENDED") else row["wanted"]
                _adjust(store, row, generation + 1, wanted, 0, row["state"], row["lcm_state"], "", now)
                raised.append(name)
        elif row["host"] in reached and row["wanted"] != "DONE" and (ahead or row["settled"]):
            missing.append(name)
            if ahead:
                # It may have been ended since: it is not made again before somebody says so.
                error = (
                    f"host {row['host']} did not have it when this catalog was restored; state: running makes it anew"
                )
                _adjust(
                    store, row, row["generation"] + 1, row["wanted"], 1, VmState.ACTIVE, LcmState.UNKNOWN, error, now
                )
    return strangers, raised, missing, own


def _adjust(
    store: Store,
    row: sqlite3.Row,
    generation: int,
    wanted: str,
    settled: int,
    state: int,
    lcm_state: int,
    error: str,
    now: int,
) -> None:
    left = orders.write(orders.after_restore(orders_of(row)))
    store.db.execute(
        "UPDATE vms SET generation = ?, wanted = ?, settled = ?, state = ?, lcm_state = ?, error = ?, orders = ?,"
        " seq = seq + 1 WHERE id = ?",
        (generation, wanted, settled, state, lcm_state, error, left, row["id"]),
    )
    store.db.execute(
        "INSERT INTO history (vm_id, step, time, host, state, action, reason)"
        " SELECT ?1, coalesce(max(step), -1) + 1, ?2, ?3, ?4, 'restore', ?5 FROM history WHERE vm_id = ?1",
        (row["id"], now, row["host"], "UNKNOWN" if error else wanted, error),
    )


def _machines_on(node: Observed, catalog: str) -> Iterator[Stranger]:
    """All that carries the catalog's mark: domains, and directories without one."""
    inventory = node.inventory
    if inventory is None:
        return
    states = {vm.vm_id: vm for vm in node.vms}
    ours = [each for each in inventory.directories if each.catalog == catalog]
    acted = {each.vm_id: each.generation for each in ours}
    files = {
        each.vm_id: frozenset(os.path.basename(file.backing or file.target or file.name) for file in each.files)
        for each in ours
    }
    there = set()
    for domain in inventory.domains:
        if domain.catalog != catalog:
            continue
        there.add(domain.vm_id)
        polled = states.get(domain.vm_id)
        yield Stranger(
            node.host,
            domain.vm_id,
            domain.uuid,
            domain.name,
            polled.state if polled is not None else domain.state,
            node.hypervisor,
            max(domain.generation, acted.get(domain.vm_id, 0)),
            tuple(domain.macs),
            domain.forget,
            frozenset(map(os.path.basename, domain.disks)) | files.get(domain.vm_id, frozenset()),
        )
    for directory in inventory.directories:
        if directory.catalog == catalog and directory.vm_id not in there:
            path, uuid, generation = directory.path, directory.uuid, directory.generation
            yield Stranger(
                node.host,
                directory.vm_id,
                uuid,
                path,
                "no domain",
                node.hypervisor,
                generation,
                files=files[directory.vm_id],
            )


def _hold(store: Store, strangers: Sequence[Stranger]) -> Iterator[str]:
    """Their addresses are given to nobody while they have them: a lease of no machine, under the stranger's id."""
    store.db.execute("DELETE FROM leases WHERE vm_id IS NULL AND nic_id NOT IN (SELECT vm_id FROM given_up)")
    for network in Networks(store).pool():
        for address_range in network.address_ranges:
            calculator = addresses.Calculator(address_range)
            for stranger in strangers:
                for mac in stranger.macs:
                    offset = calculator.offset_of(None, addresses.mac_number(mac, stranger.name))
                    if offset is None:
                        continue
                    place = (network.id, address_range.ar_id, offset)
                    done = store.db.execute(
                        "INSERT OR IGNORE INTO leases (network_id, ar_id, offset, vm_id, nic_id)"
                        " VALUES (?, ?, ?, NULL, ?)",
                        (*place, stranger.vm_id),
                    )
                    if done.rowcount == 1:
                        lease = calculator.lease(network.id, offset, None, None)
                        yield f"{lease.ip or lease.ip6 or lease.mac} of network {network.name}"
    store.db.execute(
        "UPDATE address_ranges SET first_free = 0, used = (SELECT count(*) FROM leases l WHERE"
        " l.network_id = address_ranges.network_id AND l.ar_id = address_ranges.ar_id)"
    )


def _hold_images(store: Store, strangers: Sequence[Stranger], own: Sequence[Stranger]) -> Iterator[str]:
    """What a stranger writes to is given to no machine; of what its disks rest on, only the user can take care. own:
    machines that the catalog knows, which may have come by another disk since."""
    for row in store.rows("SELECT id, name, source, state, persistent FROM images WHERE source != '' ORDER BY id"):
        # Of an image that the catalog has in use, it knows the machine.
        free = row["persistent"] and row["state"] in (ImageState.READY, ImageState.DISABLED)
        users = [
            f"{each.name} on host {each.host}"
            for each in (*strangers, *(own if free else ()))
            if os.path.basename(row["source"]) in each.files
        ]
        if not users:
            continue
        what = f"image {row['name']} (id {row['id']})"
        if not row["persistent"]:
            disks = f"disks of {', '.join(users)} rest on it"
            yield f"{what}: {disks}, which this catalog does not know: keep it while they are there"
        elif free:
            store.db.execute("UPDATE images SET state = ? WHERE id = ?", (int(ImageState.DISABLED), row["id"]))
            yield (
                f"{what}: {', '.join(users)} writes to it, which this catalog does not know. It is DISABLED: once that "
                "machine has ended, nebula_image with state: enabled"
            )


def origin_of(path: str) -> str:
    """What tells a copy from all others; "" for a catalog that is begun without one."""
    if not path:
        return ""
    with stores.in_our_words(path), _reading(path) as db:
        return digest(db)


def _made_of(origin: str, plan: int) -> str:
    return f"{origin} {plan}"


class Watch:
    """The catalog in place, from before it is looked at until it gives way: nobody may decide anything in between.
    act: it is going to give way."""

    def __init__(self, root: str, act: bool) -> None:
        self.path = os.path.join(root, CATALOG)
        self._file = self._identity()
        self._db: sqlite3.Connection | None = None
        self._version = -1
        if self._file is not None:
            self._db = sqlite3.connect(self.path, timeout=stores.BUSY_SECONDS)
            # A damaged one has none: nobody can decide anything in it.
            with contextlib.suppress(sqlite3.DatabaseError):
                if act:
                    # A copy that somebody put there may have none, and then no version can be read while it is locked.
                    self._db.execute("PRAGMA journal_mode = WAL")
                self._version = self._data_version()

    def check(self) -> None:
        """Conflict if another run has changed it. Called when none can any more."""
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
        # Of a connection that changes nothing itself: another number once any other one has.
        return int(self._db.execute("PRAGMA data_version").fetchone()[0]) if self._db is not None else -1


def put(store: Store, root: str, stamp: str, watch: Watch) -> str:
    """Make the candidate the catalog. What was in its place is kept beside it; the path, "" if there was nothing."""
    path = os.path.join(root, CATALOG)
    aside = f"{path}.before-{stamp}"
    sound = os.path.exists(path) and os.path.getsize(path) > 0
    if sound:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=stores.BUSY_SECONDS)) as old:
                os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                with contextlib.closing(sqlite3.connect(aside)) as kept:
                    _copy(old, kept, path)
                    kept.execute("PRAGMA journal_mode = DELETE")
                # In one transaction of the file that others have open: they see the old catalog, or the new one.
                _copy(store.db, old, path, held=watch.check)
        except NebulaError:
            _remove(aside)
            raise
        except sqlite3.Error as error:
            sound = not any(sign in str(error) for sign in stores.DAMAGED)
            # What there is of it now is less than the file itself.
            _remove(aside)
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
    _remove(new)
    try:
        # All of it, before what is there goes.
        with stores.in_our_words(new), contextlib.closing(sqlite3.connect(new)) as target:
            os.chmod(new, 0o600)
            _copy(store.db, target, new)
            target.execute("PRAGMA journal_mode = DELETE")
        watch.check()
        # By its path SQLite would take away the new one's log.
        watch.close()
        for part in PARTS:
            with contextlib.suppress(FileNotFoundError):
                os.rename(os.path.join(root, part), aside + part[len(CATALOG) :])
        os.rename(new, os.path.join(root, CATALOG))
    finally:
        _remove(new)


def replaceable(root: str, copy: Copy | None, origin: str, catalog: str, force: bool) -> Copy | None:
    """The catalog in place, if it may give way: not one that knows more, nor another one, unless forced. One that was
    made of the same copy, and in which nothing was decided since, is what a restore left that did not come to its
    end."""
    asked = f"restoring {f'plan {copy.plan} of ' if copy else ''}catalog {catalog} over {os.path.join(root, CATALOG)}"
    remedy = "Nothing was changed. nebula_restore_force: true replaces it all the same, and keeps it beside the new one"
    try:
        current = present(root)
    except CatalogError:
        # It can't be used as it is. It is kept.
        return None
    if current is None or force:
        return current
    if current.catalog != catalog:
        raise ForeignObject(asked, f"catalog {current.catalog} is there, with {current.machines} machines", remedy)
    if current.restored == _made_of(origin, current.plan):
        return current
    if copy is None:
        raise Conflict(asked, f"it is there, and sound: its newest plan is {current.plan}", remedy)
    if current.plan > copy.plan:
        raise Conflict(asked, f"it is newer: its newest plan is {current.plan}", remedy)
    return current


def differs(store: Store, root: str) -> bool:
    with contextlib.closing(sqlite3.connect(os.path.join(root, CATALOG), timeout=stores.BUSY_SECONDS)) as db:
        return digest(db) != digest(store.db)


def digest(db: sqlite3.Connection) -> str:
    """The SHA-256 of all that the catalog holds, however its file lies on the disk."""
    digested = hashlib.sha256()
    for line in db.iterdump():
        digested.update(line.encode())
    return digested.hexdigest()


def refuse_others(catalog: str, observed: Sequence[Observed]) -> None:
    """ForeignObject if a node follows another catalog than the one that is to be restored."""
    for node in observed:
        if node.catalog not in ("", catalog):
            raise ForeignObject(
                f"restoring catalog {catalog}",
                f"host {node.host} carries the marks of catalog {node.catalog}",
                "Restore a backup of that catalog, or take this host out of the inventory",
            )


def common(observed: Sequence[Observed]) -> str:
    """The one catalog that the nodes follow."""
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


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, path: str, held: Callable[[], None] | None = None
) -> None:
    """Copy the catalog `source` over `target`, whose path is for messages. held: called once the target is locked
    against all others, before anything of it is replaced for them."""
    limit = time.monotonic() + stores.BUSY_SECONDS
    asked = held is None

    def progress(status: int, _left: int, _total: int) -> None:
        nonlocal asked
        # Its first page locks the target until all is copied.
        if not asked and held is not None and status == sqlite3.SQLITE_OK:
            asked = True
            held()
        # SQLite's module waits for ever for one that is held.
        if time.monotonic() > limit:
            raise CatalogError(
                f"catalog {path}",
                f"another run has held it for over {stores.BUSY_SECONDS:g} s",
                "Wait for the other run to end, then run again",
            )

    source.backup(target, pages=-1 if held is None else 1, progress=progress)


def _remove(place: str) -> None:
    for part in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place + part)
