# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settles moves of machines to other hosts by what the two hosts answer.

A move is open as long as vms.move_host is set: both hosts hold what the machine needs, it is the source's, and nothing
else is decided about it. The first answer that tells whose the machine is decides; docs/architecture.md draws that. The
column vms.move keeps the newest move after that, so that late answers of either host are known for what they are."""

from __future__ import annotations

import json
import sqlite3

from ....dataclass import dataclass, replace
from ....errors import OtherHostFailed
from ....model import machine_orders
from ....model.dataclass_json import from_plain, to_plain
from ....model.host import Host
from ....model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
    LIVE,
    SOURCE,
    TARGET,
    Move,
    is_answer_of,
    owner_after,
)
from ....model.object_ids import id_of
from ....model.plan import VmOutcome
from ....model.states import LcmState, VmState, vm_state_name
from ....model.vm import Vm
from ..hosts import HELD, PLACES, ROOMS
from ..store import compact
from . import plan_guards
from .disk_task_rows import text_of
from .parts import Parts
from .vm_rows import orders_of, vm_of

# What the history calls a move, and what became of it.
ACTIONS = {LIVE: "live-migrate", COLD: "migrate"}
# States in which a host has a machine as a whole.
_FOUND = ("RUNNING", "POWEROFF", "SUSPENDED")
# Errors of this kind that are kept of a move: both hosts answer it, and are asked again.
_MOST_LITTLE = 8


@dataclass(frozen=True)
class Settled:
    """Says what an answer came to.
    touched: the machine is another than it was.
    outcome: what is to be recorded as that of any decision; None for nothing.
    reason: stands in place of the error of that outcome, "" for that."""

    touched: bool = False
    outcome: VmOutcome | None = None
    reason: str = ""


def move_of(row: sqlite3.Row) -> Move:
    """Return the newest move of a machine that has ever moved, or was to."""
    return from_plain(Move, json.loads(row["move"]))


def write(parts: Parts, vm_id: int, move: Move) -> None:
    parts.store.db.execute("UPDATE vms SET move = ? WHERE id = ?", (compact(to_plain(move)), vm_id))


def as_at_target(vm: Vm, move: Move) -> Vm:
    """Return the machine as it is to be on the target of its move, with what that host gives it."""
    if vm.graphics is not None:
        vm = replace(vm, graphics=replace(vm.graphics, port=move.port))
    return vm if move.numa is None else replace(vm, numa=move.numa, topology=move.topology)


def role_in(move: Move, host: str) -> str:
    """Return the role of a host in a move, "" for another host."""
    return SOURCE if host == move.source else TARGET if host == move.target else ""


def is_awaited(row: sqlite3.Row) -> bool:
    """Return whether it is known whose the machine is after a move, and that host has not said in which state it has
    it."""
    if not row["move"] or row["move_host"] is not None or row["settled"]:
        return False
    return bool(row["generation"] == move_of(row).generation + 1)


def why_foreign(row: sqlite3.Row, outcome: VmOutcome, host: str) -> str | None:
    """Return what is wrong with an answer about a machine by its newest move; "" if the host may answer so, and None
    if the move does not tell.
    row: move, generation, and the name of its host, as `host`."""
    move = move_of(row) if row["move"] else None
    role = role_in(move, host) if move is not None else ""
    if outcome.moved and not role:
        return f"{outcome.moved!r}, and it has no part in a move of it"
    if outcome.moved and not is_answer_of(role, outcome.moved):
        return f"{outcome.moved!r}, which only the other host of its move can say"
    # Until it moved it was the source's, and both may tell of the move.
    if move is not None and role and outcome.generation <= move.generation:
        return ""
    return None


def settle(parts: Parts, row: sqlite3.Row, outcome: VmOutcome, host: str) -> Settled:
    """Take over what a host says of a machine that moves or has moved."""
    move = move_of(row)
    role = role_in(move, host)
    if role:
        move = _learn(parts, row, move, outcome)
    if row["move_host"] is not None:
        if not role or outcome.generation != row["generation"]:
            return Settled()
        return _decide(parts, row, _hear(parts, row, move, role, outcome), role, outcome)
    own = row["host_id"] is not None and parts.hosts.by_id()[row["host_id"]].name == host
    if is_awaited(row) and role and outcome.generation in (move.generation, row["generation"]):
        return _confirm(parts, row, _hear(parts, row, move, role, outcome), role, outcome, own)
    if own:
        if role == TARGET and outcome.state in _FOUND:
            # Its first start there may have failed, and this be a later one.
            _free_former(parts, row, move)
        return Settled(outcome=replace(outcome, moved=""))
    # What another host did while it had the machine is no decision of now; what it says of the move may be told.
    decided = row["settled"] and outcome.generation == row["generation"] == move.generation
    return _second(parts, row, move, role, outcome) if decided and role else Settled()


def _learn(parts: Parts, row: sqlite3.Row, move: Move, outcome: VmOutcome) -> Move:
    """Return the move with what is to be known of this answer, whatever becomes of it: that all of the machine has
    come, and that its error says little."""
    is_of_now = outcome.generation in (move.generation, row["generation"])
    if outcome.moved == HAS_ARRIVED and is_of_now and not move.arrived:
        move = replace(move, arrived=True)
        write(parts, row["id"], move)
    error, text = outcome.error, text_of(outcome.error)
    if error is None or text in move.little:
        return move
    if error.get("kind") != OtherHostFailed.__name__ and error.get("found", "").strip():
        return move
    move = replace(move, little=(*move.little, text)[-_MOST_LITTLE:])
    write(parts, row["id"], move)
    return move


def _hear(parts: Parts, row: sqlite3.Row, move: Move, role: str, outcome: VmOutcome) -> Move:
    """Return the move with what went wrong by this answer: the answer that settles it may say less of that."""
    error, known = text_of(outcome.error), move.source_error if role == SOURCE else move.target_error
    of_move = outcome.moved or outcome.generation == move.generation
    if not of_move or not error or (_is_little(move, error) and known):
        return move
    move = replace(move, source_error=error) if role == SOURCE else replace(move, target_error=error)
    write(parts, row["id"], move)
    return move


def _why_it_failed(move: Move) -> str:
    """Return why a move was given up, by both hosts: "" if neither says so."""
    errors = [error for error in (move.source_error, move.target_error) if error]
    return next((error for error in errors if not _is_little(move, error)), errors[0] if errors else "")


def _decide(parts: Parts, row: sqlite3.Row, move: Move, role: str, outcome: VmOutcome) -> Settled:
    """Take over the first answer that tells whose the machine is, or that a host can't say so."""
    owner = owner_after(outcome.moved)
    error = text_of(outcome.error)
    if owner is None:
        return Settled(_note_doubt(parts, row, move, role, _doubt(move, role, error)))
    if owner == TARGET:
        _hand_over(parts, row, move, found=role == TARGET and _is_brought(row, move, outcome))
    else:
        _give_up(parts, row, move)
    if owner == role and _is_brought(row, move, outcome):
        _note_found(parts, row, move)
        ordinary = _as_ordinary(move, owner, outcome, row["generation"])
        if _is_switched_off(move, outcome):
            return Settled(True, ordinary, _of_switched_off(move))
        return Settled(True, ordinary, _why_it_failed(move) if owner == SOURCE else "")
    if owner == SOURCE:
        # A host may have said before why the move can't be.
        error = _why_it_failed(move) if role == SOURCE else move.target_error
    if owner != role:
        # The answers of both hosts come to the same in either order.
        if owner == TARGET:
            error = _of_left(move, move.target_doubt)
        elif _is_little(move, error):
            error = _of_absent(move, move.source_doubt) if move.source_doubt else error or _of_absent(move)
    _await(parts, row, move, owner, error)
    return Settled(True)


