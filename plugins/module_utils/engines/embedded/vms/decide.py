# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about a machine: the state that is wanted of it, and the orders by which its node brings it there."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ....model.instantiate.graphics import leaves_password
from ....model.plain import to_plain
from ....model.plan import DiskTask
from ....model.states import LcmState, VmState, vm_state_name
from ...ports import VmOrders
from .. import consoles
from ..device_orders import lasting, nics_detached_before
from ..disks import Disks
from ..networks.verbs import Networks
from ..plans import given_with
from ..scheduler import NOTHING, Held
from ..store import compact
from .rows import VmRows, recreation_of, request_of, vm_of


@dataclass(frozen=True)
class Decisions:
    """now: s since the epoch."""

    rows: VmRows
    networks: Networks
    tasks: Disks
    now: Callable[[], int]

    def decide(
        self,
        row: sqlite3.Row,
        way: LcmState | None,
        wanted: str,
        orders: VmOrders,
        action: str,
        seq: int | None = None,
        task: DiskTask | None = None,
        left: Mapping[str, Any] | None = None,
        gives: Held = NOTHING,
    ) -> None:
        """Write a decision: a new generation of the machine, with orders for its node.

        way: what the machine does meanwhile, None if its state stays. seq: the number of its deployment file, None for
        the one that it has. task: one more thing to be done with a disk, besides those that are not done yet. left:
        what is to be done about its disks and NICs (device_orders.lasting), None for what was decided before. gives:
        what the machine is to hold no more.
        """
        self.networks.held_leases.let_go(row["id"], nics_detached_before(row))
        state = VmState(row["state"]) if way is None else VmState.ACTIVE
        lcm = LcmState.LCM_INIT if way is None else way
        kept = dict(to_plain(orders), previous=vm_state_name(row["state"], row["lcm_state"]))
        gone = (left or {}).get("detached", ())
        tasks = tuple(each for each in self.tasks.pending(row) if each.disk_id not in gone)
        # A recreation with a task is one that was decided before: it keeps its number, and its other tasks.
        anew = orders.operation == "recreate" and task is None
        if not anew:
            # A machine that is still to be made anew stays so, whatever else is decided about it. The recreation is
            # kept even if the machine is to end, as it lives on where its node fails to end it.
            recreation = recreation_of(row)
            kept.update({**recreation, "hard": orders.hard} if recreation and wanted == "DONE" else recreation)
        if wanted == "DONE" or anew:
            # The tasks lose their object with the machine's disks.
            self.tasks.abandon(tasks)
            tasks = ()
        if tasks or task is not None:
            kept["tasks"] = to_plain((*tasks, *([task] if task is not None else [])))
        if not anew:
            # This is kept for a machine that is to end, too: where it lives on, it still has what it was to lose.
            kept.update(lasting(row) if left is None else left)
        kept["found"] = self.tasks.found_state(row)
        kept.update(given_with(row, gives))
        self.rows.store.db.execute(
            "UPDATE vms SET state = ?, lcm_state = ?, wanted = ?, settled = 0, generation = generation + 1, orders = ?,"
            " seq = ?, error = '' WHERE id = ?",
            (state, lcm, wanted, compact(kept), row["seq"] if seq is None else seq, row["id"]),
        )
        if wanted != "DONE":
            self._close_console(row["id"])
        host = self.rows.host_names([row["id"]]).get(row["id"], "")
        self.rows.remember([(row["id"], host, vm_state_name(state, lcm), action, "")], self.now())

    def _close_console(self, vm_id: int) -> None:
        """Give a console without a password one, where the template leaves that to us: the machine was made by a
        version that made none up. The password counts when the machine is started anew."""
        row = self.rows.get(vm_id)
        body = vm_of(row)
        if body.graphics is not None and not body.graphics.password:
            closed = consoles.closed_at_last(body, leaves_password(request_of(row)))
            if closed != body:
                self.rows.write_body(vm_id, closed)
