# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins the embedded engine: the catalog in SQLite, with a file for each kind of object. Its verbs are called within a
transaction of the store.

What a call does not ask for is neither shipped nor imported. Ansible ships what an import statement names, so the files
of ports are imported by name here, and a module says in its file of calls/ which of them it uses (engines/shipped/)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable

from ...imported_by_name import file_named
from ..base import Engine, T
from .store import ENDED, Store, begun, remove_ended

if TYPE_CHECKING:
    from ...model.audit import Ledger

_DECLARED = ("hosts", "datastores", "images", "security_groups", "networks", "routers", "templates")
# The file of each port below this package, and its class there.
_PORTS = {
    "images": ("images.image_verbs", "Images"),
    "datastores": ("datastores", "Datastores"),
    "networks": ("networks.network_verbs", "Networks"),
    "security_groups": ("security_groups", "SecurityGroups"),
    "routers": ("routers", "Routers"),
    "templates": ("templates", "Templates"),
    "hosts": ("hosts", "Hosts"),
    "vms": ("vms.vms_port", "Vms"),
}


class _Unfetched(Exception):
    """Undoes a session that wants files from the net."""


class EmbeddedEngine(Engine):
    capabilities = frozenset(("plans", "stores_images"))
    # They have verbs of their own beside those of all engines.
    networks: Any
    vms: Any

    def __init__(
        self, root: str, check_mode: bool = False, create: bool = False, options: Mapping[str, Any] | None = None
    ) -> None:
        self._root, self._options = root, options or {}
        self._coming: tuple[str, ...] | None = None
        self.store = Store(root, check_mode=check_mode, create=create)

    @cached_property
    def sources(self) -> Any:
        """Return the reader of the files that contexts name, with the limits of nebula_vm, or the usual ones."""
        files = file_named("context.files_on_frontend")
        limits = files.limits_of(self._options)
        return files.Sources(self._root, limits, self.store.check_mode, self._coming)

    def port(self, kind: str) -> Any:
        if kind not in _PORTS:
            return super().port(kind)
        file, name = _PORTS[kind]
        made = getattr(file_named(f"engines.embedded.{file}"), name)
        if kind == "hosts":
            return made(self.store, lambda: self.vms)
        if kind == "vms":
            return made(self.store, self.images, self.networks, self.hosts, self.sources, now=lambda: int(time.time()))
        return made(self.store)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], check_mode: bool, create: bool) -> EmbeddedEngine:
        return cls(params["root"], check_mode, create, params)

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

    def decide(self, work: Callable[[], T], download: Callable[[str, Any], bytes]) -> T:
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
    def _audit(self) -> Any:
        return file_named("engines.embedded.ledger").Audit(self.store, self.images, self.networks, self.hosts)

    def ledger(self) -> Ledger:
        ledger: Ledger = self._audit.ledger()
        return ledger

    def repair(self) -> list[str]:
        repaired: list[str] = self._audit.repair()
        return repaired
