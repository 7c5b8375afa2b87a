# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs that write into guests' disks have left: not what those that go on are at, other tests' among them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection


def left() -> list[Path]:
    """The scratch directories that no run holds any more."""
    return [path for path in Path(file_injection.SCRATCH).glob(f"{file_injection.PREFIX}*") if not is_held(path)]


def is_held(directory: Path) -> bool:
    """By a run of anybody's; one that has gone by now was."""
    try:
        fd = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
