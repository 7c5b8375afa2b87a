# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends a directory of a machine to the other host of its move as an archive that is nowhere kept, and takes it in.
How it is packed and unpacked, the caller knows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Generator

from ...errors import ForeignObject
from .passage import BLOCK, Channel, refuse_late

_PIPE = 1 << 20
_SET_PIPE_SIZE = 1031

Pack = Callable[[int, float], None]
"""Writes the archive to the pipe of this descriptor, within so many seconds."""
Unpack = Callable[[Generator[bytes, None, None], float], None]
"""Makes the directory of these blocks of the archive, all of them, within so many seconds."""


def send(channel: Channel, name: str, pack: Pack, limit: float) -> None:
    """Send the archive. Raise what packing it raises, and TimedOut at the limit.
    limit: by the monotonic clock."""
    with channel.until(limit):
        _send(channel, name, pack, limit)


def _send(channel: Channel, name: str, pack: Pack, limit: float) -> None:
    channel.send(file=name)
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(reading, _SET_PIPE_SIZE, _PIPE)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            pack(writing, refuse_late(limit))
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(writing)

    thread = threading.Thread(target=work, name=f"packing {name}", daemon=True)
    thread.start()
    try:
        while True:
            block = os.read(reading, BLOCK)
            if not block:
                break
            channel.send(length=len(block))
            channel.send_bytes(block)
    finally:
        # What packs it ends where nobody reads.
        os.close(reading)
        thread.join()
    if failed:
        raise failed[0]
    channel.send(end=name)


def receive(channel: Channel, name: str, unpack: Unpack, limit: float) -> None:
    """Take the archive in that a message has announced under this name. Raise what unpacking it raises, and TimedOut at
    the limit.
    limit: by the monotonic clock."""
    coming = _Coming(channel, name, limit)
    unpack(coming.blocks(), refuse_late(limit))
    if not coming.ended:
        raise _strange()


class _Coming:
    """Is an archive that comes. ended: all of it has come."""

    def __init__(self, channel: Channel, name: str, limit: float) -> None:
        self.ended = False
        self._channel, self._name, self._limit = channel, name, limit

    def blocks(self) -> Generator[bytes, None, None]:
        while True:
            message = self._channel.receive(refuse_late(self._limit))
            if message.get("end") == self._name:
                self.ended = True
                return
            length = message.get("length")
            if not isinstance(length, int) or isinstance(length, bool) or not 0 < length <= BLOCK:
                raise _strange()
            yield from self._channel.receive_bytes(length, refuse_late(self._limit))


def _strange() -> ForeignObject:
    return ForeignObject(
        "a machine that comes from another host",
        "that host sends what is no archive of the machine's root",
        "The move was given up. Find out who else has power over that host before it is used again",
    )
