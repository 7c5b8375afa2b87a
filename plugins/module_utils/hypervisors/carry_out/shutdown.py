# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a machine: its guest is asked to shut down, or the machine is cancelled."""

from __future__ import annotations

from .job import Job


def stop(job: Job, state: str, on_the_way: str) -> None:
    """End a machine that is RUNNING, UNKNOWN or SUSPENDED. Raise TimedOut if the guest does not obey; it runs on.
    state: the state that the machine is in.
    on_the_way: its state meanwhile, in OpenNebula's words."""
    job.stage = state
    job.log("LCM", "I", f"New VM state is {on_the_way}")
    if job.planned.hard:
        job.common.driver.cancel(job.mark)
        return
    # A guest that stands still can't obey.
    if state == "SUSPENDED":
        job.common.driver.resume(job.mark, "")
    elif state == "UNKNOWN":
        job.common.driver.start(job.mark)
    job.common.driver.shutdown(job.mark, job.planned.shutdown_timeout)
