# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports disks in the formats of other hypervisors (VMDK, VHD, VHDX, VDI, and an OVA with such a disk in it) as qcow2
or raw, by qemu-img.

Their headers are read here first: a header that says that its content, or what it rests on, is in another file is
refused. Then qemu-img is told the format, and where in the file the disk lies, and sees nothing but that file.

The fields are those of: VMware's "Virtual Disk Format 5.0", Microsoft's "Virtual Hard Disk Image Format
Specification" and [MS-VHDX], VirtualBox's VDICore.h, DMTF's DSP0243 (OVF)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import BinaryIO

from ..dataclass import dataclass
from ..errors import CommandFailed, ImageRefused
from ..host.files import NEW_FILE, explained, remove_file
from ..printable import printable
from . import datastore_layout, decompression, file_signatures, qemu_img, tar_archive
from .file_signatures import FOREIGN_FORMATS, OVA, SECTOR, VDI, VHDX, VMDK, VPC
from .final_names import MEMBER
from .qcow2_header import open_binary
from .sparse_file import SparseFile, too_large
from .tar_archive import Readable

_WHOLE = "Export it as one file that stands alone, where it was made"
_AGAIN = "Get a whole copy of it and import that"
# VMDK: bytes of a descriptor that are read, as QEMU does; where one lies that QEMU reads whatever the header says.
_LONGEST_DESCRIPTOR, _DESCRIPTOR = 20 * SECTOR, SECTOR
_KINDS = ("monolithicsparse", "streamoptimized")
_NO_PARENT = "ffffffff"
# VHD: types of its footer; who shows a machine as many sectors as its cylinders have; the most that these can say, and
# what it has then and QEMU takes from its size.
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
_BY_CYLINDERS = (b"vpc ", b"qemu")
_MOST_BY_CYLINDERS = 65535 * 16 * 255
# VHDX.
_REGIONS, _METADATA = 192 * 1024, uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_PARAMETERS, _SIZE = (
    uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b"),
    uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8"),
)
_HAS_PARENT = 2
# QEMU's words for what is missing at the end, and for what was not written to its place.
_BEYOND = "points after EOF"
_LOG = "contains a log that needs to be replayed"
# Entries of an OVA that are looked at, and bytes of its manifest.
_MOST_MEMBERS, _LONGEST_MANIFEST = 1000, 1024 * 1024
_LISTED = 20
# Of a disk in several files: the number of a part.
_PART = re.compile(r"(.+)\.[0-9]{9}", re.DOTALL)
_PACKED_NAMES = (".vmdk", ".vhd", ".vhdx", ".vdi")
_SUM = re.compile(r"(SHA1|SHA256|SHA384|SHA512)\s*\((.+)\)\s*=\s*([0-9A-Fa-f]{40,128})\s*", re.IGNORECASE)
_PIECE = 1024 * 1024


@dataclass(frozen=True)
class Foreign:
    """Describes a disk of another hypervisor.
    format: of FOREIGN_FORMATS, without OVA
    offset, length: bytes of the file that are the disk's
    size: bytes that a machine sees
    member: its name in an OVA
    packed: whether it is compressed there by gzip; then format and size are not known yet
    digest: (algorithm, hex) that the OVA's manifest says of it
    by_cylinders: whether size is what the cylinders of a VHD say"""

    format: str
    offset: int
    length: int
    size: int = 0
    member: str = ""
    packed: bool = False
    digest: tuple[str, str] | None = None
    by_cylinders: bool = False


