# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs that want another state of a machine, or something done with its disks."""

from __future__ import annotations

import json
import sqlite3

from ....dataclass import replace
from ....errors import Unsupported
from ....model.device_matching import DISK
from ....model.disk import SHARED_DIRECTORY
from ....model.image import Image
from ....model.plan import DiskTask
from ....model.states import LcmState, VmState, vm_state_name
from ...ports import VmOrders, VmRecord
from . import vm_records, waiting
from .decision import decide, refuse_moving
from .decision_parts import DecisionParts
from .disk_task_rows import WAYS
from .host_places import running
from .template_references import References
from .vm_rows import orders_of, request_of, vm_of

# What a machine does on its way to the state wanted, by (wanted, state before).
_ON_THE_WAY: dict[tuple[str, str], LcmState] = {
    ("RUNNING", "POWEROFF"): LcmState.BOOT_POWEROFF,
    ("RUNNING", "SUSPENDED"): LcmState.BOOT_SUSPENDED,
    ("RUNNING", "UNKNOWN"): LcmState.BOOT_UNKNOWN,
}
_ENDING = {"POWEROFF": LcmState.SHUTDOWN_POWEROFF, "SUSPENDED": LcmState.SAVE_SUSPEND, "DONE": LcmState.EPILOG}


def action(parts: DecisionParts, vm_id: int, wanted: str, orders: VmOrders) -> VmRecord:
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row, wanted)
    before = vm_state_name(row["state"], row["lcm_state"])
    way = _ON_THE_WAY.get((wanted, before)) or _ENDING.get(wanted) or LcmState.BOOT
    if orders.operation:
        way = LcmState.RUNNING
    if wanted == "RUNNING" and before != "RUNNING":
        _leave_taken_port(parts, row)
        parts.capacity.refuse_without_room(row)
    if wanted == "SUSPENDED" and before == "RUNNING":
        _refuse_to_save(row)
    decide(parts, row, way, wanted, orders, orders.operation or wanted.lower())
    return vm_records.one(parts, vm_id)


def _refuse_to_save(row: sqlite3.Row) -> None:
    """Raise Unsupported for a machine whose memory can't be written to a file."""
    vm, runs = vm_of(row), running(row)
    reason = "it has devices of its host (PCI), whose state nothing saves" if runs.devices else ""
    waits = waiting.waiting_of(row)
    comes = {part for part, each in waits.items() if each.directory and each.comes}
    shared = [
        disk.source for disk in vm.disks if disk.type == SHARED_DIRECTORY and f"{DISK} {disk.disk_id}" not in comes
    ]
    shared += [each.found.partition(" ")[2] for each in waits.values() if each.directory and each.goes]
    if shared:
        reason = f"it has directory {shared[0]} of its host (TYPE = FILESYSTEM), and QEMU saves no machine with one"
    if runs.encrypted:
        reason = "its memory is encrypted (MEMORY_ENCRYPTION), and nobody but its processor can read it"
    if reason:
        raise Unsupported(
            f"VM {row['name']} (id {row['id']}): state suspended", reason, "Power it off instead: state: poweroff"
        )


def _leave_taken_port(parts: DecisionParts, row: sqlite3.Row) -> None:
    """Give a machine that does not run another graphics port if somebody else listens on its own. A port that the
    template fixes stays: the node reports what is wrong."""
    graphics = json.loads(row["body"]).get("graphics") or {}
    host = parts.hosts.by_id()[row["host_id"]]
    if graphics.get("port") not in parts.polls.taken_ports.get(host.name, ()):
        return
    demands = References(parts.images, parts.networks).demands(row["name"], request_of(row))
    if demands.graphics and not demands.graphics_port:
        parts.port_rows.drop(row["id"])
        port = parts.ports.choose([(row["id"], row["name"], demands, host)])[row["id"]]
        body = vm_of(row)
        if body.graphics is not None:
            body = replace(body, graphics=replace(body.graphics, port=port))
        parts.rows.write_body(row["id"], body)


def disk_save_as(parts: DecisionParts, vm_id: int, disk_id: int, image: Image, consistency: str) -> VmRecord:
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row)
    return _tasked(parts, row, parts.tasks.save_as(row, disk_id, image, consistency))


def disk_snapshot(parts: DecisionParts, vm_id: int, disk_id: int, name: str, wanted: str) -> VmRecord:
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row)
    return _tasked(parts, row, parts.tasks.snapshot(row, disk_id, name, wanted))


def system_snapshot(parts: DecisionParts, vm_id: int, name: str, wanted: str) -> VmRecord:
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row)
    return _tasked(parts, row, parts.tasks.system_snapshot(row, name, wanted))


def _tasked(parts: DecisionParts, row: sqlite3.Row, task: DiskTask | None) -> VmRecord:
    if task is not None:
        before = orders_of(row)
        known = VmOrders(before.hard, before.shutdown_timeout, before.operation)
        way = LcmState(row["lcm_state"]) if row["state"] == VmState.ACTIVE else None
        if row["settled"]:
            way = WAYS.get((task.kind, parts.tasks.state_then(row)), way)
        decide(parts, row, way, row["wanted"], known, task.kind, task=task)
    return vm_records.one(parts, row["id"])
