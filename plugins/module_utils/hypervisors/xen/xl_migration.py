# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves a running machine of Xen by `xl migrate`. The two xl speak over the passage between both hosts, and no host has
a key to another. What the old host says of the machine's definition is left out: it comes with this host's own."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO

from ...errors import ForeignObject, NebulaError, OtherHostFailed, TimedOut
from ...host import processes
from ..base import Departure, Receiver
from ..moves.passage import MEMORY, Channel, Stream, relay
from . import xl

# A domain that has left has this behind its name until it is ended.
AWAY = "--migratedaway"
# xl of the new host says this once it has all of the machine. Then that of the old one says the other, before it counts
# the machine as the other host's.
READY = b"domain received, ready to unpause"
GIVEN = b"domain is yours, you are cleared to unpause"
# What xl writes first (tools/xl/xl.h): the words, the order of bytes, flags that must be known, others, and how many
# bytes follow: their own length, and the domain's definition.
_HEADER = struct.Struct("=32sIIII")
_ORDER = 0x01020304
_AS_JSON, _SECOND_FORMAT = 1, 2
_MOST_DEFINITION = 1 << 20
# Seconds in which xl has to end that has lost the other one, and how often it is looked at.
ENDING_SECONDS = 60.0
_STEP = 0.05
_LOST = "the other host is not there any more"
_MOST_WORDS = 64 * 1024
_MOST_ANSWERS = 4096
# xl wants a program between itself and the other xl. This one carries what they say over a socket that it was given.
_CARRIER = """\
import os, socket, sys, threading
other = socket.socket(fileno=int(sys.argv[1]))
def back():
    for block in iter(lambda: other.recv(65536), b""):
        while block:
            block = block[os.write(1, block):]
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
for block in iter(lambda: os.read(0, 65536), b""):
    other.sendall(block)
"""


def _carrier(number: int) -> str:
    return shlex.join([sys.executable, "-ISc", _CARRIER, str(number)])


def depart(tool: str, name: str, departure: Departure, given: Callable[[], None], asked: str) -> None:
    """Have the domain leave. Raise an error of xl's, or TimedOut where it was given up.
    given: called before the other host learns that the machine is its own."""
    try:
        channel = departure.caller.connect(MEMORY)
    except OSError as error:
        raise OtherHostFailed(
            asked, f"the other host is not reached: {error}", "See that host, then run again"
        ) from error
    ours, theirs = socket.socketpair()
    ending = threading.Event()
    watch = _Watch(given)
    stream: Stream = channel.stream
    early = (b"", channel.early())
    carrying = threading.Thread(
        target=relay,
        args=(ours, stream, watch.inspect, lambda: not ending.is_set(), early, watch.answers),
        name="xl",
        daemon=True,
    )
    with tempfile.TemporaryFile() as words:
        carrying.start()
        try:
            with theirs:
                number = theirs.fileno()
                process = subprocess.Popen(
                    [tool, "migrate", "-p", "-s", "", name, f"exec {_carrier(number)}"],
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    pass_fds=(number,),
                )
            why = _watched(process, departure)
        finally:
            ending.set()
            carrying.join()
        if not _ended(process):
            raise TimedOut(
                asked, f"{why}, and xl (process {process.pid}) does not end", "See both hosts, then run again"
            )
        if watch.error is not None:
            raise watch.error
        if process.returncode and why:
            kind = OtherHostFailed if why == _LOST else TimedOut
            raise kind(asked, f"{why}; it was given up", "See the other host, or raise nebula_move_timeout; run again")
        if process.returncode:
            # The cause is far above the last lines: both hosts speak here.
            raise xl.error_of_xl(asked, _read(words))


class _Watch:
    """Calls `given` before the words by which xl gives the machine away go on. They are all that it says after the
    other xl was ready: the memory of a guest, which comes before, may hold anything."""

    def __init__(self, given: Callable[[], None]) -> None:
        self._given = given
        self._answers = b""
        self._words = b""
        self._is_ready = self._is_given = False
        self.error: NebulaError | None = None

    def answers(self, block: bytes) -> bytes:
        if not self._is_ready:
            self._answers = (self._answers + block)[-_MOST_ANSWERS:]
            self._is_ready = READY in self._answers
        return block

    def inspect(self, block: bytes) -> bytes:
        """Return what goes on of the next block. Raise OSError, which ends the relay, where nothing is to go on."""
        if not self._is_ready or self._is_given:
            return block
        self._words += block
        if not GIVEN.startswith(self._words.rstrip(b"\0")):
            raise OSError("xl says something else where it gives a machine away")
        if not self._words.startswith(GIVEN):
            return b""
        try:
            self._given()
        except NebulaError as error:
            self.error = error
            raise OSError(str(error)) from error
        self._is_given = True
        return self._words


