# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins the embedded engine: the catalog in SQLite, with a file for each kind of object. Its verbs are called within a
transaction of the store.

What a call does not ask for is not imported: most modules are about one kind of object, and starting Python with all
of the engine would take longer than what they do."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable

from ..base import Engine, T
from .store import ENDED, Store, begun, remove_ended

if TYPE_CHECKING:
    from ...context.files_on_frontend import Download, Limits, Sources
    from ...model.audit import Ledger
    from .datastores import Datastores
    from .hosts import Hosts
    from .images.image_verbs import Images
    from .ledger import Audit
    from .networks.network_verbs import Networks
    from .templates import Templates
    from .vms.vms_port import Vms

_DECLARED = ("hosts", "datastores", "images", "security_groups", "networks", "routers", "templates")


class _Unfetched(Exception):
    """Undoes a session that wants files from the net."""


class EmbeddedEngine(Engine):
    capabilities = frozenset(("plans", "stores_images"))
    if TYPE_CHECKING:
        images: Images
        datastores: Datastores
        networks: Networks
        templates: Templates
        hosts: Hosts
        vms: Vms

    def __init__(self, root: str, check_mode: bool = False, create: bool = False, limits: Limits | None = None) -> None:
        self._root, self._limits = root, limits
        self._coming: tuple[str, ...] | None = None
        self.store = Store(root, check_mode=check_mode, create=create)

    @cached_property
    def sources(self) -> Sources:
        """Return the reader of the files that contexts name, with the limits of nebula_vm, or the usual ones."""
        from ...context.files_on_frontend import USUAL, Sources

        return Sources(self._root, self._limits or USUAL, self.store.check_mode, self._coming)

    def port(self, kind: str) -> Any:
        if kind == "images":
            from .images.image_verbs import Images

            return Images(self.store)
        if kind == "datastores":
            from .datastores import Datastores

            return Datastores(self.store)
        if kind == "networks":
            from .networks.network_verbs import Networks

            return Networks(self.store)
        if kind == "security_groups":
            from .security_groups import SecurityGroups

            return SecurityGroups(self.store)
        if kind == "routers":
            from .routers import Routers

            return Routers(self.store)
        if kind == "templates":
            from .templates import Templates

            return Templates(self.store)
        if kind == "hosts":
            from .hosts import Hosts

            return Hosts(self.store, lambda: self.vms)
        if kind == "vms":
            from .vms.vms_port import Vms

            return Vms(self.store, self.images, self.networks, self.hosts, self.sources, now=lambda: int(time.time()))
        return super().port(kind)

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

    def decide(self, work: Callable[[], T], download: Download) -> T:
        while True:
            try:
                with self.session():
                    result = work()
                    # Nobody else can decide anything while a slow server keeps this session waiting.
                    if self.sources.lacking:
                        raise _Unfetched
                break
            except _Unfetched:
                self.sources.fetch(download)
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
                self.store.drop()
                self.store.db.execute("ROLLBACK TO attempt")
                self.store.db.execute("RELEASE attempt")
            raise
        self.store.db.execute("RELEASE attempt")

    def declare(self, declared: Mapping[str, Any]) -> None:
        self._coming = tuple(map(str, declared.get("paths") or ()))
        for kind in _DECLARED:
            items = declared.get(kind) or ()
            if kind == "networks" and items:
                self.networks.declare_all(items)
                continue
            for item in items:
                getattr(self, kind).declare(item)

    def catalog(self) -> str:
        return self.store.meta("catalog")

    def close(self) -> None:
        # Where nothing has asked for the files, there are none.
        if "sources" in vars(self):
            self.sources.close()
        self.store.close()

    @property
    def _audit(self) -> Audit:
        from .ledger import Audit

        return Audit(self.store, self.images, self.networks, self.hosts)

    def ledger(self) -> Ledger:
        return self._audit.ledger()

    def repair(self) -> list[str]:
        return self._audit.repair()


def _limits(params: Mapping[str, Any]) -> Limits | None:
    """Return the limits that a module's options give; None for modules that have no such options."""
    if params.get("restricted_dirs") is None:
        return None
    from ...context.files_on_frontend import Limits

    return Limits(
        safe=tuple(params["safe_dirs"]),
        restricted=tuple(params["restricted_dirs"]),
        validate_certs=params["validate_certs"],
        stall=float(params["timeout"]),
        min_speed=params["min_speed"] * 1024.0,
    )
