# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the file with what a guest wrote to its serial console, while it is written and through its rotation.

All of it is untrusted text: it is bounded, and made harmless before anybody sees it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import BinaryIO

from ...dataclass import dataclass
from ...errors import InvalidValue, NebulaError
from ...model import defaults
from ...printable import ONE_LINE, printable
from ..files import reader, remove_file

# The name of the file in a machine's directory.
NAME = "console.log"
# The end of the name of the file beside it that keeps what convinced (kept_evidence.py).
VERIFIED = ".verified"
# A console.log that is too large is renamed to console.log.0, that one to .1, and so on.
ROTATED = tuple(f".{number}" for number in range(defaults.KEPT_CONSOLE_LOGS))
# The node writes this line before it starts a machine: nothing above it counts, whatever the guest is.
NODE_STARTING = "nebula-node: starting"
GUEST_BOOTING = "nebula-guest: booting"
KERNEL_BANNER = "[    0.000000] Linux version "
SHOWN_LINES = 20
SHOWN_LENGTH = 300
# Characters; a longer line is taken in pieces.
LINE_LIMIT = 4096
# Bytes that are read of one console at each look, so that a guest that floods its console holds up no other. Each line
# counts as LINE_COST bytes more, since a short line takes as long as others.
READ_LIMIT = 4 << 20
LINE_COST = 128
_CHUNK = 64 * 1024
# Setting the cursor elsewhere ends a line, too: programs that draw on a whole screen write no other line ends.
_ENDS = re.compile(rb"(?:[\r\n]|\x1b\[\d{0,4}(?:;\d{0,4})?[Hf])+")
# The beginning of a terminal sequence whose end is not written yet.
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]{0,8})?$")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\-_])")


def harmless(text: str, longest: int = SHOWN_LENGTH) -> str:
    """Return the text without terminal sequences, as one printable line of at most `longest` characters."""
    shown = printable(_ESCAPE.sub("", text), ONE_LINE)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


@dataclass
class ConsoleLog:
    """Reads a console file from the guest's last boot on.

    It keeps a place in the file and no open file, since a node has many guests."""

    path: str
    inode: int | None = None
    offset: int = 0
    # The text after the last line end: a login prompt has no line end.
    partial: str = ""
    # Whether the log holds the beginning of a boot: after enough rotations it does not.
    has_boot: bool = False
    _rest: bytes = b""

    def read(self, take: Callable[[str], None], restart: Callable[[], None]) -> bool:
        """Call `take` with each new line, and return whether there was one. `restart` is called if the log was begun
        anew."""
        chain = self._chain()
        if not chain:
            return False
        if self.inode is None:
            self.inode, self.offset = self._last_boot(chain)
        places = [inode for _path, inode, _size in chain]
        if self.inode not in places or (self.inode == places[0] and chain[0][2] < self.offset):
            restart()
            self.inode, self.offset, self._rest, self.partial = places[-1], 0, b"", ""
        left = READ_LIMIT
        for path, inode, size in reversed(chain[: places.index(self.inode) + 1]):
            if inode != self.inode:
                self.inode, self.offset = inode, 0
            if size > self.offset:
                left -= self._read_file(path, left, take)
            if left <= 0:
                break
        return left < READ_LIMIT

    def _chain(self) -> list[tuple[str, int, int]]:
        """Return the path, inode and size of each file that there is, the newest first."""
        found = []
        for suffix in ("", *ROTATED):
            try:
                status = os.lstat(self.path + suffix)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unreadable(self.path, error) from error
            if not stat.S_ISREG(status.st_mode):
                raise InvalidValue(f"console {self.path}", "it is not a regular file", "Name the console's log")
            found.append((self.path + suffix, status.st_ino, status.st_size))
            # Most polls find nothing new, and need no look at the older files.
            if suffix == "" and status.st_ino == self.inode:
                break
        return found

    def _last_boot(self, chain: Sequence[tuple[str, int, int]]) -> tuple[int, int]:
        """Return the inode and offset at which reading starts: where the node last started the machine.

        If no line states a start, it is the older of the places where the demo guest and a kernel last began to
        boot. dmesg prints the kernel's banner too, so that the newer of the two may be no boot."""
        newest: dict[str, tuple[int, int]] = {}
        for age, (path, inode, size) in enumerate(chain):
            for mark in (NODE_STARTING, GUEST_BOOTING, KERNEL_BANNER):
                place = None if mark in newest else last_place(path, size, mark.encode())
                if place is None:
                    continue
                self.has_boot = True
                if mark == NODE_STARTING:
                    return inode, place
                newest[mark] = (-age, place)
        age, place = min(newest.values(), default=(1 - len(chain), 0))
        return chain[-age][1], place

    def _read_file(self, path: str, limit: int, take: Callable[[str], None]) -> int:
        """Read on in this file, and return how many bytes of the limit were used."""
        taken = 0
        try:
            with _open(path) as source:
                if os.fstat(source.fileno()).st_ino != self.inode:
                    return 0  # It was rotated just now, and is read at the next look.
                source.seek(self.offset)
                while taken < limit:
                    chunk = source.read(_CHUNK)
                    if not chunk:
                        break
                    taken += len(chunk)
                    self.offset += len(chunk)
                    taken += LINE_COST * self._split(chunk, take)
        except FileNotFoundError:
            return taken
        except OSError as error:
            raise unreadable(path, error) from error
        return taken

    def _split(self, chunk: bytes, take: Callable[[str], None]) -> int:
        """Call `take` with each line that is complete, and return how many there were."""
        lines = _ENDS.split(self._rest + chunk)
        self._rest = lines.pop()
        while len(self._rest) > LINE_LIMIT:
            lines.append(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]
        for line in lines:
            for start in range(0, len(line), LINE_LIMIT):
                take(text_of_line(line[start : start + LINE_LIMIT]))
        self.partial = text_of_line(_BEGUN.sub(b"", self._rest))
        return len(lines)


def text_of_line(line: bytes) -> str:
    """Return the line as text, without terminal sequences; bytes that are no UTF-8 are written as escapes."""
    return _ESCAPE.sub("", line.decode("utf-8", "backslashreplace"))


def last_place(path: str, size: int, mark: bytes) -> int | None:
    """Return the offset of the last occurrence of `mark` in the file, which is read backwards in pieces; None without
    one."""
    try:
        with _open(path) as source:
            end = size
            while end > 0:
                begin = max(0, end - _CHUNK)
                source.seek(begin)
                found = source.read(min(_CHUNK, size - begin) + len(mark)).rfind(mark)
                if found >= 0:
                    return begin + found
                end = begin
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unreadable(path, error) from error
    return None


def _open(path: str) -> BinaryIO:
    return reader(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), buffering=0)


def unreadable(path: str, error: OSError) -> NebulaError:
    """Return the error for a console that can't be opened or read."""
    return InvalidValue(f"console {path}", error.strerror or str(error), "Run this task with become: true")


def mark_start(path: str) -> None:
    """Write a line that separates what the machine prints from now on from what it printed before.

    Kept evidence of the machine is void then. If there is no console file yet, none is made."""
    remove_file(path + VERIFIED)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        os.write(fd, f"\n{NODE_STARTING}\n".encode())
    finally:
        os.close(fd)
