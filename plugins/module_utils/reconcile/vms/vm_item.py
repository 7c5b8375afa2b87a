# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what an item of a list of machines asks for, checks it, and merges its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ...dataclass import dataclass
from ...engines.base import Engine
from ...engines.hypervisors_of_hosts import hypervisors_of
from ...engines.ports import VmOrders
from ...errors import InvalidValue, NotFound
from ...model import defaults, injected_files
from ...model.instantiate.nic_vectors import with_nic_defaults
from ...model.instantiate.validate import validate
from ...model.item_reader import read_item
from ...model.move import COLD
from ...model.object_names import check_name, doubt_of_name
from ...model.owner import Owner, owner_of
from ...model.specifications.vm import KEYS
from ...model.template import Template
from ...text import context_sh
from . import renames
from .save_as import DiskSnapshot, SaveAs, WantedSnapshot, disk_snapshots, saves, system_snapshots

# What each state of an item wants of its machines.
WANTED = {"running": "RUNNING", "poweroff": "POWEROFF", "suspended": "SUSPENDED", "absent": "DONE"}
OPERATIONS = {"rebooted": "reboot", "reset": "reset"}
INDEX = "%i"
# Which of the machines that wait for their next start are started anew. NEVER and ALL are words of `move`, too.
NEVER, ROLLING, ALL = "never", "rolling", "all"
MIGRATED = "migrated"
# Keys that are read elsewhere; values of templates stay as their author wrote them.
_AS_GIVEN = (
    *("name", "renamed_from", "template", "cpu", "vcpu", "memory", "disks", "nics", "nic_aliases"),
    *("context_format", "context_device", "inject_via", "save_as", "disk_snapshots", "inject", "owner"),
    "system_snapshots",
)
# The item's value replaces the template's attribute.
_OVERRIDES = {
    "cpu": "CPU",
    "vcpu": "VCPU",
    "memory": "MEMORY",
    "disks": "DISK",
    "nics": "NIC",
    "nic_aliases": "NIC_ALIAS",
}
_REMOVAL = {"absent": ("name", "state", "count", "hard", "shutdown_timeout", "save_as", "renamed_from")}


@dataclass
class Spec:
    """Holds one item of the user's list, checked, with its template merged.
    names: names of the machines that it stands for, by index
    renamed_from: what its machine was called before, "" if the item does not say"""

    name: str
    state: str
    renamed_from: str = ""
    count: int | None = None
    template_name: str = ""
    template: Template | None = None
    host: str = ""
    recreate: bool = False
    detach: bool = False
    restart: str = NEVER
    move: str = NEVER
    hotplug_slots: int = defaults.HOTPLUG_SLOTS
    owner: Owner | None = None
    save_as: Sequence[SaveAs] = ()
    disk_snapshots: Sequence[DiskSnapshot] = ()
    system_snapshots: Sequence[WantedSnapshot] = ()
    orders: VmOrders = VmOrders()
    names: list[str] = field(default_factory=list)

    @property
    def starts_anew(self) -> bool:
        """Return whether its machines are started anew in this run if they wait for that."""
        return self.state == "rebooted" or self.restart_word != NEVER

    @property
    def restart_word(self) -> str:
        """Return which machines that wait are started anew; NEVER where the state leaves nothing to wait for."""
        return self.restart if self.state in ("running", "present") else NEVER

    @property
    def move_word(self) -> str:
        """Return how its machines move to another host, NEVER if they do not. MIGRATED is a word of its own: it moves
        those that are off, too."""
        return ALL if self.state == MIGRATED and self.move != COLD else self.move

    @property
    def pattern(self) -> str:
        return self.name if INDEX in self.name else ""


