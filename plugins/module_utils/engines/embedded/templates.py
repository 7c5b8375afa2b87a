# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about templates."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from ...errors import Conflict
from ...model.object_names import check_name
from ...model.template import StoredTemplate, Template
from ..ports import TemplatesPort
from ..template_items import template_of
from .references import Ref, resolve
from .store import Store, compact


class Templates(TemplatesPort):
    def __init__(self, store: Store) -> None:
        self.store = store

    def pool(self) -> list[StoredTemplate]:
        return [_template(row) for row in self.store.rows("SELECT * FROM templates ORDER BY id")]

    def info(self, ref: Ref) -> StoredTemplate:
        return _template(resolve(self.store, "templates", ref))

    def allocate(self, name: str, template: Template) -> StoredTemplate:
        check_name("template", name)
        taken = self.store.row("SELECT id FROM templates WHERE name = ?", name)
        if taken:
            raise Conflict(f"template {name}", f"template {taken['id']} has that name", "Update it, or rename this one")
        new = StoredTemplate(self.store.take_ids("templates"), name, template, int(time.time()))
        self._insert(new)
        return new

    def update(self, ref: Ref, template: Template) -> StoredTemplate:
        row = resolve(self.store, "templates", ref)
        self.store.db.execute("UPDATE templates SET body = ? WHERE id = ?", (_body(template), row["id"]))
        return StoredTemplate(row["id"], row["name"], template, row["registered"])

    def delete(self, ref: Ref) -> StoredTemplate:
        stored = self.info(ref)
        self.store.db.execute("DELETE FROM templates WHERE id = ?", (stored.id,))
        return stored

    def declare(self, item: Mapping[str, Any]) -> None:
        """Take as given, in check mode, what an earlier task of this run would have stored: without its secrets."""
        name, template = template_of({"name": item["name"], "template": item["attributes"]})
        if self.store.row("SELECT id FROM templates WHERE name = ?", name) is None:
            self._insert(StoredTemplate(self.store.take_ids("templates"), name, template, 0))

    def _insert(self, stored: StoredTemplate) -> None:
        self.store.db.execute(
            "INSERT INTO templates (id, name, body, registered) VALUES (?, ?, ?, ?)",
            (stored.id, stored.name, _body(stored.template), stored.registered),
        )


def _body(template: Template) -> str:
    return compact(template.to_attributes())


def _template(row: sqlite3.Row) -> StoredTemplate:
    return StoredTemplate(row["id"], row["name"], Template.from_attributes(json.loads(row["body"])), row["registered"])
