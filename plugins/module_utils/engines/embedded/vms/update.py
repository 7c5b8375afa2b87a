# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes a machine that is there to what its template says now, and gives a machine another name."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from ....dataclass import replace
from ....errors import Conflict, WrongState
from ....model import hypervisor_rules
from ....model import template_changes as model_changes
from ....model.device_matching import DEVICES, DISK, LIVE, NIC, POWEROFF, MachineDevice
from ....model.disk import SHARED_DIRECTORY, TAR, Disk
from ....model.host import Host
from ....model.instantiate.build import KeptDevices
from ....model.instantiate.demands import Demands
from ....model.instantiate.former_machine import FormerMachine
from ....model.instantiate.growth import changed_at_once, growth_of, most_of
from ....model.instantiate.hardware_version import coming_attributes, hardware_differs
from ....model.instantiate.host_placement import HostPlace, Taken, taken_by
from ....model.instantiate.host_wants import HostWants, wants_of
from ....model.machine_orders import DONE, REBOOT, RESET, with_devices
from ....model.nic import Alias
from ....model.object_names import check_name
from ....model.owner import Owner
from ....model.states import LcmState, VmState
from ....model.template import Template
from ....model.template_changes import Change
from ....model.vm import Growth, Vm
from ....model.waiting_changes import (
    DeviceIds,
    Waiting,
    hardware_brought,
    running_number,
    waiting_after,
    with_context,
    with_owner,
)
from ...ports import VmOrders, VmRecord
from . import leaving_devices, plan_guards, vm_records, waiting
from .assemble import Blueprint, fetched_by
from .capacity import counted, kept_memory, overhead
from .decision import decide, refuse_moving
from .decision_parts import DecisionParts
from .device_ids import Devices, compare, devices_of, has_of, next_disk
from .host_places import running, with_processors
from .template_references import References
from .vm_records import hostname_of
from .vm_rows import WITH_MEMORY, orders_of, request_of, vm_of

# The states in which a machine has what it was started with.
_RUNS_ON = (*WITH_MEMORY, "UNKNOWN")
# The fields of a disk that stay as they are.
_KEPT = ("source", "generation", "image_uuid", "format", "driver", "luks_secret", "snapshots", "inject", "trusted")


def devices(parts: DecisionParts, vm_id: int) -> Mapping[str, Sequence[MachineDevice]]:
    return has_of(json.loads(parts.rows.get(vm_id)["body"]))


