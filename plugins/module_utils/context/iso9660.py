# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the context ISO: labelled as its format is, with Joliet and Rock Ridge, the same bytes for the same input."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import IO, Any

from ..dataclass import dataclass
from ..deps import require
from ..errors import InvalidValue
from ..host.files import Owner, adopt, content_digest, explained, group_id, reader, user_id, write_atomically
from ..model.context import ContextFile
from ..text import context_sh
from . import nocloud_and_configdrive
from .files_attribute import LARGEST, Content, Entry, entries_of_files
from .guest_settings import VARIABLES

# In the field for the program that made an ISO: by it ours are known.
MARK = "NEBULA.PROVISION"
MODE = 0o640

_SECTOR = 2048
_FIRST_DESCRIPTOR = 16
_PRIMARY, _SUPPLEMENTARY, _LAST = 1, 2, 255
# Sectors of nothing behind the last file, as many as mkisofs appends. Programs that look for labels read where other
# kinds of file system have theirs, up to 68 KiB from the beginning, and drives read ahead: busybox's findfs gives up
# whatever ends before.
PADDING = 150
# Where a volume descriptor has its number of sectors, in both byte orders.
_VOLUME_SIZE = 80
# What is larger is built in an unnamed file beside the ISO instead of in memory.
_IN_MEMORY = 16 * 1024 * 1024
_BLOCK = 1024 * 1024
# UTF-8 bytes; Rock Ridge has the whole name.
_JOLIET_LONGEST = 64
_NOT_JOLIET = re.compile(r"[*/:;?\\\x00-\x1f\x7f]")
_NOT_ISO = re.compile(r"[^A-Z0-9_]")
_FILE, _EXECUTABLE, _DIRECTORY = stat.S_IFREG | 0o444, stat.S_IFREG | 0o555, stat.S_IFDIR | 0o555
# 2000-01-01 00:00:00 UTC: an ISO is what it holds, not when it was made.
_VOLUME_DATE = b"2000010100000000\0"
_RECORD_DATE = bytes((100, 1, 1, 0, 0, 0, 0))
# Made, modified, effective; when it expires stays unset.
_VOLUME_DATES = (813, 830, 864)