def _confirm(parts: Parts, row: sqlite3.Row, move: Move, role: str, outcome: VmOutcome, own: bool) -> Settled:
    """Take over an answer about a machine of which it is decided whose it is, and not known yet how it is there."""
    error = text_of(outcome.error)
    if not own:
        tells = role == TARGET or bool(outcome.moved)
        says_more = tells and _is_little(move, row["error"]) and not _is_little(move, error)
        return Settled(says_more and _note(parts, row, error))
    if outcome.moved in (HAS_LEFT, IS_ABSENT):
        return _lose(parts, row, move)
    if outcome.generation != row["generation"] and not outcome.moved:
        # In the round of the move itself it could not tell.
        doubt = _doubt(move, role, error)
        if role == TARGET:
            return Settled(_note(parts, row, _of_left(move, doubt)))
        return Settled(_is_of_absent(row["error"], move) and _note(parts, row, _of_absent(move, doubt)))
    of_move = outcome.moved or outcome.state == "UNKNOWN"
    if of_move and not _is_brought(row, move, outcome):
        if outcome.moved == HAS_ARRIVED:
            return Settled(_note(parts, row, error))
        better = error and (not row["error"] or not _is_little(move, error))
        return Settled(bool(better) and _note(parts, row, error))
    # A move that was given up has failed, however well the machine does where it was.
    reason = ""
    if role == SOURCE and (_is_little(move, error) or outcome.moved):
        before = "" if row["error"].startswith(_not_moved(move)) else row["error"]
        known = [text for text in (_why_it_failed(move), before) if text]
        reason = next((text for text in known if not _is_little(move, text)), known[0] if known else "")
    if _is_switched_off(move, outcome):
        reason = _of_switched_off(move)
    if role == SOURCE or outcome.state in _FOUND:
        _free_former(parts, row, move)
    if outcome.moved:
        outcome = _as_ordinary(move, role, outcome, row["generation"])
    return Settled(True, outcome, reason)


