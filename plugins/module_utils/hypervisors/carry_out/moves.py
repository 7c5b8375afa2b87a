# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out this host's part of moves: machines that leave it, machines that come, what became of moves that were
broken off, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import time

from ...dataclass import replace
from ...errors import NebulaError
from ...host.vm_log import VmLog
from ...model.move import (
    ABSENT,
    ARRIVED,
    CLEARED,
    COMING,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
    LEFT,
    OVER,
    SOURCE,
    STAYED,
    TARGET,
    Leftover,
    PlannedMove,
)
from ...model.plan import Plan, PlannedVm
from ...model.vm import Vm
from ...storage.datastore_layout import vm_directory
from ..base import Mark
from ..machine_record import Record
from ..moves import node_moves
from ..moves.passage import Door, Identity, Meeting
from . import arrival, departure, fence
from .arriving_disks import ArrivingRoom
from .job import Common, Job

# Of no machine: a leftover is no newer decision about one.
_NEWEST = 1 << 62
# Seconds for which the door of a plan that is done stays open for those who have not come.
_LAST_CALLS = 1.0
# What each stage answers.
_ANSWERS = {LEFT: HAS_LEFT, CLEARED: HAS_LEFT, STAYED: HAS_STAYED, ARRIVED: HAS_ARRIVED, ABSENT: IS_ABSENT}


# Seconds in which the hosts have come whose machines are not taken: both act in the same task.
_REFUSAL_SECONDS = 10.0


def refuse(plan: Plan, root: str, error: NebulaError) -> None:
    """Tell the hosts whose machines were to come that this host has not carried the plan out: they would call until
    their time is over. Only moves that were never begun here are refused."""
    planned = [each for each in plan.vms if each.move is not None and each.move.role == TARGET and not each.move.asks]
    left = [each for each in planned if each.move is not None and not _has_begun(root, each.vm.vm_id, each.move)]
    if left:
        moves = Moves(replace(plan, vms=tuple(left)))
        with contextlib.closing(moves):
            moves.refuse(error)


def _tell(meeting: Meeting, error: NebulaError, limit: float) -> None:
    """Tell a host that has not come yet, or has just come, why its machine is not taken. Who has begun to give it has
    heard so, and its connection is closed."""
    with contextlib.suppress(NebulaError):
        channel = meeting.wait(max(limit - time.monotonic(), 0.0), error.asked)
        # What it says first is read: else the answer would be lost with it.
        channel.receive(max(limit - time.monotonic(), 1.0))
        channel.send(refused=error.as_dict())


def _has_begun(root: str, vm_id: int, move: PlannedMove) -> bool:
    try:
        entry = node_moves.read(root, vm_id)
    except NebulaError:
        # Nobody knows, and an answer that may be wrong is worse than none.
        return True
    return entry is not None and entry.token == move.token


