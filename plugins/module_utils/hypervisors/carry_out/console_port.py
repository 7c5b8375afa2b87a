# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the port of a machine's graphical console before the machine starts."""

from __future__ import annotations

import contextlib
import errno
import socket

from ...errors import NoCapacity
from ...model import defaults
from .job import Job


def require_free(job: Job) -> None:
    """Raise NoCapacity if another program has taken the console's port since the plan was made; QEMU would only say
    that it can't listen."""
    graphics = job.vm.graphics
    if graphics is None or not graphics.port:
        return
    address = graphics.listen or defaults.GRAPHICS_LISTEN
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # As QEMU does, so that connections of an ended machine that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, graphics.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return
            raise NoCapacity(
                f"virtual machine {job.vm.name}: GRAPHICS port {graphics.port} on {address}",
                "another program listens on it",
                "Run again: the next plan takes another port, unless the template sets GRAPHICS PORT itself",
            ) from error
