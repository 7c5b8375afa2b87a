# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps files that come from the control node in chunks. What has arrived stays, so that a broken upload can go on.

They lie in the datastore's own directory: an image that is not packed is renamed there, not copied."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time

from ..errors import DownloadFailed, InvalidValue
from ..host import files
from . import file_blocks

PREFIX = ".upload-"
# An upload that nobody went on with for so long is not wanted any more.
KEPT_SECONDS = 7 * 24 * 3600
_IDENTITY = re.compile(r"[0-9a-f]{32,64}")


def path_of(directory: str, identity: str) -> str:
    """Return the file of an upload. identity: the control node's digest of the file's name, size and time."""
    if not _IDENTITY.fullmatch(identity):
        raise InvalidValue(f"upload {identity!r}", "that is no digest", "Leave uploads to the action plugin")
    return os.path.join(directory, PREFIX + identity)


def bytes_received(directory: str, identity: str) -> int:
    try:
        return os.path.getsize(path_of(directory, identity))
    except FileNotFoundError:
        return 0


def append(directory: str, identity: str, offset: int, chunk: str) -> int:
    """Put the file `chunk` behind the first `offset` bytes of the upload. Return how many bytes are here then. If more
    are here already (another run sends the same file), the chunk is left out, and the answer says where to go on."""
    path = path_of(directory, identity)
    if offset == 0:
        files.make_directory(directory, 0o711)
        _forget_old(directory)
    with files.explained(path), files.lock(path) as fd:
        found = os.fstat(fd)
        here = found.st_size
        if found.st_uid not in (0, os.geteuid()):
            raise InvalidValue(
                f"upload {identity}", f"user {found.st_uid} owns {path}", "See who put it there; remove it"
            )
        if here < offset:
            raise DownloadFailed(
                f"upload {identity}: chunk at {offset}",
                f"only {here} bytes are here",
                "Run again: it goes on from there",
            )
        if here > offset:
            return here
        try:
            return _append(fd, offset, chunk)
        except OSError:
            # What may not be on the disk must not count as received.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, offset)
            raise


def _append(fd: int, offset: int, chunk: str) -> int:
    # Where it is, the login may write: what is no file would be waited for.
    with files.opened(chunk, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as source:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise InvalidValue(f"chunk {chunk}", "it is no file", "Leave uploads to the action plugin")
        written = file_blocks.EarlyWriteback(fd, offset)
        for block in file_blocks.read(source):
            view = memoryview(block)
            for start, end in file_blocks.nonzero_extents(block):
                _write(fd, view[start:end], offset + start)
            offset += len(block)
            written.up_to(offset)
    # The length says where to go on, so it comes last: a power cut could keep it, and zeroes instead of what is below.
    os.fsync(fd)
    if os.fstat(fd).st_size < offset:
        os.ftruncate(fd, offset)
        os.fsync(fd)
    return offset


def remove(directory: str) -> None:
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        if name.startswith(PREFIX):
            files.remove_file(os.path.join(directory, name))


def _write(fd: int, piece: memoryview, offset: int) -> None:
    while piece:
        done = os.pwrite(fd, piece, offset)
        piece, offset = piece[done:], offset + done


def _forget_old(directory: str) -> None:
    limit = time.time() - KEPT_SECONDS
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.startswith(PREFIX) and os.lstat(path).st_mtime < limit:
            files.remove_file(path)