class Moves:
    """Holds what the moves of one plan have in common: where machines of other hosts come to.
    room: for the disks of these."""

    def __init__(self, plan: Plan) -> None:
        self.room = ArrivingRoom()
        self._identity = Identity(plan.certificate, plan.key)
        coming = [each.move for each in plan.vms if each.move is not None and each.move.role == TARGET]
        self._meetings = {move.token: Meeting(move.certificate) for move in coming if not move.asks}
        self._ports = {move.port: move.meeting for move in coming if not move.asks}
        self._fault: NebulaError | None = None
        self._doors: list[Door] = []

    def open(self) -> None:
        """Be there for those who come. What keeps it from that is raised by those moves."""
        self._listen(patient=True)

    def _listen(self, patient: bool) -> None:
        """Open the doors. patient: wait for a port that another run has."""
        for port, seconds in self._ports.items():
            try:
                self._doors.append(Door(port, self._identity, self._meetings, seconds if patient else 0.0))
            except NebulaError as error:
                self._fault = error

    def refuse(self, error: NebulaError) -> None:
        """Tell those who come within some seconds that nothing is taken in, and why."""
        self._listen(patient=False)
        if self._fault is not None:
            # Another run has the port, and answers for itself.
            return
        limit = time.monotonic() + _REFUSAL_SECONDS
        for meeting in self._meetings.values():
            _tell(meeting, error, limit)

    def close(self) -> None:
        for meeting in self._meetings.values():
            meeting.close()
        # A source that is about to come would find no door, and call until its time is over.
        limit = time.monotonic() + _LAST_CALLS
        for meeting in self._meetings.values() if self._doors else ():
            meeting.has_come(limit - time.monotonic())
        for door in self._doors:
            door.close()

    def carry_out(self, job: Job) -> str:
        """Do this host's part with one machine. Return what became of the move: VmOutcome.moved."""
        move = job.planned.move
        if move is None:
            raise ValueError("no move is planned for it")
        if move.asks:
            return self._ask(job)
        if move.role == TARGET:
            if self._fault is not None:
                raise self._fault
            limit = time.monotonic() + min(move.meeting, _REFUSAL_SECONDS)
            # Its source may have come before something here failed, and waits for a word.
            with contextlib.closing(self._meetings[move.token]) as meeting:
                try:
                    return arrival.take_in(job, move, meeting)
                except NebulaError as error:
                    _tell(meeting, error, limit)
                    raise
        with fence.hold(job):
            return departure.leave(job, move, self._identity)

    def _ask(self, job: Job) -> str:
        move = job.planned.move
        if move is None or not os.path.isdir(job.directory):
            fence.check_current(job)
            if move is None or move.role == TARGET:
                return arrival.what_became(job, move) if move is not None else ""
            return departure.what_became(job, move)
        entry = node_moves.read(job.common.root, job.vm.vm_id)
        if entry is not None and (entry.token, entry.stage, entry.shared) == (move.token, COMING, False):
            # If a killed run had no time to write whose the directory is, it is the copy's.
            job.record = replace(job.record, coming=move.token)
        with fence.hold(job):
            if move.role == SOURCE:
                return departure.what_became(job, move)
            return arrival.what_became(job, move)

    @staticmethod
    def clear_leftovers(common: Common) -> None:
        """Remove what decided moves have left here. What can't be removed is reported by the next poll, as before."""
        for leftover in common.plan.leftovers:
            with contextlib.suppress(NebulaError, OSError):
                _clear(common, leftover)

    @staticmethod
    def answer_after(job: Job, error: NebulaError) -> str:
        """Return what became of the move after this error: VmOutcome.moved. Only what is written down counts: a run
        of the same plan may be at work, or come yet."""
        move = job.planned.move
        if move is None or isinstance(error, arrival.Undecided):
            return ""
        try:
            entry = node_moves.read(job.common.root, job.vm.vm_id)
        except NebulaError:
            return ""
        return _ANSWERS.get(entry.stage, "") if entry is not None and entry.token == move.token else ""


def _clear(common: Common, leftover: Leftover) -> None:
    job = _job_of(common, leftover)
    if not os.path.isdir(job.directory):
        fence.check_current(job)
        _clear_entry(job, leftover)
        return
    entry = node_moves.read(common.root, leftover.vm_id)
    if entry is not None and entry.shared:
        # Of shared files there is nothing to be removed here, and somebody may work on them elsewhere.
        fence.check_current(job)
        _clear_entry(job, leftover)
        return
    with fence.hold(job):
        _clear_entry(job, leftover)


def _clear_entry(job: Job, leftover: Leftover) -> None:
    common = job.common
    entry = node_moves.read(common.root, leftover.vm_id)
    known = (leftover.token, leftover.uuid, common.plan.catalog)
    if entry is None or (entry.token, entry.uuid, entry.catalog) != known or entry.stage in OVER:
        return
    if entry.stage == COMING:
        arrival.remove_copy(job, entry)
        return
    # Whether it has left is this host's own word.
    move = PlannedMove(entry.token, SOURCE, entry.way, "")
    if departure.what_became(job, move, known=False) == HAS_LEFT and common.driver.state(job.mark) != "RUNNING":
        departure.remove_left(job, entry.shared)
        node_moves.remove(common.root, leftover.vm_id)


def _job_of(common: Common, leftover: Leftover) -> Job:
    name, hypervisor = f"of id {leftover.vm_id}", common.driver.name
    vm = Vm(leftover.vm_id, leftover.uuid, name, hypervisor, cpu=0.0, memory=0)
    directory = vm_directory(common.root, leftover.vm_id)
    planned = PlannedVm(vm, generation=_NEWEST, wanted="POWEROFF")
    mark = Mark(common.plan.catalog, vm.vm_id, vm.uuid)
    record = Record(common.plan.catalog, vm.vm_id, vm.uuid, coming=leftover.token)
    return Job(common, planned, mark, directory, record, VmLog(directory))
