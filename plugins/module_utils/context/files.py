# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FILES of a context: what the text names, and what is really there on this host."""

from __future__ import annotations

import io
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import InvalidValue, NotFound
from ..host.files import explain, explained
from ..model.context import ContextFile

# On the ISO these are ours.
RESERVED = ("context.sh", "rr_moved")
LARGEST = 256 * 1024 * 1024
MOST = 10_000
# Directories within each other: pycdlib moves deep ones up (Rock Ridge), and of more than these never ends.
DEEPEST = 15
# Bytes. Linux reads names of up to 253 from an ISO.
LONGEST_NAME = 250
_QUOTES = "'\""


@dataclass(frozen=True)
class Entry:
    """A file or directory of the ISO. path: below its root, "/" between names; source: read when the ISO is written.
    size: bytes, 0 for a directory. Directories come before what is in them."""

    path: str
    source: str
    size: int = 0
    executable: bool = False
    directory: bool = False


def parse_files(text: str, attribute: str = "FILES") -> tuple[ContextFile, ...]:
    """The items of FILES: paths, or source:target, between blanks. Quotes keep blanks and colons.

    InvalidValue for what is no absolute path, for a target that is no plain name, and for two of one name.
    """
    found = []
    for source, target in _items(text, attribute):
        found.append(context_file(source, target, attribute))
    return refuse_twins(found, attribute)


def context_file(source: str, target: str = "", attribute: str = "FILES") -> ContextFile:
    """One file for the ISO; its name there is the last part of its path unless given."""
    where = f"{attribute}: {source!r}"
    if "://" in source:
        raise InvalidValue(where, "it is a URL", "Fetch it first and name the file")
    if not source.startswith("/"):
        raise InvalidValue(where, "it is not an absolute path", "Name it from / on")
    name = target or os.path.basename(source.rstrip("/"))
    fault = _fault(name)
    if fault:
        raise InvalidValue(f"{where} as {name!r}" if target else where, fault, "Give it another name: source:name")
    return ContextFile(source, name)


def refuse_twins(files: Iterable[ContextFile], attribute: str = "FILES") -> tuple[ContextFile, ...]:
    """The files as they are, if each has a name of its own; InvalidValue names both that do not."""
    taken: dict[str, ContextFile] = {}
    for file in files:
        if file.target in taken:
            raise InvalidValue(
                f"{attribute}: {file.source!r}",
                f"{taken[file.target].source!r} has the same name on the ISO, {file.target!r}",
                "Give one of them another name: source:name",
            )
        taken[file.target] = file
    return tuple(taken.values())


def collect(files: Iterable[ContextFile], limit: int = LARGEST) -> list[Entry]:
    """What the files are on this host, directories with all below them, in an order that depends on names only.

    Only regular files and directories: devices, pipes and sockets are refused (InvalidValue), as is a symbolic link
    that leads out of its directory. limit: bytes of all files together. NotFound, InvalidValue.
    """
    entries: list[Entry] = []
    total = 0
    for file in refuse_twins(files):
        for entry in _walk(file.target, os.path.realpath(file.source), file.source):
            entries.append(entry)
            total += entry.size
            if total > limit:
                raise InvalidValue(
                    f"FILES: {file.source!r}",
                    f"with it the context holds more than {limit} bytes",
                    "Put large files into an image of type DATABLOCK",
                )
            if len(entries) > MOST:
                raise _too_many(file.source)
    return entries


def _too_many(named: str) -> InvalidValue:
    return InvalidValue(f"FILES: {named!r}", f"with it the context holds over {MOST} files", "Pack them")


def _walk(target: str, path: str, named: str) -> Iterator[Entry]:
    """named: as the user gave it, for errors. path: resolved, no symbolic link in it."""
    try:
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode):
            yield Entry(target, path, found.st_size, executable=bool(found.st_mode & 0o111))
            return
        if stat.S_ISDIR(found.st_mode):
            yield Entry(target, path, directory=True)
            yield from _walk_directory(target, path, path, named)
            return
    except FileNotFoundError:
        raise NotFound(f"FILES: {named!r}", f"{path} is not there", "Put it on the host that makes the ISO") from None
    except OSError as error:
        raise explain(error, path) from error
    raise InvalidValue(f"FILES: {named!r}", f"{path} is {_kind(found.st_mode)}", "Name regular files or directories")