def _second(parts: Parts, row: sqlite3.Row, move: Move, role: str, outcome: VmOutcome) -> Settled:
    """Take over what the host without the machine says after the other one's answer has settled its move."""
    error = text_of(outcome.error)
    if outcome.moved in (HAS_STAYED, HAS_ARRIVED):
        host = parts.hosts.by_id()[row["host_id"]].name
        error = (
            f"host {move.source} and host {move.target} both say that they have it, and the catalog has it on host "
            f"{host}: look at both before anything else is done about it"
        )
        return Settled(_note(parts, row, error))
    # Both have failed: what is kept is the error that says why.
    says_more = (bool(error) and not row["error"]) or (_is_little(move, row["error"]) and not _is_little(move, error))
    return Settled(role == TARGET and says_more and _note(parts, row, error))


def _is_brought(row: sqlite3.Row, move: Move, outcome: VmOutcome) -> bool:
    """Return whether the host of the machine need not be told to bring it into its state: it is in that, was switched
    off by its guest, or failed in a way that another plan does not mend by itself."""
    if _is_switched_off(move, outcome):
        return True
    if outcome.error is None:
        return bool(outcome.state == row["wanted"])
    return row["wanted"] != "RUNNING" or outcome.state not in ("POWEROFF", "UNKNOWN")


def _is_switched_off(move: Move, outcome: VmOutcome) -> bool:
    """Return whether a machine that stays where it was is off, and not for the move: no move live powers it off. Of one
    that went off with its host, that host says UNKNOWN."""
    return move.way == LIVE and outcome.moved == HAS_STAYED and outcome.state == "POWEROFF"


def _as_ordinary(move: Move, owner: str, outcome: VmOutcome, generation: int) -> VmOutcome:
    """Return the answer as that of any decision. A machine that was started anew at the target is what it is to be; one
    that ran on, or is where it was, has what it had."""
    anew = owner == TARGET and move.way == COLD and outcome.error is None
    if _is_switched_off(move, outcome):
        # It is as if a poll had found it so: that the move failed changes nothing of what is wanted of it.
        outcome = replace(outcome, error=None)
    return replace(
        outcome, generation=generation, moved="", fitted=anew, waits=False if anew else outcome.waits, stays=()
    )


