# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a file of unknown length with holes for zeroes, within a limit and the free space."""

from __future__ import annotations

import errno
import hashlib
import os

from ..errors import ImageRefused, NoSpace
from ..host import files
from . import datastore_layout, file_blocks

MIB = 1024 * 1024
CHUNK = file_blocks.CHUNK
# How often the free space is looked at while writing what has no known size.
SPACE_CHECK = 64 * MIB


class SparseFile:
    """Writes a file by blocks of any length, with holes for zeroes. Raises ImageRefused for a file that is too large,
    and NoSpace if the file system is about to be full.
    what: how errors name the object
    max_size: bytes
    hashed: whether the file's SHA-256 is wanted"""

    def __init__(self, path: str, what: str, max_size: int, hashed: bool) -> None:
        self._path = path
        self._what = what
        self._max_size = max_size
        self._buffer = bytearray()
        self._offset = 0
        self._unchecked = 0
        self._hash = hashlib.sha256() if hashed else None
        with files.explained(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._written = file_blocks.EarlyWriteback(self._fd)

    def __enter__(self) -> SparseFile:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)

    def write(self, block: bytes) -> None:
        if not self._buffer and len(block) == CHUNK:
            self._put(block)
            return
        self._buffer += block
        while len(self._buffer) >= CHUNK:
            self._put(bytes(self._buffer[:CHUNK]))
            del self._buffer[:CHUNK]

    def finish(self) -> str:
        """Write what is left, and return the SHA-256 of the whole file; "" if it is not wanted."""
        if self._buffer:
            self._put(bytes(self._buffer))
        with files.explained(self._path):
            os.ftruncate(self._fd, self._offset)
        return self._hash.hexdigest() if self._hash is not None else ""

    def _put(self, chunk: bytes) -> None:
        if self._offset + len(chunk) > self._max_size:
            raise too_large(self._what, self._max_size, self._offset + len(chunk))
        if self._hash is not None:
            self._hash.update(chunk)
        view = memoryview(chunk)
        try:
            for start, end in file_blocks.nonzero_extents(chunk):
                self._write(view[start:end], self._offset + start)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._no_space() from error
            raise files.explain(error, self._path) from error
        self._offset += len(chunk)
        self._written.up_to(self._offset)

    def _write(self, piece: memoryview, offset: int) -> None:
        self._unchecked += len(piece)
        if self._unchecked >= SPACE_CHECK:
            self._unchecked = 0
            if datastore_layout.free_space(os.path.dirname(self._path)) < SPACE_CHECK:
                raise self._no_space()
        while piece:
            done = os.pwrite(self._fd, piece, offset)
            piece, offset = piece[done:], offset + done

    def _no_space(self) -> NoSpace:
        return NoSpace(
            f"{self._what}: storing it in {os.path.dirname(self._path)}",
            f"the file system is full after {self._offset // MIB} MiB",
            "Make room on it, or set nebula_root to a larger one; then run again",
        )


def too_large(what: str, max_size: int, size: int) -> ImageRefused:
    """Return the error for a file of more than max_size bytes. size: the bytes that are known so far."""
    return ImageRefused(
        what,
        f"it has {size // MIB} MiB or more, the limit is {max_size // MIB} MiB",
        "If it is what was meant, raise the limit: max_size (nebula_image_max_size)",
    )
