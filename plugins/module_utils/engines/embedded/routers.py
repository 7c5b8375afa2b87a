# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about routers, and leases their addresses."""

from __future__ import annotations

import json
import sqlite3
import uuid as uuids
from collections.abc import Mapping
from typing import Any

from ...dataclass import replace
from ...errors import Conflict, InUse
from ...model.dataclass_json import from_plain, to_plain
from ...model.object_ids import id_of
from ...model.router import Router
from ..ports import Ref, RoutersPort
from .networks.network_rows import router_holder
from .networks.router_leases import Reserved
from .references import check_new_name, resolve
from .store import Store, compact

_SHOWN = 5


class Routers(RoutersPort):
    def __init__(self, store: Store) -> None:
        self.store = store
        self.reserved = Reserved(store)

    def pool(self) -> list[Router]:
        return [_router(row) for row in self.store.rows("SELECT * FROM routers ORDER BY id")]

    def info(self, ref: Ref) -> Router:
        return _router(resolve(self.store, "routers", ref))

    def allocate(self, router: Router) -> Router:
        check_new_name(self.store, "routers", router.name)
        new = replace(router, id=self.store.take_ids("routers"), uuid=str(uuids.uuid4()))
        self.store.db.execute(
            "INSERT INTO routers (id, name, uuid, description, body) VALUES (?, ?, ?, ?, ?)",
            (new.id, new.name, new.uuid, new.description, "{}"),
        )
        return self._keep(new)

    def update(self, ref: Ref, **changes: Any) -> Router:
        router = self.info(ref)
        new = replace(router, **changes)
        if new.name != router.name:
            check_new_name(self.store, "routers", new.name)
        return router if new == router else self._keep(new)

    def delete(self, ref: Ref) -> Router:
        router = self.info(ref)
        if router.floating:
            shown = [each.ip + (f" of {each.vm}" if each.vm else "") for each in router.floating]
            more = " …" if len(shown) > _SHOWN else ""
            raise InUse(
                f"router {router.name}: delete",
                f"it has the floating addresses {', '.join(shown[:_SHOWN])}{more}",
                "Take these away first (floating: [])",
            )
        self.reserved.release(router_holder(id_of(router)))
        self.store.db.execute("DELETE FROM routers WHERE id = ?", (router.id,))
        return router

    def declare(self, item: Mapping[str, Any]) -> None:
        """Give a router, in check mode, what an earlier task of this run would have given it, or remove it."""
        row = self.store.row("SELECT id FROM routers WHERE name = ?", item["name"])
        if item.get("state") == "absent":
            if row is not None:
                self.reserved.release(router_holder(row["id"]))
            return
        number = row["id"] if row is not None else id_of(self.allocate(Router(None, item["name"])))
        places = [(resolve(self.store, "networks", each["network"])["id"], each["ip"]) for each in item["addresses"]]
        self.reserved.have(router_holder(number), places, f"router {item['name']}")

    def _keep(self, router: Router) -> Router:
        """Write the router, after its addresses were leased: those of ranges by name, new ones where it says none."""
        others = {place: other.name for other in self.pool() if other.id != router.id for place in other.addresses()}
        own: set[tuple[int, str]] = set()
        for network_id, ip in router.addresses():
            if not ip:
                continue
            other = others.get((network_id, ip), router.name if (network_id, ip) in own else "")
            own.add((network_id, ip))
            if other:
                network = self.store.row("SELECT name FROM networks WHERE id = ?", network_id)
                raise Conflict(
                    f"router {router.name}: {ip} in network {network['name'] if network else network_id}",
                    "it would have that address there twice"
                    if other == router.name
                    else f"router {other} has that address there",
                    "Give it another ip",
                )
        taken = self.reserved.have(router_holder(id_of(router)), router.addresses(), f"router {router.name}")
        router = _with(router, taken)
        body = to_plain(replace(router, id=None, name="", uuid="", description=""))
        self.store.db.execute(
            "UPDATE routers SET name = ?, description = ?, body = ? WHERE id = ?",
            (router.name, router.description, compact(body), router.id),
        )
        return router


def _with(router: Router, addresses: list[str]) -> Router:
    """Return the router with the addresses that it has, in the order of Router.addresses()."""
    left = iter(addresses)
    interfaces = tuple(replace(each, ip=next(left)) for each in router.interfaces)
    gateway = router.gateway
    floating = router.floating
    if gateway is not None:
        gateway = replace(gateway, ip=next(left))
        floating = tuple(replace(each, ip=next(left)) for each in floating)
    return replace(router, interfaces=interfaces, gateway=gateway, floating=floating)


def _router(row: sqlite3.Row) -> Router:
    body = from_plain(Router, {**json.loads(row["body"]), "id": row["id"], "name": row["name"]})
    return replace(body, uuid=row["uuid"], description=row["description"])
