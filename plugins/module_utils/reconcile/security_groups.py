# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to what an item of a list of security groups wants."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..engines.base import Engine, named
from ..errors import InvalidValue, NebulaError
from ..model.item_reader import read_item
from ..model.network_drivers import OVN
from ..model.object_ids import id_of
from ..model.object_names import check_name
from ..model.security_group import SecurityGroup, read_rule
from ..model.specifications.security_group import KEYS
from ..sync import Item
from .logical_networks import apply_checked_for_ovn
from .network_views import group_view


def begin(engine: Engine, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Make groups that are not there, within a session, so that networks which are made before their rules can name
    them. Return the names of the new groups."""
    new = []
    for item in items:
        name = item.get("name")
        if isinstance(name, str) and item.get("state") != "absent" and named(engine.security_groups.info, name) is None:
            # What is wrong with it, apply() says.
            with contextlib.suppress(NebulaError), engine.attempt():
                engine.security_groups.allocate(SecurityGroup(None, name))
                new.append(name)
    return new


def networks_in_use(engine: Engine) -> set[str]:
    """Return the names of the networks that rules name. They stay until no rule names them."""
    ids = {rule.network_id for group in engine.security_groups.pool() for rule in group.rules}
    return {network.name for network in engine.networks.pool() if network.id in ids} if ids - {None} else set()


@contextlib.contextmanager
def without_rules(engine: Engine, items: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Take the rules from groups that are to go, so that they keep no network meanwhile that is to go too. A group
    that is still there afterwards gets its rules again."""
    found = [named(engine.security_groups.info, item["name"]) for item in items if isinstance(item.get("name"), str)]
    groups = [group for group in found if group is not None and not group.is_default]
    for group in groups:
        engine.security_groups.update(id_of(group), rules=())
    yield
    for group in groups:
        if named(engine.security_groups.info, group.name) is not None:
            engine.security_groups.update(id_of(group), rules=group.rules)


def apply(engine: Engine, item: Mapping[str, Any], new: Collection[str] = ()) -> Item:
    """Carry the item out within a session. new: names of the groups that begin() has made."""
    name = str(item.get("name") or "")
    try:
        check_name("security group", item.get("name"))
        found = named(engine.security_groups.info, name)
        before = None if found is None or name in new else group_view(found)
        after = apply_checked_for_ovn(
            engine, lambda: _apply(engine, name, item, found), lambda made: made is not None and made != found
        )
    except NebulaError as error:
        if name in new:
            # Without its rules it would let nothing through.
            with contextlib.suppress(NebulaError), engine.attempt():
                engine.security_groups.delete(name)
        return Item(name or "?", error=error, changed=False)
    return Item(name, before, None if after is None else group_view(after))


def _apply(engine: Engine, name: str, item: Mapping[str, Any], found: SecurityGroup | None) -> SecurityGroup | None:
    item = read_item(item, KEYS, f"security group {name}", removal={"absent": ("name", "state")})
    if item["state"] == "absent":
        if found is not None:
            engine.security_groups.delete(id_of(found))
        return None
    changes: dict[str, Any] = {}
    if item["description"] is not None:
        changes["description"] = item["description"]
    if item["rules"] is not None:
        entries = enumerate(item["rules"])
        changes["rules"] = tuple(_rule(engine, entry, f"security group {name}: rules[{n}]") for n, entry in entries)
    if found is None:
        return engine.security_groups.allocate(SecurityGroup(None, name, **changes))
    return engine.security_groups.update(id_of(found), **changes)


def _rule(engine: Engine, entry: Mapping[str, Any], where: str) -> Any:
    network = entry.get("network")
    there = None if network is None else engine.networks.info(network)
    if there is not None and there.vn_mad != OVN:
        raise InvalidValue(
            f"{where}: network {there.name}",
            f"its driver is {there.vn_mad}, and rules act on networks of OVN",
            "Name one with vn_mad: ovn, or give its addresses as ip and size",
        )
    return read_rule(entry, where, None if there is None else id_of(there))
