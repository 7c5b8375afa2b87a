# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out what a plan wants done with a machine's disks, each task once: disks saved as images, and snapshots."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence

from ...dataclass import replace
from ...errors import InvalidValue, NebulaError, NotFound, Unsupported, WrongState
from ...host.files import explain
from ...model.container_user_ids import id_range
from ...model.disk import TAR, Disk, DiskFiles
from ...model.disk_snapshots import tag_of
from ...model.plan import CRASH, CREATE, DELETE, REVERT, SAVE_AS, SYSTEM, SYSTEM_REVERT, DiskTask, TaskOutcome
from ...model.vm import Vm
from ...storage import disk_creation, disk_saving, machine_disks, roots, snapshot_changes
from ..base import Driver, Mark
from . import definition, system_snapshot_tasks
from .job import Job


def carry_out_all(job: Job, state: str) -> None:
    """Carry out the plan's tasks, each once. If one fails, that is told, and the others go on; only a machine whose
    disk should have been reverted does not start with the disk that it has. What has a machine that is off run on from
    its memory is left to run_on()."""
    if state == "POWEROFF" and snapshot_changes.are_unfinished(job.directory):
        _mend(job)
    tasks = job.planned.tasks
    if state == "POWEROFF" and job.planned.wanted == "RUNNING":
        tasks = tuple(task for task in tasks if not system_snapshot_tasks.runs_after(task))
    _carry_out(job, state, tasks)


def run_on(job: Job) -> bool:
    """Have a machine that is off run on from the memory in a snapshot, in place of a start, if the plan says so and
    that was not done before. Return whether it runs so."""
    tasks = [task for task in job.planned.tasks if system_snapshot_tasks.runs_after(task)]
    done = {each.token for each in job.record.tasks}
    due = any(task.token not in done for task in tasks)
    _carry_out(job, "POWEROFF", tasks)
    return due


def _carry_out(job: Job, state: str, tasks: Sequence[DiskTask]) -> None:
    if not tasks:
        return
    tokens = {task.token for task in job.planned.tasks}
    done = {each.token: each for each in job.record.tasks if each.token in tokens}
    files = job.files or machine_disks.locate(job.vm, job.directory, job.common.transfer.find)
    for task in tasks:
        if task.token in done:
            job.task_outcomes.append(done[task.token])
            continue
        try:
            if task.kind == SAVE_AS and job.common.transfer.is_fetched(task.target):
                refuse_grown(task, job.vm, files)
            # What is saved is a copy: the disks stay as they are.
            with contextlib.nullcontext() if task.kind == SAVE_AS else snapshot_changes.noted(job.directory):
                outcome = _act(task)(task, job.vm, job.mark, files, state, job.common.driver)
        except (NebulaError, OSError) as problem:
            error = problem if isinstance(problem, NebulaError) else explain(problem, job.directory)
            job.log("VMM", "E", str(error))
            job.task_outcomes.append(TaskOutcome(task.token, error=error.as_dict()))
            if task.kind in (REVERT, SYSTEM_REVERT):
                # One that ran may be off by now: it does not start from the disks that it has, either.
                job.stage = "POWEROFF" if state == "POWEROFF" or task.kind == SYSTEM_REVERT else job.stage
                raise error from problem
            continue
        if task.kind == SAVE_AS:
            job.common.transfer.saved(task.target)
        job.log("VMM", "I", f"Successfully executed: {task.kind} {task.name or task.image}")
        job.changed = True
        job.task_outcomes.append(outcome)
        done[task.token] = outcome
        # At once: what is done must not be done again.
        job.record = replace(job.record, tasks=tuple(done.values()))
        goes_on = system_snapshot_tasks.runs_after(task)
        if goes_on:
            # It is defined as it was then.
            job.record = replace(job.record, definition="")
        if task.kind in (REVERT, SYSTEM_REVERT):
            _end_chain(job, task)
        job.keep_record()
        if goes_on:
            state = "RUNNING"
            with job.common.changing:
                definition.prepare_machine(job, running=True)
    job.record = replace(job.record, tasks=tuple(done.values()))


