# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test compares to say that a file was left alone."""

from __future__ import annotations

import os


def facts(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """What changes with a file. Reading it moves the time of its last use, so that is not among them."""
    found = os.lstat(path)
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
