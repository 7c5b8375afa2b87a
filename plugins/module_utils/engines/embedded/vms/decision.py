# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides about a machine: which state is wanted of it, and by which orders its node brings it there."""

from __future__ import annotations

import sqlite3

from ....errors import WrongState
from ....model.instantiate.graphics import wants_made_up_password
from ....model.machine_orders import NOTHING, Decision, HeldResources, LastingOrders, after_decision, lost_tasks, write
from ....model.plan import DiskTask
from ....model.states import LcmState, VmState, vm_state_name
from ...ports import VmOrders
from ..hosts import HELD, ROOMS
from . import generated_passwords
from .move_records import is_awaited, move_of
from .parts import Parts
from .vm_rows import orders_of, request_of, vm_of


def decide(
    parts: Parts,
    row: sqlite3.Row,
    way: LcmState | None,
    wanted: str,
    orders: VmOrders,
    action: str,
    seq: int | None = None,
    task: DiskTask | None = None,
    lasting: LastingOrders | None = None,
    gives: HeldResources = NOTHING,
) -> None:
    """Write a decision: a new generation of the machine, with orders for its node.
    way: what the machine does meanwhile, None if its state stays. seq: the number of its deployment file, None for
    the one that it has. task: one more thing to be done with a disk, besides those that are not done yet. lasting:
    what is to be done about its disks and NICs, None for what was decided before. gives: what the machine is to
    hold no more."""
    refuse_moving(parts, row, wanted)
    before = orders_of(row)
    parts.networks.held_leases.let_go(row["id"], before.detached_nics)
    state = VmState(row["state"]) if way is None else VmState.ACTIVE
    lcm = LcmState.LCM_INIT if way is None else way
    decision = Decision(
        wanted,
        vm_state_name(row["state"], row["lcm_state"]),
        parts.tasks.found_state(row),
        orders.operation,
        orders.hard,
        orders.shutdown_timeout,
        task,
        lasting,
        gives,
    )
    after = after_decision(before, row["generation"], decision)
    parts.tasks.abandon(lost_tasks(before, after))
    parts.store.db.execute(
        "UPDATE vms SET state = ?, lcm_state = ?, wanted = ?, settled = 0, generation = generation + 1, orders = ?,"
        " seq = ?, error = '' WHERE id = ?",
        (state, lcm, wanted, write(after), row["seq"] if seq is None else seq, row["id"]),
    )
    if "DONE" in (wanted, row["wanted"]):
        parts.store.drop(HELD, ROOMS)
    if wanted != "DONE":
        _close_console(parts, row["id"])
    host = parts.rows.host_names([row["id"]]).get(row["id"], "")
    parts.rows.remember([(row["id"], host, vm_state_name(state, lcm), action, "")], parts.now())


def refuse_moving(parts: Parts, row: sqlite3.Row, wanted: str = "") -> None:
    """Raise WrongState for a machine that moves: as long as nobody knows whose it is, or how it is there, nothing is
    decided about it; but it may be ended where it is known whose it is. Nothing at all is decided about one that its
    former host still runs."""
    if row["id"] in parts.polls.doubled:
        raise WrongState(f"VM {row['name']} (id {row['id']})", parts.polls.doubled[row["id"]])
    awaited = is_awaited(row) and wanted != "DONE"
    if row["move_host"] is None and not awaited:
        return
    move = move_of(row)
    raise WrongState(
        f"VM {row['name']} (id {row['id']})",
        f"it moves from host {move.source} to host {move.target}, and it is not known yet what became of that"
        + (f" ({row['error']})" if row["error"] else ""),
        "Run again, with both hosts in the run: they are asked, and nothing else is decided about it before",
    )


def _close_console(parts: Parts, vm_id: int) -> None:
    """Give a console without a password one, where the template leaves that to us: the machine was made by a
    version that made none up. The password counts when the machine is started anew."""
    row = parts.rows.get(vm_id)
    body = vm_of(row)
    if body.graphics is not None and not body.graphics.password:
        closed = generated_passwords.with_console_password_at_last(body, wants_made_up_password(request_of(row)))
        if closed != body:
            parts.rows.write_body(vm_id, closed)
