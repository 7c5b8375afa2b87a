# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads FILES of a context: what the text names, and what is really there on this host."""

from __future__ import annotations

import io
import itertools
import os
import stat
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping

from ..dataclass import dataclass, replace
from ..errors import InvalidValue, NotFound
from ..host.files import closing_fd, explain, explained
from ..host.urls import is_url, without_secrets
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
    """Describes a file or directory of the ISO. Directories come before what is in them.
    path: below the ISO's root, with "/" between names.
    source: the file that is read when the ISO is written.
    size: bytes, 0 for a directory."""

    path: str
    source: str
    size: int = 0
    executable: bool = False
    directory: bool = False


@dataclass(frozen=True)
class ContextFileParts(ContextFile):
    """Describes a file of a context whose content was read elsewhere. entries: its parts, with sources on this host."""

    entries: tuple[Entry, ...] = ()


def parse_files(text: str, attribute: str = "FILES") -> tuple[ContextFile, ...]:
    """Return the items of FILES: paths or URLs, or source:target, between blanks. Quotes keep blanks and colons.

    Raise InvalidValue for a source that is neither a URL nor an absolute path, for a target that is no plain name, and
    for two items with one name."""
    found = []
    for source, target in _items(text, attribute):
        found.append(context_file(source, target, attribute))
    return refuse_same_names(found, attribute)


def context_file(source: str, target: str = "", attribute: str = "FILES") -> ContextFile:
    """Return one file for the ISO. Its name there is the last part of its path unless another name is given."""
    where = f"{attribute}: {source_without_secrets(source)}"
    if "://" in source and not is_url(source):
        raise InvalidValue(where, "it is a URL of another kind", "Give http or https, or fetch it and name the file")
    if not source.startswith("/") and not is_url(source):
        raise InvalidValue(where, "it is not an absolute path", "Name it from / on")
    name = target or (_name_of_url(source) if is_url(source) else os.path.basename(source.rstrip("/")))
    fault = _fault_of_name(name)
    if fault:
        # Behind a colon of a URL may be a part of its password.
        has_target = target and "://" not in source
        raise InvalidValue(f"{where} as {name!r}" if has_target else where, fault, "Give it another name: source:name")
    return ContextFile(source, name)


def source_without_secrets(source: str) -> str:
    """Return the source as errors show it: without the password or signature that a URL may hold."""
    if "://" not in source:
        return repr(source)
    url = without_secrets(source)
    # Within the path of one may be another, with a password of its own.
    return url if url.count("://") == 1 else f"{url.partition('://')[0]}://..."


def _name_of_url(url: str) -> str:
    try:
        return urllib.parse.unquote(os.path.basename(urllib.parse.urlsplit(url).path))
    except ValueError:
        return ""


def refuse_same_names(
    files: Iterable[ContextFile], attribute: str = "FILES", images: Mapping[str, str] | None = None
) -> tuple[ContextFile, ...]:
    """Return the files unchanged. Raise InvalidValue if two have the same name; it names both. images: names of images
    by the paths of their files, which mean nothing to a user."""
    taken: dict[str, ContextFile] = {}
    names = {path: f"image {name!r}" for path, name in (images or {}).items()}
    for file in files:
        if file.target in taken:
            other = taken[file.target].source
            raise InvalidValue(
                f"{attribute}: {names.get(file.source) or source_without_secrets(file.source)}",
                f"{names.get(other) or source_without_secrets(other)} has the same name on the ISO, {file.target!r}",
                "Give one of them another name: source:name",
            )
        taken[file.target] = file
    return tuple(taken.values())


def entries_of_files(
    files: Iterable[ContextFile], limit: int = LARGEST, check: Callable[[str, str], None] | None = None
) -> list[Entry]:
    """Return what the files are on this host, directories with all below them, in an order that depends on names only.

    Raise NotFound for a file that is missing. Raise InvalidValue for devices, pipes and sockets, and for a symbolic
    link that leads out of its directory.
    limit: bytes of all files together.
    check: called for each file and directory before anything of it is looked at, with the source as it was named and
    with its path, which holds no symbolic link. It raises an error for what it does not allow."""
    entries: list[Entry] = []
    total = 0
    for file in refuse_same_names(files):
        for entry in _entries(file, check):
            entries.append(entry)
            total += entry.size
            if total > limit:
                raise too_large(file.source, limit)
            if len(entries) > MOST:
                raise too_many(file.source)
    return entries


def _entries(file: ContextFile, check: Callable[[str, str], None] | None) -> Iterable[Entry]:
    if isinstance(file, ContextFileParts):
        # nebula_root may be a link, and what is opened has to be what its path says.
        return [entry if entry.directory else _below_real(entry) for entry in file.entries]
    if is_url(file.source):
        raise InvalidValue(
            f"FILES: {source_without_secrets(file.source)}", "it is a URL", "Fetch it first and name the file"
        )
    return _walk(file.target, os.path.realpath(file.source), file.source, check)


def _below_real(entry: Entry) -> Entry:
    directory, name = os.path.split(entry.source)
    return replace(entry, source=os.path.join(os.path.realpath(directory), name))


def too_large(source: str, limit: int) -> InvalidValue:
    return InvalidValue(
        f"FILES: {source_without_secrets(source)}",
        f"with it the context holds more than {limit} bytes",
        "Put large files into an image of type DATABLOCK",
    )


def too_many(named: str) -> InvalidValue:
    return InvalidValue(
        f"FILES: {source_without_secrets(named)}", f"with it the context holds over {MOST} files", "Pack them"
    )


