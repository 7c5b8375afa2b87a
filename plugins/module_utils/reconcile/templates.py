# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to what an item of a list of templates wants, and shows templates without secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.base import Engine
from ..engines.template_items import template_of
from ..errors import NebulaError
from ..model.instantiate import cpu_topology, truncated_values
from ..model.instantiate.validate import validate
from ..model.item_reader import duplicate_error, read_item
from ..model.object_ids import id_of
from ..model.object_names import check_name
from ..model.specifications.template import KEYS
from ..model.template import StoredTemplate, Template, Value, is_secret
from ..model.template_changes import changes
from ..sync import Item

# The action plugin may have put what it read in the place of a file's path.
_AS_GIVEN = ("name", "template_file")
_SECRET = "(secret)"
_OTHER_SECRET = "(another secret)"


def apply_all(engine: Engine, items: Sequence[Mapping[str, Any]]) -> tuple[list[Item], list[str]]:
    """Carry the items out within a session, and return what was done with each, and warnings. An item that can't be
    carried out is an Item with its error, and nothing of it is kept; the others go on."""
    done: list[Item] = []
    warnings: list[str] = []
    current = {stored.name: stored for stored in engine.templates.pool()}
    seen: set[str] = set()
    hypervisors = engine.hosts.hypervisors()
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


def template_view(stored: StoredTemplate) -> dict[str, Any]:
    """Return a template as results show it: what it asks for in short, and all its attributes but the secret ones."""
    template = stored.template
    return {
        "id": stored.id,
        "name": stored.name,
        "registered": stored.registered,
        "cpu": template.get("CPU"),
        "vcpu": template.get("VCPU"),
        "memory": template.get("MEMORY"),
        "disks": [
            {key.lower(): disk[key] for key in ("IMAGE", "IMAGE_ID", "TYPE", "SIZE", "TARGET") if key in disk}
            for disk in template.vectors("DISK")
        ],
        "nics": [
            {key.lower(): nic[key] for key in ("NETWORK", "NETWORK_ID", "IP", "MODEL") if key in nic}
            for nic in template.vectors("NIC")
        ],
        "attributes": redacted(template),
    }


def redacted(template: Template, previous: Template | None = None) -> dict[str, Any]:
    """Return the template as a dict, with secrets hidden. previous: a secret that differs from the one in it is marked
    so; each is compared with the one in its place among the single values, or vectors, of that name."""
    before: dict[tuple[str, bool], list[Value]] = {}
    for name, value in (template if previous is None else previous).attributes:
        before.setdefault((name, isinstance(value, str)), []).append(value)
    shown: dict[str, Any] = {}
    for name, value in template.attributes:
        left = before.get((name, isinstance(value, str)))
        old = left.pop(0) if left else ""
        if isinstance(value, str):
            visible: Any = _visible(name, name, value, str(old))
        else:
            known = {} if isinstance(old, str) else dict(old)
            visible = {key: _visible(name, key, text, known.get(key)) for key, text in value}
        shown.setdefault(name, []).append(visible)
    return {name: values[0] if len(values) == 1 else values for name, values in shown.items()}


def _visible(name: str, key: str, value: str, old: str | None) -> str:
    # Any variable of a context may be a secret, and so may what RAW hands to the hypervisor.
    if name == "CONTEXT" or is_secret(key) or (name == "RAW" and key != "TYPE") or (name, key) == ("INJECT", "CONTENT"):
        return _SECRET if value == old else _OTHER_SECRET
    return value
