# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a running machine as it was before its disks and NICs are changed, until its node says that they are. If its
guest does not let one go, the machine is again what it was, with that one's file, address and place in the list; and so
it is if its node refuses all of the change."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from ....dataclass import replace
from ....model.dataclass_json import from_plain, to_plain
from ....model.device_matching import ALIAS, DISK, NIC
from ....model.machine_orders import LastingOrders
from ....model.template import Template
from ....model.vm import Vm
from ..hosts import PLACES
from ..store import compact
from . import plan_guards
from .parts import Parts
from .vm_rows import orders_of, vm_of

# The column vms.leaving of a machine that loses nothing.
EMPTY = "{}"
_SIZES = ("cpu", "memory", "overhead", "kept_memory")


def keep(parts: Parts, row: sqlite3.Row, changed: Collection[str], loses: bool) -> None:
    """Keep the machine as its row has it, before a decision changes its devices while it runs.
    changed: the attributes that the decision changes.
    loses: the decision takes devices from it, and its user has agreed.

    Not kept is what is not undone alone: a machine with another decision that is not carried out, and another console,
    whose port others may get."""
    if not row["settled"] or "GRAPHICS" in changed:
        forget(parts, row)
        return
    kept = {name: row[name] for name in ("request", "body", "waits", "held", *_SIZES)}
    kept["loses"] = loses
    kept["lasting"] = to_plain(orders_of(row).lasting)
    parts.store.db.execute("UPDATE vms SET leaving = ? WHERE id = ?", (compact(kept), row["id"]))


def forget(parts: Parts, row: sqlite3.Row) -> None:
    """Keep nothing of the machine: what was to go is gone, or something else was decided since."""
    if row["leaving"] != EMPTY:
        parts.store.db.execute("UPDATE vms SET leaving = ? WHERE id = ?", (EMPTY, row["id"]))


def take_back(parts: Parts, row: sqlite3.Row, stays: Collection[str], untouched: bool = False) -> LastingOrders | None:
    """Make the machine again what it was, but for what has gone. Return what is left to be done about its devices; None
    where nothing of it was kept, or it has nothing of what was to go.
    stays: DISK or NIC with the id, as the node says what the machine still has.
    untouched: it has all that it had, and nothing else."""
    kept = json.loads(row["leaving"])
    if not kept:
        return None
    if untouched:
        return _undo(parts, row, kept)
    if not kept.get("loses", True):
        return None
    had, now = from_plain(Vm, json.loads(kept["body"])), vm_of(row)
    gone_disks = {disk.disk_id for disk in had.disks} - {disk.disk_id for disk in now.disks}
    gone_nics = {nic.nic_id for nic in had.nics} - {nic.nic_id for nic in now.nics}
    lost_disks = {number for number in gone_disks if f"{DISK} {number}" not in stays}
    lost_nics = {number for number in gone_nics if f"{NIC} {number}" not in stays}
    if lost_disks == gone_disks and lost_nics == gone_nics:
        return None
    template = Template.from_attributes(json.loads(kept["request"]))
    back, template = _without(had, template, lost_disks, lost_nics)
    new_disks = {disk.disk_id for disk in now.disks} - {disk.disk_id for disk in had.disks}
    known = {each.nic_id for each in had.nics_and_aliases}
    new_nics = [each.nic_id for each in now.nics_and_aliases if each.nic_id not in known]
    # A number is never given twice: a file of it may be on the node.
    back = replace(back, next_disk=max(had.next_disk, now.next_disk), next_nic=max(had.next_nic, now.next_nic))
    parts.networks.held_leases.let_go(row["id"], new_nics)
    for each in back.nics_and_aliases:
        parts.networks.held_leases.take_back(row["id"], each)
    # What is filtered of it is to be said again.
    plan_guards.forget(parts.store, row["host_id"])
    _write(parts, row, kept, back, template)
    owed, left = from_plain(LastingOrders, kept["lasting"]), {*lost_disks, *new_disks}
    if not (left or lost_nics or new_nics):
        return owed
    # The node removes the files, and the leases are free, once all fits.
    return replace(owed, detached=tuple(sorted({*owed.detached, *left})), refitted=True, loses=True, agreed=True)


def _undo(parts: Parts, row: sqlite3.Row, kept: Mapping[str, Any]) -> LastingOrders:
    """Make the machine again what it was: as nothing of what was to come was ever there, nobody waits for its end."""
    had, now = from_plain(Vm, json.loads(kept["body"])), vm_of(row)
    new_disks = {disk.disk_id for disk in now.disks} - {disk.disk_id for disk in had.disks}
    known = {each.nic_id for each in had.nics_and_aliases}
    if new_disks:
        parts.images.uses.release(row["id"], written=False, disks=sorted(new_disks))
    parts.networks.held_leases.free(row["id"], [n.nic_id for n in now.nics_and_aliases if n.nic_id not in known])
    for each in had.nics_and_aliases:
        parts.networks.held_leases.take_back(row["id"], each)
    plan_guards.forget(parts.store, row["host_id"])
    _write(parts, row, kept, had, Template.from_attributes(json.loads(kept["request"])))
    return from_plain(LastingOrders, kept["lasting"])


def _without(vm: Vm, template: Template, disks: Collection[int], nics: Collection[int]) -> tuple[Vm, Template]:
    """Return the machine and its template without these, by their ids, and without the aliases of such NICs."""
    own = {DISK: [disk.disk_id in disks for disk in vm.disks], NIC: [nic.nic_id in nics for nic in vm.nics]}
    if len(template.vectors(ALIAS)) == len(vm.aliases):
        own[ALIAS] = [alias.parent_id in nics for alias in vm.aliases]
    for name, goes in own.items():
        if any(goes):
            left = [vector for vector, gone in zip(template.vectors(name), goes) if not gone]
            template = template.with_vectors(name, left)
    return (
        replace(
            vm,
            disks=tuple(disk for disk in vm.disks if disk.disk_id not in disks),
            nics=tuple(nic for nic in vm.nics if nic.nic_id not in nics),
            aliases=tuple(alias for alias in vm.aliases if alias.parent_id not in nics),
        ),
        template,
    )


def _write(parts: Parts, row: sqlite3.Row, kept: Mapping[str, Any], vm: Vm, template: Template) -> None:
    sizes = [kept[name] for name in _SIZES]
    parts.rows.write_request(vm, compact(template.to_attributes()), *sizes[:3])
    parts.store.db.execute(
        "UPDATE vms SET waits = ?, held = ?, kept_memory = ?, leaving = ? WHERE id = ?",
        (kept["waits"], kept["held"], kept["kept_memory"], EMPTY, row["id"]),
    )
    cpu, memory, overhead, held = (kept[name] - row[name] for name in _SIZES)
    parts.store.drop(PLACES)
    if any((cpu, memory, overhead, held)):
        parts.hosts.promise(row["host_id"], memory + held, overhead, cpu, 0)
