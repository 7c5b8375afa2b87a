# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file that should be a disk is: by the signatures of disk formats, archives and compressors; and of one that
has none of these, whether anything says that it is a raw disk, or what it looks like otherwise.

A raw disk has no signature of its own. What has no partition table, no boot code, no file system and no signature of a
volume may be anything: a server's error page, a list of checksums, an archive of a kind that is not known here.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO, Protocol

from ..host import command, sandbox
from ..host.sandbox import READ
from ..model.disk import TAR
from ..printable import printable

SECTOR = 512
OVA, VPC, QCOW = "ova", "vpc", "qcow"
QCOW2_MAGIC = b"QFI\xfb"
# Bytes that are read of a file's beginning, and those of them that are looked at as text.
HEAD = 64 * 1024
_TEXT = 4096
_PIECE = 1024 * 1024
_SECONDS = 60.0
# blkid: something is there; it found nothing; more than one kind of thing is there.
_FOUND, _AMBIVALENT = 0, 8
_ISO_DESCRIPTOR = 32 * 1024

# Magic at the start of a file → the format, by QEMU's name for it.
_DISKS = (
    (b"KDMV", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", VPC),
    (b"QED\0", "qed"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image", "bochs"),
)
_VDI, _VDI_AT = b"\x7f\x10\xda\xbe", 0x40
_TAR_AT = 257
# Archives of files, one of which may be the disk; and what holds a disk in a form that QEMU does not read, or reads
# from other files. What it is, in words, and what to do.
UNPACK = "Unpack it, and import the disk that is in it"
WHOLE = "Export it as one file, qcow2 or raw, where it was made: what converts it elsewhere reads whatever it names"
_OTHERS = (
    (b"PK\3\4", "a zip archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!", "a rar archive", UNPACK),
    (b"MSCF", "a cabinet of Windows", UNPACK),
    (
        b"MSWIM\0\0\0",
        "a wim archive of Windows",
        "Install Windows from its ISO, or import the disk of a machine that has it",
    ),
    (b"xar!", "a xar archive", UNPACK),
    (b"!<arch>\n", "a package, or an archive of ar", UNPACK),
    (b"\xed\xab\xee\xdb", "a package of rpm", UNPACK),
    (b"070701", "a cpio archive", UNPACK),
    (b"070702", "a cpio archive", UNPACK),
    (b"070707", "a cpio archive", UNPACK),
    (b"VMA\0", "a VMA, the backup of a machine", "Have vma extract its disks, and import these"),
    (b"\x3a\xff\x26\xed", "a sparse image of Android", "Have simg2img make a disk of it, and import that"),
    (b"partclone-image", "a backup of partclone", "Have partclone restore it to a disk, and import that"),
    (b"QEVM", "the state of a machine, saved by QEMU", "Import the machine's disk"),
    (b"LibvirtQemudSave", "the state of a machine, saved by libvirt", "Import the machine's disk"),
    (
        b"# Disk DescriptorFile",
        "the descriptor of a VMDK, which names the files that have its content",
        "Give the file that has the content (NAME-flat.vmdk is a raw disk), or export the disk as one file",
    ),
    (b"COWD", "a part of a VMDK of ESX", "Export the disk as one file, where it was made"),
)
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop"),
    (b"LZIP", "lzip"),
    (b"\xff\6\0\0sNaPpY", "snappy"),
)
# So short, or so common, that a disk may begin with them by chance: looked at where nothing says that it is one.
_WEAK = (
    (b"\x5d\0\0", "compressed by lzma"),
    (b"\x1f\x9d", "compressed by compress"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program (of Windows or UEFI)"),
    (b"%PDF-", "a document (PDF)"),
    (b"\x89PNG\r\n", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"\xd0\xcf\x11\xe0", "a document or package of Windows"),
    (b"SQLite format 3\0", "a database (SQLite)"),
    (b"\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0", "an image of a CD with its raw sectors (BIN)"),
    (b"\x99\1", "a key or signature (OpenPGP)"),
    (b"\x85\1", "encrypted (OpenPGP)"),
    (b"Salted__", "encrypted (OpenSSL)"),
    (b"age-encryption.org/", "encrypted (age)"),
)
# At the end of an image of macOS' Disk Utility.
_UDIF, _UDIF_LENGTH = b"koly", 512
_DMG = "an image of macOS (UDIF, .dmg)"
_SUM = re.compile(r"(\\?[0-9A-Fa-f]{32,128} [ *]\S.*|[A-Z0-9-]{2,12} \(.+\) = [0-9A-Fa-f]{32,128})")
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,200})", re.IGNORECASE)


