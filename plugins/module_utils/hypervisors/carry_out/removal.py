# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a machine for good, or unmakes it before it is made anew: its domain, its disks, its directory."""

from __future__ import annotations

import contextlib
import os

from ...dataclass import replace
from ...host import untrusted_trees
from ...host.files import closing_fd, explained, remove_file
from ...storage import machine_disks
from ..machine_record import CHECKPOINT, PARTIAL, RECORD
from .job import Job
from .shutdown import stop


def remove_machine(job: Job) -> str:
    # A name that somebody else has by now is no reason to keep what is ours.
    elsewhere = job.common.driver.is_foreign(job.mark, job.directory)
    state = None if elsewhere else job.common.driver.state(job.mark)
    if state is not None and not job.planned.hard and state in ("RUNNING", "UNKNOWN", "SUSPENDED"):
        stop(job, state, "SHUTDOWN")
    job.stage = "EPILOG_FAILURE"
    if state is not None or os.path.isdir(job.directory):
        job.log("LCM", "I", "New VM state is EPILOG")
        remove_domain_and_disks(job, domain=not elsewhere)
        remove_directory(job)
        job.moved("DIM", "DONE")
    return "DONE"


def remove_directory(job: Job) -> None:
    """Remove the directory, the record last: what a killed run leaves before that is still known to be ours, and the
    next run removes it. For the same reason no log is written beside a record that is gone."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with explained(job.directory), contextlib.suppress(FileNotFoundError):
        # By what is open: on a shared datastore, other hosts may put something else in its place meanwhile.
        with closing_fd(os.open(job.directory, flags)) as directory:
            for name in os.listdir(directory):
                if name != RECORD:
                    untrusted_trees.remove_in(directory, name, job.path(name))
        job.owned = False
        untrusted_trees.remove(job.directory)


def remove_domain_and_disks(job: Job, domain: bool = True, anew: bool = False) -> None:
    """Remove domain and disks; images stay. anew: both are about to be made again."""
    if domain:
        job.changed = job.common.driver.remove(job.mark) or job.changed
    if os.path.isdir(job.directory):
        job.changed = job.common.transfer.give_up(job.directory, job.vm if anew else None) or job.changed
        job.changed = machine_disks.remove(job.directory) or job.changed
        for name in (CHECKPOINT, PARTIAL):
            remove_file(job.path(name))
    job.record = replace(job.record, definition="", context="")