def _hand_over(parts: Parts, row: sqlite3.Row, move: Move, found: bool) -> None:
    """Make the machine the target's: what it needs there is held already. found: the target has said that it has it.
    Else it keeps its port at the source, and the processors and memory that it had there to itself, until the target
    does: nobody else gets them."""
    vm_id, source = row["id"], row["host_id"]
    parts.hosts.promise(source, -row["memory"] - row["kept_memory"], -row["overhead"], -row["cpu"], -1)
    if found:
        parts.port_rows.drop_of_host(vm_id, source)
        _free_at_source(parts, vm_id, move)
    else:
        parts.port_rows.hold(vm_id, source)
    vm = vm_of(row)
    if as_at_target(vm, move) != vm:
        parts.rows.write_body(vm_id, as_at_target(vm, move))
    parts.store.db.execute(
        "UPDATE vms SET host_id = move_host, move_host = NULL, overhead = ?, away = ? WHERE id = ?",
        (move.overhead, "" if move.away == move.target else move.away, vm_id),
    )
    plan_guards.forget(parts.store, source)
    parts.store.drop(HELD, ROOMS, PLACES)


def _free_former(parts: Parts, row: sqlite3.Row, move: Move) -> None:
    """Free what the machine holds on that host of a decided move which does not have it."""
    parts.port_rows.drop_of_host(row["id"], _other_id(parts, row, move))
    _free_at_source(parts, row["id"], move)


def _free_at_source(parts: Parts, vm_id: int, move: Move) -> None:
    """Note that the machine needs nothing more of its former host than it has there as any other machine."""
    if move.source_numa is not None:
        write(parts, vm_id, replace(move, source_numa=None, source_topology=None))
        parts.store.drop(PLACES)


def _give_up(parts: Parts, row: sqlite3.Row, move: Move) -> None:
    """Leave the machine where it was: what was held for it at the target is free."""
    target = row["move_host"]
    parts.hosts.promise(target, -row["memory"] - row["kept_memory"], -move.overhead, -row["cpu"], -1)
    parts.port_rows.drop_of_host(row["id"], target)
    parts.store.db.execute("UPDATE vms SET move_host = NULL WHERE id = ?", (row["id"],))
    plan_guards.forget(parts.store, target)
    parts.store.drop(HELD, ROOMS, PLACES)


def _take_back(parts: Parts, row: sqlite3.Row, move: Move) -> None:
    """Make a machine the source's again of which the target says that it does not have it."""
    source = next((host for host in parts.hosts.pool() if host.name == move.source), None)
    if source is None or source.id == row["host_id"]:
        return
    vm = vm_of(row)
    held, overhead = row["memory"] + row["kept_memory"], source.overhead.of(row["memory"], vm.most_vcpus)
    parts.hosts.promise(row["host_id"], -held, -row["overhead"], -row["cpu"], -1)
    parts.hosts.promise(id_of(source), held, overhead, row["cpu"], 1)
    port = parts.port_rows.only_on(row["id"], id_of(source))
    had = vm
    if vm.graphics is not None and port:
        vm = replace(vm, graphics=replace(vm.graphics, port=port))
    if move.source_numa is not None:
        vm = replace(vm, numa=move.source_numa, topology=move.source_topology)
        _free_at_source(parts, row["id"], move)
    if vm != had:
        parts.rows.write_body(row["id"], vm)
    parts.store.db.execute(
        "UPDATE vms SET host_id = ?, overhead = ?, away = CASE away WHEN ? THEN '' ELSE away END WHERE id = ?",
        (source.id, overhead, source.name, row["id"]),
    )
    plan_guards.forget(parts.store, row["host_id"])
    parts.store.drop(HELD, ROOMS, PLACES)


def _await(parts: Parts, row: sqlite3.Row, move: Move, owner: str, why: str) -> None:
    """Have the machine's host bring it into the state that is wanted of it, by its next plan. It is a decision of its
    own: what this host still says of the move counts only if that is so already."""
    vm_id, starts = row["id"], row["wanted"] == "RUNNING"
    lcm = LcmState.UNKNOWN if owner == SOURCE else LcmState.BOOT_MIGRATE if starts else LcmState(row["lcm_state"])
    parts.store.db.execute(
        "UPDATE vms SET settled = 0, generation = generation + 1, state = ?, lcm_state = ?, error = ? WHERE id = ?",
        (VmState.ACTIVE, lcm, why, vm_id),
    )
    _note_found(parts, row, move)
    host = move.target if owner == TARGET else move.source
    parts.rows.remember([(vm_id, host, lcm.name, ACTIONS[move.way], why)], parts.now())


