# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks containers that stand still for a move, beside their configurations: to vzctl a container that stands still is
one that runs. A mark is on the disk before vzctl is asked for what it speaks of."""

from __future__ import annotations

from pathlib import Path

from ...errors import NotFound
from ...host.files import read_limited, remove_file, write_atomically
from . import vzctl

# It may stand still here, and is this host's; it is the other host's by now; it may stand still here as a copy.
LEAVING, LEFT, COMING = "leaving", "left", "coming"
_LARGEST = 64


def read(ctid: int) -> str:
    """Return the mark of a container, "" if it has none."""
    try:
        return read_limited(str(_path(ctid)), _LARGEST, follow=False).decode("ascii", "replace").strip()
    except NotFound:
        return ""


def write(ctid: int, stage: str) -> None:
    write_atomically(str(_path(ctid)), f"{stage}\n", mode=0o600)


def remove(ctid: int) -> None:
    remove_file(str(_path(ctid)))


def _path(ctid: int) -> Path:
    # Nobody but root writes to this directory, and vzctl looks for other endings there.
    return vzctl.CONFIGURATIONS / f"{ctid}.nebula-move"
