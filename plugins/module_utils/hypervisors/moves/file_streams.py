# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends files of a machine to the other host of its move as they are, with their holes, and takes them in."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import ForeignObject
from ...host.files import NEW_FILE, explained, opened
from ...storage.file_blocks import EarlyWriteback
from .passage import BLOCK, Channel

# Bytes that are named at a time.
_STRETCH = 16 << 20


def send(channel: Channel, name: str, path: str, most: int | None = None) -> None:
    """Send the file. Nothing else writes to it meanwhile but at its end. most: bytes, of its end."""
    with explained(path), opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC) as fd:
        found = os.fstat(fd)
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        begin = max(0, size - most) if most is not None else 0
        channel.send(file=name, size=size - begin)
        for offset, length in _stretches(fd, begin, size):
            channel.send(at=offset - begin, length=length)
            place, end = offset, offset + length
            while place < end:
                block = os.pread(fd, min(BLOCK, end - place), place)
                # It was cut off meanwhile.
                block = block or bytes(min(BLOCK, end - place))
                channel.send_bytes(block)
                place += len(block)
    channel.send(end=name)


def _stretches(fd: int, begin: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield beginning and length of what is no hole."""
    place = begin
    while place < size:
        try:
            data = os.lseek(fd, place, os.SEEK_DATA)
            hole = os.lseek(fd, data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        place = data
        while place < min(hole, size):
            length = min(_STRETCH, min(hole, size) - place)
            yield place, length
            place += length
        place = max(place, hole)


def receive(channel: Channel, header: Mapping[str, Any], path: str, most: int, seconds: float) -> None:
    """Take in the file that the message `header` announces, to a new file that only root reads; it is on the disk when
    this returns.
    most: bytes that it may have.
    seconds: without a byte, after which the other host counts as lost."""
    size = _number(header.get("size"), most)
    with explained(path), opened(path, NEW_FILE | os.O_CLOEXEC) as fd:
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, size)
        written = EarlyWriteback(fd)
        while True:
            message = channel.receive(seconds)
            if "end" in message:
                break
            place = _number(message.get("at"), size)
            for block in channel.receive_bytes(_number(message.get("length"), size - place), seconds):
                view = memoryview(block)
                while view:
                    done = os.pwrite(fd, view, place)
                    view, place = view[done:], place + done
                written.up_to(place)
        os.fsync(fd)


def _number(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ForeignObject(
            "a machine that comes from another host",
            "that host sends files of another size than the machine's are",
            "The move was given up. Find out who else has power over that host before it is used again",
        )
    return value
