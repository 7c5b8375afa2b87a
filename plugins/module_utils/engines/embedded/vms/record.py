# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what nodes did: the outcome of each decision is written, and what was held for it becomes free."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Sequence

from ....errors import ForeignObject, StalePlan
from ....model import machine_orders
from ....model.image_operations import Return
from ....model.plan import VmOutcome
from ....model.states import VmState
from ...ports import VmRecord
from ..hosts import HELD, ROOMS
from . import leaving_devices, move_records, plan_guards, transitions, vm_records, waiting
from .disk_task_rows import text_of
from .ended_vms import end
from .parts import Parts
from .vm_rows import WITH_MEMORY, orders_of, writes_files_only


def record(parts: Parts, host: str, outcomes: Sequence[VmOutcome] | None, done_number: int = 0) -> list[VmRecord]:
    """Take over what a node did, and return the machines that moved. Raise ForeignObject, and take over nothing,
    if it tells of what was not planned for it. outcomes: None if it did not answer. done_number: see VmsPort."""
    if outcomes is None:
        return _record_silence(parts, host)
    _refuse_foreign(parts, host, outcomes, done_number)
    parts.store.db.execute(
        "INSERT INTO meta SELECT 'recorded/' || id, ? FROM hosts WHERE name = ? AND ? > 0"
        " ON CONFLICT (key) DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))",
        (done_number, host, done_number),
    )
    plan_guards.carried_out(parts.store, host, done_number)
    touched = []
    for outcome in outcomes:
        row = parts.store.row("SELECT * FROM vms WHERE id = ?", outcome.vm_id)
        if row is not None and row["state"] == VmState.DONE and outcome.is_of_given_up and outcome.error is None:
            parts.given_ups.ended(outcome.vm_id)
        if outcome.error is not None and outcome.error.get("kind") == StalePlan.__name__:
            continue  # the run whose plan is newer does it, and records it
        if row is not None and row["move"]:
            touched += [outcome.vm_id] if _record_move(parts, row, outcome, host) else []
        elif row is not None and _is_newest(row, outcome):
            touched.append(outcome.vm_id)
            _record_outcome(parts, row, outcome, host)
    return vm_records.pool(parts, ids=touched, done=True)


def _is_newest(row: sqlite3.Row, outcome: VmOutcome) -> bool:
    """Return whether the outcome is to be recorded. If the machine was decided anew since, the newer decision's own
    outcome counts."""
    return bool(outcome.generation == row["generation"] and not row["settled"])


def _record_move(parts: Parts, row: sqlite3.Row, outcome: VmOutcome, host: str) -> bool:
    """Take over what a host says of a machine that moves, or has moved since there is this catalog. Return whether the
    machine is another than it was."""
    settled = move_records.settle(parts, row, outcome, host)
    row, ordinary = parts.rows.get(outcome.vm_id), settled.outcome
    if ordinary is None or not _is_newest(row, ordinary):
        return settled.touched
    _record_outcome(parts, row, ordinary, host)
    if settled.reason:
        parts.store.db.execute("UPDATE vms SET error = ? WHERE id = ?", (settled.reason, row["id"]))
    return True


def _refuse_foreign(parts: Parts, host: str, outcomes: Sequence[VmOutcome], done_number: int) -> None:
    newest = int(parts.store.meta("plan"))
    if done_number > newest:
        raise _foreign(host, f"plan {done_number}, and the newest that was made is {newest}")
    seen: set[int] = set()
    for outcome in outcomes:
        row = parts.store.row(
            "SELECT vms.generation, vms.state, vms.move, hosts.name AS host, given_up.host AS left_on FROM vms"
            " LEFT JOIN hosts ON hosts.id = host_id LEFT JOIN given_up ON vm_id = vms.id WHERE vms.id = ?",
            outcome.vm_id,
        )
        what = f"machine {outcome.vm_id}"
        if row is None:
            raise _foreign(host, f"{what}, which the catalog does not have")
        if row["left_on"] not in (None, host):
            raise _foreign(host, f"{what}, which was given up with host {row['left_on']}")
        moved = move_records.why_foreign(row, outcome, host) if row["move"] or outcome.moved else None
        if moved:
            raise _foreign(host, f"{what}: {moved}")
        if row["left_on"] is None and row["host"] not in (None, host) and moved is None:
            raise _foreign(host, f"{what}, which is on host {row['host']}")
        if outcome.generation > row["generation"]:
            raise _foreign(host, f"{what}, of a decision that nobody has made ({outcome.generation})")
        if outcome.vm_id in seen:
            raise _foreign(host, f"{what} twice")
        seen.add(outcome.vm_id)


