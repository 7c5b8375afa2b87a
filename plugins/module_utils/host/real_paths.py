# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves links in a path by three calls of the kernel, where Python asks once for each directory on the way."""

from __future__ import annotations

import os

# What the kernel adds where something has lost its name meanwhile.
_DELETED = " (deleted)"


def real_path(path: str) -> str:
    """Return what `os.path.realpath` does: the path without links, also of something that is not there."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return os.path.realpath(path)
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return os.path.realpath(path)
    finally:
        os.close(fd)
    return found if found.startswith("/") and not found.endswith(_DELETED) else os.path.realpath(path)
