# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds processes that root of this host has started, by their arguments.

Anybody can start a process with any arguments and any name. So can root of a container, whose processes the host
sees as root's where the container has no ids of its own. Nobody but root of the host has a process whose users are
all root, which is in the namespaces of this process, and whose program is not set-uid. (Where a module runs as
another user, that user's processes count in the place of root's.)"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

PROC = Path("/proc")
# What root of a container or of a user's own namespace can't leave.
_NAMESPACES = ("pid", "user")


def of_root(wanted: Callable[[list[bytes]], bool]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the numbers and arguments of the processes that root of this host has started with arguments that are
    wanted. The owner of a process costs more to find out than its arguments, so these are looked at first."""
    for name in filter(str.isdigit, os.listdir(PROC)):
        words = arguments(int(name))
        # A kernel's thread has none.
        if words and wanted(words) and is_of_root(int(name)):
            yield int(name), words


def arguments(pid: int) -> list[bytes]:
    """Return the arguments of a process, its program first; nothing if there is no such process."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def start_time(pid: int) -> int | None:
    """Return the start time of a process, in clock ticks since boot; None if there is no such process, or it has
    ended."""
    try:
        # The name in brackets may hold anything, spaces and brackets too.
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def writes_to(pid: int, file: os.stat_result) -> bool:
    """Return whether exactly this file is the output of the process: its standard output or its error output."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            found = (PROC / str(pid) / "fd" / str(number)).stat()
            if (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino):
                return True
    return False


def is_of_root(pid: int, called: str = "", owner: int | None = None, began: int | None = None) -> bool:
    """Return whether root of this host has started the process.
    called: the name that the kernel has for it.
    owner: another user whose processes count, too, such as a user that a service of the distribution has for
    itself.
    began: its start_time(), where its number was kept: a process that ends gives its number to another."""
    place = PROC / str(pid)
    try:
        if began is not None and start_time(pid) != began:
            return False
        status = (place / "status").read_text(encoding="utf-8", errors="replace")
        users = re.search(r"^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$", status, re.MULTILINE)
        if users is None or "\nState:\tZ" in status:
            return False
        if {*users.groups()} not in ({str(os.geteuid())}, {str(owner)}):
            return False
        if any(not (place / "ns" / kind).samefile(PROC / "self/ns" / kind) for kind in _NAMESPACES):
            return False
        if (place / "exe").stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
            return False
        # The kernel keeps 15 characters of a name.
        return not called or (place / "comm").read_text(encoding="utf-8", errors="replace").strip() == called[:15]
    except OSError:
        return False