def _record_outcome(parts: Parts, row: sqlite3.Row, outcome: VmOutcome, host: str) -> None:
    """Take over what became of a decision about one machine."""
    parts.tasks.record(row, outcome, Return(away) if (away := parts.disk_hosts.host_with_newest(row)) else None)
    if outcome.state == "DONE":
        end(parts, row, host)
        return
    before, failed = orders_of(row), outcome.error is not None
    done = machine_orders.is_done(before, failed, outcome.fitted)
    refused = failed and before.recreates and outcome.state in ("RUNNING", "POWEROFF")
    if outcome.state != "PROLOG_FAILURE" and (done or not before.grown) and not (refused or outcome.untouched):
        # Nodes make and grow disks first: even where something else failed, these have their SIZE.
        parts.images.uses.grow(outcome.vm_id, functools.partial(_sizes, row["body"]))
    if (outcome.waits is False and not failed) or outcome.state == "POWEROFF":
        waiting.drop(parts, row)
    elif done:
        waiting.drop_devices(parts, row)
    if done:
        parts.networks.held_leases.let_go(row["id"], before.detached_nics)
        if before.detached:
            parts.images.uses.release(
                row["id"],
                written=True,
                back=parts.disk_hosts.return_operation(row),
                disks=before.detached,
                files_only=writes_files_only(row),
            )
        parts.networks.held_leases.release_kept(row["id"])
        parts.images.uses.release_kept(row["id"])
    runs = failed and not done and outcome.state == "RUNNING" and outcome.waits is not False
    lasting = leaving_devices.take_back(parts, row, outcome.stays, outcome.untouched) if runs else None
    if done or not failed or outcome.state == "POWEROFF":
        leaving_devices.forget(parts, row)
    if done and (before.recreates or parts.tasks.found_state(row) not in WITH_MEMORY):
        parts.port_rows.drop_held(row["id"])
    anew = before.operation or parts.tasks.found_state(row) not in WITH_MEMORY
    if outcome.error is None and anew:
        transitions.drop_former(parts, row["id"])
    error = text_of(outcome.error)
    transitions.write_states(parts, [(outcome.vm_id, outcome.state, error)], "deploy")
    # A state that could not be reached is not wanted for ever: a guest that ignored its shutdown is RUNNING.
    # One that was not made anew is as it was, and still to be made anew.
    as_found = outcome.error is None or (refused and outcome.state == "POWEROFF" and row["wanted"] != "DONE")
    wanted = row["wanted"] if as_found else _state_wanted_now(parts, outcome.state, row)
    if wanted == "DONE":
        return  # it is half taken away: every plan contains it until it is gone
    if row["wanted"] == "DONE":
        parts.store.drop(HELD, ROOMS)
    left = machine_orders.write(machine_orders.after_outcome(before, row["generation"], failed, done, lasting))
    parts.store.db.execute(
        "UPDATE vms SET settled = 1, wanted = ?, error = ?, orders = ? WHERE id = ?",
        (wanted, error, left, outcome.vm_id),
    )


def _state_wanted_now(parts: Parts, state: str, row: sqlite3.Row) -> str:
    """Return the state that is wanted of a machine which failed to reach another. A machine that lives on is
    wanted as it is, unless another has its name by now."""
    if state not in ("RUNNING", "POWEROFF", "SUSPENDED"):
        return str(row["wanted"])
    if row["wanted"] == "DONE" and vm_records.pool(parts, names=[row["name"]]):
        return "DONE"
    return state


def _record_silence(parts: Parts, host: str) -> list[VmRecord]:
    """Note on the machines for which the host had orders that it did not answer."""
    text = f"host {host} did not answer"
    rows = parts.store.rows(
        "SELECT vms.id FROM vms JOIN hosts ON hosts.id = vms.host_id"
        # Why a move has failed says more, where that is what is left to be done.
        " WHERE hosts.name = ? AND settled = 0 AND vms.error != ? AND move_host IS NULL AND (move = '' OR error = '')",
        host,
        text,
    )
    for row in rows:
        parts.store.db.execute("UPDATE vms SET error = ? WHERE id = ?", (text, row["id"]))
    return vm_records.pool(parts, ids=[*(row["id"] for row in rows), *move_records.note_silence(parts, host)])


def _foreign(host: str, what: str) -> ForeignObject:
    return ForeignObject(
        f"host {host}: what it says it did",
        f"it tells of {what}",
        "Nothing of its answer was taken over. Find out who else has power over this host before it is used again",
    )


def _sizes(body: str) -> dict[int, int]:
    """Return by disk id the MB of the disks that a machine writes to."""
    return {disk["disk_id"]: disk["size"] for disk in json.loads(body)["disks"] if not disk["readonly"]}
