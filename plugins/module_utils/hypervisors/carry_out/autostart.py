# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a machine start when its host boots, or not, as is wanted of the machine."""

from __future__ import annotations

import contextlib

from ...errors import NebulaError
from ...model.installation_marks import starts_with_host
from .job import Job


def set_autostart(job: Job) -> None:
    """Set whether the machine starts with its host, by what is wanted of it. Call it before a machine is stopped or
    saved: the host may die at any moment, and a saved machine must not be booted over its memory."""
    wanted = starts_with_host(job.vm, job.planned.wanted)
    if job.common.driver.starts_with_host(job.mark) not in (None, wanted):
        job.common.driver.set_starts_with_host(job.mark, wanted)
        job.changed = True


def set_autostart_after_failure(job: Job) -> None:
    """Have a machine start with its host if its guest did not obey or could not be saved: it runs on, and is wanted so
    from now on."""
    if job.planned.wanted not in ("POWEROFF", "SUSPENDED") or not starts_with_host(job.vm, "RUNNING"):
        return
    # The first error is the one to be told.
    with contextlib.suppress(NebulaError):
        if job.common.driver.state(job.mark) == "RUNNING" and job.common.driver.starts_with_host(job.mark) is False:
            job.common.driver.set_starts_with_host(job.mark, True)
