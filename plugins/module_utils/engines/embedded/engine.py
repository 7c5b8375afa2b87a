# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded engine: the catalog in SQLite, one file per kind of object behind one interface."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable

from ...context import sources
from ...errors import CatalogError, ForeignObject, InUse
from ...model.audit import Ledger
from ...model.backup import Copy, Restored
from ...model.datastore import Datastore
from ...model.devices import Has
from ...model.host import Host
from ...model.image import Image
from ...model.lease import HeldLease
from ...model.network import AddressRange, Network, Spread
from ...model.owner import Owner
from ...model.plan import GivenUp, Observed, Plan, VmOutcome
from ...model.template import StoredTemplate, Template
from ..base import Engine, Ref, T, VmOrders, VmRecord, VmRequest
from . import copies
from .datastores import Datastores
from .hosts import Hosts
from .images import Images
from .ledger import Audit
from .networks import Networks
from .store import ENDED, Store, begun, remove_ended
from .templates import Templates
from .vms import Vms


class _Unfetched(Exception):
    """Undoes a session that wants files from the net."""


class EmbeddedEngine(Engine):
    capabilities = frozenset(("plans", "stores_images"))

    def __init__(
        self, root: str, check_mode: bool = False, create: bool = False, limits: sources.Limits = sources.USUAL
    ) -> None:
        self.sources = sources.Sources(root, limits, check_mode)
        self.store = Store(root, check_mode=check_mode, create=create)
        self.images = Images(self.store)
        self.datastores = Datastores(self.store)
        self.networks = Networks(self.store)
        self.templates = Templates(self.store)
        self.hosts = Hosts(self.store)
        self.vms = Vms(self.store, self.images, self.networks, self.hosts, self.sources, now=lambda: int(time.time()))

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
        return copies.take(self.store, path)

    @classmethod
    def look_at(cls, path: str) -> Copy:
        return copies.look(path)

    @classmethod
    def restore(
        cls, params: Mapping[str, Any], check_mode: bool, path: str, observed: Sequence[Observed], force: bool
    ) -> tuple[Restored, bool, str]:
        root, now = params["root"], int(time.time())
        catalog = copies.look(path).catalog if path else copies.common(observed)
        copies.refuse_others(catalog, observed)
        with contextlib.closing(copies.Watch(root, not check_mode)) as watch:
            origin = copies.origin_of(path)
            current = copies.replaceable(root, copies.look(path) if path else None, origin, catalog, force)
            with copies.candidate(root if os.path.isdir(root) else "", path, catalog) as store:
                restored = copies.raise_above(store, observed, current, origin, params["unknown"] == "keep", now)
                changed = current is None or copies.differs(store, root)
                aside = (
                    copies.put(store, root, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)), watch)
                    if changed and not check_mode
                    else ""
                )
        return restored, changed, aside

    def image_pool(self) -> list[Image]:
        return self.images.pool()

    def image_info(self, ref: Ref) -> Image:
        return self.images.info(ref)

    def image_allocate(self, image: Image) -> Image:
        return self.images.allocate(image)

    def image_update(self, ref: Ref, **changes: Any) -> Image:
        return self.images.update(ref, **changes)

    def image_clone(self, ref: Ref, image: Image) -> Image:
        return self.images.clone(ref, image)

    def image_delete(self, ref: Ref) -> Image:
        return self.images.delete(ref)

    def image_returned(self, ref: Ref, error: str = "") -> Image:
        return self.images.returned(ref, error)

    def datastore_pool(self) -> list[Datastore]:
        return self.datastores.pool()

    def datastore_info(self, ref: Ref) -> Datastore:
        return self.datastores.info(ref)

    def datastore_allocate(self, datastore: Datastore) -> Datastore:
        return self.datastores.allocate(datastore)

    def datastore_update(self, ref: Ref, **changes: Any) -> Datastore:
        return self.datastores.update(ref, **changes)

    def datastore_delete(self, ref: Ref) -> Datastore:
        return self.datastores.delete(ref)

    def vn_pool(self) -> list[Network]:
        return self.networks.pool()

    def vn_info(self, ref: Ref) -> Network:
        return self.networks.info(ref)

    def vn_allocate(self, network: Network) -> Network:
        return self.networks.allocate(network)

    def vn_update(self, ref: Ref, **changes: Any) -> Network:
        return self.networks.update(ref, **changes)

    def vn_add_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        return self.networks.add_ar(ref, address_range)

    def vn_update_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        return self.networks.update_ar(ref, address_range)

    def vn_rm_ar(self, ref: Ref, ar_id: int) -> Network:
        return self.networks.rm_ar(ref, ar_id)

    def vn_delete(self, ref: Ref) -> Network:
        return self.networks.delete(ref)

    def vn_spread(self) -> list[Spread]:
        return [spread for spread in self.networks.spread().values() if len(spread.hosts) > 1]

    def vn_held(self) -> list[HeldLease]:
        return self.networks.held()

    def template_pool(self) -> list[StoredTemplate]:
        return self.templates.pool()

    def template_info(self, ref: Ref) -> StoredTemplate:
        return self.templates.info(ref)

    def template_allocate(self, name: str, template: Template) -> StoredTemplate:
        return self.templates.allocate(name, template)

    def template_update(self, ref: Ref, template: Template) -> StoredTemplate:
        return self.templates.update(ref, template)

    def template_delete(self, ref: Ref) -> StoredTemplate:
        return self.templates.delete(ref)

    def host_pool(self) -> list[Host]:
        return self.hosts.pool()

    def host_info(self, ref: Ref) -> Host:
        return self.hosts.info(ref)

    def host_allocate(self, host: Host) -> Host:
        return self.hosts.allocate(host)

    def host_update(self, ref: Ref, **changes: Any) -> Host:
        return self.hosts.update(ref, **changes)

    def host_forget(self, ref: Ref, gone: bool = False) -> Host:
        self.vms.forget(self.hosts.info(ref), gone)
        return self.hosts.delete(ref)

    def host_gone(self, name: str) -> list[str]:
        return self.vms.given_up.gone(name)

    def host_delete(self, ref: Ref) -> Host:
        host = self.hosts.info(ref)
        coming = self.images.coming_from(host.name)
        if coming:
            raise InUse(
                f"host {host.name}: delete",
                f"what machines wrote to {', '.join(coming[:5])}{' …' * (len(coming) > 5)} is still there",
                "Run playbook nebula.provision.site, which fetches it; if the host is gone for good: "
                "nebula.provision.forget_host",
            )
        return self.hosts.delete(ref)

    def host_check(self, observed: Sequence[Observed]) -> None:
        if self.store.declared:
            return  # check mode on a bare front-end: there is no catalog yet that could be older
        for node in observed:
            if node.catalog and node.catalog != self.catalog():
                raise ForeignObject(
                    f"host {node.host}",
                    f"it carries the marks of catalog {node.catalog}, and this is catalog {self.catalog()}",
                    "Restore that catalog's nebula.db on the front-end, or take its machines off this host first",
                )
            if node.plan_number > int(self.store.meta("plan")):
                raise CatalogError(
                    f"catalog {self.store.path}",
                    f"its newest plan is {self.store.meta('plan')}, and host {node.host} has followed plan "
                    f"{node.plan_number} of it: this is an older copy",
                    "Restore the newest copy of nebula.db; what was decided after this one was made is not in it",
                )

    def vm_pool(
        self,
        names: Iterable[str] | None = None,
        patterns: Iterable[str] | None = None,
        ids: Iterable[int] | None = None,
        done: bool = False,
    ) -> list[VmRecord]:
        return self.vms.pool(names, patterns, ids, done)

    def vm_instantiate(self, requests: Sequence[VmRequest], hosts: Sequence[str] | None = None) -> list[VmRecord]:
        return self.vms.instantiate(requests, hosts)

    def vm_action(self, vm_id: int, wanted: str, orders: VmOrders) -> VmRecord:
        return self.vms.action(vm_id, wanted, orders)

    def vm_devices(self, vm_id: int) -> Mapping[str, Sequence[Has]]:
        return self.vms.devices(vm_id)

    def vm_update(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        return self.vms.update(vm_id, template, owner)

    def vm_rename(self, vm_id: int, name: str) -> VmRecord:
        return self.vms.rename(vm_id, name)

    def vm_adopt(
        self, vm_id: int, request: VmRequest, hosts: Sequence[str] | None = None, foreseen: bool = False
    ) -> VmRecord:
        return self.vms.adopt(vm_id, request, hosts, foreseen)

    def vm_recreate(self, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
        return self.vms.recreate(vm_id, template, owner)

    def vm_disk_save_as(self, vm_id: int, disk_id: int, image: Image, consistency: str) -> VmRecord:
        return self.vms.disk_save_as(vm_id, disk_id, image, consistency)

    def vm_disk_snapshot(self, vm_id: int, disk_id: int, name: str, wanted: str) -> VmRecord:
        return self.vms.disk_snapshot(vm_id, disk_id, name, wanted)

    def vm_history(self, vm_id: int) -> list[Mapping[str, Any]]:
        return self.vms.history(vm_id)

    def vm_observe(self, observed: Sequence[Observed]) -> list[VmRecord]:
        return self.vms.observe(observed)

    def vm_given_up(self) -> list[GivenUp]:
        return list(self.vms.given_up.seen)

    def vm_plans(self, hosts: Sequence[str] | None = None, end_given_up: bool = False) -> dict[str, Plan]:
        return self.vms.plans(hosts, end_given_up)

    def vm_record(self, host: str, outcomes: Sequence[VmOutcome] | None, done_number: int = 0) -> list[VmRecord]:
        return self.vms.record(host, outcomes, done_number)


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
