# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens paths below an open directory that may be longer than the kernel takes in one call (4095 bytes), for a process
that has nothing but that tree (host/confined_process.py). Links on the way are followed: they lead to places in it."""

from __future__ import annotations

import os

# Bytes that are given to the kernel at once, which leaves room for a name behind them.
_PIECE = 3800
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class OpenPaths:
    """Finds places below a directory. One directory besides is kept open: what is asked for next is often in it.
    top: the open directory"""

    def __init__(self, top: int) -> None:
        self.top = top
        self._path, self._fd = b"", -1

    def at(self, path: bytes) -> tuple[int, bytes]:
        """Return an open directory, which is good until the next call, and the path from there for the kernel."""
        if len(path) <= _PIECE:
            return self.top, path
        parent, _slash, name = path.rpartition(b"/")
        return self._open_directory(parent), name

    def forget(self) -> None:
        """Close what was kept: a path may lead elsewhere from now on."""
        if self._fd >= 0:
            os.close(self._fd)
        self._path, self._fd = b"", -1

    def _open_directory(self, path: bytes) -> int:
        if path == self._path:
            return self._fd
        start, rest = self.top, path
        if self._path and path.startswith(self._path + b"/"):
            start, rest = self._fd, path[len(self._path) + 1 :]
        fd = _descend(start, rest)
        self.forget()
        self._path, self._fd = path, fd
        return fd


def _descend(start: int, path: bytes) -> int:
    here = start
    try:
        while path:
            cut = path.rfind(b"/", 0, _PIECE) if len(path) > _PIECE else len(path)
            # Without one there is a name that no file can have; the kernel says so.
            cut = cut if cut > 0 else len(path)
            below = os.open(path[:cut], _DIRECTORY, dir_fd=here)
            if here != start:
                os.close(here)
            here, path = below, path[cut + 1 :]
    except BaseException:
        if here != start:
            os.close(here)
        raise
    return here
