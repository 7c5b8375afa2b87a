# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which drivers an initial RAM disk holds: cpio archives one behind the other, the last of them packed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...errors import ImageRefused, NebulaError
from ...storage import decompression

# Bytes of content; a packed file can claim any number.
LIMIT = 2 << 30
# Files of an archive, and archives; a general system's has some thousands of files.
_MOST_FILES, _MOST_ARCHIVES = 200_000, 100
_MAGIC = (b"070701", b"070702")
_HEADER = 110
_ZEROES = bytes(decompression.CHUNK)
_LONGEST_NAME = 4096
_MODULE = re.compile(r"(?:^|/)([^/]+)\.ko(?:\.(?:gz|xz|zst))?$")


def modules(path: str, what: str) -> frozenset[str]:
    """Return the names of the drivers in an initrd, with _ for each -. Raise ImageRefused if it can't be read."""
    with Path(path).open("rb") as file:
        _skip_plain(file, what)
        head = file.read(decompression.MAGIC_LENGTH)
        file.seek(-len(head), 1)
        packing = decompression.detect(head)
        if not packing and not head.startswith(_MAGIC):
            raise ImageRefused(what, "its packing is not known here", "Use gzip, xz or zstd for it")
        blocks = _blocks(file)
        try:
            stream = _Stream(decompression.unpack(packing, blocks, what) if packing else blocks)
            return frozenset(name for entry in _names(stream) for name in module_names(entry))
        except (ValueError, EOFError) as error:
            raise ImageRefused(what, f"it is no cpio archive: {error}", "") from error


def module_names(path: str) -> Iterator[str]:
    found = _MODULE.search(path)
    if found:
        yield found[1].replace("-", "_")


def modules_or_reason(path: str, what: str) -> tuple[frozenset[str] | None, str]:
    """Return (the drivers, ""), or (None, why they are not known)."""
    try:
        return modules(path, what), ""
    except (NebulaError, OSError) as error:
        return None, error.found if isinstance(error, NebulaError) else str(error)


def _blocks(file: BinaryIO) -> decompression.Blocks:
    while block := file.read(decompression.CHUNK):
        yield block


def _skip_plain(file: BinaryIO, what: str) -> None:
    """Skip the unpacked archives that have no drivers (microcode), up to the archive that has them."""
    for _archive in range(_MOST_ARCHIVES):
        start = file.tell()
        if file.read(6) not in _MAGIC:
            file.seek(start)
            return
        file.seek(start)
        has_modules = False
        try:
            for name, size in _entries(file):
                has_modules = has_modules or bool(_MODULE.search(name))
                file.seek(size, 1)
        except (ValueError, EOFError):
            file.seek(start)
            return
        # Padded with zeroes to any size.
        while (block := file.read(decompression.CHUNK)) and block == _ZEROES[: len(block)]:
            pass
        if has_modules or not block:
            file.seek(start)
            return
        file.seek(-len(block.lstrip(b"\0")), 1)
    raise ImageRefused(what, f"it is more than {_MOST_ARCHIVES} archives", "")


class _Stream:
    """Reads and skips what comes in blocks."""

    def __init__(self, blocks: decompression.Blocks) -> None:
        self._blocks = blocks
        # A view: a copy of what is left would be a megabyte for each file of a hundred bytes.
        self._left = memoryview(b"")
        self._seen = 0

    def read(self, count: int) -> bytes:
        parts = []
        while count > 0:
            if not self._left:
                self._left = memoryview(next(self._blocks, b""))
                self._seen += len(self._left)
                if self._seen > LIMIT:
                    raise ValueError(f"it holds more than {LIMIT} bytes")
                if not self._left:
                    break
            parts.append(self._left[:count])
            self._left = self._left[count:]
            count -= len(parts[-1])
        return b"".join(parts)


def _names(stream: _Stream) -> Iterator[str]:
    for name, size in _entries(stream):
        yield name
        left = size
        while left > 0:
            got = len(stream.read(min(left, decompression.CHUNK)))
            if not got:
                raise EOFError("it ends before its content does")
            left -= got


def _entries(file: BinaryIO | _Stream) -> Iterator[tuple[str, int]]:
    """Yield (name, bytes to be skipped) of each file. The reader is behind the name then, and has to skip."""
    for _file in range(_MOST_FILES):
        header = file.read(_HEADER)
        if len(header) < _HEADER:
            raise EOFError("it ends before its content does")
        if header[:6] not in _MAGIC:
            raise ValueError("a header is not where it should be")
        size, length = _number(header[54:62]), _number(header[94:102])
        if not 0 < length <= _LONGEST_NAME:
            raise ValueError("a name is too long")
        name = file.read(length + (-(_HEADER + length) % 4))[: length - 1].decode("utf-8", "replace")
        if name == "TRAILER!!!":
            return
        yield name, size + (-size % 4)
    raise ValueError(f"it holds more than {_MOST_FILES} files")


def _number(digits: bytes) -> int:
    # int() takes a sign too, which leads back to where the reader was.
    if digits.strip(b"0123456789abcdefABCDEF"):
        raise ValueError("a number in a header is none")
    return int(digits, 16)
