# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded engine: the catalog in SQLite, one file per kind of object behind one interface."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from ...context import sources
from ...model.audit import Ledger
from ...model.backup import Copy, Restored
from ...model.plan import Observed
from ..base import Engine, T
from .copies import above, restore, take
from .datastores import Datastores
from .hosts import Hosts
from .images.verbs import Images
from .ledger import Audit
from .networks.verbs import Networks
from .store import ENDED, Store, begun, remove_ended
from .templates import Templates
from .vms.verbs import Vms


class _Unfetched(Exception):
    """Undoes a session that wants files from the net."""


class EmbeddedEngine(Engine):
    capabilities = frozenset(("plans", "stores_images"))

    def __init__(
        self, root: str, check_mode: bool = False, create: bool = False, limits: sources.Limits = sources.USUAL
    ) -> None:
        self.sources = sources.Sources(root, limits, check_mode)
        self.store = Store(root, check_mode=check_mode, create=create)
        self.images: Images = Images(self.store)
        self.datastores: Datastores = Datastores(self.store)
        self.networks: Networks = Networks(self.store)
        self.templates: Templates = Templates(self.store)
        self.hosts: Hosts = Hosts(self.store, self.images)
        self.vms: Vms = Vms(
            self.store, self.images, self.networks, self.hosts, self.sources, now=lambda: int(time.time())
        )
        self.hosts.machines = self.vms

    @classmethod
    def from_params(cls, params: Mapping[str, Any], check_mode: bool, create: bool) -> EmbeddedEngine:
        return cls(params["root"], check_mode, create, _limits(params))

    @classmethod
    def begun(cls, params: Mapping[str, Any]) -> bool:
        return begun(params["root"])

    def end(self, last: Callable[[], None]) -> None:
        self.store.remove(last)

    @classmethod
    def is_left(cls, params: Mapping[str, Any]) -> bool:
        return os.path.exists(os.path.join(params["root"], ENDED))

    @classmethod
    def forget(cls, params: Mapping[str, Any]) -> None:
        remove_ended(params["root"])

    def session(self) -> contextlib.AbstractContextManager[Any]:
        return self.store.transaction()

    def decide(self, work: Callable[[], T]) -> T:
        while True:
            try:
                with self.session():
                    result = work()
                    # Nobody else can decide anything while a slow server keeps this session waiting.
                    if self.sources.lacking:
                        raise _Unfetched
                break
            except _Unfetched:
                self.sources.fetch()
        if not self.store.check_mode:
            self.sources.prune(self.vms.fetched)
        return result

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        self.store.db.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            # Where the disk is full, SQLite has given up the whole transaction itself.
            if self.store.db.in_transaction:
                self.store.db.execute("ROLLBACK TO attempt")
                self.store.db.execute("RELEASE attempt")
            raise
        self.store.db.execute("RELEASE attempt")

    def declare(self, declared: Mapping[str, Any]) -> None:
        for kind, table in (
            ("hosts", self.hosts),
            ("datastores", self.datastores),
            ("images", self.images),
            ("networks", self.networks),
            ("templates", self.templates),
        ):
            for item in declared.get(kind) or ():
                table.declare(item)

    def catalog(self) -> str:
        return self.store.meta("catalog")

    def close(self) -> None:
        self.sources.close()
        self.store.close()

    def ledger(self) -> Ledger:
        return Audit(self.store, self.images, self.networks, self.hosts).ledger()

    def repair(self) -> list[str]:
        return Audit(self.store, self.images, self.networks, self.hosts).repair()

    def copy(self, path: str) -> Copy:
        return take.take(self.store, path)

    @classmethod
    def look_at(cls, path: str) -> Copy:
        return take.look(path)

    @classmethod
    def restore(
        cls, params: Mapping[str, Any], check_mode: bool, path: str, observed: Sequence[Observed], force: bool
    ) -> tuple[Restored, bool, str]:
        root, now = params["root"], int(time.time())
        catalog = take.look(path).catalog if path else restore.common(observed)
        restore.refuse_others(catalog, observed)
        with contextlib.closing(restore.Watch(root, not check_mode)) as watch:
            origin = take.origin_of(path)
            current = restore.replaceable(root, take.look(path) if path else None, origin, catalog, force)
            with restore.candidate(root if os.path.isdir(root) else "", path, catalog) as store:
                restored = above.raise_above(store, observed, current, origin, params["unknown"] == "keep", now)
                changed = current is None or take.differs(store, root)
                aside = (
                    restore.put(store, root, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)), watch)
                    if changed and not check_mode
                    else ""
                )
        return restored, changed, aside


def _limits(params: Mapping[str, Any]) -> sources.Limits:
    """Of the modules, only the one that decides about machines has these options."""
    if params.get("restricted_dirs") is None:
        return sources.USUAL
    return sources.Limits(
        safe=tuple(params["safe_dirs"]),
        restricted=tuple(params["restricted_dirs"]),
        validate_certs=params["validate_certs"],
        stall=float(params["timeout"]),
        min_speed=params["min_speed"] * 1024.0,
    )