def _watched(process: subprocess.Popen[bytes], departure: Departure) -> str:
    """Wait for the end. Return why it is given up, "" if it has ended."""
    limit = time.monotonic() + departure.limit
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STEP)
            return ""
        if time.monotonic() > limit:
            return f"it was not done within {departure.limit} s"
        if departure.lost():
            return _LOST


def _ended(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDING_SECONDS)
        return True
    return False


def _read(words: IO[bytes]) -> str:
    words.seek(max(0, words.seek(0, os.SEEK_END) - _MOST_WORDS))
    return words.read().decode("utf-8", "replace")


def wait_for_tool(name: str, asked: str) -> None:
    """Return once no xl moves the domain away, which one of a killed run may do for a while. Raise TimedOut if it does
    not end: its other end is gone."""
    limit = time.monotonic() + ENDING_SECONDS
    while True:
        found = next((pid for pid, _words in processes.of_root(lambda words: _moves(words, name))), None)
        if found is None:
            return
        if time.monotonic() > limit:
            raise TimedOut(
                asked,
                f"process {found} (xl migrate) still tries to move it after {ENDING_SECONDS:g} s, though nobody "
                "waits for that",
                f"End that process (kill {found}), then run again",
            )
        time.sleep(_STEP)


def _moves(words: list[bytes], name: str) -> bool:
    return os.path.basename(words[0]) == b"xl" and words[1:2] == [b"migrate"] and name.encode() in words


class XlReceiver(Receiver):
    """Runs the xl that takes the domain in, as what comes with the definition, a file of xl."""

    def __init__(self, tool: str, definition: str, asked: str) -> None:
        self._tool = tool
        self._head = OwnHeader(definition, asked)
        self._asked = asked
        self._ending = threading.Event()
        self._changed = threading.Condition()
        self._begun = self._over = False
        self._error: NebulaError | None = None

    def tunnels(self) -> Mapping[str, Callable[[Channel], None]]:
        return {MEMORY: self._take}

    def close(self) -> NebulaError | None:
        self._ending.set()
        with self._changed:
            begun, self._begun = self._begun, True
            if begun:
                self._changed.wait_for(lambda: self._over, 2 * ENDING_SECONDS)
        return self._error

    def _take(self, channel: Channel) -> None:
        with self._changed:
            begun, self._begun = self._begun, True
        if begun:
            channel.close()
            return
        try:
            self._error = self._taken(channel)
        finally:
            channel.close()
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _taken(self, channel: Channel) -> NebulaError | None:
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as words:
            with theirs:
                both = theirs.fileno()
                receives = [self._tool, "migrate-receive", "-p"]
                process = subprocess.Popen(receives, stdin=both, stdout=both, stderr=words)
            stream: Stream = channel.stream
            refused: NebulaError | None = None
            try:
                relay(stream, ours, self._head.inspect, lambda: not self._ending.is_set(), (channel.early(), b""))
            except NebulaError as error:
                refused = error
            if not _ended(process):
                process.kill()
                process.wait()
            if refused is not None:
                return refused
            return xl.error_of_xl(self._asked, _read(words)) if process.returncode else None


class OwnHeader:
    """Replaces what the old host's xl says of the definition, which comes before all else."""

    def __init__(self, definition: str, asked: str) -> None:
        content = definition.encode() + b"\0"
        follows = struct.pack("=I", len(content)) + content
        self._own = _HEADER.pack(xl.SAVED, _ORDER, _SECOND_FORMAT, 0, len(follows)) + follows
        self._asked = asked
        self._read: bytearray | None = bytearray()

    def inspect(self, block: bytes) -> bytes:
        """Return what goes on of the next block. Raise ForeignObject for what no xl of today begins with."""
        if self._read is None:
            return block
        self._read += block
        if len(self._read) < _HEADER.size:
            return b""
        words, order, flags, _others, length = _HEADER.unpack_from(self._read)
        if words != xl.SAVED or order != _ORDER or flags & ~_AS_JSON != _SECOND_FORMAT or length > _MOST_DEFINITION:
            raise ForeignObject(
                self._asked,
                "that host sends what no xl of today begins with",
                "Bring both hosts to the same version of Xen, or move it cold (move: cold)",
            )
        end = _HEADER.size + length
        if len(self._read) < end:
            return b""
        rest, self._read = bytes(self._read[end:]), None
        return self._own + rest
