# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides who may work on a machine: its directory is locked and known to be ours, and the plan is still the newest."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from ...dataclass import replace
from ...errors import ForeignObject, StalePlan, TimedOut
from ...host import node_file
from ...host.files import adopt, lock, remove_file
from ...storage import disk_swap
from ..base import OPEN
from ..machine_record import holds_unmarked, is_left_behind, read_record, write_record
from .job import Job

# How long another run that works on the same machine is waited for.
LOCK_SECONDS = 600
# A directory's mode until it has its final one.
_MADE = 0o700
REMEDY_LOCKED = "Another run works on this machine: wait for it to end, then run again"


@contextlib.contextmanager
def hold(job: Job) -> Iterator[None]:
    """Hold the lock of the machine's directory, which is made if it is wanted. Raise ForeignObject if the directory is
    not ours, StalePlan if this plan is no longer the newest, TimedOut if another run keeps the lock."""
    planned = job.planned
    while True:
        if planned.wanted == "DONE" and not os.path.isdir(job.directory):
            check_current(job)
            yield
            return
        _make_directory(job)
        _refuse_other(job)
        held = contextlib.ExitStack()
        try:
            # The slash: a directory that is gone again must not come back as a file to be locked.
            held.enter_context(lock(job.directory + "/", LOCK_SECONDS))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except TimedOut as error:
            error.remedy = REMEDY_LOCKED
            raise
        with held:
            _refuse_other(job)
            check_current(job)
            _take_record(job)
            # Else the machine could not be changed: libvirt has a machine do one thing at a time.
            job.common.driver.end_left_backup(job.mark, os.path.dirname(os.path.dirname(job.directory)))
            yield
        return


def _make_directory(job: Job) -> None:
    if os.path.isdir(job.directory):
        # Before the machine's lock is waited for, which the run of a newer plan may hold.
        check_current(job)
        return
    # No newer plan is accepted in between: it would find nothing to remove, and the directory would stay for ever.
    with node_file.fence(job.common.root, job.common.plan.catalog, job.common.plan.number) as current:
        if not current:
            raise _stale(job)
        with contextlib.suppress(FileExistsError):
            os.mkdir(job.directory, _MADE)
            # Not what the umask left of it: whoever runs machines has to get through.
            _set_access(job)


def _set_access(job: Job) -> None:
    mode, group = job.common.driver.access(job.vm.vm_id)
    adopt(job.directory, mode, -1, group)


def _refuse_other(job: Job) -> None:
    """Raise ForeignObject for what is in the directory's place: its removal would be waited for in vain."""
    asked = f"virtual machine {job.vm.name}: directory {job.directory}"
    try:
        found = os.lstat(job.directory)
    except FileNotFoundError:
        return
    mode = found.st_mode
    if stat.S_ISLNK(mode):
        raise ForeignObject(
            asked,
            f"it is a symbolic link, to {os.path.realpath(job.directory)}",
            "Remove the link: what it leads to will not be touched",
        )
    if not stat.S_ISDIR(mode):
        raise ForeignObject(asked, "it is no directory", "Move it away: it will not be touched")
    if found.st_uid not in (0, os.geteuid()):
        # Who owns it can exchange whatever is done there by name: disks, checkpoints, records.
        raise ForeignObject(
            asked,
            f"user {found.st_uid} owns it, and could put other files in the place of ours",
            "Move it away, or give it to root, if what is in it may be believed",
        )


def check_current(job: Job) -> None:
    if not node_file.is_current(job.common.root, job.common.plan.catalog, job.common.plan.number):
        raise _stale(job)


def _stale(job: Job) -> StalePlan:
    return node_file.stale_plan(f"virtual machine {job.vm.name}: plan {job.common.plan.number}")


def _take_record(job: Job) -> None:
    """Read or begin the machine's record. Raise ForeignObject for a directory with files and no mark of ours."""
    asked = f"virtual machine {job.vm.name}: directory {job.directory}"
    found = read_record(job.directory)
    if found is None:
        if holds_unmarked(job.directory):
            raise ForeignObject(asked, "it holds files, and no mark of ours", "Move it away: it will not be touched")
        # On the disk before anything else is: after a power cut the rest would be taken for somebody else's.
        job.keep_record()
        job.owned = True
        _set_access(job)
        _remove_left_behind(job)
        return
    if (found.catalog, found.vm_id, found.uuid) != (job.common.plan.catalog, job.vm.vm_id, job.vm.uuid):
        raise ForeignObject(
            asked,
            f"it belongs to machine {found.vm_id} ({found.uuid}) of catalog {found.catalog}",
            "Move it away: it will not be touched",
        )
    job.record = found
    job.owned = True
    job.common.driver.settle_standing_still(job.mark, job.directory)
    if disk_swap.is_unfinished(job.directory):
        # What few machines need takes its time to import.
        from . import disk_restores

        disk_restores.settle(job.vm, job.mark, job.directory, job.common.driver)
    # Those of containers were open to other users of the host in a version before; what runs has its mounts, and goes
    # on. A directory that a killed run has just made is closed to whoever runs machines, too.
    if job.common.driver.access(job.vm.vm_id)[0] != OPEN or stat.S_IMODE(os.stat(job.directory).st_mode) == _MADE:
        _set_access(job)
    _remove_left_behind(job)
    if found.generation > job.planned.generation:
        raise StalePlan(
            f"virtual machine {job.vm.name}: generation {job.planned.generation}",
            f"this node has acted on generation {found.generation} already",
            "Run again: a new plan holds all that is unfinished",
        )


def _remove_left_behind(job: Job) -> None:
    """Remove files that a killed run left: the lock of the directory is held, so nobody is writing them any more."""
    for name in filter(is_left_behind, os.listdir(job.directory)):
        remove_file(job.path(name))


def write_final_record(job: Job) -> None:
    if job.planned.wanted == "DONE":
        return
    record = replace(job.record, generation=job.planned.generation, images=job.common.transfer.used(job.vm))
    if job.vm.graphics is not None:
        record = replace(record, port=job.vm.graphics.port)
    write_record(job.directory, record)
