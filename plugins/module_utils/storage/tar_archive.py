# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether a file is a whole tar archive with the root file system of a container in it. Headers alone are read,
in little memory whatever they say, and nothing is unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ..errors import ImageRefused
from ..host.files import explained
from ..model.whole_numbers import MOST_DIGITS
from .qcow2_header import open_binary

BLOCK = 512
_MODE, _SIZE, _SUM, _TYPE, _MAGIC = slice(100, 108), slice(124, 136), slice(148, 156), 156, slice(257, 262)
# What belongs to the entry that follows: names (GNU), attributes (pax); sparse files of old GNU archives say more in
# further blocks.
_LONG = b"LKxgX"
_PAX = b"xX"
_GNU_NAME = b"L"
_OLD_SPARSE = b"S"
_MORE = 482
# Bytes of attributes of one entry: more is no root file system.
_LONGEST = 1 << 20
_WHOLE = "Get a whole copy of it and import that"
_REMEDY = "Give the archive of a root file system, as tar makes it of a whole system"


class Readable(Protocol):
    """Is a file, or a part of a file."""

    def seek(self, place: int, whence: int = ..., /) -> int: ...

    def read(self, count: int, /) -> bytes: ...


class Entry(NamedTuple):
    """Describes a file, directory, link or the like.
    kind: its letter
    place, size: bytes of the archive that are its content
    sparse: whether these are without the file's holes"""

    header: bytes
    name: bytes
    kind: bytes
    place: int
    size: int
    sparse: bool


def is_tar_head(head: bytes) -> bool:
    """Return whether a file that begins so is a tar archive. The oldest form has no magic, but its sum."""
    header = head[:BLOCK]
    if header[_MAGIC] == b"ustar":
        return True
    words = (header[_MODE], header[_SIZE], header[_SUM])
    return (
        len(header) == BLOCK
        and all(not word.strip(b" \0" + b"01234567") and word.strip(b" \0") for word in words)
        and (header[0] > 32 and _is_header(header))
    )


def check(path: str, asked: str) -> int:
    """Return the length of the archive in bytes. Raise ImageRefused for a file that is no archive, is cut off, or has
    no root file system in it."""
    with explained(path), open_binary(path) as file:
        length = file.seek(0, os.SEEK_END)
        if length == 0:
            raise ImageRefused(asked, "it is empty", "Get a whole copy of it and import that")
        found = {_top(entry.header) for entry in entries(file, length, asked)}
    if b"etc" not in found or not found & {b"usr", b"bin", b"sbin"}:
        raise ImageRefused(
            asked,
            "it has no directory etc and none of usr, bin and sbin at its top: it is no root file system",
            f"{_REMEDY}, with its names beginning at the root (./etc or etc)",
        )
    return length


def entries(file: Readable, length: int, asked: str) -> Iterator[Entry]:
    place, size_of_next, name, sparse = 0, -1, b"", False
    while place < length:
        file.seek(place)
        header = file.read(BLOCK)
        if header == bytes(BLOCK):
            return
        if len(header) < BLOCK or not _is_header(header):
            what = "it is no tar archive" if place == 0 else f"it is damaged or cut off at byte {place}"
            raise ImageRefused(asked, what, _REMEDY if place == 0 else _WHOLE)
        size, kind = _number(header[_SIZE]), header[_TYPE : _TYPE + 1]
        if size < 0:
            raise ImageRefused(asked, f"the size that its entry at byte {place} has is no number", _WHOLE)
        if size_of_next >= 0 and kind not in _LONG:
            size = size_of_next
        place += BLOCK
        if kind in _OLD_SPARSE:
            place = _beyond_map(file, header, place)
        if kind in _LONG:
            if size > _LONGEST:
                raise ImageRefused(asked, f"an entry has {size} bytes of attributes", _REMEDY)
            attributes = file.read(size) if kind in _PAX + _GNU_NAME else b""
            if kind == _GNU_NAME:
                name = attributes.split(b"\0")[0]
            elif kind in _PAX:
                size_of_next = max(size_of_next, _size_in(attributes))
                name = _value(attributes, b"GNU.sparse.name") or _value(attributes, b"path") or name
                sparse = sparse or b" GNU.sparse." in attributes
        else:
            size_of_next = -1
        # Links and the like have a size that counts for nothing.
        size = size if kind in b"0\0007SLKxgX" else 0
        begin = place
        place += -(-size // BLOCK) * BLOCK
        if place > length:
            raise ImageRefused(asked, f"it is cut off: it has {length} bytes", "Get a whole copy of it and import that")
        if kind not in _LONG:
            yield Entry(header, name or _name(header), kind, begin, size, sparse or kind in _OLD_SPARSE)
            name, sparse = b"", False
    raise ImageRefused(
        asked, f"it is cut off: nothing ends it at byte {length}", "Get a whole copy of it and import that"
    )


def _is_header(header: bytes) -> bool:
    return _number(header[_SUM]) == sum(header[:148]) + 8 * 32 + sum(header[156:])


def _number(field: bytes) -> int:
    """Return the number in a field, -1 for none: int() would take a sign, and lead back to where the reader was."""
    if field[0] & 0x80:
        # Too large for octal digits: GNU's binary numbers.
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    text = field.strip(b" \0")
    return int(text or b"0", 8) if not text.strip(b"01234567") else -1


def _beyond_map(file: Readable, header: bytes, place: int) -> int:
    more = header[_MORE]
    while more:
        block = file.read(BLOCK)
        place += BLOCK
        more = block[504] if len(block) == BLOCK else 0
    return place


def _size_in(attributes: bytes) -> int:
    """Return the size that pax attributes give the entry that follows; -1 for none."""
    found = -1
    for line in attributes.split(b"\n"):
        word, _equals, value = line.partition(b"=")
        if word.rpartition(b" ")[2] == b"size" and value.isdigit():
            # Longer ones are beyond every file, and Python takes very long to read thousands of digits.
            found = int(value[: MOST_DIGITS + 1])
    return found


def _value(attributes: bytes, key: bytes) -> bytes:
    """Return the value that pax attributes have for a key; b"" for none."""
    _before, found, rest = (b"\n" + attributes).partition(b" " + key + b"=")
    return rest.partition(b"\n")[0] if found else b""


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    if header[_MAGIC] == b"ustar" and header[345:500].strip(b"\0") and header[257:265] != b"ustar  \0":
        name = header[345:500].split(b"\0")[0] + b"/" + name
    return name


def _top(header: bytes) -> bytes:
    parts = [part for part in _name(header).split(b"/") if part not in (b"", b".")]
    return parts[0] if parts else b""