class _Part:
    """Is a part of a file, which is read like a file."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._ints = file, offset, length, 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self._ints = place + (self._length if whence == os.SEEK_END else 0)
        return self._ints

    def read(self, count: int) -> bytes:
        self._file.seek(self._offset + self._ints)
        data = self._file.read(max(0, min(count, self._length - self._ints)))
        self._ints += len(data)
        return data


def find(path: str, what: str, member: str = "") -> Foreign | None:
    """Return the disk that a file of such a format is, or holds; None for a file of no such format. Raise ImageRefused
    if it is damaged, needs other files, or holds no disk, or several of which `member` names none."""
    with explained(path), open_binary(path) as file:
        kind = file_signatures.signature(file)
        if kind == OVA:
            return _in_ova(file, what, member)
        if member:
            raise ImageRefused(f"{what}: member {member}", "its file is no OVA", "Leave member out")
        return _disk(file, 0, file.seek(0, os.SEEK_END), kind, what) if kind in FOREIGN_FORMATS else None


def convert(
    foreign: Foreign, path: str, new: str, format: str, max_size: int, what: str, say: Callable[[str], None] | None
) -> int:
    """Write the disk as `new`, in our format. Return the bytes that a machine sees, max_size at most."""
    with _disk_as_it_is(foreign, path, new, max_size, what) as (source, disk):
        if disk.size > max_size:
            raise too_large(what, max_size, disk.size)
        if say is not None:
            say(f"is converted from {FOREIGN_FORMATS[disk.format]}")
        node = _node(source, disk)
        try:
            if disk.format == VMDK:
                # Of what its tables name beyond the file's end, QEMU reads zeroes without a word.
                qemu_img.run_on_node("check", path=source, node=node, long=True)
            room = json.loads(
                qemu_img.run_on_node("measure", "--output=json", "-O", format, path=source, node=node).stdout
            )
            datastore_layout.require_space(os.path.dirname(new), int(room["required"]), f"{what}: converting it")
            arguments = ["-q", "-S", "4k", "-O", format]
            qemu_img.run_on_node("convert", *arguments, path=source, node=node, new=new, long=True)
        except CommandFailed as error:
            raise _unreadable(what, disk, error.found) from error
    return disk.size


def _unreadable(what: str, disk: Foreign, found: str) -> ImageRefused:
    """Return an error for a disk that QEMU can't read; QEMU's own error names our file and a wrong remedy."""
    reason = (found.partition("}': ")[2] or found).partition("\n")[0]
    if _BEYOND in found:
        reason = "it is truncated: its tables name what is beyond the end of the file"
    if _LOG in reason:
        return ImageRefused(
            what,
            f"its {FOREIGN_FORMATS[disk.format]} was not closed: its last changes are in a log beside the disk",
            "Shut down the machine that has it, or use Mount-VHD and Dismount-VHD there; then give it again",
        )
    return ImageRefused(what, f"its {FOREIGN_FORMATS[disk.format]} can't be read: {reason}", _AGAIN)


def _node(path: str, disk: Foreign) -> dict[str, object]:
    file: dict[str, object] = {"driver": "file", "filename": os.path.realpath(path)}
    if disk.member and not disk.packed:
        file = {"driver": "raw", "offset": disk.offset, "size": disk.length, "file": file}
    node: dict[str, object] = {"driver": disk.format, "file": file}
    if disk.format == VPC:
        # Who made it does not tell QEMU which of the two sizes counts: the smaller one may end within a partition.
        node["force_size_calc"] = "chs" if disk.by_cylinders else "current_size"
    return {**node, "backing": None} if disk.format == VMDK else node


@contextlib.contextmanager
def _disk_as_it_is(foreign: Foreign, path: str, new: str, max_size: int, what: str) -> Iterator[tuple[str, Foreign]]:
    """Yield the file in which the disk lies as it is; what the manifest says of it was found to be true."""
    with explained(path), open_binary(path) as file:
        part = _Part(file, foreign.offset, foreign.length)
        if foreign.digest:
            _check(part, foreign, what)
        if not foreign.packed:
            yield path, foreign
            return
        unpacked = new + MEMBER
        try:
            _unpack(part, unpacked, max_size, what)
            with open_binary(unpacked) as disk:
                kind = file_signatures.signature(disk)
                if kind not in FOREIGN_FORMATS or kind == OVA:
                    raise _no_disk(what, [foreign.member])
                found = _disk(disk, 0, disk.seek(0, os.SEEK_END), kind, what)
            yield unpacked, found
        finally:
            remove_file(unpacked)


def _unpack(part: _Part, path: str, max_size: int, what: str) -> None:
    part.seek(0)
    os.close(os.open(path, NEW_FILE | os.O_CLOEXEC, 0o600))
    with (
        contextlib.closing(decompression.unpack("gz", _pieces(part), what)) as blocks,
        SparseFile(path, what, max_size, hashed=False) as file,
    ):
        for block in blocks:
            file.write(block)
        file.finish()


def _pieces(part: _Part) -> decompression.Blocks:
    while True:
        piece = part.read(_PIECE)
        if not piece:
            return
        yield piece


def _check(part: _Part, foreign: Foreign, what: str) -> None:
    algorithm, wanted = foreign.digest or ("", "")
    hash = hashlib.new(algorithm, usedforsecurity=False)
    part.seek(0)
    for piece in _pieces(part):
        hash.update(piece)
    if hash.hexdigest() != wanted:
        raise ImageRefused(
            f"{what}: {printable(foreign.member)}",
            f"the OVA's manifest says {algorithm}:{wanted}, and it has {hash.hexdigest()}",
            _AGAIN,
        )


# --- an OVA -----------------------------------------------------------------------------------------------------------


def _in_ova(file: BinaryIO, what: str, member: str) -> Foreign:
    found: list[Foreign] = []
    names: list[str] = []
    sparse: list[str] = []
    sums: dict[str, tuple[str, str]] = {}
    for entry in tar_archive.entries(file, file.seek(0, os.SEEK_END), what):
        name = _member_name(entry.name.decode("utf-8", "backslashreplace"))
        names.append(name)
        if len(names) > _MOST_MEMBERS:
            raise ImageRefused(
                what, f"it holds more than {_MOST_MEMBERS} files", "Make the OVA anew, with its disks alone"
            )
        part = _Part(file, entry.place, entry.size)
        if entry.sparse:
            sparse.append(name)
        elif entry.kind not in (b"0", b"\0", b"7"):
            continue
        elif name.lower().endswith(".mf"):
            sums.update(_read_manifest(part.read(_LONGEST_MANIFEST)))
        else:
            kind = file_signatures.signature(part)
            if kind in FOREIGN_FORMATS and kind != OVA:
                found.append(Foreign(kind, entry.place, entry.size, member=name))
            elif decompression.detect(_magic(part)) == "gz" and _holds_disk(part, name, what):
                found.append(Foreign("", entry.place, entry.size, member=name, packed=True))
    member = _member_name(member)
    if sparse and (not found or member in sparse):
        raise ImageRefused(
            what,
            f"its OVA holds files that tar packed with their holes: {_listed(sparse)}",
            "Make it anew without tar's option --sparse",
        )
    chosen = _choose(found, names, what, member)
    if _PART.fullmatch(chosen.member):
        raise ImageRefused(
            what,
            f"its OVA holds its disk in several files, of which {printable(chosen.member)} is one",
            "Export it anew, with each disk as one file (ovftool without --chunkSize)",
        )
    digest = sums.get(chosen.member)
    if chosen.packed:
        return Foreign("", chosen.offset, chosen.length, member=chosen.member, packed=True, digest=digest)
    disk = _disk(_Part(file, chosen.offset, chosen.length), chosen.offset, chosen.length, chosen.format, what)
    return dataclasses.replace(disk, member=chosen.member, digest=digest)


def _member_name(name: str) -> str:
    """Return a member's name, as a manifest has it."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _holds_disk(part: _Part, name: str, what: str) -> bool:
    """Return whether a disk is packed in a file by gzip: by the content's first bytes, or by its name, since a VHD may
    have its signature at the end."""
    if name.lower().removesuffix(".gz").endswith(_PACKED_NAMES):
        return True
    part.seek(0)
    try:
        with contextlib.closing(decompression.unpack("gz", _pieces(part), what)) as blocks:
            head = next(blocks, b"")
    except ImageRefused:
        return False
    return file_signatures.signature(io.BytesIO(head)) in FOREIGN_FORMATS


