# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out what a plan wants done with the system snapshots of a machine: made, deleted, gone back to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

from ...errors import InvalidValue, NebulaError, NotFound, Unsupported, WrongState
from ...model import system_snapshots
from ...model.disk import Disk, DiskFiles
from ...model.plan import SYSTEM, SYSTEM_CREATE, SYSTEM_DELETE, SYSTEM_REVERT, DiskTask, TaskOutcome
from ...model.system_snapshots import SystemSnapshot, tag_of
from ...model.vm import Vm
from ...storage import datastore_layout, disk_bitmaps, disk_saving
from ..base import Driver, Mark

MIB = 1024 * 1024
# Beside the memory: the state of devices (a graphics card has some MiB of its own) and the tables of the disk.
MARGIN = 64 * MIB


def runs_after(task: DiskTask) -> bool:
    """Return whether the task has the machine run on from its memory, in place of a start."""
    return task.kind == SYSTEM_REVERT and task.memory


def check(task: DiskTask, vm: Vm, mark: Mark, state: str, driver: Driver) -> None:
    """Raise what carry_out() would raise because of what the machine is, as far as that can be told without doing
    anything. state: RUNNING, POWEROFF or SUSPENDED, in which the machine is."""
    what = f"virtual machine {vm.name}: {task.kind} {task.name}"
    if task.kind not in SYSTEM:
        raise InvalidValue(what, f"{task.kind} is not known here", "Run the same version on every host")
    if state == "SUSPENDED":
        raise WrongState(what, "the machine is SUSPENDED: its memory is in a file", "Let it run or power it off first")
    if task.kind == SYSTEM_CREATE:
        if task.memory != (state == "RUNNING"):
            raise WrongState(
                what,
                f"the machine was to be {'running' if task.memory else 'off'} for it, and is {state} by now",
                "Run again: it is made of the machine as it is then",
            )
        system_snapshots.refuse_without(vm, task.memory, what)
    if task.kind == SYSTEM_REVERT:
        if state == "RUNNING" and not task.memory:
            raise WrongState(what, "the machine runs, and was off when it was made", "Power it off first")
        snapshot = _known(task, vm)
        if snapshot is not None:
            system_snapshots.refuse_changed(snapshot, vm, what)
    tag = tag_of(task.snapshot_id, task.mark) if runs_after(task) else ""
    driver.check_machine_snapshot(mark, tag, _disks(task, vm))


def carry_out(
    task: DiskTask, vm: Vm, mark: Mark, files: Mapping[int, DiskFiles], state: str, driver: Driver
) -> TaskOutcome:
    """Carry out one task and return its outcome. Raise NebulaError, with the machine, if that fails.
    files: of the machine's disks, by disk id.
    state: RUNNING or POWEROFF, in which the machine is. Where runs_after() says so it runs afterwards, and is defined
    as it was then."""
    what = f"virtual machine {vm.name}: {task.kind} {task.name}"
    disks = _disks(task, vm)
    if task.kind == SYSTEM_CREATE and task.memory and state == "POWEROFF":
        # It ended while a run that was killed made it: check() says so, and nobody asks for this one again.
        left = [files[disk.disk_id] for disk in disks if disk.disk_id in files]
        _remove(mark, left, tag_of(task.snapshot_id, task.mark), driver)
    check(task, vm, mark, state, driver)
    for disk in disks:
        if disk.disk_id not in files or files[disk.disk_id].format != "qcow2":
            raise Unsupported(
                f"{what}: disk {disk.disk_id}", "it is no qcow2 file on this host", "Run again: a new plan tells"
            )
    held = {disk.disk_id: files[disk.disk_id] for disk in disks}
    tag = tag_of(task.snapshot_id, task.mark)
    if task.kind == SYSTEM_CREATE and task.memory:
        require_room(vm, held, what)
        try:
            driver.snapshot_machine(mark, disks, tag)
        except BaseException:
            with contextlib.suppress(NebulaError, OSError):
                if driver.state(mark) == "RUNNING":
                    driver.delete_machine_snapshot(mark, disks, tag)
                else:
                    _remove(mark, held.values(), tag, driver)
            raise
    elif task.kind == SYSTEM_CREATE:
        _create(held, tag)
    elif task.kind == SYSTEM_DELETE and state == "RUNNING":
        driver.delete_machine_snapshot(mark, disks, tag)
    elif task.kind == SYSTEM_DELETE:
        _remove(mark, held.values(), tag, driver)
    else:
        _go_back(task, mark, held, state, driver, what)
    return TaskOutcome(task.token)


def require_room(vm: Vm, files: Mapping[int, DiskFiles], what: str) -> None:
    """Raise NoSpace unless all the memory of the machine fits beside its disks: QEMU writes it into one of these, and
    a machine whose disk is full stands still."""
    for each in files.values():
        directory = os.path.dirname(os.path.realpath(each.path))
        datastore_layout.require_space(directory, vm.most_memory * MIB + MARGIN, what)


def _create(files: Mapping[int, DiskFiles], tag: str) -> None:
    """Make the snapshot of all disks of a machine that is off, or of none."""
    if all(tag in disk_saving.snapshot_tags(each) for each in files.values()):
        return
    # A run that was killed made some: the disks may have been written to since.
    for each in files.values():
        disk_saving.delete_snapshot(each, tag)
    try:
        for each in files.values():
            disk_saving.create_snapshot(each, tag)
    except BaseException:
        for each in files.values():
            with contextlib.suppress(NebulaError, OSError):
                disk_saving.delete_snapshot(each, tag)
        raise


def _remove(mark: Mark, files: Iterable[DiskFiles], tag: str, driver: Driver) -> None:
    """Remove a snapshot of a machine that is off from these disks, as far as they have it."""
    for each in files:
        if each.format == "qcow2":
            disk_saving.delete_snapshot(each, tag)
    driver.forget_machine_snapshot(mark, tag)


def _go_back(task: DiskTask, mark: Mark, files: Mapping[int, DiskFiles], state: str, driver: Driver, what: str) -> None:
    tag = tag_of(task.snapshot_id, task.mark)
    if state != "RUNNING":
        # All of them have it, or none goes back.
        for disk_id, each in files.items():
            if tag not in disk_saving.snapshot_tags(each):
                raise NotFound(
                    f"{what}: disk {disk_id}",
                    f"{each.path} holds none of that name",
                    "Delete it (state: absent), or take it out of the list",
                )
        driver.forget_checkpoints(mark, files)
        for each in files.values():
            disk_bitmaps.remove_all(each, what)
    if task.memory:
        driver.revert_machine(mark, tag)
        return
    for each in files.values():
        disk_saving.revert(each, tag, what)


def _known(task: DiskTask, vm: Vm) -> SystemSnapshot | None:
    return next((each for each in vm.system_snapshots if each.id == task.snapshot_id), None)


def _disks(task: DiskTask, vm: Vm) -> tuple[Disk, ...]:
    """Return the disks that the snapshot holds. One that was made by the same plan holds all that are written to."""
    snapshot = _known(task, vm)
    if snapshot is None or task.kind == SYSTEM_CREATE:
        return system_snapshots.held_disks(vm)
    return tuple(disk for disk in vm.disks if disk.disk_id in snapshot.disks)
