# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads archives of tar from front to end: ustar, pax, and GNU's, with sparse files and extended attributes.

Python's own reader takes a damaged header in the middle for the end, guesses where archives contradict themselves,
and keeps what it has read; tar itself has no limits. Here an archive that is not whole, or that readers understand
in different ways, is refused. It reads 10,000 headers in a fifth of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..errors import ImageRefused

BLOCK = 512
CHUNK = 1024 * 1024
FILE, HARD_LINK, LINK, CHARACTER, DEVICE, DIRECTORY, FIFO = "0123456"
# Bytes of one extended header, and stretches of a sparse file.
LONGEST_HEADER = 1024 * 1024
MOST_STRETCHES = 256 * 1024
# Of one name: Linux takes no longer ones. Whoever unpacks has a lower limit.
LONGEST_NAME = 64 * 1024
# What the kernel takes numbers as.
_LONGEST_FILE = (1 << 63) - 1
_TIME_DIGITS = 18
_ZEROES = bytes(BLOCK)
_KINDS = {b"\0": FILE, b"7": FILE, b"S": FILE, **{kind.encode(): kind for kind in "0123456"}}
_XATTR = b"SCHILY.xattr."
_ACL, _OTHER_XATTR = b"SCHILY.acl.", b"LIBARCHIVE.xattr."
_SPARSE = b"GNU.sparse."
# What changes how the next header is read. In a header for all that follow, readers do not agree on them.
_MEANT = (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime")
# Offset, bytes, of each stretch in old headers of GNU.
_OLD_STRETCH = 24

Stretches = list[tuple[int, int]]


class Entry:
    """Describes an entry of an archive.
    name: as it is in the archive
    size, length: bytes of it there, and bytes of the file
    mtime: nanoseconds
    target: where a link leads
    sparse: where its bytes go, None where the file has no holes
    major, minor: numbers of a device
    lost: attributes that are there in a form that is not read"""

    __slots__ = (
        "gid", "kind", "length", "lost", "major", "minor", "mode", "mtime", "name", "size", "sparse", "target", "uid",
        "xattrs",
    )  # fmt: skip

    def __init__(self, kind: str, name: bytes, target: bytes) -> None:
        self.kind, self.name, self.target = kind, name, target
        self.mode = self.uid = self.gid = self.mtime = self.size = self.length = self.lost = 0
        self.major = self.minor = 0
        self.sparse: Stretches | None = None
        self.xattrs: dict[bytes, bytes] = {}


class Reader:
    """Reads an archive. read: as a file's, up to so many bytes, b"" at the end. what: errors begin with it."""

    def __init__(self, read: Callable[[int], bytes], what: str) -> None:
        self._read = read
        self._what = what
        self._data, self._at = b"", 0
        # Of the entry that is read: its bytes, and those that fill its last block.
        self._left = self._padding = 0
        self._name = b""

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries. What was not read of an entry's content is left out."""
        first = True
        while True:
            self._skip()
            head = self._take(BLOCK, b"" if first else self._name)
            if head == _ZEROES:
                if first:
                    raise self._refused("it is empty", "Name another")
                self._end()
                return
            first = False
            yield self._entry(head)

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of the entry; for a sparse file, the bytes of its stretches."""
        while self._left:
            if self._at >= len(self._data):
                self._fill()
            piece = self._data[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            yield piece

    def whole(self) -> bytes:
        """Return the bytes of the entry at once, for files that are small."""
        size, self._left = self._left, 0
        return self._take(size, self._name)

    def _entry(self, head: bytes) -> Entry:
        name, target = b"", b""
        records: dict[bytes, bytes] = {}
        stretches: Stretches = []
        while True:
            self._check(head)
            kind = head[156:157]
            if kind in b"LK" or kind in b"xg":
                content = self._extended(head)
                if kind == b"L":
                    name = content.rstrip(b"\0")
                elif kind == b"K":
                    target = content.rstrip(b"\0")
                elif kind == b"g":
                    self._refuse_global(content)
                else:
                    records.update(self._records(content, stretches))
                # A name that is there twice is not one that all readers take.
                head = self._take(BLOCK, name)
                continue
            if kind == b"V":
                head = self._take(BLOCK, b"the label")
                continue
            return self._read_entry(head, name, target, records, stretches)

    def _read_entry(
        self, head: bytes, name: bytes, target: bytes, records: dict[bytes, bytes], stretches: Stretches
    ) -> Entry:
        name = records.get(_SPARSE + b"name") or records.get(b"path") or name or _own_name(head)
        self._name = name
        target = records.get(b"linkpath") or target or head[157:257].partition(b"\0")[0]
        kind = _KINDS.get(head[156:157])
        if kind is None:
            raise self._refused(
                f"{printable_name(name)} is of the type {head[156:157]!r}, which no system has as a file"
            )
        if kind == FILE and name.endswith(b"/") and head[156:157] in b"\0\x30":
            kind = DIRECTORY
        for text in (name, target):
            if b"\0" in text or len(text) > LONGEST_NAME:
                raise self._refused(f"the name {printable_name(text)} can't be that of a file")
        entry = Entry(kind, name, target)
        entry.mode = self._number(head[100:108], "mode") & 0o7777
        entry.uid = self._decimal(records[b"uid"], b"uid") if b"uid" in records else self._number(head[108:116], "uid")
        entry.gid = self._decimal(records[b"gid"], b"gid") if b"gid" in records else self._number(head[116:124], "gid")
        entry.mtime = self._time(records[b"mtime"]) if b"mtime" in records else self._old_time(head)
        size = self._decimal(records[b"size"], b"size") if b"size" in records else self._number(head[124:136], "size")
        if min(size, entry.uid, entry.gid) < 0:
            raise self._refused(f"{printable_name(name)} has an owner or a size below zero")
        if kind == HARD_LINK:
            # Some writers state the size of the file that it is a link to; no content follows.
            size = 0
        elif kind != FILE and size:
            raise self._refused(
                f"{printable_name(name)} is no file and has a content, which readers take for different things"
            )
        if kind in (CHARACTER, DEVICE):
            entry.major, entry.minor = self._number(head[329:337], "major"), self._number(head[337:345], "minor")
        entry.size = entry.length = size
        self._left, self._padding = size, -size % BLOCK
        if records or head[156:157] == b"S":
            self._add_records(entry, head, records, stretches)
        return entry

    def _add_records(self, entry: Entry, head: bytes, records: dict[bytes, bytes], stretches: Stretches) -> None:
        for key, value in records.items():
            if key.startswith(_XATTR):
                if b"\0" in key:
                    raise self._refused(
                        f"{printable_name(entry.name)} has an attribute {printable_name(key)}, which no file can have"
                    )
                entry.xattrs[key[len(_XATTR) :]] = value
        if not entry.xattrs:
            entry.lost += any(key.startswith(_OTHER_XATTR) for key in records)
        entry.lost += any(key.startswith(_ACL) for key in records)
        found: Stretches | None = None
        if head[156:157] == b"S":
            found, entry.length = self._old_map(head)
        elif any(key.startswith(_SPARSE) for key in records):
            if _SPARSE + b"major" in records:
                if (records[_SPARSE + b"major"], records.get(_SPARSE + b"minor")) != (b"1", b"0"):
                    raise self._refused(f"{printable_name(entry.name)} is sparse in a form that is not known")
                found = self._new_map()
            elif _SPARSE + b"map" in records:
                found = self._pairs(records[_SPARSE + b"map"].split(b","))
            else:
                found = stretches
            stated = records.get(_SPARSE + b"realsize") or records.get(_SPARSE + b"size") or b""
            entry.length = self._decimal(stated, _SPARSE + b"size")
        if found is not None:
            if entry.length > _LONGEST_FILE:
                raise self._refused(
                    f"{printable_name(entry.name)} is a sparse file of {entry.length} bytes, which none can have"
                )
            entry.size = self._left
            self._check_map(entry, found)
            entry.sparse = found

    # --- headers ------------------------------------------------------------------------------------------------------

    def _check(self, head: bytes) -> None:
        stated = head[148:156].partition(b"\0")[0].strip(b" ")
        unsigned = sum(head[:148]) + sum(head[156:]) + 8 * 32
        # Some old writers added them as signed bytes.
        number = -1 if not stated or stated.strip(b"01234567") else int(stated, 8)
        if number != unsigned and number != unsigned - 256 * sum(byte > 127 for byte in head[:148] + head[156:]):
            after = f" after {printable_name(self._name)}" if self._name else ""
            raise self._refused(f"what follows{after} is no header of tar: it is damaged, or something else")

    def _number(self, field: bytes, what: str) -> int:
        if field[0] & 0x80:
            # GNU's form for what octal digits can't say.
            number = int.from_bytes(field[1:], "big")
            if field[0] in (0x80, 0xFF):
                return number if field[0] == 0x80 else number - (1 << 8 * (len(field) - 1))
        else:
            text = field.partition(b"\0")[0].strip(b" ")
            if not text.strip(b"01234567"):
                return int(text or b"0", 8)
        raise self._refused(f"the {what} in a header is {printable_name(field)}, which is no number")

    def _decimal(self, text: bytes, what: bytes) -> int:
        if text.isdigit() and len(text) <= 20:
            return int(text)
        raise self._refused(
            f"the {printable_name(what)} in an extended header is {printable_name(text)}, which is no number"
        )

    def _old_time(self, head: bytes) -> int:
        seconds = self._number(head[136:148], "time")
        if abs(seconds) >= 10**_TIME_DIGITS:
            raise self._refused(f"the time in a header is {seconds} seconds, which no system has")
        return seconds * 10**9

    def _time(self, text: bytes) -> int:
        whole, _point, part = text.partition(b".")
        digits = whole[1:] if whole[:1] == b"-" else whole
        if not digits.isdigit() or len(digits) > _TIME_DIGITS or (part and not part.isdigit()):
            raise self._refused(f"the time in an extended header is {printable_name(text)}, which is no number")
        nanoseconds = int((part + b"0" * 9)[:9])
        return int(whole) * 10**9 + (-nanoseconds if whole[:1] == b"-" else nanoseconds)

    def _extended(self, head: bytes) -> bytes:
        size = self._number(head[124:136], "size")
        if not 0 <= size <= LONGEST_HEADER:
            raise self._refused(f"an extended header has {size} bytes; {LONGEST_HEADER} at most are read")
        return self._take(size + -size % BLOCK, b"an extended header")[:size]

    def _records(self, content: bytes, stretches: Stretches) -> Iterator[tuple[bytes, bytes]]:
        at = 0
        offset = -1
        while at < len(content):
            digits = content[at : at + 10].partition(b" ")[0]
            end = at + (int(digits) if digits.isdigit() else 0)
            key, equals, value = content[at + len(digits) + 1 : end - 1].partition(b"=")
            if not equals or not key or end > len(content) or content[end - 1 : end] != b"\n":
                raise self._refused("an extended header is damaged")
            at = end
            # The oldest of GNU's forms in pax has these two again and again.
            if key == _SPARSE + b"offset":
                offset = self._decimal(value, key)
            elif key == _SPARSE + b"numbytes":
                stretches.append((offset, self._decimal(value, key)))
                if len(stretches) > MOST_STRETCHES:
                    raise self._too_many()
            yield key, value

    def _refuse_global(self, content: bytes) -> None:
        for key, _value in self._records(content, []):
            if key in _MEANT or key.startswith((_SPARSE, _XATTR)):
                raise self._refused(f"a header states the {printable_name(key)} of all that follows")

    # --- sparse files -------------------------------------------------------------------------------------------------

    def _old_map(self, head: bytes) -> tuple[Stretches, int]:
        found = self._old_stretches(head, 386, 4)
        more = head[482]
        while more:
            block = self._take(BLOCK, self._name)
            found += self._old_stretches(block, 0, 21)
            more = block[504]
            if len(found) > MOST_STRETCHES:
                raise self._too_many()
        return found, self._number(head[483:495], "size")

    def _old_stretches(self, block: bytes, begin: int, count: int) -> Stretches:
        found = []
        for at in range(begin, begin + count * _OLD_STRETCH, _OLD_STRETCH):
            if not block[at + 12]:
                break
            found.append((self._number(block[at : at + 12], "offset"), self._number(block[at + 12 : at + 24], "size")))
        return found

    def _new_map(self) -> Stretches:
        """Read the map of a sparse file: it is the beginning of the content, in lines, up to the end of a block."""
        lines: list[bytes] = []
        wanted, rest = 1, b""
        while len(lines) < wanted:
            if self._left < BLOCK:
                raise self._refused(f"{printable_name(self._name)} is sparse and does not say where")
            self._left -= BLOCK
            *more, rest = (rest + self._take(BLOCK, self._name)).split(b"\n")
            lines += more
            if len(rest) > BLOCK:
                raise self._refused(f"{printable_name(self._name)} is sparse and does not say where")
            if lines:
                wanted = 1 + 2 * self._decimal(lines[0], b"number of stretches")
                if wanted > 2 * MOST_STRETCHES:
                    raise self._too_many()
        return self._pairs(lines[1:wanted])

    def _pairs(self, numbers: list[bytes]) -> Stretches:
        if len(numbers) % 2 or len(numbers) > 2 * MOST_STRETCHES:
            raise self._too_many()
        values = [self._decimal(text, b"map") for text in numbers]
        return list(zip(values[::2], values[1::2]))

    def _check_map(self, entry: Entry, found: Stretches) -> None:
        end = total = 0
        for offset, size in found:
            if offset < end or size < 0:
                raise self._refused(f"the stretches of the sparse file {printable_name(entry.name)} are not in order")
            if total % BLOCK and size:
                # Some readers take what fills a block for content.
                raise self._refused(
                    f"the stretches of the sparse file {printable_name(entry.name)} are not of whole blocks"
                )
            end = offset + size
            total += size
        if end > entry.length or total != entry.size:
            raise self._refused(f"the stretches of the sparse file {printable_name(entry.name)} are not what it has")

    # --- the stream ---------------------------------------------------------------------------------------------------

    def _take(self, size: int, after: bytes) -> bytes:
        end = self._at + size
        while end > len(self._data):
            more = self._read(max(CHUNK, end - len(self._data)))
            if not more:
                raise self._cut(after)
            self._data = self._data[self._at :] + more
            self._at, end = 0, size
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _fill(self) -> None:
        self._data, self._at = self._read(CHUNK), 0
        if not self._data:
            raise self._cut(self._name)

    def _skip(self) -> None:
        for _piece in self.content():
            pass
        if self._padding:
            self._take(self._padding, self._name)
            self._padding = 0

    def _end(self) -> None:
        """Check the end: two blocks of zeroes, and zeroes that fill the last record."""
        if self._take(BLOCK, self._name) != _ZEROES:
            raise self._refused("something follows after its end: it is damaged")
        while True:
            if self._data[self._at :].strip(b"\0"):
                raise self._refused(
                    "something follows after its end: other readers may see another tree in it",
                    "Pack one tree into one archive (tar --concatenate joins two)",
                )
            self._data, self._at = self._read(CHUNK), 0
            if not self._data:
                return

    def _cut(self, after: bytes) -> ImageRefused:
        where = f" after {printable_name(after)}" if after else " at once"
        return self._refused(f"it is truncated: it ends{where}, without the mark of its end", "Get a whole copy of it")

    def _too_many(self) -> ImageRefused:
        return self._refused(f"{printable_name(self._name)} is a sparse file of more than {MOST_STRETCHES} stretches")

    def _refused(self, found: str, remedy: str = "Have it made anew, by tar") -> ImageRefused:
        return ImageRefused(self._what, found, remedy)


def printable_name(name: bytes) -> str:
    """Return a name as errors have it."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}")


def _own_name(head: bytes) -> bytes:
    name = head[:100].partition(b"\0")[0]
    # GNU's own format has times where ustar has the first part of a long name.
    if head[257:263] == b"ustar\0" and head[345]:
        return head[345:500].partition(b"\0")[0] + b"/" + name
    return name