def update(
    parts: DecisionParts, vm_id: int, template: Template, owner: Owner | None = None, agreed: bool = False
) -> VmRecord:
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row)
    vm = vm_of(row)
    always = hypervisor_rules.rules_of(vm.hypervisor).live_of(vm.os.type_keys)
    live = model_changes.live_while(always, waiting.waiting_of(row))
    has = devices_of(vm)
    changes = model_changes.changes(request_of(row), template, live, has)
    host = parts.hosts.by_id()[row["host_id"]]
    references = References(parts.images, parts.networks)
    devices = compare(vm, request_of(row), template, next_disk(parts.store, vm), has)
    parts.tasks.refuse_tasked(row, devices.gone_disks)
    known = request_of(row)
    former = FormerMachine(known, known, known, known, vm.topology, vm.growth, vm.hotplug_slots, vm.hardware_version)
    growth = growth_of(template, host.hypervisor, f"VM {row['name']}", former)
    wants = wants_of(template, host.hypervisor, f"VM {row['name']}", former)
    state = parts.tasks.found_state(row)
    holds = running(row) if state in _RUNS_ON else None
    place = _place(parts, row, host, wants, holds)
    asked = _with_image_ids(references.demands(row["name"], template), devices.kept)
    whole = asked.memory
    asked = with_processors(asked, wants)
    demands = counted(asked, growth)
    images = references.images_of(row["name"], template, demands)
    port = vm.graphics.port if vm.graphics else None
    if demands.graphics and (port is None or (demands.graphics_port and demands.graphics_port != port)):
        parts.port_rows.hold(vm_id)
        port = parts.ports.choose([(vm_id, row["name"], demands, host)])[vm_id]
    elif not demands.graphics:
        parts.port_rows.hold(vm_id)
    waits = _waiting(parts, row, template, changes, has, devices, growth, agreed)
    read_at_start = model_changes.how_to_change("CONTEXT", request_of(row), template, live) == POWEROFF
    if owner is not None and read_at_start and parts.tasks.found_state(row) == "RUNNING":
        waits = with_owner(waits, vm.owner.name, owner.name)
    runs_with = _running_sizes(waits, asked, growth, whole, holds)
    kept = kept_memory(host, demands, *runs_with)
    gives = parts.capacity.repromise(row, host, demands, kept)
    if any(name in waits for name in ("MEMORY", "VCPU", "TOPOLOGY", *model_changes.MAXIMA)):
        # It holds what it runs with, whatever was promised to it since, and this plan changes nothing of that.
        gives = replace(gives, memory=0)
    came = {disk_id: images[index] for index, disk_id in devices.new_disks.items() if index in images}
    parts.images.uses.acquire_all(vm_id, row["name"], came)
    parts.networks.held_leases.let_go(vm_id, devices.interfaces.gone)
    leased = parts.nics.with_new(row, demands, devices.interfaces, references)
    blueprint = Blueprint(
        vm_id,
        row["uuid"],
        row["name"],
        host.hypervisor,
        template,
        images,
        leased.nics,
        leased.aliases,
        port,
        owner or vm.owner,
        {} if any(change.attribute == "CONTEXT" for change in changes) else fetched_by(vm),
        devices.kept,
        vm.graphics,
        before=vm,
        former=former,
        place=place,
    )
    body, warnings = parts.assembler.assemble(blueprint, references)
    body = replace(body, disks=_keep_sources(vm, body, devices.grown), next_nic=max(body.next_nic, vm.next_nic))
    body = replace(body, system_snapshots=vm.system_snapshots)
    if state == "RUNNING" and not orders_of(row).recreates:
        waits = {**hardware_brought(vm, body, template), **waits}
        if read_at_start:
            waits = with_context(waits, vm, body)
    body = replace(body, former=_former_hostname(vm, body, state), aliases=_with_late_marked(vm, body, state))
    parts.rows.write_request(body, references.as_json(template), demands.cpu, demands.memory, overhead(host, demands))
    waiting.write(parts, vm_id, waits, kept)
    parts.host_places.hold(row, holds, body)
    renamed = body.name != vm.name
    acting = [change for change in changes if change.how != "catalog"]
    refitted = any(change.attribute in DEVICES and change.how != LIVE for change in acting)
    loses = bool(devices.gone_disks or devices.interfaces.gone)
    same = body.owner == vm.owner and taken_by(body) == taken_by(vm)
    comes = bool(devices.new_disks or devices.interfaces.new_nics)
    at_once = changed_at_once(vm.growth, known, template, waiting.waiting_of(row))
    comes = comes or any(change.attribute in at_once for change in changes)
    if (comes or (agreed and loses)) and state == "RUNNING" and not renamed and same:
        leaving_devices.keep(parts, row, {change.attribute for change in changes}, agreed and loses)
    elif changes or renamed or (body.owner, body.context) != (vm.owner, vm.context):
        leaving_devices.forget(parts, row)
    left = with_devices(orders_of(row).lasting, devices.gone_disks, devices.grown, refitted, loses, agreed)
    if renamed or body.context != vm.context or acting or (row["settled"] and left != DONE):
        lcm_state = LcmState(row["lcm_state"]) if row["state"] == VmState.ACTIVE else None
        action = "rename" if renamed else "updateconf"
        undone, seq = _undone(row), row["seq"] + 1
        decide(parts, row, lcm_state, row["wanted"], undone, action, seq, lasting=left, gives=gives)
    else:
        # No plan is about it now, and the next one of its host may have to say something else of it.
        plan_guards.forget(parts.store, row["host_id"])
    return replace(vm_records.one(parts, vm_id), warnings=warnings)


def _undone(row: sqlite3.Row) -> VmOrders:
    """Return what was decided about how the machine comes to its state, perhaps by another run, and is not done yet."""
    before = orders_of(row)
    operation = before.operation if before.operation in (REBOOT, RESET) else ""
    return VmOrders(before.hard, before.shutdown_timeout, operation)


def _waiting(
    parts: DecisionParts,
    row: sqlite3.Row,
    template: Template,
    changes: Sequence[Change],
    has: Mapping[str, Sequence[MachineDevice]],
    devices: Devices,
    growth: Growth | None,
    agreed: bool,
) -> dict[str, Waiting]:
    """Return what the machine waits for once it is as the template says."""
    state = parts.tasks.found_state(row)
    if state != "RUNNING" or orders_of(row).recreates:
        # What runs on somewhere, or is in a file, is started anew by none of this.
        return waiting.waiting_of(row) if state in _RUNS_ON and not orders_of(row).recreates else {}
    vm = vm_of(row)
    ids = DeviceIds(
        {DISK: [disk.disk_id for disk in vm.disks], NIC: [nic.nic_id for nic in vm.nics]},
        {DISK: devices.new_disks, NIC: devices.interfaces.new_nics},
    )
    before, newest = request_of(row), hypervisor_rules.rules_of(vm.hypervisor).hardware_version
    if vm.growth is None and not any(name in waiting.waiting_of(row) for name in model_changes.MAXIMA):
        # It was made before they acted, whatever its template says, or has none.
        for name in model_changes.MAXIMA:
            before = before.without(name)
        if growth is not None:
            known = {change.attribute for change in changes}
            changes = [*changes, *(Change(n, "", "", POWEROFF) for n in model_changes.MAXIMA if n not in known)]
    if vm.hardware_version < newest and hardware_differs(before, template):
        # It gets all of it at its next start, whatever of it its template says already.
        coming = coming_attributes(template, vm.hardware_version)
        comes = [name for name in coming if model_changes.CHANGEABLE[name] == POWEROFF]
        known = {change.attribute for change in changes}
        changes = [*changes, *(Change(name, "", "", POWEROFF) for name in comes if name not in known)]
        for name in comes:
            before = before.without(name)
    return waiting_after(
        waiting.waiting_of(row),
        (before, template),
        changes,
        has,
        ids,
        (
            *hypervisor_rules.rules_of(vm.hypervisor).live_of(vm.os.type_keys),
            *changed_at_once(vm.growth, request_of(row), template, waiting.waiting_of(row)),
        ),
        agreed,
    )


