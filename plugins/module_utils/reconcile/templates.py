# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to what an item of a list of templates wants, and shows templates without secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.base import Engine
from ..engines.hypervisors_of_hosts import hypervisors_of
from ..engines.template_items import template_of
from ..errors import NebulaError
from ..model.instantiate import cpu_topology, growth, pc_hardware, reserved_slots, truncated_values
from ..model.instantiate.validate import validate
from ..model.item_reader import duplicate_error, read_item
from ..model.object_ids import id_of
from ..model.object_names import check_name
from ..model.specifications.template import KEYS
from ..model.template import StoredTemplate, Template
from ..model.template_changes import changes
from ..sync import Item
from .template_view import redacted, template_view

# The action plugin may have put what it read in the place of a file's path.
_AS_GIVEN = ("name", "template_file")


def apply_all(engine: Engine, items: Sequence[Mapping[str, Any]]) -> tuple[list[Item], list[str]]:
    """Carry the items out within a session, and return what was done with each, and warnings. An item that can't be
    carried out is an Item with its error, and nothing of it is kept; the others go on."""
    done: list[Item] = []
    warnings: list[str] = []
    current = {stored.name: stored for stored in engine.templates.pool()}
    seen: set[str] = set()
    hypervisors = hypervisors_of(engine.hosts)
    for item in items:
        try:
            with engine.attempt():
                before, after = _apply(engine, item, current, seen, hypervisors, warnings)
        except NebulaError as error:
            done.append(Item(str(item.get("name") or "?"), error=error, changed=False))
            continue
        done.append(_item(before, after, str(item.get("name"))))
    return done, warnings


def _apply(
    engine: Engine,
    item: Mapping[str, Any],
    current: Mapping[str, StoredTemplate],
    seen: set[str],
    hypervisors: Sequence[str],
    warnings: list[str],
) -> tuple[StoredTemplate | None, StoredTemplate | None]:
    """Return the template before and after; the same object if nothing was to be done."""
    item = read_item(item, KEYS, f"template {_name_of(item)}", _AS_GIVEN, {"absent": ("name", "state")})
    state = item["state"] or "present"
    if state == "absent":
        name, template = check_name("template", item.get("name")), Template()
    else:
        name, template = template_of(item)
    if name in seen:
        raise duplicate_error(f"template {name}")
    seen.add(name)
    before = current.get(name)
    if state == "absent":
        if before is not None:
            engine.templates.delete(id_of(before))
        return before, None
    stored = () if before is None else (before.template,)
    doubts = validate(template, bool(item["strict"]), f"template {name}", hypervisors, stored)
    warnings += [f"template {name}: {doubt}" for doubt in doubts]
    if before is not None and not changes(before.template, template):
        return before, before
    known = before.template if before else None
    truncated_values.refuse_in_template(template, known, f"template {name}", hypervisors)
    cpu_topology.refuse_in_template(template, known, f"template {name}")
    growth.refuse_in_template(template, known, f"template {name}")
    reserved_slots.refuse_in_template(template, known, f"template {name}")
    pc_hardware.refuse_in_template(template, known, f"template {name}", hypervisors)
    if before is None:
        return None, engine.templates.allocate(name, template)
    return before, engine.templates.update(id_of(before), template)


def _name_of(item: Mapping[str, Any]) -> str:
    """Return the name for errors: the item's, or what its template says under NAME."""
    if item.get("name"):
        return str(item["name"])
    try:
        return template_of(item)[0]
    except NebulaError:
        return "?"


def _item(before: StoredTemplate | None, after: StoredTemplate | None, name: str) -> Item:
    if after is None:
        return Item(name, changed=False) if before is None else Item(before.name, template_view(before), None)
    shown = template_view(after)
    if before is None:
        return Item(after.name, None, shown)
    if before is after:
        return Item(after.name, shown, shown, changed=False)
    marked = {**shown, "attributes": redacted(after.template, before.template)}
    return Item(after.name, template_view(before), marked, changed=True, view=shown)