@dataclass(frozen=True)
class Iso:
    """Holds a finished ISO that is not in its place yet.
    size: bytes of the file.
    digest: SHA-256, in hex, of the ISO without its padding, so that releases which did not pad have the same for it.
    entries: the user's files.
    content: the file up to where the padding begins."""

    size: int
    digest: str
    entries: Sequence[Entry]
    content: IO[bytes] = field(repr=False)

    @functools.cached_property
    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, in hex."""
        digest, left = hashlib.sha256(), self.size
        for block in self._blocks():
            digest.update(block)
            left -= len(block)
        digest.update(bytes(left))
        return digest.hexdigest()

    def save(
        self,
        path: str,
        mode: int = MODE,
        owner: Owner = None,
        group: Owner = None,
        sync: bool = True,
        keep_unpadded: bool = False,
        followed: bool = False,
    ) -> bool:
        """Write the ISO to `path`, whole or not at all. Return whether anything about that file changed. keep_unpadded:
        whether the same ISO without padding, as former releases made it, stays as it is. followed: that of
        write_atomically()."""
        if self.is_at(path) or (keep_unpadded and self.is_unpadded_at(path)):
            return adopt(path, mode, user_id(owner), group_id(group))
        return write_atomically(path, self.copy, mode, owner, group, sync, followed)

    def copy(self, file: IO[bytes]) -> None:
        """Write the ISO to an empty file. The padding is a hole: it takes no room on the disk."""
        for block in self._blocks():
            file.write(block)
        file.truncate(self.size)

    def is_at(self, path: str) -> bool:
        """Return whether the file at `path` is this ISO."""
        with contextlib.suppress(OSError), _opened(path) as file:
            if not _is_regular(file, self.size):
                return False
            for block in self._blocks():
                if file.read(len(block)) != block:
                    return False
            rest = file.read(self.size)
            return rest == bytes(len(rest))
        return False

    def is_unpadded_at(self, path: str) -> bool:
        """Return whether the file at `path` is this ISO as it was made before ISOs were padded."""
        with contextlib.suppress(OSError), _opened(path) as file:
            return _is_regular(file, self.size - PADDING * _SECTOR) and _digest(file) == self.digest
        return False

    def _blocks(self) -> Iterator[bytes]:
        self.content.seek(0)
        while block := self.content.read(_BLOCK):
            yield block


@dataclass(frozen=True)
class IsoAtPlace:
    """Describes what is at an ISO's place. context: whether a format's label is on it. ours: whether MARK is, too."""

    size: int
    ours: bool
    context: bool
    format: str = ""


def write_iso(
    path: str,
    variables: Mapping[str, str],
    files: Iterable[ContextFile] = (),
    *,
    mode: int = MODE,
    owner: Owner = None,
    group: Owner = None,
    sync: bool = True,
    format: str = nocloud_and_configdrive.DEFAULT,
    identity: str = "",
    keep_unpadded: bool = False,
    recorded: str | None = None,
) -> str:
    """Make the file at `path` the ISO of these variables and files. Return its digest, as Iso has it. If the same ISO
    is there already, only mode and owner are changed. Several threads may call this at once.
    variables: what context.sh says.
    files: with their sources on this host.
    sync: whether to wait until the ISO is on the disk.
    format, identity: those of formats.documents.
    keep_unpadded: that of Iso.save.
    recorded: the digest that the caller has of it in a record beside it, where another one is written at once."""
    with build_iso(variables, files, os.path.dirname(path) or ".", format=format, identity=identity) as iso:
        followed = recorded is not None and iso.digest != recorded
        iso.save(path, mode, owner, group, sync, keep_unpadded, followed)
        return iso.digest


@contextlib.contextmanager
def build_iso(
    variables: Mapping[str, str],
    files: Iterable[ContextFile] = (),
    directory: str | None = None,
    limit: int = LARGEST,
    *,
    format: str = nocloud_and_configdrive.DEFAULT,
    identity: str = "",
) -> Iterator[Iso]:
    """Yield the ISO of these variables and files, which exists within the block only.
    directory: where an unnamed file may be made if the ISO is large.
    limit: bytes of all files together."""
    entries = entries_of_files(files, limit)
    label, documents = nocloud_and_configdrive.documents_of_iso(
        format, variables, identity, [entry.path for entry in entries]
    )
    with explained(directory or tempfile.gettempdir()):
        total = sum(entry.size for entry in entries) + sum(map(len, documents.values()))
        large = total > _IN_MEMORY // 2
        with tempfile.TemporaryFile(dir=directory) if large else io.BytesIO() as output:
            yield _make(output, label, documents, entries)


@contextlib.contextmanager
def build_labelled_iso(label: str, documents: Mapping[str, bytes]) -> Iterator[Iso]:
    """Yield an ISO of these small files, for a guest that looks for this label. It exists within the block only."""
    with io.BytesIO() as output:
        yield _make(output, label, documents, ())


def what_is_at(path: str) -> IsoAtPlace | None:
    """Return what is at `path`; None if there is nothing. Raise InvalidValue for anything but a regular file."""
    with explained(path):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise InvalidValue(f"ISO {path}", "what is there is not a regular file", "Name another file")
        with _opened(path) as file:
            file.seek(_FIRST_DESCRIPTOR * _SECTOR)
            volume = file.read(_SECTOR)
    label = volume[40:72].decode("latin-1").strip() if volume[1:6] == b"CD001" else ""
    format = nocloud_and_configdrive.of_label(label)
    return IsoAtPlace(found.st_size, bool(format) and volume[574:702].strip() == MARK.encode(), bool(format), format)


def read_iso(path: str) -> tuple[dict[str, str], dict[str, int]]:
    """Return what an ISO's context.sh says, and the length of each user file. Raise InvalidValue for an unreadable
    ISO."""
    pycdlib = require("pycdlib")
    iso, text = pycdlib.PyCdlib(), io.BytesIO()
    try:
        iso.open(path)
        try:
            iso.get_file_from_iso_fp(text, rr_path=f"/{VARIABLES}")
            files = {
                f"{directory}/{name}".lstrip("/"): iso.get_record(rr_path=f"{directory.rstrip('/')}/{name}").data_length
                for directory, _directories, names in iso.walk(rr_path="/")
                for name in names
            }
            format = nocloud_and_configdrive.of_label(iso.pvd.volume_identifier.decode("latin-1").strip())
        finally:
            iso.close()
    except (pycdlib.pycdlibexception.PyCdlibException, OSError, struct.error, IndexError) as error:
        raise InvalidValue(f"ISO {path}", f"it can't be read ({error})", "Make it anew") from error
    for own in (VARIABLES, *(nocloud_and_configdrive.FORMATS[format].paths if format else ())):
        files.pop(own, None)
    return context_sh.parse(text.getvalue().decode(errors="replace")), files


def files_of_iso(path: str) -> list[tuple[str, bytes, bool]]:
    """Return path, content and whether it may be run of each file of an ISO. Raise InvalidValue if it can't be read."""
    pycdlib = require("pycdlib")
    iso, found = pycdlib.PyCdlib(), []
    try:
        iso.open(path)
        try:
            for directory, _directories, names in iso.walk(rr_path="/"):
                for name in names:
                    place, data = f"{directory.rstrip('/')}/{name}", io.BytesIO()
                    iso.get_file_from_iso_fp(data, rr_path=place)
                    mode = iso.get_record(rr_path=place).rock_ridge.get_file_mode()
                    found.append((place.lstrip("/"), data.getvalue(), bool(mode & 0o111)))
        finally:
            iso.close()
    except (pycdlib.pycdlibexception.PyCdlibException, OSError, struct.error, IndexError) as error:
        raise InvalidValue(f"ISO {path}", f"it can't be read ({error})", "Make it anew") from error
    return sorted(found)


