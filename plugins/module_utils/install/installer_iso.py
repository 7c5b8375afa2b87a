# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads installers' ISOs: whether a firmware boots them, and files out of them; and makes the media that an installer
gets.

ISOs may be anybody's: they are read by offsets that are checked, within limits, and nothing of them is run or
mounted here."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from ..dataclass import dataclass
from ..errors import ImageRefused
from ..host.files import explained, reader

SECTOR = 2048
# Of one directory, and of one file that is taken out: an initrd has some 100 MiB.
LARGEST_DIRECTORY = 8 << 20
LARGEST_FILE = 1 << 30
# 1.44 MB.
FLOPPY = 2880 * 512

_FIRST_DESCRIPTOR = 16
_MOST_DESCRIPTORS = 64
_BLOCK = 1 << 20
_EL_TORITO = b"EL TORITO SPECIFICATION"
_X86, _EFI = 0x00, 0xEF
_MOST_SECTIONS = 32


@dataclass(frozen=True)
class Facts:
    """Describes an ISO as a firmware sees it.
    label: its volume's.
    bios, uefi: whether such a firmware boots it from a CD drive.
    hybrid: whether it has a boot sector too, for disks and USB sticks."""

    label: str
    bios: bool = False
    uefi: bool = False
    hybrid: bool = False


@dataclass(frozen=True)
class Place:
    """Describes where the content of a file or directory is, in bytes from the start."""

    offset: int
    size: int
    directory: bool = False


def read_facts(path: str, what: str) -> Facts:
    """Return the facts of an ISO. Raise ImageRefused unless it is an ISO 9660 file system. what: how errors call it."""
    with explained(path), _open(path) as file:
        volume = _volume(file, what)
        bios, uefi = _boots(file)
        first = _read(file, 0, 512)
    return Facts(
        label=volume[40:72].decode("latin-1").strip(" \0"),
        bios=bios,
        uefi=uefi,
        hybrid=len(first) == 512 and first[510:] == b"\x55\xaa" and any(first[446:510]),
    )


def find(path: str, candidates: Sequence[Sequence[str]], what: str) -> tuple[Place, ...] | None:
    """Return the places of the first group of files that are all there; None if no group is."""
    with explained(path), _open(path) as file:
        root = _place_of_record(_volume(file, what)[156:190])
        for group in candidates:
            places = [_walk(file, root, inner, what) for inner in group]
            if all(place is not None and not place.directory for place in places):
                return tuple(place for place in places if place is not None)
    return None


def content(path: str, place: Place, what: str) -> Iterator[bytes]:
    """Yield the bytes of a file of the ISO, in pieces."""
    if place.size > LARGEST_FILE:
        raise ImageRefused(what, f"a file in it has {place.size} bytes", f"The limit is {LARGEST_FILE >> 20} MiB")
    with explained(path), _open(path) as file:
        left, offset = place.size, place.offset
        while left:
            block = _read(file, offset, min(left, _BLOCK))
            if not block:
                raise _damaged(what)
            left, offset = left - len(block), offset + len(block)
            yield block


# -- reading ----------------------------------------------------------------------------------------------------------
def _open(path: str) -> BinaryIO:
    return reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), buffering=0)


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _descriptors(file: BinaryIO) -> Iterator[bytes]:
    for number in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + _MOST_DESCRIPTORS):
        sector = _read(file, number * SECTOR, SECTOR)
        if len(sector) < SECTOR or sector[1:6] != b"CD001" or sector[0] == 255:
            return
        yield sector


def _volume(file: BinaryIO, what: str) -> bytes:
    """Return the primary volume descriptor."""
    for sector in _descriptors(file):
        if sector[0] == 1:
            return sector
    raise ImageRefused(what, "it is not an ISO 9660 file system", "Give the ISO file of an installer")


