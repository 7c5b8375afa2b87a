# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what format an image has, and refuses what no machine can have as its disk.

A format is found out once, when a file comes from a user. After that it is known, and qemu-img is always told: what
a guest could have written is never probed, since a guest can write a header that names a file of the host."""

from __future__ import annotations

import json
import os
import struct
from typing import Any, BinaryIO

from ..dataclass import dataclass
from ..errors import CommandFailed, ImageRefused, NoSpace
from ..host import command
from ..host.files import explained, remove_file
from ..model.disk import DISK_FORMATS, TAR, DiskFiles
from . import file_signatures, qcow2_header, qemu_img, tar_archive
from .final_names import HEAD
from .qcow2_header import open_binary
from .qemu_img import LONG_TIMEOUT

SECTOR = 512
FORMATS = DISK_FORMATS
# Bytes of a disk: beyond it numbers of bytes turn negative somewhere.
LARGEST = 1 << 60
_ISO_SECTOR = 2048
_ISO_DESCRIPTOR = 16 * _ISO_SECTOR


@dataclass(frozen=True)
class ImageFacts:
    """Says what an image file is.
    format: raw, qcow2 or tar
    virtual_size: bytes that a machine sees, or of the archive
    iso: whether it is an ISO 9660 (or UDF) file system
    backing_file: empty in every image that was not refused"""

    format: str
    virtual_size: int
    backing_file: str = ""
    encrypted: bool = False
    iso: bool = False


def inspect(
    path: str,
    format: str | None = None,
    what: str = "",
    deep: bool = True,
    encrypted: bool = False,
    meant: bool = False,
) -> ImageFacts:
    """Return what the file is. Raise ImageRefused if it can't be a disk, is damaged, or could read files of the host.
    format: what it is known to be; None reads its header, which is right only for a file that comes from a user
    what: how errors call the image ("image demo")
    deep: go through all tables of a qcow2, which nobody can without the key of an encrypted one
    encrypted: it may be encrypted, by LUKS
    meant: whatever has the signature of no disk is a raw disk, and nothing in it has to say so"""
    asked = what or f"image file {path}"
    if format == TAR:
        return ImageFacts(TAR, tar_archive.check(path, asked))
    with explained(path), open_binary(path) as file:
        found = probe(file) if format is None else format
        if meant and (" " in found or found == TAR):
            found = "raw"
        refuse_format(asked, found)
        iso = found == "raw" and file_signatures.is_iso(file)
        if found == "qcow2":
            crypt = _refuse_qcow2_header(asked, file, encrypted)
        else:
            crypt = False
            _refuse_truncated(asked, file, iso)
            if format is None and not meant and not file_signatures.is_raw_disk(path, file):
                looks = file_signatures.looks_like(file)
                raise ImageRefused(
                    asked, f"nothing in it says that it is a disk: {looks}", file_signatures.remedy_for_looks(looks)
                )
    facts = _info(asked, path, found, crypt)
    if found == "qcow2" and deep and not crypt:
        _check(asked, path)
    return ImageFacts(
        format=found,
        virtual_size=int(facts["virtual-size"]),
        backing_file=str(facts.get("backing-filename") or ""),
        encrypted=crypt,
        iso=iso,
    )


def probe(file: BinaryIO) -> str:
    """Return the format by the file's signature, as recognised.signature() calls it; raw where there is no signature.
    qemu-img could tell too, but opens files that some headers name."""
    return file_signatures.signature(file) or "raw"


def _info(asked: str, path: str, format: str, crypt: bool) -> dict[str, Any]:
    try:
        done = qemu_img.run("info", "--output=json", "-U", disk=DiskFiles(path, format), what=asked, closed=crypt)
        facts: dict[str, Any] = json.loads(done.stdout)
    except (CommandFailed, NoSpace) as error:
        # Nothing was written: what has no room is what its header claims.
        raise _damaged(asked, CommandFailed(error.asked, error.found)) from error
    data = (facts.get("format-specific") or {}).get("data") or {}
    if facts.get("backing-filename") or data.get("data-file"):
        raise _other_file(asked, "backing or data file", str(facts.get("backing-filename") or data.get("data-file")))
    return facts


def _check(asked: str, path: str) -> None:
    disk = DiskFiles(path, "qcow2")
    done = qemu_img.run("check", "--output=json", "-U", disk=disk, what=asked, timeout=LONG_TIMEOUT, check=False)
    # 3: leaked clusters, which waste room and hurt nobody.
    if done.returncode not in (0, 3):
        raise _damaged(asked, command.failure_of(done))


def _damaged(asked: str, error: Exception) -> Exception:
    if isinstance(error, NoSpace):
        return error
    found = error.found if isinstance(error, CommandFailed) else str(error)
    return ImageRefused(asked, f"it is damaged or truncated: {found}", "Get a whole copy of it and import that")


def refuse_format(asked: str, format: str) -> None:
    """Raise ImageRefused for what probe() found, where no machine can have it as it is."""
    if format == file_signatures.OVA or format in file_signatures.FOREIGN_FORMATS:
        found = f"its format is {file_signatures.FOREIGN_FORMATS[format]}"
        raise ImageRefused(asked, found, "Import it as an image (nebula_images), which makes a qcow2 of it")
    if format == TAR:
        remedy = f"{file_signatures.UNPACK}; if it is the root file system of a container, set format: tar"
        raise ImageRefused(asked, "it is a tar archive", remedy)
    if " " in format:
        raise ImageRefused(asked, f"it is {format}", file_signatures.remedy(format))
    if format not in FORMATS:
        raise ImageRefused(asked, f"its format is {format}", file_signatures.WHOLE)


def _refuse_qcow2_header(asked: str, file: BinaryIO, encrypted: bool) -> bool:
    """Raise ImageRefused for a header that no machine can have. Return whether the disk is encrypted, if it may be."""
    header = qcow2_header.Header(file)
    if not header.whole:
        raise ImageRefused(asked, "its qcow2 header is cut off", "Get a whole copy of it and import that")
    if header.has_backing:
        raise _other_file(asked, "backing file", header.backing)
    if header.size > LARGEST:
        raise ImageRefused(
            asked, f"it says that it is a disk of {header.size} bytes", "Get a whole copy of it and import that"
        )
    luks = header.crypt == qcow2_header.CRYPT_LUKS
    if header.crypt and not (luks and encrypted):
        raise ImageRefused(
            asked,
            "it is encrypted" if luks else "it is encrypted in a way that is broken (AES, not LUKS)",
            "Give luks_secret, the UUID of the libvirt secret that opens it"
            if luks
            else "Have whoever made it give a copy that is not encrypted, or by LUKS",
        )
    if header.incompatible & qcow2_header.DATA_FILE:
        raise _other_file(asked, "external data file", "")
    if header.incompatible & ~qcow2_header.KNOWN_FEATURES:
        raise ImageRefused(
            asked, "it has features that are not known here", "Convert it with an older qemu-img, where it was made"
        )
    if header.incompatible & qcow2_header.CORRUPT:
        raise ImageRefused(asked, "it is marked as corrupt", "Get a whole copy of it and import that")
    return bool(header.crypt)


def _other_file(asked: str, kind: str, name: str) -> ImageRefused:
    return ImageRefused(
        asked, f"it names another file, as its {kind}" + (f": {name!r}" if name else ""), file_signatures.WHOLE
    )


def _refuse_truncated(asked: str, file: BinaryIO, iso: bool) -> None:
    """Raise ImageRefused for a raw file that is shorter than the GPT, MBR or ISO file system in it says."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise ImageRefused(asked, "it is empty", "Get a whole copy of it and import that")
    claims = _claimed_by_iso(file) if iso else max(_claimed_by_gpt(file), _claimed_by_mbr(file))
    if claims > size:
        raise ImageRefused(
            asked,
            f"it is truncated: it has {size} bytes, its {'file system' if iso else 'partition table'} says {claims}",
            "Get a whole copy of it and import that",
        )