def _mend(job: Job) -> None:
    """Mend what a killed run, QEMU or host has left in the disks that can have snapshots."""
    files = job.files or machine_disks.locate(job.vm, job.directory, job.common.transfer.find)
    own = [disk.disk_id for disk in job.vm.disks if not (disk.luks_secret or disk.readonly or disk.by_hypervisor)]
    disks = [files[number] for number in own if number in files and files[number].format == "qcow2"]
    for damaged in snapshot_changes.mend(job.directory, disks, f"virtual machine {job.vm.name}"):
        job.log("TM", "W", damaged)


def _act(task: DiskTask) -> Callable[..., TaskOutcome]:
    return system_snapshot_tasks.carry_out if task.kind in SYSTEM else carry_out


def _end_chain(job: Job, task: DiskTask) -> None:
    """Have the next backup of the machine say why it is a full one."""
    what = "the machine went" if task.kind in SYSTEM else f"disk {task.disk_id} was reverted"
    where = "back to system snapshot" if task.kind in SYSTEM else "to snapshot"
    job.record = replace(job.record, unchained=f"{what} {where} {task.name}", unchained_at=int(time.time()))


def refuse_grown(task: DiskTask, vm: Vm, files: Mapping[int, DiskFiles]) -> None:
    """Raise InvalidValue for a disk that is larger than the catalog knows: the front-end would not take what was saved
    of it. The root of a container has no size of its own."""
    disk = next((each for each in vm.disks if each.disk_id == task.disk_id), None)
    if disk is None or task.disk_id not in files or disk.by_hypervisor or disk.format == TAR or not disk.size:
        return
    size = -(-disk_creation.virtual_size(files[task.disk_id].path, files[task.disk_id].format) // disk_saving.MIB)
    if size > disk.size:
        raise InvalidValue(
            f"virtual machine {vm.name}: disk {task.disk_id}: {_task_name(task)}",
            f"it has {size} MiB on this host, and {disk.size} MiB in the catalog, and the front-end fetches no more; "
            "nothing was saved",
            f"Somebody has made it larger: set SIZE = {size} for this disk in the list, then run again",
        )


def check(task: DiskTask, vm: Vm, mark: Mark, state: str, driver: Driver) -> None:
    """Raise what carry_out() would raise because of the guest or the kind of its disk, as far as that can be told
    without doing anything. state: see carry_out()."""
    if task.kind in SYSTEM:
        system_snapshot_tasks.check(task, vm, mark, state, driver)
        return
    disk = next((each for each in vm.disks if each.disk_id == task.disk_id), None)
    if disk is None:
        return
    what = f"virtual machine {vm.name}: disk {task.disk_id}: {_task_name(task)}"
    if disk.format == TAR and not disk.by_hypervisor:
        _refuse_root(task, state, what)
        return
    if task.kind == SAVE_AS:
        driver.check_saved(task.image, what)
    if state == "RUNNING" and task.kind in (SAVE_AS, CREATE):
        driver.check_consistency(mark, disk, task.consistency)


def carry_out(
    task: DiskTask, vm: Vm, mark: Mark, files: Mapping[int, DiskFiles], state: str, driver: Driver
) -> TaskOutcome:
    """Carry out one task and return its outcome. Raise NebulaError, with the machine and the disk, if that fails.
    files: of the machine's disks, by disk id.
    state: RUNNING, POWEROFF or SUSPENDED, in which the machine is and stays."""
    disk = next((each for each in vm.disks if each.disk_id == task.disk_id), None)
    what = f"virtual machine {vm.name}: disk {task.disk_id}: {_task_name(task)}"
    if disk is None or task.disk_id not in files:
        raise NotFound(what, "the machine has no such disk", "Run again: a new plan tells")
    if disk.by_hypervisor:
        return _save_by_hypervisor(task, disk, mark, driver, what)
    if disk.format == TAR:
        return _save_root(task, vm, files[task.disk_id], state, what)
    if task.kind == SAVE_AS:
        return _save(task, disk, vm, mark, files[task.disk_id], state, driver, what)
    if disk.luks_secret or files[task.disk_id].format != "qcow2" or disk.readonly:
        raise Unsupported(what, "this disk can't have any", "Only qcow2 disks that are written to can")
    if state == "SUSPENDED":
        raise WrongState(what, "the machine is SUSPENDED", "Let it run or power it off first")
    return _snapshot(task, disk, mark, files[task.disk_id], state, driver, what)


def _save_root(task: DiskTask, vm: Vm, files: DiskFiles, state: str, what: str) -> TaskOutcome:
    """Save the root of a container, which becomes an archive again."""
    _refuse_root(task, state, what)
    roots.save(files.path, task.target, id_range(vm.vm_id), what)
    size = disk_creation.virtual_size(task.target, TAR)
    return TaskOutcome(task.token, size=-(-size // disk_saving.MIB), format=TAR)


def _refuse_root(task: DiskTask, state: str, what: str) -> None:
    """Raise Unsupported for what can't be done with the root of a container: it is a directory without snapshots, and
    can be saved only while nobody writes to it."""
    if task.kind != SAVE_AS:
        raise Unsupported(what, "it is the root file system of a container", "Save it as an image (save_as)")
    if state == "RUNNING":
        raise Unsupported(
            what, f"the container is {state}, and its files change while they are read", "Power it off first"
        )


def _save_by_hypervisor(task: DiskTask, disk: Disk, mark: Mark, driver: Driver, what: str) -> TaskOutcome:
    """Save a disk that the hypervisor has made, and that only it can copy, whether the machine runs or not."""
    if task.kind != SAVE_AS:
        raise Unsupported(what, "this disk can't have any", "Save it as an image (save_as)")
    driver.check_saved(task.image, what)
    with disk_saving.new_image_file(task.target, what) as new:
        driver.copy_disk(mark, disk, new, task.format, task.consistency)
        size = os.path.getsize(new)
    return TaskOutcome(task.token, size=-(-size // disk_saving.MIB), format=task.format)


def _save(
    task: DiskTask, disk: Disk, vm: Vm, mark: Mark, files: DiskFiles, state: str, driver: Driver, what: str
) -> TaskOutcome:
    encrypted = bool(disk.luks_secret)
    driver.check_saved(task.image, what)
    if task.format != files.format:
        raise InvalidValue(what, f"the disk is {files.format}, the image {task.format}", "Run again")
    if state == "RUNNING" and encrypted:
        raise Unsupported(
            what, "the disk is encrypted, and what a running machine's is copied to would not be", "Power it off first"
        )
    if state == "SUSPENDED" and task.consistency != CRASH:
        raise WrongState(what, "what a SUSPENDED machine has not written is in its memory", "Set consistency: crash")
    size = disk_creation.virtual_size(files.path, files.format)
    with disk_saving.new_image_file(task.target, what) as new:
        if state == "RUNNING":
            disk_saving.require_room(new, files, task.format, what, running=True)
            disk_saving.make_empty(new, task.format, size)
            driver.copy_disk(mark, disk, new, task.format, task.consistency)
            if task.format == "raw":
                disk_saving.make_sparse(new)
        else:
            disk_saving.flatten(files, new, encrypted, what)
        saved = disk_saving.verify(new, task.format, size, encrypted, what)
    return TaskOutcome(task.token, size=saved.size, format=saved.format)


def _snapshot(
    task: DiskTask, disk: Disk, mark: Mark, files: DiskFiles, state: str, driver: Driver, what: str
) -> TaskOutcome:
    tag = tag_of(task.snapshot_id, task.mark)
    running = state == "RUNNING"
    if task.kind == REVERT:
        if running:
            raise WrongState(what, "the machine runs", "Power it off first")
        driver.forget_checkpoints(mark, {task.disk_id: files})
        disk_saving.revert(files, tag, what)
    elif task.kind == CREATE and running:
        driver.snapshot_disk(mark, disk, tag, task.consistency)
    elif task.kind == CREATE:
        disk_saving.create_snapshot(files, tag)
    elif task.kind == DELETE and running:
        driver.delete_disk_snapshot(mark, disk, tag)
    elif task.kind == DELETE:
        disk_saving.delete_snapshot(files, tag)
    else:
        raise InvalidValue(what, f"{task.kind} is not known here", "Run the same version on every host")
    return TaskOutcome(task.token)


def _task_name(task: DiskTask) -> str:
    return f"save_as {task.image}" if task.kind == SAVE_AS else f"{task.kind} {task.name}"
