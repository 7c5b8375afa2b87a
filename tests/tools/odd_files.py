# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile image has in the place of a file. A device is not among them, as only root can make one."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

KINDS = ("pipe", "link to a pipe", "socket", "directory", "link to a directory", "link to nothing", "link to itself")


def dig(path: Path, levels: int, name: str = "d") -> None:
    """Make directories one in another. Their whole path may be longer than the kernel takes."""
    here = os.open(path, os.O_RDONLY)
    for _level in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def put(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # By its descriptor: the path of a socket is short.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name(f"{path.name}.pipe"))
        path.symlink_to(f"{path.name}.pipe")
    else:
        path.symlink_to({"link to a directory": "/etc", "link to nothing": "gone"}.get(kind, path.name))
