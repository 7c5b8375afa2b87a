# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the header of a qcow2 file says, before QEMU's own programs read it, and refuses some of it.

A stranger, a guest, or a QEMU which its guest took over could have written the file."""

from __future__ import annotations

import json
import os
import struct
from typing import BinaryIO

from ..errors import ImageRefused
from ..host.files import closing_fd, explained, reader
from ..model.disk import DiskFiles

MAGIC = b"QFI\xfb"
DATA_FILE = 1 << 2
CORRUPT = 1 << 1
CRYPT_LUKS = 2
# Beyond the header's own fields: type and length of each extension, then as many bytes, up to a multiple of eight.
_BACKING_FORMAT = 0xE2792ACA
_LONGEST_HEADER = 64 * 1024
# Dirty, corrupt, a data file, another compression, extended entries of its tables: QEMU knows no others.
KNOWN_FEATURES = 0b11111
_LONGEST_NAME = 1023
_UNTRUSTED = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_TAMPERED = "It was tampered with: make the machine anew, or bring the disk back from a backup"


def open_binary(path: str) -> BinaryIO:
    # O_NONBLOCK: a named pipe would wait for its writer; it has no use here and fails on seek().
    return reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


class Header:
    """Holds what the header of a qcow2 file says. crypt: 0 where it is not encrypted."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        head = file.read(104)
        self.whole = len(head) >= 72 and head[:4] == MAGIC
        head = head.ljust(104, b"\0")
        self.version, self._offset, self._length = struct.unpack(">IQI", head[4:20])
        self.size: int = struct.unpack(">Q", head[24:32])[0]
        self.crypt: int = struct.unpack(">I", head[32:36])[0]
        self.incompatible: int = struct.unpack(">Q", head[72:80])[0] if self.version >= 3 else 0
        self.has_backing = bool(self._offset)
        self.backing_format = _extension(file, head, self.version, _BACKING_FORMAT) if self._offset else ""
        self.backing = ""
        if self._offset and self._offset < file.seek(0, os.SEEK_END):
            file.seek(self._offset)
            self.backing = file.read(min(self._length, _LONGEST_NAME)).decode("utf-8", "replace")


def _extension(file: BinaryIO, head: bytes, version: int, wanted: int) -> str:
    place = struct.unpack(">I", head[100:104])[0] if version >= 3 else 72
    while place < _LONGEST_HEADER:
        file.seek(place)
        kind, length = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
        if kind == wanted:
            return file.read(min(length, _LONGEST_NAME)).decode("utf-8", "replace")
        if not kind:
            break
        place += 8 + (length + 7) // 8 * 8
    return ""


def refuse_data_file(path: str, format: str, what: str) -> None:
    """Raise ImageRefused where a disk of ours, whatever it rests on, says that its content is in another file. For
    programs that can't be told what a disk rests on: nothing but that is in the header that they read."""
    if format == "qcow2":
        with explained(path), open_binary(path) as file:
            header = Header(file)
        header.has_backing = False
        _refuse(header, path, "", what, encrypted=True)


def refuse_other_below(path: str, below: str, what: str) -> int:
    """Return the bytes of the disk that a file of a backup holds. Raise ImageRefused where it says otherwise than its
    manifest: that it rests on another file than the one beside it that is called `below`, or on any if that is "", or
    what refuse_data_file() refuses."""
    with explained(path), closing_fd(os.open(path, _UNTRUSTED)) as fd, reader(os.dup(fd)) as file:
        header = Header(file)
    has_backing, header.has_backing = header.has_backing, False
    _refuse(header, path, "", what, encrypted=False)
    if has_backing != bool(below) or header.backing != below:
        found = f"it says that it rests on {header.backing!r}" if has_backing else "it says that it rests on nothing"
        meant = f"on {below}" if below else "on nothing"
        raise ImageRefused(what, f"{path}: {found}, and by its manifest it rests {meant}", _TAMPERED)
    return header.size


def refuse_plain(path: str, what: str) -> None:
    """Raise ImageRefused where a qcow2 file is not encrypted by LUKS: QEMU opens one with any key."""
    with explained(path), open_binary(path) as file:
        header = Header(file)
    if header.crypt != CRYPT_LUKS:
        raise ImageRefused(what, f"{path}: it says that it is not encrypted, and the catalog does", _TAMPERED)


def refuse_unexpected(files: DiskFiles, what: str = "", encrypted: bool = False) -> None:
    """Raise ImageRefused where a file of the chain says otherwise than the catalog: that its content is in another
    file, or that it rests on another, is encrypted, or has a feature without a name."""
    chain = [(files.path, files.format), *files.backing]
    for (path, format_), below in zip(chain, [*(path for path, _format in files.backing), ""]):
        if format_ == "qcow2":
            with explained(path), open_binary(path) as file:
                _refuse(Header(file), path, below, what or f"disk {files.path}", encrypted)


def _refuse(header: Header, path: str, below: str, what: str, encrypted: bool) -> None:
    found = ""
    if not header.whole or header.version not in (2, 3):
        found = "it is no qcow2 file, as the catalog says"
    elif header.incompatible & DATA_FILE:
        found = "it says that its content is in another file"
    elif header.incompatible & ~KNOWN_FEATURES:
        found = f"it says that it has features which nobody knows ({header.incompatible:#x})"
    elif header.crypt and not (encrypted and header.crypt == CRYPT_LUKS):
        found = "it says that it is encrypted, and the catalog does not"
    elif header.has_backing and not _is_meant(header.backing, below):
        rests = f"rests on {below}" if below else "rests on nothing"
        found = f"it says that it rests on {header.backing!r}, and by the catalog it {rests}"
    if found:
        raise ImageRefused(what, f"{path}: {found}", _TAMPERED)


def _is_meant(backing: str, below: str) -> bool:
    """Return whether what a header calls the file below is that file, wherever its datastore or cache was mounted."""
    if not below:
        return False
    if backing.startswith("json:"):
        try:
            named = json.loads(backing[len("json:") :])
            backing = str(named["file"]["filename"]) if named["file"]["driver"] == "file" else ""
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
    meant = {os.path.basename(below), os.path.basename(os.path.realpath(below))}
    return backing.startswith("/") and os.path.basename(backing) in meant
