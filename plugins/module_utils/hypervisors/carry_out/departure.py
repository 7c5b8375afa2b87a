# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a machine away to another host. It is this host's until the ledger says LEFT; from then on nothing here starts
it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

from ...dataclass import replace
from ...errors import Conflict, HypervisorError, NebulaError, NotFound, OtherHostFailed, WrongState
from ...host import vm_log
from ...host.console import console_log
from ...host.files import remove_file, write_atomically
from ...host.node_file import boot_id
from ...model.dataclass_json import to_plain
from ...model.disk import DiskFiles
from ...model.move import CLEARED, COLD, HAS_LEFT, HAS_STAYED, LEAVING, LEFT, LIVE, OVER, STAYED, PlannedMove
from ...model.plan import PlannedVm
from ...storage import disk_creation, machine_disks
from ...storage.datastore_layout import disk_path
from ..base import Departure
from ..moves import file_streams, node_moves
from ..moves.node_moves import NodeMove
from ..moves.passage import WORD_SECONDS, Caller, Channel, Identity
from . import autostart, fence, moved_roots, removal, state_changes
from .job import Job
from .shutdown import stop

# Bytes of its console's end, and of its log's, that come along.
MOST_LOG = 4 << 20
LOGS = (console_log.NAME, vm_log.NAME)
# Seconds for the other host to bring to its disk what it has, and to look what a machine needs there.
ANSWER_SECONDS = WORD_SECONDS


def entry_of(job: Job, move: PlannedMove, stage: str, shared: bool) -> NodeMove:
    vm, catalog = job.vm, job.common.plan.catalog
    return NodeMove(vm.vm_id, vm.uuid, move.token, stage, catalog, move.way, shared, boot_id())


def proof_of_sharing(job: Job, move: PlannedMove) -> str:
    """Return the file by which the other host knows that it sees the same directory. A run that was broken off leaves
    it to the next one, which removes it by its name."""
    return job.path(f".{move.token}.tmp")


def leave(job: Job, move: PlannedMove, identity: Identity) -> str:
    """Move the machine to the other host. Return HAS_LEFT. An error means that it has stayed, unless the ledger says
    LEFT by then."""
    asked = f"virtual machine {job.vm.name}: move to host {move.peer}"
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    if entry is not None and entry.token == move.token:
        # The same plan comes again: what it has done is done.
        return what_became(job, move)
    if entry is not None and entry.stage not in OVER:
        raise Conflict(asked, "another move of it is not settled here", "Run again: this is settled first")
    state = job.common.driver.state(job.mark)
    job.stage = state or "POWEROFF"
    if state != "RUNNING" and (move.way == LIVE or state not in (None, "POWEROFF")):
        raise WrongState(asked, f"it is {state or 'not there'}", "Run again, which brings it to the wanted state first")
    caller = Caller(identity, move.token, move.address, move.port, move.certificate, asked)
    try:
        channel = caller.meet(move.meeting)
    except NebulaError:
        _note(job, move, STAYED)
        raise
    try:
        _note(job, move, LEAVING)
        try:
            _give(job, move, caller, channel, state)
        except BaseException:
            _stay(job, move, channel, state)
            raise
        _clear(job, move, channel)
    finally:
        channel.close()
    return HAS_LEFT


def _note(job: Job, move: PlannedMove, stage: str, shared: bool | None = None) -> None:
    """Write the stage into the ledger. shared: None for what the ledger says already."""
    if shared is None:
        entry = node_moves.read(job.common.root, job.vm.vm_id)
        shared = entry is not None and entry.token == move.token and entry.shared
    node_moves.write(job.common.root, replace(entry_of(job, move, stage, shared), went_down=job.went_down))


