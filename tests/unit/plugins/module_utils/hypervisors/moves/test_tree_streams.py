# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from move_pairs import PATIENCE, Beside, channels, trickle

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    ImageRefused,
    InUse,
    OtherHostFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import tree_streams
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import BLOCK, Channel

NAME = "disk.0"


@pytest.fixture
def both() -> Iterator[tuple[Channel, Channel]]:
    with channels() as pair:
        yield pair


def soon(seconds: float = PATIENCE) -> float:
    return time.monotonic() + seconds


def packing(data: bytes) -> tree_streams.Pack:
    def pack(fd: int, _seconds: float) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return pack


def taken(channel: Channel, limit: float | None = None) -> bytes:
    found: list[bytes] = []
    tree_streams.receive(channel, NAME, lambda blocks, _seconds: found.extend(blocks), limit or soon())
    return b"".join(found)


@pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK + 7, 9 << 20])
def test_an_archive_comes_as_it_was_written(both: tuple[Channel, Channel], size: int) -> None:
    left, right = both
    data = os.urandom(size)
    sending = Beside(lambda: tree_streams.send(left, NAME, packing(data), soon()))
    assert right.receive(PATIENCE) == {"file": NAME}
    assert taken(right) == data
    sending.result()
    # Nothing of it is left on the connection.
    left.send(sent=True)
    assert right.receive(PATIENCE) == {"sent": True}


def test_both_learn_how_much_time_is_left(both: tuple[Channel, Channel]) -> None:
    left, right = both
    seen: list[float] = []

    def unpack(blocks: Generator[bytes, None, None], seconds: float) -> None:
        seen.append(seconds)
        list(blocks)

    sending = Beside(lambda: tree_streams.send(left, NAME, lambda _fd, seconds: seen.append(seconds), soon(20)))
    right.receive(PATIENCE)
    tree_streams.receive(right, NAME, unpack, soon(20))
    sending.result()
    assert len(seen) == 2 and all(0 < each <= 20 for each in seen)


def test_one_that_could_not_be_packed_does_not_end(both: tuple[Channel, Channel]) -> None:
    left, right = both

    def pack(fd: int, _seconds: float) -> None:
        os.write(fd, b"the beginning")
        raise InUse("disk 0", "it changed while it was read")

    with pytest.raises(InUse, match="changed while it was read"):
        tree_streams.send(left, NAME, pack, soon())
    # What the other host hears then is no part of it, and not its end.
    left.send(stays=True)
    right.receive(PATIENCE)
    with pytest.raises(ForeignObject):
        taken(right)


def test_what_packs_it_ends_with_the_connection(both: tuple[Channel, Channel]) -> None:
    left, right = both
    ended: list[type[BaseException]] = []

    def pack(fd: int, _seconds: float) -> None:
        try:
            while True:
                os.write(fd, bytes(BLOCK))
        except OSError as error:
            ended.append(type(error))
            raise

    right.close()
    with pytest.raises(HypervisorError):
        tree_streams.send(left, NAME, pack, soon())
    assert ended == [BrokenPipeError]


def test_an_error_of_unpacking_is_the_one_that_is_raised(both: tuple[Channel, Channel]) -> None:
    left, right = both
    sending = Beside(lambda: tree_streams.send(left, NAME, packing(b"x" * 10), soon()))
    right.receive(PATIENCE)

    def unpack(_blocks: Generator[bytes, None, None], _seconds: float) -> None:
        raise ImageRefused("disk 0", "it is no archive")

    with pytest.raises(ImageRefused):
        tree_streams.receive(right, NAME, unpack, soon())
    sending.result()


def test_one_of_which_not_all_was_read_is_refused(both: tuple[Channel, Channel]) -> None:
    """The next message would be in the midst of it."""
    left, right = both
    sending = Beside(lambda: tree_streams.send(left, NAME, packing(b"x" * 10), soon()))
    right.receive(PATIENCE)
    with pytest.raises(ForeignObject):
        tree_streams.receive(right, NAME, lambda blocks, _seconds: next(blocks, None) and None, soon())
    sending.result()


@pytest.mark.parametrize(
    "message",
    [
        *({"length": value} for value in (0, -1, BLOCK + 1, 1 << 64, 1.0, "1", True, None, [1], {})),
        {"end": "disk.1"},
        {"end": True},
        {"file": NAME},
        {},
    ],
)
def test_what_is_no_part_of_it_is_refused(both: tuple[Channel, Channel], message: Any) -> None:
    left, right = both
    left.send(**message)
    left.send_bytes(b"x" * 20)
    with pytest.raises(ForeignObject, match="no archive of the machine's root"):
        taken(right)


@pytest.mark.parametrize("closes", [True, False])
def test_a_host_that_ends_in_the_middle(both: tuple[Channel, Channel], closes: bool) -> None:
    left, right = both
    left.send(length=8)
    left.send_bytes(b"1234")
    if closes:
        left.close()
    with pytest.raises(OtherHostFailed):
        taken(right, soon(PATIENCE if closes else 0.2))


def test_it_has_its_time(both: tuple[Channel, Channel]) -> None:
    left, right = both
    with pytest.raises(TimedOut, match="nebula_move_timeout"):
        tree_streams.send(left, NAME, packing(b"x" * (4 * BLOCK)), time.monotonic() - 1)
    with pytest.raises(TimedOut, match="nebula_move_timeout"):
        taken(right, time.monotonic() - 1)


@pytest.mark.parametrize("size", [0, 1])
def test_a_host_that_takes_hardly_anything_does_not_keep_the_other_one(
    both: tuple[Channel, Channel], size: int
) -> None:
    left, right = both
    begun = time.monotonic()
    sending = Beside(lambda: tree_streams.send(left, NAME, packing(bytes(64 << 20)), soon(1)))
    with trickle(right, size), pytest.raises(TimedOut, match="nebula_move_timeout"):
        sending.result()
    assert time.monotonic() - begun < PATIENCE / 3


def test_a_host_that_sends_hardly_anything_does_not_keep_the_other_one(both: tuple[Channel, Channel]) -> None:
    left, right = both
    left.send(length=BLOCK)
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.05):
            left.send_bytes(b"x")

    sending, begun = Beside(send), time.monotonic()
    with pytest.raises(OtherHostFailed, match="in time"):
        taken(right, soon(0.5))
    assert time.monotonic() - begun < PATIENCE / 3
    ended.set()
    sending.result()