def _opened(path: str) -> IO[bytes]:
    # O_NONBLOCK: a named pipe would wait for its writer.
    return reader(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))


def _is_regular(file: IO[bytes], size: int) -> bool:
    found = os.fstat(file.fileno())
    return stat.S_ISREG(found.st_mode) and found.st_size == size


# -- mastering --------------------------------------------------------------------------------------------------------
def _make(output: IO[bytes], label: str, documents: Mapping[str, bytes], entries: Sequence[Entry]) -> Iso:
    _master(output, label, documents, entries)
    _pin_dates(output)
    digest, size = _digest(output), output.seek(0, os.SEEK_END)
    _write_length(output, size // _SECTOR + PADDING)
    return Iso(size + PADDING * _SECTOR, digest, entries, output)


def _master(output: IO[bytes], label: str, documents: Mapping[str, bytes], entries: Sequence[Entry]) -> None:
    pycdlib = require("pycdlib")
    iso = pycdlib.PyCdlib()
    try:
        iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label, app_ident_str=MARK)
        # By path: where a directory is in the two other trees, and which names are taken there.
        places = {"": _Place("", "")}

        def add_directory(path: str) -> None:
            parent, _slash, own = path.rpartition("/")
            if path not in places:
                if parent not in places:
                    add_directory(parent)
                places[path] = name = places[parent].add(own, directory=True)
                iso.add_directory(name.iso, own, name.joliet, file_mode=_DIRECTORY)

        def add_file(path: str, content: Any, size: int, mode: int) -> None:
            parent, _slash, own = path.rpartition("/")
            name = places[parent].add(own)
            iso.add_fp(content, size, name.iso + ";1", own, name.joliet, file_mode=mode)

        for path, text in documents.items():
            add_directory(path.rpartition("/")[0])
            add_file(path, io.BytesIO(text), len(text), _FILE)
        for entry in entries:
            if entry.directory:
                add_directory(entry.path)
            else:
                add_file(entry.path, Content(entry), entry.size, _EXECUTABLE if entry.executable else _FILE)
        iso.write_fp(output)
        iso.close()
    except pycdlib.pycdlibexception.PyCdlibException as error:
        raise InvalidValue("the files of a context ISO", str(error), "Pack them into one archive") from error


