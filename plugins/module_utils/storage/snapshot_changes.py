# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Knows in which machine's disks a snapshot is being made, deleted or gone back to. A QEMU that is killed then, or
whose host loses power, leaves clusters that nobody has, and flags for which a check calls the disk damaged. The next
run that finds the machine off mends both.

    .snapshot-changes      in the machine's directory, until that is done"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from ..errors import Conflict, InUse, InvalidValue, NotFound, Unsupported, WrongState
from ..host import command
from ..host.files import remove_file, write_atomically
from ..host.sandbox import WRITE
from ..model.disk import DiskFiles
from . import qemu_img

MARK = ".snapshot-changes"
# How qemu-img check ends where all is well, and where clusters are leaked, which QEMU does by itself at times; and
# where there is damage that it does not mend. However else it ends, it could not look.
_SOUND, _DAMAGED = (0, 3), 2
_REFUSALS = (Conflict, InUse, InvalidValue, NotFound, Unsupported, WrongState)


def are_unfinished(directory: str) -> bool:
    """Return whether one was not done to its end. directory: of the machine."""
    return os.path.lexists(os.path.join(directory, MARK))


@contextlib.contextmanager
def noted(directory: str) -> Iterator[None]:
    """Take note, for a block of code, that the disks are being changed so. After an error the note stays, unless it is
    one that is raised before anything is done."""
    path = os.path.join(directory, MARK)
    write_atomically(path, "")
    try:
        yield
    except _REFUSALS:
        remove_file(path)
        raise
    remove_file(path)


def mend(directory: str, files: Iterable[DiskFiles], asked: str) -> list[str]:
    """Give back what was left taken in qcow2 files of a machine that is off, whose directory's lock is held. Return a
    sentence for each one that is damaged in another way, or could not be looked at: then the note stays.
    asked: how errors begin"""
    found, all_seen = [], True
    for disk in files:
        done = qemu_img.run(
            *("check", "-q", "-r", "leaks"),
            disk=disk,
            use=WRITE,
            what=asked,
            open_below=False,
            timeout=qemu_img.LONG_TIMEOUT,
            check=False,
        )
        if done.returncode == _DAMAGED:
            found.append(f"{disk.path} is damaged beyond what can be mended: restore the disk from a backup")
        elif done.returncode not in _SOUND:
            all_seen = False
            found.append(f"{disk.path} could not be checked, and is tried again: {command.failure_of(done).found}")
    if all_seen:
        remove_file(os.path.join(directory, MARK))
    return found