def _magic(part: _Part) -> bytes:
    part.seek(0)
    return part.read(decompression.MAGIC_LENGTH)


def _choose(found: list[Foreign], names: list[str], what: str, member: str) -> Foreign:
    if member:
        for each in found:
            if each.member == member:
                return each
        raise ImageRefused(
            f"{what}: member {member}",
            f"its OVA has no disk of that name; it has {_listed([each.member for each in found] or names)}",
            "Give the name of one of its disks",
        )
    if not found:
        raise _no_disk(what, names)
    if len(found) > 1:
        raise ImageRefused(
            what,
            f"its OVA holds {len(found)} disks: {_listed([each.member for each in found])}",
            "Register an image for each, with member: NAME",
        )
    return found[0]


def _no_disk(what: str, names: list[str]) -> ImageRefused:
    return ImageRefused(
        what,
        f"its OVA holds no disk in VMDK, VHD, VHDX or VDI; it holds {_listed(names)}",
        "Export it anew with its disks in one of these, or unpack it, and import the disk that is in it",
    )


def _listed(names: list[str]) -> str:
    shown = [printable(name[:100]) for name in names[:_LISTED]]
    return ", ".join(shown) + (" …" if len(names) > _LISTED else "")


def _read_manifest(text: bytes) -> Iterator[tuple[str, tuple[str, str]]]:
    for line in text.decode("utf-8", "backslashreplace").splitlines():
        found = _SUM.fullmatch(line)
        if found:
            yield _member_name(found[2]), (found[1].lower(), found[3].lower())


