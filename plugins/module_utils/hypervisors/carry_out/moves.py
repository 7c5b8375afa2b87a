# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out this host's part of moves: machines that leave it, machines that come, what became of moves that were
broken off, and what is left of them."""

from __future__ import annotations

import contextlib
import os

from ...errors import NebulaError
from ...host.vm_log import VmLog
from ...model.move import (
    ARRIVED,
    CLEARED,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
    LEAVING,
    LEFT,
    SOURCE,
    TARGET,
    Leftover,
)
from ...model.plan import Plan, PlannedVm
from ...model.vm import Vm
from ...storage.datastore_layout import vm_directory
from ..base import Mark
from ..machine_record import Record
from ..moves import node_moves
from ..moves.passage import Door, Identity, Meeting
from . import arrival, departure, fence
from .job import Common, Job

# Of no machine: a leftover is no newer decision about one.
_NEWEST = 1 << 62


class Moves:
    """Holds what the moves of one plan have in common: where machines of other hosts come to."""

    def __init__(self, plan: Plan) -> None:
        self._identity = Identity(plan.certificate, plan.key)
        coming = [each.move for each in plan.vms if each.move is not None and each.move.role == TARGET]
        self._meetings = {move.token: Meeting(move.certificate) for move in coming if not move.asks}
        ports = {move.port: move.meeting for move in coming if not move.asks}
        self._fault: NebulaError | None = None
        self._doors: list[Door] = []
        for port, seconds in ports.items():
            try:
                self._doors.append(Door(port, self._identity, self._meetings, seconds))
            except NebulaError as error:
                self._fault = error

    def close(self) -> None:
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
            return arrival.take_in(job, move, self._meetings[move.token])
        with fence.hold(job):
            return departure.leave(job, move, self._identity)

    def _ask(self, job: Job) -> str:
        move = job.planned.move
        if move is None or not os.path.isdir(job.directory):
            entry = node_moves.read(job.common.root, job.vm.vm_id)
            fence.check_current(job)
            if move is None or move.role == TARGET:
                return arrival.what_became(job, move) if move is not None else ""
            has_left = entry is not None and entry.token == move.token and entry.stage != LEAVING
            return HAS_LEFT if has_left else departure.what_became(job, move)
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
        """Return what became of the move after this error: VmOutcome.moved."""
        move = job.planned.move
        if move is None or isinstance(error, arrival.Undecided):
            return ""
        try:
            entry = node_moves.read(job.common.root, job.vm.vm_id)
        except NebulaError:
            return ""
        stage = entry.stage if entry is not None and entry.token == move.token else ""
        if move.role == SOURCE:
            return HAS_LEFT if stage in (LEFT, CLEARED) else "" if stage else HAS_STAYED
        return IS_ABSENT if not stage else HAS_ARRIVED if stage == ARRIVED else ""


def _clear(common: Common, leftover: Leftover) -> None:
    entry = node_moves.read(common.root, leftover.vm_id)
    if entry is None or (entry.token, entry.uuid, entry.catalog) != (
        leftover.token,
        leftover.uuid,
        common.plan.catalog,
    ):
        return
    job = _job_of(common, leftover)
    if entry.shared or not os.path.isdir(job.directory):
        # Of shared files there is nothing to be removed here, and somebody may work on them elsewhere.
        arrival.remove_copy(job, entry)
        return
    with fence.hold(job):
        arrival.remove_copy(job, entry)


def _job_of(common: Common, leftover: Leftover) -> Job:
    name, hypervisor = f"of id {leftover.vm_id}", common.driver.name
    vm = Vm(leftover.vm_id, leftover.uuid, name, hypervisor, cpu=0.0, memory=0)
    directory = vm_directory(common.root, leftover.vm_id)
    planned = PlannedVm(vm, generation=_NEWEST, wanted="POWEROFF")
    mark = Mark(common.plan.catalog, vm.vm_id, vm.uuid)
    record = Record(common.plan.catalog, vm.vm_id, vm.uuid, coming=leftover.token)
    return Job(common, planned, mark, directory, record, VmLog(directory))