def refuse_part(asked: str, path: str, format: str, size: int) -> None:
    """Raise ImageRefused for a disk that was made of another hypervisor's, and whose partition table says that it is
    larger: each of several parts of a disk has a header of its own."""
    head = path + HEAD
    file = {"driver": "file", "filename": os.path.realpath(path)}
    below = {"driver": format, "file": file, **({"backing": None} if format == "qcow2" else {})}
    node = {"driver": "raw", "offset": 0, "size": 2 * SECTOR, "file": below}
    try:
        qemu_img.run_on_node("convert", "-q", "-O", "raw", path=path, node=node, new=head)
        with explained(head), open_binary(head) as sectors:
            claims = max(_claimed_by_gpt(sectors), _claimed_by_mbr(sectors))
    finally:
        remove_file(head)
    if claims > size:
        raise ImageRefused(
            asked,
            f"it is truncated, or a part of a disk: it has {size} bytes, its partition table says {claims}",
            "Get a whole copy of it, or export the disk as one file, where it was made",
        )


def _claimed_by_iso(file: BinaryIO) -> int:
    file.seek(_ISO_DESCRIPTOR)
    descriptor = file.read(_ISO_SECTOR)
    if len(descriptor) < 132 or descriptor[:6] != b"\1CD001":
        return 0
    blocks, block_size = struct.unpack("<I", descriptor[80:84])[0], struct.unpack("<H", descriptor[128:130])[0]
    return int(blocks * block_size)


def _claimed_by_gpt(file: BinaryIO) -> int:
    file.seek(SECTOR)
    header = file.read(92)
    if len(header) < 92 or header[:8] != b"EFI PART":
        return 0
    # Its second copy is in the disk's last sector.
    return int((struct.unpack("<Q", header[32:40])[0] + 1) * SECTOR)


def _claimed_by_mbr(file: BinaryIO) -> int:
    file.seek(0)
    sector = file.read(SECTOR)
    # A file system without a partition table has a boot sector too, with code where the table would be.
    if sector[510:] != b"\x55\xaa" or sector[3:11] == b"NTFS    " or b"FAT" in (sector[54:57], sector[82:85]):
        return 0
    end = 0
    for offset in range(446, 510, 16):
        status, kind, start, length = struct.unpack("<B3xB3xII", sector[offset : offset + 16])
        if status not in (0, 0x80) or (kind == 0) != (length == 0):
            return 0
        # 0xEE protects a GPT, and often claims more than there is.
        if kind not in (0, 0xEE):
            end = max(end, start + length)
    return end * SECTOR