# --- headers ----------------------------------------------------------------------------------------------------------


def _disk(file: Readable, offset: int, length: int, kind: str, what: str) -> Foreign:
    try:
        if kind == VPC:
            size, by_cylinders = _vhd_size(file, what)
        else:
            size, by_cylinders = {VMDK: _vmdk_size, VHDX: _vhdx_size, VDI: _vdi_size}[kind](file, what), False
    except struct.error:
        raise ImageRefused(what, f"its header of {FOREIGN_FORMATS[kind]} is cut off", _AGAIN) from None
    if not size:
        raise ImageRefused(what, f"its header of {FOREIGN_FORMATS[kind]} says that it is a disk of no bytes", _AGAIN)
    return Foreign(kind, offset, length, size, by_cylinders=by_cylinders)


def _ints(file: Readable, place: int, form: str) -> tuple[int, ...]:
    return struct.unpack(form, _read(file, place, struct.calcsize(form)))


def _read(file: Readable, place: int, count: int) -> bytes:
    """Read at a place. Near the end there are fewer bytes; beyond it none, however far."""
    if place > file.seek(0, os.SEEK_END):
        return b""
    file.seek(place)
    return file.read(count)


def _vmdk_size(file: Readable, what: str) -> int:
    (capacity,) = _ints(file, 12, "<Q")
    place, sectors = _ints(file, 28, "<QQ")
    if not capacity:
        # QEMU would open the files that its descriptor names.
        raise _needs_others(what, "VMDK", "its content is in other files, which its descriptor names")
    for begin, length in (
        (_DESCRIPTOR, _LONGEST_DESCRIPTOR),
        (place * SECTOR, min(sectors * SECTOR, _LONGEST_DESCRIPTOR)),
    ):
        if begin > 0:
            _refuse_descriptor(_read(file, begin, length), what)
    return int(capacity * SECTOR)


