# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the job in which QEMU copies the disks of a machine, or shows them to a backup. A machine has one at a time."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import HypervisorError, InUse, TimedOut
from ...host import lock_files
from ...host.files import closing_fd
from ...storage.final_names import NEW

# Where backups have their sockets, each in a directory of its own.
SOCKETS = "/run/libvirt/nebula-backups"
# How long QEMU may take to end one.
ENDING_SECONDS = 120.0
_STEP = 0.02


def places_of(name: str) -> tuple[str, str]:
    """Return where the backups of the domain have their sockets: a directory of QEMU's user, and one of root's."""
    return os.path.join(SOCKETS, name), os.path.join(SOCKETS, f".{name}")


def end_left(lv: Any, domain: Any, asked: str, datastores: str) -> None:
    """End a job of ours that a killed run left behind. Raise InUse for one of somebody else. The caller holds the lock
    of the machine's directory, so no run of ours is at it. datastores: where images are made."""
    try:
        text = domain.backupGetXMLDesc(0)
    except lv.libvirtError as error:
        if error.get_error_code() in (lv.VIR_ERR_NO_DOMAIN_BACKUP, lv.VIR_ERR_OPERATION_INVALID):
            return
        raise HypervisorError(asked, str(error)) from error
    job = ET.fromstring(text)
    server = job.find("server")
    socket = (server.get("socket") or server.get("name") or "") if server is not None else ""
    files = [each.get("file", "") for each in job.iterfind("./disks/disk/target")]
    ours = os.path.dirname(os.path.dirname(os.path.normpath(socket))) == SOCKETS
    if server is None:
        ours = bool(files) and all(_is_image(file, datastores) for file in files)
    if not ours:
        places = ", ".join(filter(None, files)) or socket or "somewhere else"
        raise InUse(asked, f"the machine is being backed up to {places}", "Wait for that, then run again")
    end(lv, domain, asked)


def wait_for_watchdog(place: str, asked: str) -> None:
    """Wait until nobody ends the job of a killed run any more, which otherwise would end the next one.
    place: of root's, as places_of() has it"""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with closing_fd(fd):
        limit = time.monotonic() + ENDING_SECONDS
        while not lock_files.take(fd, shared=False):
            if time.monotonic() > limit:
                raise TimedOut(asked, f"somebody has {place} open and locked", "See who does, then run again")
            time.sleep(_STEP)


def _is_image(file: str, datastores: str) -> bool:
    """Return whether the file is an image that was being made in one of the datastores."""
    file = os.path.normpath(file)
    return file.endswith(NEW) and os.path.dirname(os.path.dirname(file)) == datastores


def end(lv: Any, domain: Any, asked: str) -> None:
    """End the machine's job, whether or not it has one, and wait until QEMU has."""
    with contextlib.suppress(lv.libvirtError):
        # It may have come to its end meanwhile.
        domain.abortJob()
    limit = time.monotonic() + ENDING_SECONDS
    while _is_busy(lv, domain):
        if time.monotonic() > limit:
            raise TimedOut(
                asked, f"QEMU has not ended its job within {ENDING_SECONDS:g} s", "Look at it with virsh domjobinfo"
            )
        time.sleep(_STEP)
    with contextlib.suppress(lv.libvirtError):
        # The result of that job must not be read as the next one's.
        domain.jobStats(lv.VIR_DOMAIN_JOB_STATS_COMPLETED)


def _is_busy(lv: Any, domain: Any) -> bool:
    try:
        return bool(domain.jobStats().get("type") != lv.VIR_DOMAIN_JOB_NONE)
    except lv.libvirtError:
        # It has ended, with all its jobs.
        return False
