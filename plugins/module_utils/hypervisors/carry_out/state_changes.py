# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a machine from the state that it is in to the state that is wanted."""

from __future__ import annotations

from ...dataclass import replace
from ...host.console import console_log
from ...host.files import remove_file
from ...model.installation_marks import MARK
from ..machine_record import CHECKPOINT, PARTIAL, was_started
from . import autostart, console_port, definition, disk_saves_and_snapshots, fence, removal, suspension
from .job import Job
from .shutdown import stop


def carry_out(job: Job) -> str:
    """Bring the machine to the state that its plan wants. Return the state that it is in afterwards."""
    if job.planned.wanted == "DONE":
        return removal.remove_machine(job)
    state = job.common.driver.state(job.mark)
    if job.planned.operation == "recreate" and job.planned.is_due(job.record.operated):
        # Before anything of it is gone.
        job.stage = "POWEROFF" if state == "POWEROFF" else job.stage
        if job.planned.wanted == "RUNNING":
            definition.check_start(job, anew=True)
            take_room(job)
        else:
            definition.check_files(job, anew=True)
        job.stage = "PROLOG_FAILURE"
        removal.remove_domain_and_disks(job, anew=True)
        job.common.room.give_back(job.vm.vm_id)
        state = None
        _record_operation(job)
    if job.planned.wanted == "SUSPENDED":
        return suspension.to_suspended(job, state)
    return _to_poweroff(job, state) if job.planned.wanted == "POWEROFF" else _to_running(job, state)


def _to_running(job: Job, state: str | None) -> str:
    if _restarts(job, state):
        # Before it is stopped: it would not come back.
        definition.check_start(job, anew=False)
        take_room(job)
        # What a guest does by itself on most hypervisors leaves it with the definition that it has.
        stop(job, "RUNNING", "SHUTDOWN_POWEROFF")
        job.common.room.give_back(job.vm.vm_id)
        job.moved("DIM", "POWEROFF")
        state = "POWEROFF"
    was = state
    if was_started(job.planned, job.record, state):
        job.log("LCM", "I", "It was started, and has ended since: it is not started again")
        return "POWEROFF"
    if state == "SUSPENDED":
        suspension.thaw(job)
        state = "RUNNING"
    if state == "RUNNING":
        with job.common.changing:
            definition.prepare_machine(job, running=True)
        job.common.driver.attend(job.mark)
        if MARK in job.vm.attributes:
            job.record = replace(job.record, started=job.planned.generation)
        autostart.set_autostart(job)
        disk_saves_and_snapshots.carry_out_all(job, "RUNNING")
    elif suspension.is_suspended(job, state):
        job.stage = "SUSPENDED"
        take_room(job)
        with job.common.building:
            suspension.resume(job)
        with job.common.changing:
            # What was decided about it while it was saved.
            definition.prepare_machine(job, running=True)
        autostart.set_autostart(job)
        disk_saves_and_snapshots.carry_out_all(job, "RUNNING")
    else:
        if state != "UNKNOWN":
            take_room(job)
        job.log("DIM", "I", "New VM state is ACTIVE")
        job.log("LCM", "I", "New VM state is PROLOG")
        # As large as its memory, and of no use to anybody: a save that was broken off.
        remove_file(job.path(PARTIAL))
        with job.common.building:
            definition.prepare_machine(
                job, running=False, defined=state is not None, boots=state != "UNKNOWN", paused=state == "UNKNOWN"
            )
            if state != "UNKNOWN":
                disk_saves_and_snapshots.carry_out_all(job, "POWEROFF")
            # Before it starts: a host that dies in the next moment comes back with it.
            autostart.set_autostart(job)
            job.log("LCM", "I", "New VM state is BOOT")
            if state != "UNKNOWN":
                job.common.bridges.require(job.vm)
                console_port.require_free(job)
                console_log.mark_start(job.path(console_log.NAME))
                _record_start(job)
                closed = job.vm.graphics is not None and bool(job.vm.graphics.password)
                job.record = replace(job.record, closed=closed)
            if not disk_saves_and_snapshots.run_on(job):
                job.common.driver.start(job.mark)
        job.moved("LCM", "RUNNING")
        if state == "UNKNOWN":
            disk_saves_and_snapshots.carry_out_all(job, "RUNNING")
    if job.planned.operation in ("reboot", "reset") and job.planned.is_due(job.record.operated):
        # A machine that has just been started has done what either is for.
        if was == "RUNNING":
            _reboot_or_reset(job)
        _record_operation(job)
    return "RUNNING"


def _restarts(job: Job, state: str | None) -> bool:
    """Return whether the machine is to be rebooted, and waits for something that only an end and a start bring."""
    planned = job.planned
    due = planned.operation == "reboot" and planned.is_due(job.record.operated)
    return due and state == "RUNNING" and planned.waits


def _record_start(job: Job) -> None:
    """Record on the disk that the machine is about to be started, whatever becomes of this run: see was_started()."""
    if MARK in job.vm.attributes:
        job.record = replace(job.record, started=job.planned.generation)
        job.keep_record()


def _reboot_or_reset(job: Job) -> None:
    console_log.mark_start(job.path(console_log.NAME))
    if job.planned.operation == "reset":
        job.common.driver.reset(job.mark)
    else:
        job.common.driver.reboot(job.mark, job.planned.shutdown_timeout)
    job.log("VMM", "I", f"Successfully executed: {job.planned.operation}")
    job.changed = True


def _record_operation(job: Job) -> None:
    """Record the operation at once, not with the rest: if something fails later, it must not be done again."""
    job.record = replace(job.record, operated=job.planned.operated)
    job.keep_record()


def _to_poweroff(job: Job, state: str | None) -> str:
    autostart.set_autostart(job)
    if suspension.is_suspended(job, state):
        if job.planned.hard:
            remove_file(job.path(CHECKPOINT))
            job.moved("DIM", "POWEROFF")
        else:
            job.stage = "SUSPENDED"
            take_room(job)
            with job.common.building:
                suspension.resume(job)
            state = "RUNNING"
    if state in ("RUNNING", "UNKNOWN", "SUSPENDED"):
        stop(job, state, "SHUTDOWN_POWEROFF")
        job.moved("DIM", "POWEROFF")
    with job.common.building:
        definition.prepare_machine(job, running=False, defined=state is not None)
        disk_saves_and_snapshots.carry_out_all(job, "POWEROFF")
    return "POWEROFF"


def take_room(job: Job) -> None:
    """Wait for the machines in whose place this one starts, and take its memory of what the node has left."""
    if job.has_room:
        return
    if job.common.room.successors.wait(job.planned):
        # It may have taken as long as a guest takes to shut down.
        fence.check_current(job)
    job.has_room = job.common.room.take(job.vm)
