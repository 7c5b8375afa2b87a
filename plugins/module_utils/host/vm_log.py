# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes vm.log in a machine's directory, in OpenNebula's form: Thu Aug 7 22:17:06 2014 [LCM] [I]: New VM state is
BOOT"""

from __future__ import annotations

import contextlib
import os
import time

from ..errors import harmless
from .files import closing_fd

NAME = "vm.log"
MODE = 0o640
# How many of its lines an outcome carries to the front-end.
CARRIED = 10
# English whatever the locale: strftime's names follow it.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class VmLog:
    """Holds the log of one machine during one run. Lines are kept until save(), so that a run that changed nothing
    leaves no trace, and one that did costs one write."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, NAME)
        self.lines: list[str] = []
        self._saved = 0

    def __call__(self, component: str, level: str, text: str) -> None:
        """Add a line. component: DIM, LCM, VMM, TM. level: I, W, E."""
        self.lines.append(line(component, level, text))

    def last(self) -> tuple[str, ...]:
        return tuple(self.lines[-CARRIED:])

    def save(self) -> None:
        """Append the new lines. A log that can't be written is no reason to fail the work that it is about."""
        new, self._saved = self.lines[self._saved :], len(self.lines)
        if not new:
            return
        with contextlib.suppress(OSError):
            # Not blocking: a named pipe would wait for its reader.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            with closing_fd(os.open(self.path, flags, MODE)) as fd:
                os.fchmod(fd, MODE)
                os.write(fd, "".join(text + "\n" for text in new).encode("utf-8", "replace"))


def line(component: str, level: str, text: str, at: float | None = None) -> str:
    """Return one line, in local time; line breaks within the text become spaces."""
    when = time.localtime(at)
    clock = f"{when.tm_hour:02d}:{when.tm_min:02d}:{when.tm_sec:02d}"
    stamp = f"{_DAYS[when.tm_wday]} {_MONTHS[when.tm_mon - 1]} {when.tm_mday} {clock} {when.tm_year}"
    return f"{stamp} [{component}] [{level}]: {harmless(' '.join(text.split()))}"
