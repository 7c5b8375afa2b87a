# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about security groups."""

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
from ...model.security_group import ATTRIBUTE, FIRST, GroupRule, SecurityGroup, known_ids
from ..ports import Ref, SecurityGroupsPort
from .references import check_new_name, resolve
from .store import Store, compact

_SHOWN = 5


class SecurityGroups(SecurityGroupsPort):
    def __init__(self, store: Store) -> None:
        self.store = store

    def pool(self) -> list[SecurityGroup]:
        return [_group(row) for row in self.store.rows("SELECT * FROM security_groups ORDER BY id")]

    def info(self, ref: Ref) -> SecurityGroup:
        return _group(resolve(self.store, "security_groups", ref))

    def allocate(self, group: SecurityGroup) -> SecurityGroup:
        check_new_name(self.store, "security_groups", group.name)
        # Lower ids are those of every catalog, which no sequence has given.
        self.store.db.execute("INSERT OR IGNORE INTO sequences VALUES ('security_groups', ?)", (FIRST,))
        new = replace(group, id=self.store.take_ids("security_groups"), uuid=str(uuids.uuid4()))
        self.store.db.execute(
            "INSERT INTO security_groups (id, name, uuid, description, rules) VALUES (?, ?, ?, ?, ?)",
            (new.id, new.name, new.uuid, new.description, _rules(new)),
        )
        return new

    def update(self, ref: Ref, **changes: Any) -> SecurityGroup:
        group = self.info(ref)
        new = replace(group, **changes)
        if new == group:
            return group
        if group.is_default:
            raise Conflict(
                f"security group {group.name} (id 0)",
                "it is every catalog's, and lets everything through",
                "Make a group of your own, and name it in the network",
            )
        if new.name != group.name:
            check_new_name(self.store, "security_groups", new.name)
        self.store.db.execute(
            "UPDATE security_groups SET name = ?, description = ?, rules = ? WHERE id = ?",
            (new.name, new.description, _rules(new), group.id),
        )
        return new

    def delete(self, ref: Ref) -> SecurityGroup:
        group = self.info(ref)
        asked = f"security group {group.name} (id {group.id}): delete"
        if group.is_default:
            raise Conflict(asked, "it is every catalog's", "Leave it")
        users = self._users(id_of(group))
        if users:
            more = " …" if len(users) > _SHOWN else ""
            raise InUse(asked, f"it is that of {', '.join(users[:_SHOWN])}{more}", "Give these another group first")
        self.store.db.execute("DELETE FROM security_groups WHERE id = ?", (group.id,))
        return group

    def declare(self, item: Mapping[str, Any]) -> None:
        """Take as given, or as gone, what an earlier task of a check run would have made or removed."""
        if item.get("state") == "absent":
            self.store.db.execute("DELETE FROM security_groups WHERE name = ?", (item["name"],))
        elif self.store.row("SELECT id FROM security_groups WHERE name = ?", item["name"]) is None:
            self.allocate(SecurityGroup(None, item["name"]))

    def _users(self, number: int) -> list[str]:
        """Return the names of the networks and machines that have the group."""
        found = [
            f"network {row['name']}"
            for row in self.store.rows("SELECT name, attributes FROM networks ORDER BY id")
            if known_ids(json.loads(row["attributes"]).get(ATTRIBUTE, ""), (number,))
        ]
        for row in self.store.rows("SELECT name, body FROM vms WHERE state != 6 AND body LIKE ?", f"%{ATTRIBUTE}%"):
            nics = json.loads(row["body"]).get("nics") or ()
            if any(known_ids((nic.get("options") or {}).get(ATTRIBUTE, ""), (number,)) for nic in nics):
                found.append(f"VM {row['name']}")
        return found


def _rules(group: SecurityGroup) -> str:
    return compact([to_plain(rule) for rule in group.rules])


def _group(row: sqlite3.Row) -> SecurityGroup:
    rules = tuple(from_plain(GroupRule, rule) for rule in json.loads(row["rules"]))
    return SecurityGroup(row["id"], row["name"], row["uuid"], row["description"], rules)
