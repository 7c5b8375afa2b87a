# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to a list of networks, and to the security groups and routers that come with it.

Groups may name networks, and networks groups; routers and groups keep networks that are to go, and networks groups
that are to go. So all are decided in one transaction, and this file has their order."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, Callable

from ..arguments import items_of
from ..dataclass import dataclass, replace
from ..engines.base import Engine, named
from ..engines.registry import open_engine
from ..errors import InvalidValue
from ..model import ovn_mtu
from ..model.item_reader import read_item
from ..model.network import Network, to_item
from ..model.network_drivers import BRIDGE
from ..model.nic_filter_rules import pack
from ..model.specifications.network import KEYS
from ..model.specifications.router import KEYS as ROUTER_KEYS
from ..model.specifications.security_group import KEYS as GROUP_KEYS
from ..object_lists import doubts_of_names, show_as_foreseen
from ..runner import closing
from ..sync import Item, Result
from . import routers, security_groups
from .logical_networks import UNKNOWN
from .networks import Work, apply_all, undo_all

# What is read of a network that is to go.
REMOVAL = {"absent": ("name", "template", "state")}


def reconcile(
    params: Mapping[str, Any], given: Sequence[Mapping[str, Any]], refused: Sequence[Item], check_mode: bool
) -> Result:
    """Bring the catalog to the lists, and return what was done.
    given: the items of the list of networks. Those of a list are not checked yet.
    refused: items that are none."""
    items: list[Mapping[str, Any]] = []
    wrong = [*refused]
    for item in given:
        try:
            items.append(item if params["networks"] is None else _checked(item))
        except InvalidValue as error:
            wrong.append(Item(str(item.get("name") or "?"), error=error, changed=False))
    companions = Companions.of(params)
    result = _carry_out(params, check_mode, lambda engine: companions.apply_with(engine, items, check_mode), wrong)
    result.payload.update(companions.payload(check_mode))
    if params["networks"] is None and result.payload["networks"]:
        result.payload["network"] = result.payload["networks"][0]
    return result