def _note_found(parts: Parts, row: sqlite3.Row, move: Move) -> None:
    """Note that a machine which was powered off to move is not as it was found before: it is started anew."""
    if move.way == COLD:
        text = machine_orders.write(replace(orders_of(row), found="POWEROFF"))
        parts.store.db.execute("UPDATE vms SET orders = ? WHERE id = ?", (text, row["id"]))


def _lose(parts: Parts, row: sqlite3.Row, move: Move) -> Settled:
    """Note that neither host has the machine as it ran, by what they say. Its disks are where it was: nothing is
    cleared away before it was found where it went. Nobody starts it from these but by a user's word."""
    why = (
        f"host {move.source} says that it has left for host {move.target}, and that it is not there; state: running "
        f"starts it again from its disks on host {move.source}"
    )
    _leave_to_user(parts, row, move, why)
    return Settled(True)


def take_back_unfound(parts: Parts, host: Host, gone: bool) -> None:
    """Leave machines that have left for a host, and were not found there before that is given up, to the hosts that
    they come from: their disks are there. It is called before the machines of that host end.
    gone: the host is gone for good with all on it. Otherwise it may run them."""
    known = {each.name for each in parts.hosts.pool()} - {host.name}
    for row in parts.store.rows("SELECT * FROM vms WHERE host_id = ? AND state != 6 AND move != ''", host.id):
        move = move_of(row)
        if row["move_host"] is not None or move.target != host.name or move.source not in known:
            continue
        if is_concluded(parts, row):
            continue
        lost = (
            f"host {host.name} is gone for good, and it was not found there after it had left host {move.source}: "
            if gone
            else f"host {host.name} was forgotten before it was found there, and may run it: once it is known that it "
            "does not, "
        )
        # A host that hears that all has come removes what it has.
        doubt = f", if that has them still: look there first, it may have removed what arrived on host {host.name}"
        why = (
            f"{lost}state: running starts it again from its disks on host {move.source}{doubt if move.arrived else ''}"
        )
        _leave_to_user(parts, row, move, why)


def _leave_to_user(parts: Parts, row: sqlite3.Row, move: Move, why: str) -> None:
    """Make a machine the source's again, where nobody starts it but by a user's word."""
    _take_back(parts, row, move)
    before = orders_of(row)
    orders = machine_orders.write(machine_orders.after_outcome(before, row["generation"], failed=True, done=False))
    parts.store.db.execute(
        "UPDATE vms SET settled = 1, state = ?, lcm_state = ?, error = ?, orders = ? WHERE id = ?",
        (VmState.ACTIVE, LcmState.UNKNOWN, why, orders, row["id"]),
    )
    parts.rows.remember([(row["id"], move.source, "UNKNOWN", ACTIONS[move.way], why)], parts.now())


def note_silence(parts: Parts, host: str) -> list[int]:
    """Note on the machines that move from or to a host that it did not answer. Return their ids."""
    noted = []
    for row in parts.store.rows("SELECT * FROM vms WHERE move_host IS NOT NULL ORDER BY id"):
        move = move_of(row)
        role = role_in(move, host)
        if role and _note_doubt(parts, row, move, role, f"host {host} did not answer"):
            noted.append(row["id"])
    return noted