def _walk_directory(target: str, path: str, top: str, named: str) -> Iterator[Entry]:
    if target.count("/") >= DEEPEST:
        raise InvalidValue(
            f"FILES: {named!r}", f"directories in it are nested more than {DEEPEST} deep", "Pack them into one archive"
        )
    with explained(path), os.scandir(path) as listing:
        names = sorted(entry.name for entry in itertools.islice(listing, MOST + 1))
    if len(names) > MOST:
        raise _too_many(named)
    for name in names:
        place = f"{path}/{name}"
        fault = _fault(name, reserved=())
        if fault:
            raise InvalidValue(f"FILES: {named!r}", f"{place!r}: {fault}", "Rename it, or leave it out")
        resolved = os.path.realpath(place)
        inside = resolved == place or resolved.startswith(f"{top}/")
        if not inside:
            raise InvalidValue(
                f"FILES: {named!r}",
                f"{place!r} is a link that leads out of it, to {resolved}",
                "Name its target instead",
            )
        if os.path.isdir(resolved):
            # A link to a directory above would never end.
            if resolved != place:
                raise InvalidValue(
                    f"FILES: {named!r}", f"{place!r} is a link to a directory", "Name that directory instead"
                )
            yield Entry(f"{target}/{name}", place, directory=True)
            yield from _walk_directory(f"{target}/{name}", place, top, named)
        else:
            yield from _walk(f"{target}/{name}", resolved, named)


class Content(io.RawIOBase):
    """The bytes of an entry, opened at the first read and closed after the last: any number of them cost one
    descriptor. A file that is no longer what was collected is an error, not a damaged ISO."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry
        self._file: io.BufferedReader | None = None
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("only back to the start")
        self._close()
        self._read = 0
        return 0

    def read(self, size: int = -1) -> bytes:
        if self._file is None:
            self._file = self._open()
        wanted = self._entry.size - self._read if size < 0 else min(size, self._entry.size - self._read)
        # None where it would have to wait: files of /proc and /sys may.
        data = self._file.read(wanted) or b""
        self._read += len(data)
        if len(data) != wanted:
            raise self._changed()
        if self._read == self._entry.size:
            if self._file.read(1):
                raise self._changed()
            self._close()
        return data

    def close(self) -> None:
        self._close()
        super().close()

    def _open(self) -> io.BufferedReader:
        try:
            # What was a regular file a moment ago may be a link or a pipe by now.
            fd = os.open(self._entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise explain(error, self._entry.source) from error
        file = os.fdopen(fd, "rb")
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            file.close()
            raise self._changed()
        return file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _changed(self) -> InvalidValue:
        return InvalidValue(
            f"FILES: {self._entry.source!r}", "it changed while the ISO was written", "Run again when it rests"
        )


def _items(text: str, attribute: str) -> Iterator[tuple[str, str]]:
    """(source, target or ""); parts may be quoted, as a shell has it, and nothing else is special."""
    place, length = 0, len(text)
    while True:
        while place < length and text[place].isspace():
            place += 1
        if place >= length:
            return
        parts: list[list[str]] = [[]]
        start = place
        while place < length and not text[place].isspace():
            character = text[place]
            if character in _QUOTES:
                end = text.find(character, place + 1)
                if end < 0:
                    raise InvalidValue(
                        f"{attribute}: {text[start : start + 80]!r}", "a quote is not closed", "Close it"
                    )
                parts[-1].append(text[place + 1 : end])
                place = end + 1
                continue
            if character == ":" and len(parts) == 1 and not text.startswith("://", place):
                parts.append([])
            else:
                parts[-1].append(character)
            place += 1
        words = ["".join(part) for part in parts]
        if len(words) == 2 and not words[1]:
            raise InvalidValue(f"{attribute}: {text[start:place]!r}", "no name follows the colon", "Write source:name")
        yield words[0], words[1] if len(words) == 2 else ""


def _fault(name: str, reserved: tuple[str, ...] = RESERVED) -> str:
    if name in ("", ".", ".."):
        return "it has no name of its own"
    if "/" in name:
        return "a name on the ISO holds no /"
    if name.lower() in reserved:
        return "the ISO has a file of that name by itself"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if size > LONGEST_NAME:
        return f"its name has {size} bytes, a name on the ISO at most {LONGEST_NAME}"
    if not name.isprintable():
        return "its name holds a control character"
    return ""


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    )
    return next((text for test, text in kinds if test(mode)), "of no kind that an ISO holds")
