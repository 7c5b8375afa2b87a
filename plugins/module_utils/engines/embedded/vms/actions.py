# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that want another state of a machine, or something done with its disks."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

from ....dataclass import dataclass
from ....model.image import Image
from ....model.plan import DiskTask
from ....model.states import LcmState, VmState, vm_state_name
from ...ports import VmOrders, VmRecord
from ..hosts import Hosts
from ..images.verbs import Images
from ..networks.verbs import Networks
from .capacity import Capacity
from .decide import Decisions
from .disk_tasks import WAYS, DiskTasks
from .graphics_ports import GraphicsPorts
from .polls import Polls
from .rows import VmRows, orders_of, request_of, vm_of
from .template_references import References
from .view import View

# What a machine does on its way to the state wanted, by (wanted, state before).
_ON_THE_WAY: dict[tuple[str, str], LcmState] = {
    ("RUNNING", "POWEROFF"): LcmState.BOOT_POWEROFF,
    ("RUNNING", "SUSPENDED"): LcmState.BOOT_SUSPENDED,
    ("RUNNING", "UNKNOWN"): LcmState.BOOT_UNKNOWN,
}
_ENDING = {
    "POWEROFF": LcmState.SHUTDOWN_POWEROFF,
    "SUSPENDED": LcmState.SAVE_SUSPEND,
    "DONE": LcmState.EPILOG,
}


@dataclass(frozen=True)
class Actions:
    rows: VmRows
    networks: Networks
    images: Images
    hosts: Hosts
    ports: GraphicsPorts
    capacity: Capacity
    polls: Polls
    tasks: DiskTasks
    decisions: Decisions
    view: View

    def action(self, vm_id: int, wanted: str, orders: VmOrders) -> VmRecord:
        row = self.rows.get(vm_id)
        before = vm_state_name(row["state"], row["lcm_state"])
        way = _ON_THE_WAY.get((wanted, before)) or _ENDING.get(wanted) or LcmState.BOOT
        if orders.operation:
            way = LcmState.RUNNING
        if wanted == "RUNNING" and before != "RUNNING":
            self._leave_taken_port(row)
            self.capacity.refuse_without_room(row)
        self.decisions.decide(row, way, wanted, orders, orders.operation or wanted.lower())
        return self.view.one(vm_id)

    def _leave_taken_port(self, row: sqlite3.Row) -> None:
        """Give a machine that does not run another graphics port if somebody else listens on its own. A port that the
        template fixes stays: the node reports what is wrong."""
        graphics = json.loads(row["body"]).get("graphics") or {}
        host = self.hosts.by_id()[row["host_id"]]
        if graphics.get("port") not in self.polls.taken_ports.get(host.name, ()):
            return
        demands = References(self.images, self.networks).demands(row["name"], request_of(row))
        if demands.graphics and not demands.graphics_port:
            self.ports.drop(row["id"])
            port = self.ports.choose([(row["id"], row["name"], demands, host)])[row["id"]]
            body = vm_of(row)
            if body.graphics is not None:
                body = replace(body, graphics=replace(body.graphics, port=port))
            self.rows.write_body(row["id"], body)

    def disk_save_as(self, vm_id: int, disk_id: int, image: Image, consistency: str) -> VmRecord:
        row = self.rows.get(vm_id)
        return self._tasked(row, self.tasks.save_as(row, disk_id, image, consistency))

    def disk_snapshot(self, vm_id: int, disk_id: int, name: str, wanted: str) -> VmRecord:
        row = self.rows.get(vm_id)
        return self._tasked(row, self.tasks.snapshot(row, disk_id, name, wanted))

    def _tasked(self, row: sqlite3.Row, task: DiskTask | None) -> VmRecord:
        if task is not None:
            before = orders_of(row)
            known = VmOrders(before.hard, before.shutdown_timeout, before.operation)
            way = LcmState(row["lcm_state"]) if row["state"] == VmState.ACTIVE else None
            if row["settled"]:
                way = WAYS.get((task.kind, self.tasks.state_then(row)), way)
            self.decisions.decide(row, way, row["wanted"], known, task.kind, task=task)
        return self.view.one(row["id"])