def _give(job: Job, move: PlannedMove, caller: Caller, channel: Channel, state: str | None) -> None:
    """Bring the machine to the other host, and write that it has left."""
    limit = time.monotonic() + move.limit
    own = machine_disks.own_disks(job.vm, job.directory, job.common.transfer.find)
    roots = moved_roots.own(job)
    elsewhere = job.common.driver.state_elsewhere(job.vm)
    offer = job.common.driver.offer(job.mark) if move.way == LIVE else ""
    proof = proof_of_sharing(job, move)
    write_atomically(proof, move.token, mode=0o600)
    try:
        channel.send(
            way=move.way,
            definition=offer,
            processor=job.common.driver.processor_offered(offer) if offer else "",
            record=to_plain(job.record),
            disks=[
                *(_described(number, file) for number, file in sorted(own.items())),
                *moved_roots.described(job, roots),
            ],
        )
        shared = _answer(channel, "shared", move)["shared"] is True
    finally:
        remove_file(proof)
    if shared:
        own = {}
        _note(job, move, LEAVING, shared)
    channel.send(go=True)
    for name in LOGS if not shared else ():
        # One that is rotated meanwhile does not come along.
        if os.path.isfile(job.path(name)):
            with contextlib.suppress(NotFound):
                file_streams.send(channel, name, job.path(name), limit, MOST_LOG)
    if move.way == LIVE:
        if job.vm.context is not None and not shared:
            name = os.path.basename(disk_path(job.directory, job.vm.context.disk_id))
            file_streams.send(channel, name, job.path(name), limit)
        channel.send(sent=True)
        accepted = _answer(channel, "definition", move)
        fence.check_current(job)
        _keep_off(job)
        job.log("LCM", "I", "New VM state is MIGRATE")
        departure = Departure(
            move.token,
            str(accepted["definition"]),
            tuple(own),
            caller,
            move.limit,
            channel.is_closed,
            lambda: _send_held(job, move, channel, roots, limit),
        )
        job.common.driver.depart(job.vm, job.mark, departure)
        # It is nowhere else by now: what the other host says to that changes nothing.
        with contextlib.suppress(NebulaError):
            channel.send(moved=True)
            _answer(channel, "kept", move)
    else:
        fence.check_current(job)
        _keep_off(job)
        if state == "RUNNING":
            stop(job, state, "SHUTDOWN_POWEROFF")
            job.moved("DIM", "POWEROFF")
        job.common.driver.let_go(job.mark)
        job.log("LCM", "I", "New VM state is PROLOG_MIGRATE_POWEROFF")
        if elsewhere is not None:
            # Also where both hosts see the same directory: this is not in it.
            with elsewhere.reading() as fd:
                if fd is not None:
                    file_streams.send_open(channel, elsewhere.name, fd, limit)
        for _number, file in sorted(own.items()):
            fence.check_current(job)
            file_streams.send(channel, os.path.basename(file.path), file.path, limit)
        if shared:
            moved_roots.let_go(job)
        for number, root in () if shared else sorted(roots.items()):
            fence.check_current(job)
            moved_roots.send(job, channel, number, root, limit)
        if not shared:
            _send_state(job, channel, limit)
        channel.send(sent=True, moved=True)
        _answer(channel, "kept", move)
        fence.check_current(job)
        # Nothing of this host starts it from now on.
        job.common.driver.disown(job.mark)
    job.changed = True
    job.common.driver.settle_definitions()
    _note(job, move, LEFT)
    with contextlib.suppress(NebulaError):
        channel.send(left=True)


def _send_state(job: Job, channel: Channel, limit: float) -> None:
    for name, most in job.common.driver.state_files(job.vm).items():
        if os.path.isfile(job.path(name)):
            file_streams.send(channel, name, job.path(name), limit, most)


def _send_held(job: Job, move: PlannedMove, channel: Channel, roots: Mapping[int, DiskFiles], limit: float) -> None:
    """Bring the roots of a container to the other host that stands still. When this returns, they are on its disk."""
    for number, root in sorted(roots.items()):
        fence.check_current(job)
        moved_roots.send(job, channel, number, root, limit)
    _send_state(job, channel, limit)
    channel.send(sent=True)
    _answer(channel, "taken", move)


def _keep_off(job: Job) -> None:
    """Have the machine not start with this host, whatever becomes of this run: it may be another host's by then."""
    if job.common.driver.starts_with_host(job.mark):
        job.common.driver.set_starts_with_host(job.mark, False)
        job.common.driver.settle_definitions()


def _described(number: int, file: DiskFiles) -> dict[str, Any]:
    found = os.stat(file.path)
    return {
        "id": number,
        "size": disk_creation.virtual_size(file.path, file.format),
        "length": found.st_size,
        "bytes": found.st_blocks * 512,
    }


def _answer(channel: Channel, name: str, move: PlannedMove) -> dict[str, Any]:
    """Return the other host's next message. Raise HypervisorError where it refuses the machine."""
    message = channel.receive(ANSWER_SECONDS)
    refused = message.get("refused")
    if isinstance(refused, dict):
        words = {key: str(refused.get(key, ""))[:1000] for key in ("asked", "found", "remedy")}
        kind = OtherHostFailed if refused.get("kind") == OtherHostFailed.__name__ else HypervisorError
        raise kind(f"{words['asked']} (host {move.peer})", words["found"], words["remedy"])
    if name not in message:
        raise channel.broken("it answers something else than it was asked")
    return message


def _stay(job: Job, move: PlannedMove, channel: Channel, state: str | None) -> None:
    """Have the machine go on here as it was, if it has not left, and let the other host know."""
    if _has_left(job, move):
        return
    now = job.common.driver.settle_departure(job.mark, move.token)
    if now is None and move.way == LIVE:
        # libvirt has forgotten it, which it does only once all of it is on the other host.
        _note(job, move, LEFT)
        with contextlib.suppress(NebulaError):
            channel.send(left=True)
        return
    with contextlib.suppress(NebulaError):
        channel.send(stays=True)
    _note(job, move, STAYED)
    bring_back(job, now, state == "RUNNING" and move.way == COLD)
    if move.way == LIVE:
        # Its guest may have ended it meanwhile.
        job.stage = job.common.driver.state(job.mark) or "POWEROFF"


