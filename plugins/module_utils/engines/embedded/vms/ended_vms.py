# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends machines: it says what becomes free with them, and what is held where their host was given up."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from ....model import machine_orders
from ....model.host import Host
from ....model.states import VmState
from ....model.transfer import SHARED
from ..hosts import HELD, PLACES, ROOMS
from ..images.returns import forget_host
from ..store import compact
from . import move_records
from .given_up import FORGOTTEN
from .parts import Parts
from .vm_rows import writes_files_only
from .waiting import EMPTY


def end(parts: Parts, row: sqlite3.Row, host: str, reason: str = "", held: str = EMPTY) -> None:
    """Note that a machine has ended on that host, and free all that it had.
    reason: why, if nobody asked for it.
    held: what it goes on to hold of its host, as vms.held has it, if it may run on there."""
    now = parts.now()
    parts.tasks.abandon(parts.tasks.pending(row))
    parts.images.uses.release(
        row["id"], written=True, back=parts.disk_hosts.return_operation(row), files_only=writes_files_only(row)
    )
    parts.networks.leases.release([row["id"]])
    parts.port_rows.drop_all(row["id"])
    parts.hosts.promise(row["host_id"], -row["memory"] - row["kept_memory"], -row["overhead"], -row["cpu"], -1)
    # No secret outlives the machine: its context and passwords go with it.
    parts.store.db.execute(
        "UPDATE vms SET state = ?, lcm_state = 0, settled = 1, etime = ?, error = '', orders = ?,"
        " request = '[]', body = ?, waits = '{}', held = ?, leaving = '{}', kept_memory = 0 WHERE id = ?",
        (VmState.DONE, now, machine_orders.EMPTY, compact(without_secrets(json.loads(row["body"]))), held, row["id"]),
    )
    parts.store.drop(HELD, ROOMS, PLACES)
    parts.rows.remember([(row["id"], host, "DONE", "terminate", reason)], now)


def forget(parts: Parts, host: Host, gone: bool) -> None:
    """End the machines of a host that is given up. gone: they run nowhere, and never will. Otherwise they may run on,
    and keep what no other machine could have beside them: their addresses, and the images that they write to. Machines
    that are on their way to it do not end: their former hosts have their disks."""
    if gone and host.id is not None:
        move_records.gone_for_good(parts, host.id, host.name)
    move_records.take_back_unfound(parts, host, gone)
    for row in parts.store.rows("SELECT * FROM vms WHERE host_id = ? AND state != 6", host.id):
        shared = [] if gone or host.transfer != SHARED else parts.images.uses.written_by(row["id"])
        if not gone:
            parts.given_ups.give_up(row["id"], host.name)
        end(parts, row, host.name, f"host {host.name} {FORGOTTEN}", EMPTY if gone else row["held"])
        parts.store.db.execute("UPDATE vms SET wanted = 'DONE' WHERE id = ?", (row["id"],))
        parts.images.disable(shared)
    if gone:
        parts.given_ups.gone(host.name)
    forget_host(parts.images.store, host.name)


def without_secrets(body: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a machine that has ended, by the plain form of it."""
    if body.get("context"):
        body["context"]["variables"] = {}
        body["context"]["files"] = []
    if body.get("graphics"):
        body["graphics"]["password"] = ""
    body["raw"] = {}
    if body.get("owner"):
        body["owner"]["attributes"] = {}
    for disk in body.get("disks", ()):
        disk["inject"] = []
    return body