class _Place:
    """Is a file or directory in the tree of short names and in Joliet's, with the names taken below it."""

    def __init__(self, iso: str, joliet: str) -> None:
        self.iso = iso
        self.joliet = joliet
        self._taken: set[str] = set()
        # Where the search for a free number goes on: thousands of files may begin alike.
        self._numbers: dict[tuple[str, str, str], int] = {}

    def add(self, name: str, directory: bool = False) -> _Place:
        stem, dot, extension = name.rpartition(".") if not directory and "." in name[1:] else (name, "", "")
        short = _NOT_ISO.sub("_", stem.upper())[:8] or "_"
        end = "" if directory else "." + _NOT_ISO.sub("_", extension.upper())[:3]
        iso = self._free_name("iso:", short, end, 8 + len(end))
        tidy, end = _NOT_JOLIET.sub("_", stem), dot + _NOT_JOLIET.sub("_", extension)
        if len(end.encode()) > _JOLIET_LONGEST // 2:
            tidy, end = tidy + end, ""
        joliet = self._free_name("joliet:", tidy, end, _JOLIET_LONGEST)
        return _Place(f"{self.iso}/{iso}", f"{self.joliet}/{joliet}")

    def _free_name(self, tree: str, stem: str, end: str, longest: int) -> str:
        """Return stem + end, cut to `longest` bytes, numbered if it is taken. Readers of both trees ignore case."""
        number = self._numbers.get((tree, stem, end), 0)
        while True:
            tail = (f"_{number}" if number else "") + end
            name = stem.encode()[: longest - len(tail.encode())].decode(errors="ignore") + tail
            number += 1
            if tree + name.lower() not in self._taken:
                self._taken.add(tree + name.lower())
                self._numbers[tree, stem, end] = number
                return name


def _digest(file: IO[bytes]) -> str:
    if isinstance(file, io.BytesIO):
        return hashlib.sha256(file.getbuffer()).hexdigest()
    file.seek(0)
    return content_digest(file)


def _write_length(file: IO[bytes], sectors: int) -> None:
    """Write the length, with the padding, into the volume itself: some readers compare it, and whoever copies as many
    sectors as the volume says copies the padding too."""
    for place, _volume in _volumes(file):
        _put(file, place + _VOLUME_SIZE, struct.pack("<I", sectors) + struct.pack(">I", sectors))


def _volumes(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the place and the content of each of both trees' descriptors."""
    place = _FIRST_DESCRIPTOR * _SECTOR
    while (volume := _read(file, place, _SECTOR))[0] != _LAST:
        if volume[0] in (_PRIMARY, _SUPPLEMENTARY):
            yield place, volume
        place += _SECTOR


# -- dates ------------------------------------------------------------------------------------------------------------
# pycdlib stamps the time into what it writes, in seven places of its code that differ between its versions. So the
# finished ISO is gone through as ECMA-119 and the Rock Ridge protocol lay it out: that holds for any of them, and for
# several threads at once.
def _pin_dates(file: IO[bytes]) -> None:
    for place, volume in _volumes(file):
        for offset in _VOLUME_DATES:
            _put(file, place + offset, _VOLUME_DATE)
        _put(file, place + 156 + 18, _RECORD_DATE)
        _pin_directories(file, volume[156:190])


def _pin_directories(file: IO[bytes], root: bytes) -> None:
    waiting = [_extent(root)]
    seen = set()
    while waiting:
        place, length = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        data = _read(file, place, length)
        for offset, record in _records(data):
            _put(file, place + offset + 18, _RECORD_DATE)
            name = record[33 : 33 + record[32]]
            if record[25] & 2 and name not in (b"\0", b"\1"):
                waiting.append(_extent(record))
            # The name is padded to an even length; what follows is the system use area.
            used = 33 + record[32] + (record[32] + 1) % 2
            _pin_system_use(file, place + offset + used, record[used:])


def _pin_system_use(file: IO[bytes], place: int, area: bytes) -> None:
    offset = 0
    while offset + 4 <= len(area) and area[offset + 2] >= 4:
        kind, length = area[offset : offset + 2], area[offset + 2]
        if kind == b"TF":
            date = _VOLUME_DATE if area[offset + 4] & 0x80 else _RECORD_DATE
            for start in range(offset + 5, offset + length, len(date)):
                _put(file, place + start, date)
        elif kind == b"CE":
            sector, skip, size = (struct.unpack_from("<I", area, offset + at)[0] for at in (4, 12, 20))
            _pin_system_use(file, sector * _SECTOR + skip, _read(file, sector * _SECTOR + skip, size))
        offset += length


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        length = data[offset]
        if length:
            yield offset, data[offset : offset + length]
            offset += length
        else:
            # No record crosses the end of a sector.
            offset = (offset // _SECTOR + 1) * _SECTOR


def _extent(record: bytes) -> tuple[int, int]:
    sector, length = struct.unpack_from("<I4xI", record, 2)
    return sector * _SECTOR, length


def _read(file: IO[bytes], place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _put(file: IO[bytes], place: int, data: bytes) -> None:
    file.seek(place)
    file.write(data)