def bring_back(job: Job, now: str | None, ran: bool) -> None:
    """Have a machine go on that has not left. now: its state. ran: it was powered off for the move."""
    planned = job.planned
    # The first error is the one to be shown; what is left undone, the next run does.
    try:
        with contextlib.suppress(NebulaError):
            if now in ("RUNNING", "UNKNOWN"):
                if now == "UNKNOWN":
                    job.common.driver.start(job.mark)
                autostart.set_autostart(job)
            elif ran:
                job.planned = _back(planned)
                state_changes.carry_out(job)
            elif now is not None:
                autostart.set_autostart(job)
    finally:
        job.planned = planned


def _back(planned: PlannedVm) -> PlannedVm:
    return replace(planned, wanted="RUNNING", operation="", tasks=(), move=None)


def _has_left(job: Job, move: PlannedMove) -> bool:
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    return entry is not None and entry.token == move.token and entry.stage in (LEFT, CLEARED)


def _clear(job: Job, move: PlannedMove, channel: Channel) -> None:
    """Remove what is left of the machine here, once the other host has said that it has it. If it does not say so, a
    later plan clears it."""
    job.stage = "UNKNOWN"
    try:
        _answer(channel, "arrived", move)
    except NebulaError:
        return
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    remove_left(job, shared=entry is None or entry.shared)
    _note(job, move, CLEARED)


def remove_left(job: Job, shared: bool) -> None:
    """Remove the definition, the state, the disks and the directory of a machine that is another host's. shared: that
    host has the same files."""
    job.common.driver.disown(job.mark)
    stays = job.common.driver.remove_state_elsewhere(job.mark)
    if stays:
        job.log("LCM", "W", stays)
    job.common.room.give_back(job.vm.vm_id)
    if shared:
        # What is said of it in there, that host says.
        job.owned = False
    elif os.path.isdir(job.directory):
        machine_disks.remove(job.directory)
        removal.remove_directory(job)


def what_became(job: Job, move: PlannedMove, known: bool = True) -> str:
    """Return whether the machine has left or stayed, after a run of which nobody knows how it ended. The lock of its
    directory is held: no such run is at work any more. known: the job has what the machine is made of."""
    entry = node_moves.read(job.common.root, job.vm.vm_id)
    mine = entry if entry is not None and entry.token == move.token else None
    if mine is not None and mine.stage in (LEFT, CLEARED):
        job.stage = "UNKNOWN"
        return HAS_LEFT
    if mine is None or mine.stage != LEAVING:
        now = job.common.driver.state(job.mark)
        job.stage, job.went_down = now or "POWEROFF", mine is not None and _went_down(job, mine, now)
        if mine is None or job.went_down != mine.went_down:
            _note(job, move, STAYED)
        if mine is not None or now is None:
            _go_on(job, move, now, known)
        return HAS_STAYED
    now = job.common.driver.settle_departure(job.mark, move.token)
    if now is None and mine.way != COLD:
        _note(job, move, LEFT)
        job.stage = "UNKNOWN"
        return HAS_LEFT
    job.went_down = _went_down(job, mine, now)
    _note(job, move, STAYED)
    _go_on(job, move, now, known)
    return HAS_STAYED


def _go_on(job: Job, move: PlannedMove, now: str | None, known: bool) -> None:
    """Have a machine go on that has stayed, as far as the run that was broken off has not done so."""
    if now is None and move.way == COLD and known and _has_all(job):
        _define_again(job)
    else:
        bring_back(job, now, ran=False)
    job.stage = job.common.driver.state(job.mark) or "POWEROFF"


def _has_all(job: Job) -> bool:
    """Return whether all is here that the machine was made of: what is not would be made anew."""
    if not os.path.isdir(job.directory):
        return False
    own = (file.path for file in machine_disks.own_disks(job.vm, job.directory, job.common.transfer.find).values())
    roots = (root.path for root in moved_roots.own(job).values())
    return all(os.path.exists(path) for path in (*own, *roots))


def _define_again(job: Job) -> None:
    """Define a machine that is off, as it was before a run was broken off that was about to give it away: nobody is
    told to start what is not defined here."""
    planned = job.planned
    job.planned = replace(planned, wanted="POWEROFF", operation="", tasks=(), move=None)
    try:
        state_changes.carry_out(job)
    finally:
        job.planned = planned


def _went_down(job: Job, mine: NodeMove, state: str | None) -> bool:
    """Return whether a machine that has stayed is off since this host went down while it was to move as it ran. Before
    it moves, the host is told not to start it at a boot (_keep_off); one that was started at the boot all the same, and
    is off, went off later."""
    if (mine.way, state) != (LIVE, "POWEROFF"):
        return False
    has_booted = bool(mine.boot) and mine.boot != boot_id()
    return mine.went_down or (has_booted and job.common.driver.starts_with_host(job.mark) is False)