def _refuse_descriptor(data: bytes, what: str) -> None:
    """Raise ImageRefused for a descriptor that needs other files. Where there is none, something else may be there."""
    text = data.decode("latin-1")
    values = {
        key.lower(): value.strip(' "').lower()
        for key, value in re.findall(r"(?im)^(\w{1,64})\s*=\s*([^\r\n\0]*)", text)
    }
    extents = re.findall(r"(?im)^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)", text)
    if values.get("parentcid", _NO_PARENT) != _NO_PARENT or "parentfilenamehint" in values:
        raise _needs_others(what, "VMDK", "it holds what differs from another disk (a snapshot)")
    kind = values.get("createtype", _KINDS[0])
    if kind not in _KINDS or len(extents) > 1 or any(each.lower() != "sparse" for each in extents):
        raise _needs_others(what, "VMDK", f"it is of the type {printable(kind[:40])}, of several files")


def _vhd_size(file: Readable, what: str) -> tuple[int, bool]:
    """Return the disk's size, and whether its cylinders say it."""
    begin = 0 if _read(file, 0, 8) == b"conectix" else file_signatures.vhd_footer(file)
    (size,), (kind,) = _ints(file, begin + 48, ">Q"), _ints(file, begin + 60, ">I")
    cylinders, heads, sectors = _ints(file, begin + 56, ">HBB")
    if kind == _DIFFERENCING:
        raise _needs_others(what, "VHD", "it holds what differs from another disk (a snapshot)")
    if kind not in (_FIXED, _DYNAMIC):
        raise ImageRefused(what, f"its VHD is of the type {kind}, which is not known", _AGAIN)
    blocks = cylinders * heads * sectors
    if _read(file, begin + 28, 4) in _BY_CYLINDERS and 0 < blocks < _MOST_BY_CYLINDERS:
        return blocks * SECTOR, True
    return size, False


def _vdi_size(file: Readable, what: str) -> int:
    (kind,), (size,) = _ints(file, 0x4C, "<I"), _ints(file, 0x170, "<Q")
    if kind not in (1, 2) or _read(file, 0x1A8, 32).strip(b"\0"):
        raise _needs_others(what, "VDI", "it holds what differs from another disk (a snapshot)")
    (begin,), (block,), (blocks,) = _ints(file, 0x158, "<I"), _ints(file, 0x178, "<I"), _ints(file, 0x184, "<I")
    there, wanted = file.seek(0, os.SEEK_END), begin + blocks * block
    if there < wanted:
        # QEMU would read zeroes without a word.
        raise ImageRefused(what, f"it is truncated: it has {there} bytes, its VDI says {wanted}", _AGAIN)
    return size


def _vhdx_size(file: Readable, what: str) -> int:
    metadata = _entry(file, _REGIONS, b"regi", 8, 16, _METADATA, "<QI")
    if metadata is None:
        raise ImageRefused(what, "its VHDX has no metadata", _AGAIN)
    found = {}
    for key, form in ((_PARAMETERS, "<II"), (_SIZE, "<Q")):
        item = _entry(file, metadata, b"metadata", 10, 32, key, "<II")
        if item is None:
            raise ImageRefused(what, "its VHDX has no metadata", _AGAIN)
        found[key] = _ints(file, metadata + item, form)
    if found[_PARAMETERS][1] & _HAS_PARENT:
        raise _needs_others(what, "VHDX", "it holds what differs from another disk (a snapshot)")
    return found[_SIZE][0]


def _entry(
    file: Readable, table: int, magic: bytes, count_at: int, first: int, wanted: uuid.UUID, form: str
) -> int | None:
    """Return the offset that an entry of 32 bytes of a table has."""
    head = _read(file, table, first + 2047 * 32)
    if not head.startswith(magic):
        return None
    (count,) = struct.unpack("<H", head[count_at : count_at + 2])
    for number in range(min(count, 2047)):
        entry = head[first + number * 32 : first + number * 32 + 32]
        if len(entry) == 32 and entry[:16] == wanted.bytes_le:
            return int(struct.unpack(form, entry[16 : 16 + struct.calcsize(form)])[0])
    return None


def _needs_others(what: str, format: str, found: str) -> ImageRefused:
    return ImageRefused(what, f"its format is {format}, and {found}", _WHOLE)