def _boots(file: BinaryIO) -> tuple[bool, bool]:
    """Return whether El Torito's catalog has something for a BIOS, and for a UEFI firmware."""
    for sector in _descriptors(file):
        if sector[0] == 0 and sector[7:39].rstrip(b"\0 ") == _EL_TORITO:
            return _catalog(file, struct.unpack_from("<I", sector, 71)[0])
    return False, False


def _catalog(file: BinaryIO, sector: int) -> tuple[bool, bool]:
    data = _read(file, sector * SECTOR, SECTOR)
    valid = len(data) == SECTOR and data[0] == 1 and data[30:32] == b"\x55\xaa"
    if not valid or sum(struct.unpack_from("<16H", data)) & 0xFFFF:
        return False, False
    found = {_X86: False, _EFI: False}
    platform, offset, left, last = data[1], 32, 1, False
    for _section in range(_MOST_SECTIONS):
        for _entry in range(left):
            if offset + 32 > SECTOR:
                break
            if data[offset] == 0x88:
                found[platform] = True
            offset += 32
        if last or offset + 32 > SECTOR or data[offset] not in (0x90, 0x91):
            break
        last, platform = data[offset] == 0x91, data[offset + 1]
        left = min(struct.unpack_from("<H", data, offset + 2)[0], SECTOR // 32)
        offset += 32
    return found[_X86], found[_EFI]


def _place_of_record(record: bytes) -> Place:
    sector, size = struct.unpack_from("<I4xI", record, 2)
    return Place(sector * SECTOR, size, bool(record[25] & 2))


def _walk(file: BinaryIO, root: Place, inner: str, what: str) -> Place | None:
    place = root
    for part in filter(None, inner.split("/")):
        found = _child(file, place, part, what) if place.directory else None
        if found is None:
            return None
        place = found
    return place


def _child(file: BinaryIO, directory: Place, name: str, what: str) -> Place | None:
    """Return the place of a name in a directory, by Rock Ridge's name or the short one; both without regard to case,
    as users read them off a listing."""
    if directory.size > LARGEST_DIRECTORY:
        raise ImageRefused(what, f"a directory in it has {directory.size} bytes", "It is damaged: get it anew")
    data = _read(file, directory.offset, directory.size)
    wanted, offset = name.lower(), 0
    while offset + 34 <= len(data):
        length = data[offset]
        if not length:
            # No record crosses the end of a sector.
            offset = (offset // SECTOR + 1) * SECTOR
            continue
        record = data[offset : offset + length]
        offset += length
        if len(record) < 34 or len(record) < 33 + record[32]:
            raise _damaged(what)
        if wanted in _names_of_record(record):
            if record[25] & 0x80:
                raise ImageRefused(what, f"{name} in it is in several parts", "No installer's kernel is that large")
            return _place_of_record(record)
    return None


def _names_of_record(record: bytes) -> set[str]:
    own = record[33 : 33 + record[32]].decode("latin-1").lower().split(";")[0]
    names = {own, own.rstrip(".")}
    # The name is padded to an even length; what follows is the system use area.
    offset, long = 33 + record[32] + (record[32] + 1) % 2, b""
    while offset + 5 <= len(record) and record[offset + 2] >= 4:
        length = record[offset + 2]
        if record[offset : offset + 2] == b"NM":
            long += record[offset + 5 : offset + length]
        offset += length
    return names | ({long.decode("utf-8", "replace").lower()} if long else set())


def _damaged(what: str) -> ImageRefused:
    return ImageRefused(what, "the ISO is damaged or cut off", "Get it anew")


# -- an archive behind an initrd --------------------------------------------------------------------------------------
def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a cpio archive (newc) of files in the root directory, readable by root alone, to be appended to an
    initrd: Linux unpacks what follows, too, if it begins at a multiple of four."""
    parts = []
    for inode, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        last = inode == len(files) + 1
        encoded = name.encode() + b"\0"
        fields = (0 if last else inode, 0 if last else 0o100600, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % 512)


def padding(size: int) -> bytes:
    """Return the bytes between an initrd of this size and an archive."""
    return bytes(-size % 512)


# -- a floppy ---------------------------------------------------------------------------------------------------------
_RESERVED, _FATS, _FAT_SECTORS, _ROOT_ENTRIES = 1, 2, 9, 224
_DATA = _RESERVED + _FATS * _FAT_SECTORS + _ROOT_ENTRIES * 32 // 512


def floppy(files: Mapping[str, bytes], label: str = "ANSWERS") -> bytes:
    """Return a floppy of 1.44 MB with these files, FAT12 with long names."""
    boot = bytearray(512)
    boot[0:3] = b"\xeb\x3c\x90"
    boot[3:11] = b"MSDOS5.0"
    struct.pack_into(
        "<HBHBHHBHHHII", boot, 11, 512, 1, _RESERVED, _FATS, _ROOT_ENTRIES, 2880, 0xF0, _FAT_SECTORS, 18, 2, 0, 0
    )
    struct.pack_into("<BBBI11s8s", boot, 36, 0, 0, 0x29, 0x20000101, _padded(label, 11), b"FAT12   ")
    boot[510:512] = b"\x55\xaa"
    clusters = [0xFF0, 0xFFF]
    root = _entry(_padded(label, 11), 0x08, 0, 0)
    data = bytearray()
    for number, (name, content_) in enumerate(files.items(), 1):
        sectors = -(-len(content_) // 512)
        first = len(clusters) if sectors else 0
        clusters += [len(clusters) + n + 1 for n in range(sectors - 1)] + ([0xFFF] if sectors else [])
        data += content_.ljust(sectors * 512, b"\0")
        stem, _dot, end = name.upper().rpartition(".")
        tail = f"~{number}"
        short = _padded((stem or end)[: 8 - len(tail)] + tail, 8) + _padded(end if stem else "", 3)
        root += _long_name(name, short) + _entry(short, 0x20, first, len(content_))
    if len(root) > _ROOT_ENTRIES * 32 or _DATA * 512 + len(data) > FLOPPY:
        raise ImageRefused("a floppy of the answers", f"they have {len(data)} bytes", "Give them on an ISO (way: iso)")
    table = bytearray(_FAT_SECTORS * 512)
    for index, value in enumerate(clusters):
        place = index + index // 2
        pair = struct.unpack_from("<H", table, place)[0]
        pair |= value << 4 if index % 2 else value
        struct.pack_into("<H", table, place, pair)
    whole = bytes(boot) + bytes(table) * _FATS + root.ljust(_ROOT_ENTRIES * 32, b"\0") + bytes(data)
    return whole.ljust(FLOPPY, b"\0")


def _padded(text: str, length: int) -> bytes:
    return text.upper().encode("ascii", "replace")[:length].ljust(length)


def _entry(short: bytes, attributes: int, cluster: int, size: int) -> bytes:
    # Dated 2000-01-01: a floppy is what it holds, not when it was made.
    return struct.pack("<11sBBBHHHHHHHI", short, attributes, 0, 0, 0, 0x2821, 0x2821, 0, 0, 0x2821, cluster, size)


def _long_name(name: str, short: bytes) -> bytes:
    checksum = 0
    for byte in short:
        checksum = ((checksum >> 1) | (checksum << 7 & 0x80)) + byte & 0xFF
    units = [*struct.unpack(f"<{len(name)}H", name.encode("utf-16-le")), 0]
    units += [0xFFFF] * (-len(units) % 13)
    if len(units) - 13 == len(name):  # it fits exactly, and then no end is written
        units = units[: len(name)]
    pieces = [units[start : start + 13] for start in range(0, len(units), 13)]
    found = b""
    for number, piece in reversed(list(enumerate(pieces, 1))):
        order = number | (0x40 if number == len(pieces) else 0)
        found += struct.pack("<B5HBBB6HH2H", order, *piece[:5], 0x0F, 0, checksum, *piece[5:11], 0, *piece[11:])
    return found