def gone_for_good(parts: Parts, host_id: int, name: str) -> None:
    """Decide all open moves in which a host takes part that is gone for good with all on it. It is called before its
    machines end. What it had sent may not be whole: nobody starts that but by a user's word."""
    rows = parts.store.rows("SELECT * FROM vms WHERE move_host IS NOT NULL AND ? IN (host_id, move_host)", host_id)
    for row in rows:
        move = move_of(row)
        if row["move_host"] == host_id:
            _give_up(parts, row, move)
            _await(parts, row, move, SOURCE, f"host {name}, to which it was to move, is gone for good")
            continue
        _hand_over(parts, row, move, found=True)
        why = (
            f"host {name}, from which it was moving, is gone for good, and what host {move.target} has of it may not "
            "be whole; state: running starts it from that"
        )
        parts.store.db.execute(
            "UPDATE vms SET settled = 1, generation = generation + 1, state = ?, lcm_state = ?, error = ?, orders = ?"
            " WHERE id = ?",
            (VmState.ACTIVE, LcmState.UNKNOWN, why, machine_orders.EMPTY, row["id"]),
        )
        parts.rows.remember([(row["id"], move.target, "UNKNOWN", ACTIONS[move.way], why)], parts.now())


def has_come(row: sqlite3.Row) -> bool:
    """Return whether a machine was found on the host that has it by now: what its former host keeps is of no use."""
    return vm_state_name(row["state"], row["lcm_state"]) in _FOUND


def is_concluded(parts: Parts, row: sqlite3.Row) -> bool:
    """Return whether a machine was ever found at the target of its newest move, or a user has ended it since that was
    decided: what its source keeps is of no use. As long as a target does not answer, its state does not tell that."""
    return (
        parts.store.row(
            "SELECT 1 FROM history WHERE vm_id = ? AND (action = 'done' OR (host = ? AND state IN (?, ?, ?)))"
            " AND step > (SELECT max(step) FROM history WHERE vm_id = ? AND action IN (?, ?))",
            *(row["id"], move_of(row).target, *_FOUND, row["id"], *ACTIONS.values()),
        )
        is not None
    )


def _note(parts: Parts, row: sqlite3.Row, error: str) -> bool:
    """Write an error, and return whether it is another than there was."""
    if row["error"] == error:
        return False
    parts.store.db.execute("UPDATE vms SET error = ? WHERE id = ?", (error, row["id"]))
    return True


def _note_doubt(parts: Parts, row: sqlite3.Row, move: Move, role: str, doubt: str) -> bool:
    """Note why a host does not tell whose the machine is. Return whether that is another reason than before."""
    move = replace(move, source_doubt=doubt) if role == SOURCE else replace(move, target_doubt=doubt)
    write(parts, row["id"], move)
    still = (
        f"it is not known whether it has moved from host {move.source} to host {move.target}, and it is started "
        "nowhere until both were asked"
    )
    return _note(parts, row, f"{still}: {'; '.join(filter(None, (move.source_doubt, move.target_doubt)))}")


def _doubt(move: Move, role: str, error: str) -> str:
    host = move.source if role == SOURCE else move.target
    return f"host {host} can't say yet what became of it" + (f" ({error})" if error else "")


def _of_switched_off(move: Move) -> str:
    why = _why_it_failed(move)
    return f"it went off on host {move.source} while it was to move to host {move.target}, and stays off there" + (
        "" if _is_little(move, why) else f" ({why})"
    )


def _of_left(move: Move, doubt: str) -> str:
    return f"it has left host {move.source}, and " + (doubt or f"host {move.target} has not answered that it has it")


def _of_absent(move: Move, doubt: str = "") -> str:
    return _not_moved(move) + (f"and {doubt}" if doubt else "which does not have it")


def _not_moved(move: Move) -> str:
    return f"it has not moved to host {move.target}, "


def _is_of_absent(error: str, move: Move) -> bool:
    return _is_little(move, error) or error == _of_absent(move)


def _other_id(parts: Parts, row: sqlite3.Row, move: Move) -> int | None:
    """Return the id of that host of a decided move which does not have the machine; None if it is no more."""
    ids = (number for number, host in parts.hosts.by_id().items() if role_in(move, host.name))
    return next((number for number in ids if number != row["host_id"]), None)


def _is_little(move: Move, text: str) -> bool:
    """Return whether an error does not say why the move failed: it is one that is known as such, or holds it as its
    reason. Any part of a sentence may be what a host has given for one."""
    return not text or any(text == little or f"({little})" in text for little in move.little)
