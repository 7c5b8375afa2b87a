# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes large files so that the disk works while the processor does, with holes for zeroes.

The kernel is asked to read ahead, and to write before it has to: a thread for each stage gained little beside that."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Generator, Iterator

MIB = 1024 * 1024
CHUNK = MIB
# Holes are made of whole blocks of this size.
HOLE = 64 * 1024
# By itself it reads 128 KiB ahead, and writes once seconds have passed, or when it is told to wait for it.
AHEAD = BEHIND = 32 * MIB
# Seconds after which it is looked how long a file has become that another program writes.
_LOOK = 0.03
_ZEROES = bytes(CHUNK)
_HOLE = bytes(HOLE)


def read(fd: int) -> Generator[bytes, None, None]:
    """Yield the whole file, in chunks; its own position is left alone."""
    offset, ahead = 0, ReadAhead(fd)
    while True:
        ahead.of(offset)
        block = os.pread(fd, CHUNK, offset)
        if not block:
            return
        offset += len(block)
        yield block


def nonzero_extents(chunk: bytes) -> Iterator[tuple[int, int]]:
    """Yield beginning and end of what is to be written of a chunk (1 MiB at most): all but blocks of zeroes."""
    length = len(chunk)
    if chunk == _ZEROES or (length < CHUNK and chunk == _ZEROES[:length]):
        return
    begin = -1
    for start in range(0, length, HOLE):
        if chunk.startswith(_HOLE if start + HOLE <= length else _HOLE[: length - start], start):
            if begin >= 0:
                yield begin, start
            begin = -1
        elif begin < 0:
            begin = start
    if begin >= 0:
        yield begin, length


class ReadAhead:
    """Has the kernel read what will be asked for next, of a file that is read from front to end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._asked = 0

    def of(self, offset: int) -> None:
        if self._asked - offset <= AHEAD:
            _advise(self._fd, self._asked, AHEAD, os.POSIX_FADV_WILLNEED)
            self._asked += AHEAD


class EarlyWriteback:
    """Has the kernel begin early with what fsync() will wait for, of a file that is written from front to end.
    forget: what is on its disk does not stay in memory, whose pages are used again for what comes next"""

    def __init__(self, fd: int, offset: int = 0, forget: bool = False) -> None:
        self._fd = fd
        self._begun = self._forgotten = offset
        self._forget = forget

    def up_to(self, offset: int) -> None:
        if offset - self._begun < BEHIND:
            return
        # It begins to write what it would otherwise forget at once.
        _advise(self._fd, self._begun, offset - self._begun, os.POSIX_FADV_DONTNEED)
        written = self._begun - BEHIND
        if self._forget and written > self._forgotten:
            _advise(self._fd, self._forgotten, written - self._forgotten, os.POSIX_FADV_DONTNEED)
            self._forgotten = written
        self._begun = offset


@contextlib.contextmanager
def written_back_early(path: str) -> Iterator[None]:
    """Do the same for a file that another program makes and writes while the block runs."""
    over = threading.Event()
    worker = threading.Thread(target=_write_back, args=(path, over), daemon=True)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def _write_back(path: str, over: threading.Event) -> None:
    early = None
    fd = -1
    try:
        while not over.wait(_LOOK):
            if early is None:
                # The program may not have made it yet. What only helps never fails.
                with contextlib.suppress(OSError):
                    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                if fd < 0:
                    continue
                early = EarlyWriteback(fd, forget=True)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            early.up_to(status.st_size)
    finally:
        if fd >= 0:
            os.close(fd)


def _advise(fd: int, offset: int, length: int, advice: int) -> None:
    # It is nothing more than advice, which some file systems do not take.
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, offset, length, advice)