def _place(
    parts: DecisionParts, row: sqlite3.Row, host: Host, wants: HostWants | None, holds: Taken | None
) -> HostPlace | None:
    """Return what the machine is to have of its host to itself. It keeps what answers to its template: what it runs
    with, else what it was to have.
    holds: what it has as it runs, None for one that does not."""
    if wants is None:
        return None
    runs = [] if holds is None else [holds]
    return parts.host_places.take(host, wants, row["id"], f"VM {row['name']}", [*runs, taken_by(vm_of(row))], runs)


def _running_sizes(
    waits: Mapping[str, Waiting], demands: Demands, growth: Growth | None, memory: int, holds: Taken | None
) -> tuple[int, int | None]:
    """Return the MiB and processors that the machine comes to at most as it runs, without huge pages.
    growth: how far it may grow from its next start.
    memory: MiB that it is to have, of whatever pages.
    holds: what it has of its host to itself as it runs, None for one that does not run."""
    running = Growth(
        running_number(waits, "MEMORY_MAX", growth.memory if growth else 0) or 0,
        running_number(waits, "VCPU_MAX", growth.vcpu if growth else 0) or 0,
    )
    memory = running_number(waits, "MEMORY", memory) or memory
    if holds is not None and holds.numa is not None and holds.numa.page_size:
        memory = 0
    return most_of(memory, running_number(waits, "VCPU", demands.vcpu), running)


def rename(parts: DecisionParts, vm_id: int, name: str) -> VmRecord:
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row)
    asked = f"VM {row['name']} (id {vm_id}): rename to {name}"
    check_name("VM", name)
    if row["wanted"] == "DONE":
        raise WrongState(asked, "it is being ended", "Its name is free once it is gone")
    other = parts.store.row("SELECT id FROM vms WHERE name = ? AND wanted != 'DONE' AND id != ?", name, vm_id)
    if other is not None:
        raise Conflict(asked, f"id {other['id']} has that name", "Choose another name")
    if name != row["name"]:
        # A machine that still belonged to its pattern would be ended by the pattern's count.
        parts.store.db.execute("UPDATE vms SET name = ?, pattern = '', position = NULL WHERE id = ?", (name, vm_id))
        return update(parts, vm_id, request_of(row), None)
    return vm_records.one(parts, vm_id)


def _former_hostname(old: Vm, new: Vm, state: str) -> str:
    """Return the name that the guest still has once the machine is as `new` says, "" if its context gives it the same
    name.
    state: in which the machine was found."""
    if state not in WITH_MEMORY or old.context is None or new.context is None:
        return ""
    called = old.former or hostname_of(old.context.variables)
    return "" if called == hostname_of(new.context.variables) else called


def _with_late_marked(old: Vm, new: Vm, state: str) -> tuple[Alias, ...]:
    """Return the aliases, with those marked that the guest was not started with. state: as the machine was found."""
    if state not in WITH_MEMORY or new.context is None:
        return new.aliases
    places = {alias.nic_id: (alias.parent_id, alias.external) for alias in old.aliases}
    return tuple(
        alias if places.get(alias.nic_id) == (alias.parent_id, alias.external) else replace(alias, late=True)
        for alias in new.aliases
    )


def _with_image_ids(demands: Demands, kept: KeptDevices) -> Demands:
    """Return the demands with disks that are there named by their images' ids: images may have other names by now."""
    had = {
        number: disk.image_id
        for number, disk in enumerate(kept.disks)
        if disk is not None and disk.image_id is not None
    }
    return replace(demands, images=tuple(had.get(number, ref) for number, ref in enumerate(demands.images)))


def _keep_sources(old: Vm, new: Vm, grown: Mapping[int, int]) -> tuple[Disk, ...]:
    """Return the new disks. A disk that exists stays as it was made, or is made larger, as its image may have changed
    since. The size of a root is only a limit: it is the new one's. grown: MB by disk id."""
    by_id = {disk.disk_id: disk for disk in old.disks}
    version = new.hardware_version
    return tuple(
        _kept(disk, by_id[disk.disk_id], grown, version) if disk.disk_id in by_id else disk for disk in new.disks
    )


def _kept(disk: Disk, had: Disk, grown: Mapping[int, int], version: int) -> Disk:
    if disk.type == SHARED_DIRECTORY:
        return disk
    size = disk.size if disk.by_hypervisor and disk.format == TAR else grown.get(disk.disk_id, had.size)
    kept = {field: getattr(had, field) for field in _KEPT}
    named = disk.options.get("LUKS_SECRET", "")
    if version and named and named != had.options.get("LUKS_SECRET", ""):
        # One that is named no more is still what opens it.
        del kept["luks_secret"]
    return replace(disk, size=size, **kept)
