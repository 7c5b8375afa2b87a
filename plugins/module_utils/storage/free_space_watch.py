# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks whether there still is room while many files are written: others write to the same file system."""

from __future__ import annotations

import os

from ..errors import NoSpace

MIB = 1024 * 1024
# It is looked at after so many bytes or files.
_BYTES, _FILES = 32 * MIB, 512
# Files that have to be left on a file system that counts them.
_FILES_LEFT = 1024


class Room:
    """Counts what is written to a file system.
    what: the words that errors begin with
    place: a path or descriptor on the file system
    reserve: bytes of it that are left free"""

    def __init__(self, what: str, place: str | int, reserve: int) -> None:
        self._what, self._place, self.reserve = what, place, reserve
        self._written = self._unseen = self._files = 0
        self._unseen_files = _FILES

    def take(self, written: int = 0, made: int = 0) -> None:
        """Count bytes and files that were, or will be, made. Raise NoSpace where the file system is nearly full."""
        self._unseen += written
        self._unseen_files += made
        if self._unseen < _BYTES and self._unseen_files < _FILES:
            return
        self._written += self._unseen
        self._files += self._unseen_files
        self._unseen = self._unseen_files = 0
        found = os.statvfs(self._place)
        free = found.f_bavail * found.f_frsize
        if free < self.reserve:
            raise NoSpace(
                self._what,
                f"{free // MIB} MiB are left of the file system after {self._written // MIB} MiB of it; "
                f"{self.reserve // MIB} MiB are kept free",
                "Make room there, then run again",
            )
        if found.f_files and found.f_favail < _FILES_LEFT:
            raise NoSpace(
                self._what,
                f"the file system can have {found.f_favail} files more, after {max(0, self._files - _FILES)} of it",
                "Use one that was made for more files (mkfs.ext4 -i), then run again",
            )
