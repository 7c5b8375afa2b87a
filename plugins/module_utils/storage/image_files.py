# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the file of an image anew, or makes it larger: beside it first, then in its place.

rewrite ──► settle ──► (the caller notes that it is whole) ──► swap

Whoever is killed before the note leaves the old file, and after it, one of the two under the image's name: the
rename tells which. Growing and digging holes write nothing that was there, and can be done again."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable

from ..errors import ImageRefused
from ..host import command, files
from . import datastore_layout, disk_creation, qcow2_header, qemu_img

# What an operation makes of an image, until it is whole.
WORK = ".work"
# The directory beside a disk where lies what is to be put into it.
BESIDE = ".d"
MIB = 1024 * 1024
# Bytes that the kernel copies at a time, and what the headers of an encrypted disk take.
_STEP = 64 * MIB
_LUKS = 4 * MIB
Say = Callable[[str], None]


def duplicate(source: str, target: str, what: str, say: Say | None = None) -> None:
    """Copy the file with its holes to a new `target`; blocks are shared where the file system can."""
    with files.explained(source):
        read = qcow2_header.open_binary(source)
    with read, files.explained(target), files.opened(target, files.NEW_FILE) as fd:
        if files.clone(read.fileno(), fd):
            return
        found = os.fstat(read.fileno())
        datastore_layout.require_space(os.path.dirname(target), min(found.st_size, found.st_blocks * 512), what)
        os.ftruncate(fd, found.st_size)
        for start, end in _extents(read.fileno(), found.st_size):
            _copy(read.fileno(), fd, start, end)
            if say is not None:
                say(f"{100 * end // found.st_size} %")


def _extents(fd: int, size: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            # Nothing but a hole follows.
            break
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found += [(at, min(at + _STEP, end)) for at in range(start, end, _STEP)]
    return found


def _copy(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        try:
            done = os.copy_file_range(source, target, end - start, start, start)
        except OSError:
            # Between two file systems, on older kernels.
            done = os.pwrite(target, os.pread(source, min(end - start, MIB), start), start)
        if done == 0:
            raise ImageRefused("copying its file", "it became shorter meanwhile", "Run again")
        start += done


def require_room(path: str, format: str, new_format: str, key: str, what: str) -> None:
    """Raise NoSpace unless rewriting the disk at `path` fits beside it."""
    needed = os.stat(path).st_blocks * 512 if key else disk_creation.room_for(path, format, new_format)
    datastore_layout.require_space(os.path.dirname(path), needed + _LUKS, what)


def rewrite(path: str, format: str, new_format: str, size: int, compress: bool, source_key: str, key: str) -> None:
    """Write what a machine sees of the disk, whole and synced, into the file beside it. size: bytes, at least."""
    work = path + WORK
    files.remove_file(work)
    disk_creation.rewrite(path, format, work, new_format, compress, source_key, key)
    disk_creation.resize(work, new_format, size, key)
    with files.explained(work):
        files.settle(work)


def swap(path: str, writable: bool) -> None:
    """Put what was made in the image's place."""
    datastore_layout.protect(path + WORK, writable)
    with files.explained(path):
        os.rename(path + WORK, path)
        files.sync_directory(os.path.dirname(path))


def has_work(path: str) -> bool:
    return os.path.lexists(path + WORK)


def remove_additions(disk: str) -> None:
    """Take away what a run that was killed was about to put into a disk."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(disk + BESIDE)


def undo(path: str) -> None:
    files.remove_file(path + WORK, sync=True)


def grow(path: str, format: str, size: int, key: str) -> None:
    """Make the disk larger in its own file: what is in it stays where it is."""
    disk_creation.resize(path, format, size, key)
    with files.explained(path):
        files.settle(path)


def dig_holes(path: str) -> None:
    """Give the zeroes of a raw disk back to its file system. Its content stays the same."""
    command.run(["fallocate", "--dig-holes", path], timeout=qemu_img.LONG_TIMEOUT)
    with files.explained(path):
        files.settle(path)