def _walk(target: str, path: str, named: str, check: Callable[[str, str], None] | None = None) -> Iterator[Entry]:
    """Yield the entries of a file, or of a directory with all below it.
    path: resolved, without a symbolic link in it.
    named: the path as the user gave it, for errors."""
    if check is not None:
        check(named, path)
    try:
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode):
            yield Entry(target, path, found.st_size, executable=bool(found.st_mode & 0o111))
            return
        if stat.S_ISDIR(found.st_mode):
            yield Entry(target, path, directory=True)
            yield from _walk_directory(target, path, path, named, check)
            return
    except FileNotFoundError:
        raise NotFound(f"FILES: {named!r}", f"{path} is not there", "Put it on the host that makes the ISO") from None
    except OSError as error:
        raise explain(error, path) from error
    raise InvalidValue(f"FILES: {named!r}", f"{path} is {_kind(found.st_mode)}", "Name regular files or directories")


def _walk_directory(
    target: str, path: str, top: str, named: str, check: Callable[[str, str], None] | None
) -> Iterator[Entry]:
    if target.count("/") >= DEEPEST:
        raise InvalidValue(
            f"FILES: {named!r}", f"directories in it are nested more than {DEEPEST} deep", "Pack them into one archive"
        )
    names = _names_in(path, named)
    if len(names) > MOST:
        raise too_many(named)
    for name in names:
        place = f"{path}/{name}"
        fault = _fault_of_name(name, reserved=())
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
            if check is not None:
                check(named, place)
            yield Entry(f"{target}/{name}", place, directory=True)
            yield from _walk_directory(f"{target}/{name}", place, top, named, check)
        else:
            yield from _walk(f"{target}/{name}", resolved, named, check)


def _names_in(path: str, named: str) -> list[str]:
    """Return the names in a directory, sorted; at most one more than the limit allows."""
    with explained(path):
        fd = _opened(path, os.O_DIRECTORY)
        if fd is None:
            raise InvalidValue(f"FILES: {named!r}", f"{path} changed while it was read", "Run again when it rests")
        with closing_fd(fd), os.scandir(fd) as listing:
            return sorted(entry.name for entry in itertools.islice(listing, MOST + 1))


def _opened(path: str, flags: int = 0) -> int | None:
    """Return a descriptor of what is at `path`, which held no symbolic link when it was checked; None if a directory
    above has become a link since: what it leads to was not checked."""
    # What was a regular file a moment ago may be a link or a pipe by now.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        if os.readlink(f"/proc/self/fd/{fd}") == path:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


class Content(io.RawIOBase):
    """Reads the bytes of an entry. It is opened at the first read and closed after the last, so any number of them cost
    one descriptor. A file that has changed since it was collected is an error, not a damaged ISO."""

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
            fd = _opened(self._entry.source)
        except OSError as error:
            raise explain(error, self._entry.source) from error
        if fd is None:
            raise self._changed()
        # Looked at before it is opened as a file, which a directory can't be.
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._changed()
        return os.fdopen(fd, "rb")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _changed(self) -> InvalidValue:
        return InvalidValue(
            f"FILES: {self._entry.source!r}", "it changed while the ISO was written", "Run again when it rests"
        )


def _items(text: str, attribute: str) -> Iterator[tuple[str, str]]:
    """Yield source and target (or "") of each item. Parts may be quoted as in a shell; nothing else is special."""
    place, length = 0, len(text)
    while True:
        while place < length and text[place].isspace():
            place += 1
        if place >= length:
            return
        # Colons outside of quotes, as places in the word, and where in a URL an unquoted query or fragment begins.
        word, colons, start, query = "", [], place, -1
        while place < length and not text[place].isspace():
            character = text[place]
            if character in _QUOTES:
                end = text.find(character, place + 1)
                if end < 0:
                    raise InvalidValue(f"{attribute}: {_begin(text[start:])}", "a quote is not closed", "Close it")
                word += text[place + 1 : end]
                place = end + 1
                continue
            if character == ":":
                colons.append(len(word))
            if character in "?#" and query < 0 and "://" in word:
                query = len(word)
            word += character
            place += 1
        if 0 <= query < max(colons, default=-1):
            raise InvalidValue(
                f"{attribute}: {source_without_secrets(word)}",
                "nothing tells whether the colon behind its ? or # belongs to it or begins a name",
                f"Quote the URL: '{source_without_secrets(word)}', or with a name '{source_without_secrets(word)}'"
                ":name",
            )
        colon = _separator(word, colons)
        if 0 <= colon == len(word) - 1:
            raise InvalidValue(
                f"{attribute}: {source_without_secrets(word)}", "no name follows the colon", "Write source:name"
            )
        yield (word, "") if colon < 0 else (word[:colon], word[colon + 1 :])


def _separator(word: str, colons: list[int]) -> int:
    """Return which of these colons stands before the name, -1 if none does. In a URL the first colon, and the colon
    before a port, belong to the URL; the last one behind these counts."""
    if "://" not in word:
        return colons[0] if colons else -1
    host = word.index("://") + 3
    path = word.find("/", host)
    behind = [colon for colon in colons if colon > (path if path >= 0 else len(word))]
    return behind[-1] if behind else -1


def _begin(text: str) -> str:
    """Return the beginning of a text that can't be parsed. Its first URL and everything after it are left out."""
    before, url, _rest = text.partition("://")
    return repr(f"{before[:80]}://..." if url else text[:80])


def _fault_of_name(name: str, reserved: tuple[str, ...] = RESERVED) -> str:
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
