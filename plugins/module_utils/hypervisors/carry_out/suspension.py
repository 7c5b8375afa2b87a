# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saves a machine to its checkpoint, or freezes it on its host, and brings it back from there."""

from __future__ import annotations

import os

from ...errors import Unsupported, WrongState
from ...host.files import adopt, explained, remove_file, settle, sync_directory
from ...storage.datastore_layout import disk_path
from ..machine_record import CHECKPOINT, PARTIAL
from . import autostart, console_port, disk_saves_and_snapshots
from .job import Job


def is_suspended(job: Job, state: str | None) -> bool:
    """Return whether the machine was saved. The state of a frozen machine is SUSPENDED by itself. On a datastore that
    other hosts have too, nothing was: a saved machine names programs and files that run as root here."""
    if job.common.plan.datastore is not None:
        return False
    return state in (None, "POWEROFF") and os.path.exists(job.path(CHECKPOINT))


def to_suspended(job: Job, state: str | None) -> str:
    if job.common.driver.suspends_in_memory:
        return _to_frozen(job, state)
    if job.common.plan.datastore is not None:
        raise Unsupported(
            f"suspending virtual machine {job.vm.name}",
            f"its memory would be saved on shared datastore {job.common.plan.datastore.name}, and whoever may write "
            "there would decide what this host goes on with",
            "Power it off, or let it run",
        )
    partial, checkpoint = job.path(PARTIAL), job.path(CHECKPOINT)
    job.stage = state or "PROLOG_FAILURE"
    autostart.set_autostart(job)
    if is_suspended(job, state):
        disk_saves_and_snapshots.carry_out_all(job, "SUSPENDED")
        return "SUSPENDED"
    if state == "RUNNING":
        job.log("LCM", "I", "New VM state is SAVE_SUSPEND")
        remove_file(partial)
        job.common.driver.suspend(job.mark, partial)
    elif state != "POWEROFF" or not job.common.driver.checkpoint_complete(partial):
        raise _not_running(job, state)
    # Here too if a killed run got as far as the saving, and no further.
    adopt(partial, 0o600)
    with explained(checkpoint):
        # libvirt does not say whether it waited for the disk, and the machine's memory is nowhere else now.
        settle(partial)
        os.rename(partial, checkpoint)
        sync_directory(job.directory)
    job.moved("DIM", "SUSPENDED")
    disk_saves_and_snapshots.carry_out_all(job, "SUSPENDED")
    return "SUSPENDED"


def _to_frozen(job: Job, state: str | None) -> str:
    job.stage = state or "PROLOG_FAILURE"
    autostart.set_autostart(job)
    if state == "RUNNING":
        job.log("LCM", "I", "New VM state is SAVE_SUSPEND")
        job.common.driver.suspend(job.mark, "")
        job.moved("DIM", "SUSPENDED")
    elif state != "SUSPENDED":
        raise _not_running(job, state)
    disk_saves_and_snapshots.carry_out_all(job, "SUSPENDED")
    return "SUSPENDED"


def _not_running(job: Job, state: str | None) -> WrongState:
    return WrongState(
        f"suspending virtual machine {job.vm.name}",
        f"it is {state or 'not there'}, and only a running machine can be suspended",
        "Start it first",
    )


def thaw(job: Job) -> None:
    """Have a frozen machine go on. It has held its memory all the time."""
    job.stage = "SUSPENDED"
    job.log("LCM", "I", "New VM state is BOOT_SUSPENDED")
    job.common.driver.resume(job.mark, "")
    job.moved("LCM", "RUNNING")


def resume(job: Job) -> None:
    job.stage = "SUSPENDED"
    checkpoint = job.path(CHECKPOINT)
    if not job.common.driver.checkpoint_complete(checkpoint):
        raise WrongState(
            f"resuming virtual machine {job.vm.name}",
            f"{checkpoint} is not complete",
            "Power it off hard, which gives its saved memory up, then start it",
        )
    _check_disks_unchanged(job, checkpoint)
    job.log("LCM", "I", "New VM state is BOOT_SUSPENDED")
    job.common.bridges.require(job.vm)
    console_port.require_free(job)
    job.common.driver.resume(job.mark, checkpoint)
    # vzctl removes one that it has restored.
    remove_file(checkpoint)
    job.moved("LCM", "RUNNING")


def _check_disks_unchanged(job: Job, checkpoint: str) -> None:
    """Raise WrongState for disks that are newer than the saved memory, which would destroy their file systems."""
    saved = os.stat(checkpoint).st_mtime
    for disk in job.vm.disks:
        path = os.path.realpath(disk_path(job.directory, disk.disk_id))
        if not disk.readonly and os.path.exists(path) and os.stat(path).st_mtime > saved:
            raise WrongState(
                f"resuming virtual machine {job.vm.name}",
                f"disk {disk.disk_id} was written after the machine was saved",
                "Power it off hard, which gives its saved memory up, then start it",
            )