class Templates:
    """Fetches the catalog's templates that the items name, each once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.known: dict[Any, tuple[str, Template]] = {}
        self.hypervisors = hypervisors_of(engine.hosts)

    def get(self, ref: Any) -> tuple[str, Template]:
        if ref not in self.known:
            stored = self.engine.templates.info(ref)
            self.known[ref] = (stored.name, stored.template)
        return self.known[ref]

    def of_machines(self, names: Sequence[str]) -> list[Template]:
        """Return what was asked for when the machines of these names were made or changed, as far as they exist."""
        return [record.request for record in self.engine.vms.pool(names=names) if record.request is not None]


def spec_of(item: Mapping[str, Any], templates: Templates, warnings: list[str]) -> Spec:
    name = check_name("VM", item.get("name"))
    where = f"VM {name}"
    item = read_item(item, KEYS, where, _AS_GIVEN, _REMOVAL)
    state = item["state"] or "running"
    check_name("VM", name.replace(INDEX, "0"))
    spec = Spec(name=name, state=state, host=item["host"] or "", recreate=item["recreate"], detach=item["detach"])
    spec.restart, spec.move = item["restart"] or NEVER, item["move"] or NEVER
    spec.hotplug_slots = item["hotplug_slots"] or defaults.HOTPLUG_SLOTS
    spec.count = _count(item, where)
    spec.renamed_from = renames.former_of(item, name, where, INDEX)
    if spec.count is None:
        spec.names = [] if spec.pattern and state == "absent" else [name.replace(INDEX, "0")]
    else:
        spec.names = [name.replace(INDEX, str(i)) for i in range(spec.count)] if spec.pattern else [name]
    spec.orders = VmOrders(
        hard=item["hard"], shutdown_timeout=item["shutdown_timeout"], operation=OPERATIONS.get(state, "")
    )
    spec.save_as = saves(item, where)
    warnings += _doubts_of_saved(templates.engine, spec.save_as)
    if state == "absent":
        return spec
    spec.disk_snapshots = disk_snapshots(item, where)
    spec.system_snapshots = system_snapshots(item, where)
    spec.owner = owner_of(item["owner"], where) if item.get("owner") else None
    if spec.count is None and spec.pattern:
        spec.count = 1
    if spec.save_as and spec.count not in (None, 1):
        raise InvalidValue(
            f"{where}: save_as",
            f"it stands for {spec.count} machines",
            "Give the one whose disk is to be saved an entry",
        )
    if item.get("template") is not None:
        if isinstance(item["template"], bool) or not isinstance(item["template"], (str, int)):
            found = f"it is a {type(item['template']).__name__}"
            raise InvalidValue(f"{where}: template", found, "Give the name or the id of a stored template")
        spec.template_name, base = templates.get(item["template"])
        spec.template = _merged(base, item, where)
        stored = (base, *templates.of_machines(spec.names)) if item["strict"] else ()
        notes = validate(spec.template, item["strict"], where, templates.hypervisors, stored)
        if notes:
            # The user was warned of the template's own faults when it was stored.
            known = validate(base, hypervisors=templates.hypervisors)
            warnings.extend(f"{where}: {note}" for note in notes if note not in known)
    return spec


def _doubts_of_saved(engine: Engine, saved: Sequence[SaveAs]) -> list[str]:
    """Return warnings about the names of images that are to be saved from disks and do not exist yet."""
    found = []
    for save in saved:
        doubt = doubt_of_name("image", save.image.name)
        if doubt:
            try:
                engine.images.info(save.image.name)
            except NotFound:
                found.append(doubt)
    return found


def _merged(base: Template, item: Mapping[str, Any], where: str) -> Template:
    overrides: dict[str, Any] = {}
    for key, attribute in _OVERRIDES.items():
        if item.get(key) is not None:
            overrides[attribute] = item[key]
            if item[key] == []:
                base = base.without(attribute)
    for key in ("context_format", "context_device", "inject_via"):
        if item.get(key) is not None:
            overrides[key.upper()] = item[key]
    if item.get("inject") is not None:
        overrides["INJECT"] = injected_files.vectors_of(item["inject"], where)
        base = base.without("INJECT")
    overrides.update(item["attributes"] or {})
    given = Template.from_mapping(overrides, where)
    for variables in given.vectors("CONTEXT"):
        context_sh.refuse_names(variables, f"{where}: CONTEXT")
    template = base.merged(given)
    if item["context"] is not None:
        variables = Template.from_mapping({"CONTEXT": item["context"]}, where).vector("CONTEXT")
        context_sh.refuse_names(variables, f"{where}: context")
        template = template.merge_context(variables)
    # Later the machine is compared by its NICs with their defaults in them.
    return with_nic_defaults(template, where)


def _count(item: Mapping[str, Any], where: str) -> int | None:
    number: int | None = item["count"]
    if number is not None and INDEX not in str(item["name"]) and number != 1:
        raise InvalidValue(
            f"{where}: count {number}",
            "all of them would have this name",
            f"Put {INDEX} where the index belongs, as in name: {item.get('name')}-{INDEX}",
        )
    return number
