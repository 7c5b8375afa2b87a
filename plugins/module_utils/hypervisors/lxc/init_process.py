# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the init of a running container, as its host sees it, and ends it in good order."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from ...host import processes
from ...host.files import closing_fd

# Counted from the first real-time signal that glibc leaves to programs.
_HALT_OF_SYSTEMD = signal.SIGRTMIN + 3
_SIGNALS = {"systemd": (_HALT_OF_SYSTEMD, signal.SIGINT), "busybox": (signal.SIGUSR2, signal.SIGTERM)}
# sysvinit and OpenRC halt at what says that the power fails, and start anew at Ctrl-Alt-Del.
_OTHERS = (signal.SIGPWR, signal.SIGINT)


def is_controller(pid: int, name: str) -> bool:
    """Return whether root has a process of this number and name, as libvirt's program for each container has."""
    return processes.is_of_root(pid, name)


def init_of_controller(pid: int) -> int | None:
    """Return the init of a container, None if it has ended. pid: of libvirt's controller, whose child it is."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # What is behind the name: state, parent. A name may have any bracket in it.
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == pid and fields[0] != b"Z":
                return int(entry.name)
    return None


def signal_init(init: int, reboot: bool) -> None:
    """Ask the init to halt, or to start anew. Whatever it calls itself, it is sent no more than a signal."""
    with closing_fd(os.pidfd_open(init)) as handle:
        signal.pidfd_send_signal(handle, _signals(init)[1 if reboot else 0])


def _signals(init: int) -> tuple[int, int]:
    """Return the signals that halt the init and that start it anew."""
    name = ""
    with contextlib.suppress(OSError):
        name = os.path.basename(os.readlink(f"/proc/{init}/exe"))
    return _SIGNALS.get(name, _OTHERS)