def undo(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Take back what an earlier call has changed of networks that no node could make."""
    return _carry_out(params, check_mode, lambda engine: undo_all(engine, params["undo"], check_mode))


def _checked(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of the list with the types that the same options have outside it."""
    # The items are unchecked here: a name that YAML read as a number is refused later, with the errors of the others.
    return read_item(item, KEYS, f"network {item.get('name') or '?'}", as_given=("name", "template"), removal=REMOVAL)


class _RefusedGroup(Exception):
    """Undoes what was made with a new group that is refused."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass
class Companions:
    """Holds the security groups and routers that come with a list of networks, and what was done with them.
    refused: items that are none.
    done: what was done, under the names of the lists.
    routed: the addresses that routers would have, for later tasks of a check run."""

    groups: Sequence[Mapping[str, Any]]
    routers: Sequence[Mapping[str, Any]]
    inner_mtus: Mapping[str, int]
    refused: Sequence[Item]
    done: dict[str, list[Item]] = field(default_factory=dict)
    routed: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Companions:
        given = {"security_groups": params["with_security_groups"], "routers": params["with_routers"]}
        groups, wrong = items_of(given, "security_groups", GROUP_KEYS, "security group", once=True)
        routers, wrong_routers = items_of(given, "routers", ROUTER_KEYS, "router", once=True)
        return cls(groups, routers, ovn_mtu.read(params["inner_mtus"]), [*wrong, *wrong_routers])

    def apply_with(self, engine: Engine, items: Sequence[Mapping[str, Any]], check_mode: bool) -> Work:
        """Apply the networks and their companions, and return what was done with all of them.

        A new group that is refused is not there for the networks that name it."""
        refused: set[str] = set()
        while True:
            try:
                with engine.attempt():
                    return self._apply_with(engine, items, check_mode, refused)
            except _RefusedGroup as problem:
                refused.add(problem.name)

    def _apply_with(
        self, engine: Engine, items: Sequence[Mapping[str, Any]], check_mode: bool, refused: Collection[str]
    ) -> Work:
        new = security_groups.begin(engine, [each for each in self.groups if each.get("name") not in refused])
        later = routers.networks_in_use(engine) | security_groups.networks_in_use(engine)
        gone = [each for each in items if each.get("state") == "absent" and each.get("name") in later]
        done, views, warnings = apply_all(
            engine, [each for each in items if each not in gone], check_mode, self.inner_mtus
        )
        unwanted = [each for each in self.groups if each.get("state") == "absent"]
        stay = [each for each in self.groups if each not in unwanted]
        self.done["security_groups"] = [security_groups.apply(engine, each, new) for each in stay]
        for item in self.done["security_groups"]:
            is_refused = item.error is not None and item.name in new
            if is_refused and named(engine.security_groups.info, item.name) is not None:
                raise _RefusedGroup(item.name)
        self.done["routers"] = [routers.apply(engine, each, check_mode) for each in self.routers]
        self.routed = _addresses_of_routers(engine) if check_mode else []
        with security_groups.without_rules(engine, unwanted):
            if gone:
                more, more_views, more_warnings = apply_all(engine, gone, check_mode)
                done, views, warnings = [*done, *more], [*views, *more_views], [*warnings, *more_warnings]
            self.done["security_groups"] += [security_groups.apply(engine, each) for each in unwanted]
        kinds = {"security group": self.done["security_groups"], "router": self.done["routers"]}
        for kind, each in {"network": done, **kinds}.items():
            warnings = [*warnings, *doubts_of_names(kind, each)]
        beside = [replace(item, name=f"{kind} {item.name}") for kind, each in kinds.items() for item in each]
        return [*self.refused, *done, *beside], views, warnings

    def payload(self, check_mode: bool) -> dict[str, Any]:
        """Return what results show of the companions; in check mode without ids of what would be created."""
        found: dict[str, Any] = {"removed": {}, "routed": list(self.routed)}
        for kind, items in self.done.items():
            if check_mode:
                show_as_foreseen(items, UNKNOWN)
            found[kind] = [item.after for item in items if item.after is not None]
            gone = [item for item in items if item.before is not None and item.after is None and item.error is None]
            found["removed"][kind] = [{"name": item.name, "state": "absent"} for item in gone]
        return found


def _addresses_of_routers(engine: Engine) -> list[dict[str, Any]]:
    """Return what each router has, by names: ids of what check mode would make mean nothing."""
    found = engine.routers.pool()
    names = {network.id: network.name for network in engine.networks.pool()} if found else {}
    return [
        {"name": each.name, "addresses": [{"network": names[n], "ip": ip} for n, ip in each.addresses() if n in names]}
        for each in found
    ]


def _carry_out(
    params: Mapping[str, Any], check_mode: bool, work: Callable[[Engine], Work], refused: Sequence[Item] = ()
) -> Result:
    """Do the work within one transaction, and return its result, with each network as it is then.
    refused: items that were refused before it."""
    with closing(open_engine(params, check_mode, create=True)) as engine:
        with engine.session():
            done, views, warnings = work(engine)
            pool = engine.networks.pool()
            known = [network.uuid for network in pool]
            # The time is read within the transaction: of two runs, the one with the newer data has the later time.
            as_of = time.time()
            filtered, there = engine.networks.guards(), engine.networks.machines()
        former = {item.name: item.before.get("bridge", "") for item in done if item.before}
        payload = {
            "networks": [_with_beside(view, former.get(view["name"], ""), pool) for view in views],
            "known": known,
            "as_of": as_of,
            "catalog": engine.catalog(),
        }
        payload["guards"] = {
            host: pack(filtered.get(host, ()), there.get(host, ())) for host in sorted({*filtered, *there})
        }
    there = [item for item in done if item.error is None and item.after is not None]
    payload["earlier"] = {item.name: item.before for item in there if item.is_changed}
    return Result(items=[*refused, *done], payload=payload, warnings=warnings)


def _with_beside(view: dict[str, Any], former: str, pool: Sequence[Network]) -> dict[str, Any]:
    """Return the network with the others that have its bridge, or the bridge that it had before, where there are any.

    A node makes of a bridge what all of its networks ask for."""
    others = [
        to_item(network)
        for network in pool
        if network.vn_mad == BRIDGE and network.bridge in (view["bridge"], former) and network.name != view["name"]
    ]
    return {**view, "beside": others} if others else view
