# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes archives of tar: the headers of entries, in ustar's form, and pax's for what that does not hold. Headers say
nothing of when or by whom they were written, so the same tree makes the same archive."""

from __future__ import annotations

from .tar_reader import BLOCK, CHARACTER, DEVICE, DIRECTORY, Entry

_NAME = 100
_LARGEST = 8**11
# Of a number of a user or group.
_MOST_ID = 8**7
# Two blocks of zeroes, up to the end of a record.
_RECORD = 20 * BLOCK
# Where those of a device are in a header.
_NUMBERS = 329
_SPARSE_NAME = b"GNUSparseFile.0/"


def header(entry: Entry) -> bytes:
    """Return what comes before the content of an entry. Of a sparse file only its stretches are content."""
    records: list[tuple[bytes, bytes]] = []
    name, size, kind, before = entry.name, entry.size, entry.kind, b""
    if kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    if entry.sparse is not None:
        before = _map(entry.sparse, entry.length)
        size += len(before)
        stated = ((b"major", b"1"), (b"minor", b"0"), (b"name", name), (b"realsize", b"%d" % entry.length))
        records += [(b"GNU.sparse." + key, value) for key, value in stated]
        name = _SPARSE_NAME + name
    for key, text in ((b"path", name), (b"linkpath", entry.target)):
        # That of a sparse file was stated, and readers would take this one for it.
        if len(text) > _NAME and not (key == b"path" and before):
            records.append((key, text))
    if size >= _LARGEST:
        records.append((b"size", b"%d" % size))
    owners = ((b"uid", entry.uid), (b"gid", entry.gid))
    records += [(key, b"%d" % number) for key, number in owners if number >= _MOST_ID]
    seconds, part = divmod(entry.mtime, 10**9)
    if part or not 0 <= seconds < _LARGEST:
        records.append((b"mtime", _decimal(entry.mtime)))
    records += [(b"SCHILY.xattr." + key, value) for key, value in sorted(entry.xattrs.items())]
    if not all(map(_is_text, (name, entry.target))):
        records.insert(0, (b"hdrcharset", b"BINARY"))
    own = _block(entry, name, kind, size, min(max(seconds, 0), _LARGEST - 1))
    if not records:
        return own + before
    extended = b"".join(_record(key, value) for key, value in records)
    about = Entry("x", b"PaxHeaders/" + name[-80:], b"")
    about.mode = 0o644
    return _block(about, about.name, "x", len(extended), 0) + extended + padding(len(extended)) + own + before


def padding(size: int) -> bytes:
    """Return what follows a content of so many bytes."""
    return bytes(-size % BLOCK)


def end(size: int) -> bytes:
    """Return the end of an archive that has so many bytes without it."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % _RECORD)


def _block(entry: Entry, name: bytes, kind: str, size: int, seconds: int) -> bytes:
    fields = (
        name[:_NAME].ljust(_NAME, b"\0"),
        b"%07o\0%07o\0%07o\0" % (entry.mode, *(min(number, _MOST_ID - 1) for number in (entry.uid, entry.gid))),
        b"%011o\0%011o\0" % (min(size, _LARGEST - 1), seconds),
        b" " * 8,
        kind.encode(),
        entry.target[:_NAME].ljust(_NAME, b"\0"),
        b"ustar\x0000",
    )
    block = b"".join(fields)
    if kind in (CHARACTER, DEVICE):
        block = block.ljust(_NUMBERS, b"\0") + b"%07o\0%07o\0" % (entry.major, entry.minor)
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _map(stretches: list[tuple[int, int]], length: int) -> bytes:
    # By a stretch of nothing at the end, tar learns of a hole there.
    stretches = [*stretches, (length, 0)]
    numbers = [len(stretches), *(number for stretch in stretches for number in stretch)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + padding(len(text))


def _record(key: bytes, value: bytes) -> bytes:
    """Return a record of an extended header, which begins with its own length."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _decimal(nanoseconds: int) -> bytes:
    seconds, part = divmod(abs(nanoseconds), 10**9)
    return b"%s%d.%09d" % (b"-" if nanoseconds < 0 else b"", seconds, part)


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
