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
from .passage import BLOCK, Channel, refuse_late

# Bytes that are named at a time.
_STRETCH = 16 << 20


def send(channel: Channel, name: str, path: str, limit: float, most: int | None = None) -> None:
    """Send the file. Nothing else writes to it meanwhile but at its end. Raise TimedOut at the limit.
    limit: by the monotonic clock.
    most: bytes, of its end."""
    with explained(path), opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC) as fd:
        send_open(channel, name, fd, limit, most)


def send_open(channel: Channel, name: str, fd: int, limit: float, most: int | None = None) -> None:
    """Send the file that is open, as send() does."""
    found = os.fstat(fd)
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    begin = max(0, size - most) if most is not None else 0
    with channel.until(limit):
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


def receive(channel: Channel, header: Mapping[str, Any], path: str, most: int, limit: float) -> None:
    """Take in the file that the message `header` announces, to a new file that only root reads. Raise TimedOut at the
    limit.
    most: bytes that it may have.
    limit: by the monotonic clock."""
    _number(header.get("size"), most)
    with explained(path), opened(path, NEW_FILE | os.O_CLOEXEC) as fd:
        receive_open(channel, header, fd, most, limit)


def receive_open(channel: Channel, header: Mapping[str, Any], fd: int, most: int, limit: float) -> None:
    """Take in the file, as receive() does, to the new one that is open."""
    size = _number(header.get("size"), most)
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, size)
    written = EarlyWriteback(fd)
    end = 0
    while True:
        # Also where all that it waits for is there already.
        message = channel.receive(refuse_late(limit))
        if "end" in message:
            break
        place = _number(message.get("at"), size)
        length = _number(message.get("length"), size - place)
        # So each message brings the file forward, and it has an end.
        if place < end or not length:
            raise _strange()
        end = place + length
        for block in channel.receive_bytes(length, refuse_late(limit)):
            view = memoryview(block)
            while view:
                done = os.pwrite(fd, view, place)
                view, place = view[done:], place + done
            written.up_to(place)
            refuse_late(limit)


def _number(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _strange()
    return value


def _strange() -> ForeignObject:
    return ForeignObject(
        "a machine that comes from another host",
        "that host sends files of another size than the machine's are",
        "The move was given up. Find out who else has power over that host before it is used again",
    )