class Readable(Protocol):
    """A file, or a part of one."""

    def seek(self, place: int, whence: int = ..., /) -> int: ...

    def read(self, count: int, /) -> bytes: ...


def signature(file: Readable) -> str:
    """What the file is, where a signature says it: a disk's format by QEMU's name, TAR or OVA, or in words (with
    blanks, see remedy()); "" if there is none."""
    head = _head(file)
    if head[:4] == QCOW2_MAGIC:
        version = int.from_bytes(head[4:8].ljust(4, b"\xff"), "big")
        return "qcow2" if version in (2, 3) else QCOW
    if head[_VDI_AT : _VDI_AT + 4] == _VDI:
        return "vdi"
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return OVA if head[:100].rstrip(b"\0").lower().endswith(b".ovf") else TAR
    for magic, name in (*_DISKS, *((magic, name) for magic, name, _remedy in _OTHERS)):
        if head.startswith(magic):
            return name
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            return f"a file that is compressed by {name}"
    if _at_end(file, SECTOR).startswith(b"conectix"):
        # One of a fixed size is the disk's bytes, and a footer.
        return VPC
    if _at_end(file, _UDIF_LENGTH).startswith(_UDIF):
        return _DMG
    return ""


def remedy(words: str) -> str:
    """What to do with what signature() has words for."""
    return WHOLE if words == _DMG else next((remedy for _magic, name, remedy in _OTHERS if name == words), UNPACK)


def is_iso(file: Readable) -> bool:
    file.seek(_ISO_DESCRIPTOR + 1)
    return file.read(5) in (b"CD001", b"BEA01")


def says_disk(path: str, file: BinaryIO) -> bool:
    """Whether anything in a file that has no signature() says that it is a raw disk, or it is empty."""
    head = _head(file)
    if head[510:512] == b"\x55\xaa" or any(head[at : at + 8] == b"EFI PART" for at in (512, 1024, 2048, 4096)):
        return True
    return is_iso(file) or _is_known(path) or _is_zero(file)


def _is_known(path: str) -> bool:
    """Whether blkid finds a partition table, a file system, or the signature of a volume."""
    real = os.path.realpath(path)
    done = sandbox.run(["blkid", "--probe", "--output", "value", real], {real: READ}, timeout=_SECONDS, check=False)
    if done.returncode not in (_FOUND, 2, _AMBIVALENT):
        raise command.failure(done)
    return done.returncode != 2


def _is_zero(file: BinaryIO) -> bool:
    end = file.seek(0, os.SEEK_END)
    at = 0
    while at < end:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:
            # Nothing but a hole follows.
            return True
        hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
        while at < hole:
            piece = os.pread(file.fileno(), min(_PIECE, hole - at), at)
            if piece.count(0) != len(piece):
                return False
            if not piece:
                return True
            at += len(piece)
    return True


def looks_like(file: Readable) -> str:
    """In words, what a file is that nothing says to be a disk."""
    head = _head(file)
    text = _as_text(head[:_TEXT])
    if text is not None:
        return _kind_of_text(text)
    for magic, name in _WEAK:
        if head.startswith(magic):
            return f"it looks like {name}" if name.startswith("a") else f"it is {name}"
    return f"its first bytes are {head[:8].hex(' ')}"


def _kind_of_text(text: str) -> str:
    words = text.lstrip("\ufeff \t\r\n")
    lower = words.lower()
    title = _TITLE.search(words)
    if lower.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in lower[:1024]:
        named = f", with the title '{printable(' '.join(title[1].split()))}'" if title else ""
        return f"it is a page of HTML{named}: a server may have sent it in place of the file"
    if lower.startswith(("<?xml", "<error")):
        return "it is XML: a server may have sent it in place of the file"
    lines = [line for line in words.splitlines() if line.strip()]
    if words.startswith("-----BEGIN PGP"):
        return "it is text: a signature, or what is signed"
    if lines and all(_SUM.fullmatch(line.strip()) for line in lines[:3]):
        return "it is a list of checksums"
    if words[:1] in "{[":
        return "it is JSON"
    first = printable(lines[0].strip()[:60]) if lines else ""
    return f"it is text, and begins with '{first}'" if first else "it is text"


def _as_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[: len(head) // 2 * 2].decode("utf-16", "replace")
    else:
        # A character may be cut at the end.
        text = head.decode("utf-8", "surrogateescape")
        if any("\udc80" <= char <= "\udcff" for char in text[:-3]):
            return None
    return text if text and all(char >= " " or char in "\t\n\r\f\x1b" for char in text) else None


def _head(file: Readable) -> bytes:
    file.seek(0)
    return file.read(HEAD)


def _at_end(file: Readable, length: int) -> bytes:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - length))
    return file.read(16)
