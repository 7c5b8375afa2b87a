# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognises what a file that should be a disk is: by the signatures of disk formats, archives and compressors; and
without one of these, whether anything says that it is a raw disk, or what it looks like otherwise.

A raw disk has no signature of its own. What has no partition table, boot code, file system or signature of a volume
may be anything: a server's error page, a list of checksums, an archive of a kind that is not known here."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from ..errors import ImageRefused
from ..host import command, sandbox
from ..host.sandbox import READ
from ..model.disk import TAR
from ..printable import ONE_LINE, printable
from . import tar_archive
from .tar_archive import Readable

SECTOR = 512
OVA, VPC, QCOW, VMDK, VHDX, VDI = "ova", "vpc", "qcow", "vmdk", "vhdx", "vdi"
# Formats of other hypervisors by QEMU's name → as people call them (foreign_disks.py).
FOREIGN_FORMATS = {VMDK: "VMDK", VPC: "VHD", VHDX: "VHDX", VDI: "VDI", OVA: "OVA"}
QCOW2_MAGIC = b"QFI\xfb"
# Bytes that are read of a file's beginning, and those of them that are looked at as text.
HEAD = 64 * 1024
_TEXT = 4096
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8"),
)
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
# A kernel of x86 begins with what was once the boot code of a floppy disk, and has its mark.
_KERNEL, _KERNEL_AT = b"HdrS", 514
_KERNEL_WORDS = "a kernel of Linux"
# Of a tar archive: entries that are looked at for an OVF.
_MOST_ENTRIES = 1000
# Of a VMDK's descriptor, which may begin with blanks or a byte order mark, or have two bytes for each character.
_DESCRIPTOR_WORDS = "the descriptor of a VMDK, which names the files that have its content"
# Archives of files, one of which may be the disk; and what holds a disk in a form that QEMU does not read, or reads
# from other files. What it is, in words, and what to do.
UNPACK = "Unpack it, and import the disk that is in it"
WHOLE = "Export it as one file, qcow2 or raw, where it was made: what converts it elsewhere reads whatever it names"
_OTHERS = (
    (b"PK\3\4", "a zip archive", UNPACK),
    (b"PK\5\6", "a zip archive", UNPACK),
    (b"PK\7\x08", "a zip archive", UNPACK),
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
    (b"PaRtImAgE-VoLuMe", "a backup of partimage", "Have partimage restore it to a disk, and import that"),
    (b"\0ntfsclone-image", "a backup of ntfsclone", "Have ntfsclone restore it to a disk, and import that"),
    (b"FsArCh", "an archive of fsarchiver", "Have fsarchiver restore it to a disk, and import that"),
    (b"EVF\x09\r\n\xff\0", "an image of EnCase (EWF)", "Have ewfexport make a raw disk of it, and import that"),
    (b"EVF2\r\n\x81\0", "an image of EnCase (EWF)", "Have ewfexport make a raw disk of it, and import that"),
    (b"AFF10\r\n\0", "an image of AFF", "Have affconvert make a raw disk of it, and import that"),
    (b"btrfs-stream\0", "what btrfs send wrote", "Have btrfs receive it on a disk, and import that"),
    (b"rbd image v2\n", "an export of Ceph with its snapshots", "Export it as a raw disk (rbd export)"),
    (b"rbd diff v", "a difference between two states of a disk of Ceph", "Export it as a raw disk (rbd export)"),
    (b"ANDROID!", "a boot image of Android", "Import the machine's disk"),
    (b"CrAU", "an update of Android", "Import the disk that it is for"),
    (b"QEVM", "the state of a machine, saved by QEMU", "Import the machine's disk"),
    (b"LibvirtQemudSave", "the state of a machine, saved by libvirt", "Import the machine's disk"),
    (b"LinuxGuestRecord", "the state of a machine, saved by Xen", "Import the machine's disk"),
    (b"\xd0\xbe\xd2\xbe", "the state of a machine, saved by VMware", "Import the machine's disk"),
    (b"\xd2\xbe\xd2\xbe", "the state of a machine, saved by VMware", "Import the machine's disk"),
    (b"COWD", "a part of a VMDK of ESX", "Export the disk as one file, where it was made"),
    (b"\xbe\xba\xfe\xca\0\0\0\0", "a part of a VMDK of ESX", "Export the disk as one file, where it was made"),
    (
        b"#!/bin/sh\n#V2.0 Format",
        "an image of cloop",
        "Have extract_compressed_fs make a raw disk of it, and import that",
    ),
    (b"encrcdsa", "an encrypted image of macOS", WHOLE),
    (b"CISO", "a compressed image of a CD (CSO)", UNPACK),
    (b"IsZ!", "a compressed image of a CD (ISZ)", UNPACK),
    (b"DAA\0", "a compressed image of a CD (DAA)", UNPACK),
)
# The same, of what is known by more than its first bytes.
_REMEDIES = {
    _DESCRIPTOR_WORDS: "Give the file that has the content (NAME-flat.vmdk is a raw disk), or export the disk as one "
    "file",
    _KERNEL_WORDS: "Give the disk that it starts, or register it with type: KERNEL; if it is a raw disk all the same, "
    "set format: raw",
}
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
    (b"LRZI", "lrzip"),
    (b"RZIP", "rzip"),
    (b"7kSt", "zpaq"),
    (b"zPQ", "zpaq"),
    (b"bvx2", "lzfse"),
)
# So short, or so common, that a disk may begin with them by chance: looked at where nothing says that it is one.
_WEAK = (
    (b"\x5d\0\0", "compressed by lzma"),
    (b"\x1f\x9d", "compressed by compress"),
    (b"\x1f\x1e", "compressed by pack"),
    (b"\x78\x01", "compressed by zlib"),
    (b"\x78\x5e", "compressed by zlib"),
    (b"\x78\x9c", "compressed by zlib"),
    (b"\x78\xda", "compressed by zlib"),
    (b"\xc7\x71", "an archive of cpio"),
    (b"\x71\xc7", "an archive of cpio"),
    (b"\x60\xea", "an archive of arj"),
    (b"ZOO ", "an archive of zoo"),
    (b"SIT!", "an archive of StuffIt"),
    (b"\x7fELF", "a program (ELF)"),
    (b"\xca\xfe\xba\xbe", "a program (of Java or macOS)"),
    (b"\xcf\xfa\xed\xfe", "a program (of macOS)"),
    (b"MZ", "a program (of Windows or UEFI)"),
    (b"\x27\x05\x19\x56", "a kernel or file system for U-Boot"),
    (b"\xd0\x0d\xfe\xed", "a device tree, or an image for U-Boot"),
    (b"UBI#", "an image of UBI, for flash memory"),
    (b"MEDIA DESCRIPTOR", "a description of a CD's image (MDS), which is another file (MDF)"),
    (b"d8:announce", "a torrent"),
    (b"zsync: ", "a list of checksums (zsync)"),
    (b"#!", "a program (script)"),
    (b"OggS", "a recording (Ogg)"),
    (b"RIFF", "a recording or picture (RIFF)"),
    (b"ID3", "a recording (MP3)"),
    (b"\x1aE\xdf\xa3", "a recording (Matroska)"),
    (b"II*\0", "a picture (TIFF)"),
    (b"MM\0*", "a picture (TIFF)"),
    (b"%PDF-", "a document (PDF)"),
    (b"\x89PNG\r\n", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"\xd0\xcf\x11\xe0", "a document or package of Windows"),
    (b"SQLite format 3\0", "a database (SQLite)"),
    (b"\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0", "an image of a CD with its raw sectors (BIN)"),
    (b"Salted__", "encrypted (OpenSSL)"),
    (b"age-encryption.org/", "encrypted (age)"),
)
# Packets of OpenPGP: the first byte, where the version follows, which there are, and what it is.
_OPENPGP = (
    (0x88, 2, (3, 4), "a signature (OpenPGP)"),
    (0x89, 3, (3, 4), "a signature (OpenPGP)"),
    (0xC2, 2, (3, 4), "a signature (OpenPGP)"),
    (0xC2, 3, (3, 4), "a signature (OpenPGP)"),
    (0x90, 2, (3,), "signed (OpenPGP)"),
    (0x99, 3, (3, 4), "a key (OpenPGP)"),
    (0x98, 2, (3, 4), "a key (OpenPGP)"),
    (0x84, 2, (3,), "encrypted (OpenPGP)"),
    (0x85, 3, (3,), "encrypted (OpenPGP)"),
    (0xC1, 2, (3,), "encrypted (OpenPGP)"),
    (0xC1, 3, (3,), "encrypted (OpenPGP)"),
    (0x8C, 2, (4, 5), "encrypted (OpenPGP)"),
    (0xC3, 2, (4, 5), "encrypted (OpenPGP)"),
    (0xA3, 1, (1, 2, 3), "packed, and perhaps signed (OpenPGP)"),
)
# At the end of an image of Nero.
_NERO = ((b"NER5", 12), (b"NERO", 8))
# At the end of an image of macOS' Disk Utility.
_UDIF, _UDIF_LENGTH = b"koly", 512
_DMG = "an image of macOS (UDIF, .dmg)"
_SUM = re.compile(r"(\\?[0-9A-Fa-f]{32,128}( [ *]\S.*)?|[A-Z0-9-]{2,12} \(.+\) = [0-9A-Fa-f]{32,128})")
# With what a page of HTML begins, or a part of one.
_HTML = ("!doctype html", "html", "head", "body", "title", "meta", "script", "style", "h1", "div", "center", "p>")
_JSON = re.compile(r"\{\s{0,100}[\"}]|\[\s{0,100}[\"{\[\]0-9-]")
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,200})", re.IGNORECASE)


def signature(file: Readable) -> str:
    """Return what the file is, where a signature says it: a disk's format by QEMU's name, TAR or OVA, or in words
    (with blanks, see remedy()); "" if there is none."""
    head = _head(file)
    if head[:4] == QCOW2_MAGIC:
        version = int.from_bytes(head[4:8].ljust(4, b"\xff"), "big")
        return "qcow2" if version in (2, 3) else QCOW
    if head[_VDI_AT : _VDI_AT + 4] == _VDI:
        return "vdi"
    if tar_archive.is_tar_head(head):
        return OVA if _has_ovf(file) else TAR
    for magic, name in (*_DISKS, *((magic, name) for magic, name, _remedy in _OTHERS)):
        if head.startswith(magic):
            return name
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            return f"a file that is compressed by {name}"
    if _is_descriptor(head):
        return _DESCRIPTOR_WORDS
    if head[510:512] == b"\x55\xaa" and head[_KERNEL_AT : _KERNEL_AT + 4] == _KERNEL:
        return _KERNEL_WORDS
    if _read_at(file, vhd_footer(file)).startswith(b"conectix"):
        # One of a fixed size is the disk's bytes, and a footer.
        return VPC
    if _at_end(file, _UDIF_LENGTH).startswith(_UDIF):
        return _DMG
    return ""


def vhd_footer(file: Readable) -> int:
    """Return where the footer of a VHD begins: its last sector, which some programs write with 511 bytes."""
    return max(0, file.seek(0, os.SEEK_END) - 1) // SECTOR * SECTOR


def _is_descriptor(head: bytes) -> bool:
    text = head[:4096].replace(b"\0", b"").lower()
    return b"# disk descriptorfile" in text[:64] or (b"createtype" in text and b"parentcid" in text)


def _has_ovf(file: Readable) -> bool:
    """Return whether a tar archive has the description of a machine at its top, or in a directory there."""
    if _is_ovf(_head(file)[:100].rstrip(b"\0")):
        return True
    try:
        for number, entry in enumerate(tar_archive.entries(file, file.seek(0, os.SEEK_END), "")):
            if _is_ovf(entry.name):
                return True
            if number >= _MOST_ENTRIES:
                return False
    except ImageRefused:
        # It is damaged, which whoever reads it tells.
        pass
    return False


def _is_ovf(name: bytes) -> bool:
    parts = [part for part in name.lower().split(b"/") if part not in (b"", b".")]
    return name.lower().endswith(b".ovf") and len(parts) < 3


def remedy(words: str) -> str:
    """Return what to do with a file for which signature() has words."""
    known = {_DMG: WHOLE, **_REMEDIES, **{name: remedy for _magic, name, remedy in _OTHERS}}
    return known.get(words, UNPACK)


def is_iso(file: Readable) -> bool:
    file.seek(_ISO_DESCRIPTOR + 1)
    return file.read(5) in (b"CD001", b"BEA01")


def is_raw_disk(path: str, file: BinaryIO) -> bool:
    """Return whether anything in a file that has no signature() says that it is a raw disk, or it is empty."""
    head = _head(file)
    if head[510:512] == b"\x55\xaa" or any(head[at : at + 8] == b"EFI PART" for at in (512, 2048, 4096)):
        return True
    return is_iso(file) or _is_known(path) or _is_zero(file)


def _is_known(path: str) -> bool:
    """Return whether blkid finds a partition table, a file system, or the signature of a volume."""
    real = os.path.realpath(path)
    done = sandbox.run(["blkid", "--probe", "--output", "value", real], {real: READ}, timeout=_SECONDS, check=False)
    if done.returncode not in (_FOUND, 2, _AMBIVALENT):
        raise command.failure_of(done)
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
    """Return in words what a file is that nothing says to be a disk."""
    head = _head(file)
    text = kind_of_text(head)
    if text:
        return text
    for magic, name in _WEAK:
        if head.startswith(magic):
            return _words_for(name)
    for first, at, versions, name in _OPENPGP:
        if head[:1] == bytes((first,)) and head[at : at + 1] in [bytes((version,)) for version in versions]:
            return _words_for(name)
    if any(_at_end(file, length).startswith(magic) for magic, length in _NERO):
        return _words_for("an image of a CD, made by Nero (NRG)")
    return f"its first bytes are {head[:8].hex(' ')}"


def remedy_for_looks(words: str) -> str:
    """Return what to do with a file for which looks_like() has words."""
    right = "Give the right file"
    if not words.startswith("it is text"):
        right = next((remedy for word, remedy in _HOLDING if word in words), right)
    return f"{right}; if it is a raw disk all the same, set format: raw"


_HOLDING = (
    (" encrypted", "Decrypt it, and import the disk that is in it"),
    (" compressed by ", UNPACK),
    (" packed", UNPACK),
    (" archive", UNPACK),
)


def kind_of_text(head: bytes) -> str:
    """Return in words what kind of text or page begins with these bytes; "" for what is neither."""
    text = _as_text(head)
    return _kind_of_markup(head[:_TEXT].decode("latin-1")) if text is None else _kind_of_text(text)


def _words_for(name: str) -> str:
    return f"it looks like {name}" if name.startswith(("a ", "an ")) else f"it is {name}"


def _kind_of_text(text: str) -> str:
    words = text.lstrip("\ufeff \t\r\n")
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    sums = [line for line in lines if not line.startswith("#")]
    if words.startswith("-----BEGIN PGP"):
        return "it is text: a signature, or what is signed"
    if sums and all(_SUM.fullmatch(line) for line in sums[:3]):
        return "it is a list of checksums"
    if words.startswith("version https://git-lfs"):
        return "it is text, a pointer of Git LFS: 'git lfs pull' brings the file that it names"
    if words.startswith("{\\rtf"):
        return "it is a document (RTF)"
    if _JSON.match(words):
        return "it is JSON"
    first = printable(lines[0][:60], ONE_LINE) if lines else ""
    return _kind_of_markup(words) or (f"it is text, and begins with '{first}'" if first else "it is text")


def _kind_of_markup(text: str) -> str:
    """Return what a page is, or a message in XML; "" for neither. What follows its beginning may be anything."""
    words = text.removeprefix("\xef\xbb\xbf").lstrip("\ufeff \t\r\n")
    title = _TITLE.search(words)
    while words.startswith("<!--"):
        words = words.partition("-->")[2].lstrip()
    lower = words.lower()
    if lower.startswith(tuple(f"<{name}" for name in _HTML)) or (lower[:1] == "<" and "<html" in lower[:1024]):
        named = f", with the title '{printable(' '.join(title[1].split()))}'" if title else ""
        return f"it is a page of HTML{named}: a server may have sent it in place of the file"
    if re.match(r"<(\?xml|[a-z][\w:-]{0,100}[\s/>])", lower):
        return "it is XML: a server may have sent it in place of the file"
    return ""


def _as_text(head: bytes) -> str | None:
    """Return what a file begins with, without blanks before and zeroes behind; None for what is no text."""
    head, form = _encoding_of(head)
    if form == "utf-8":
        piece = head.lstrip(b" \t\r\n").rstrip(b"\0")[:_TEXT]
        # A character may be cut at the end.
        text = piece.decode(form, "surrogateescape")
        if any("\udc80" <= char <= "\udcff" for char in text[:-3]):
            if sum(32 <= byte < 127 for byte in piece) < len(piece) * 3 // 4:
                return None
            text = piece.decode("cp1252", "replace")
    else:
        unit = 2 if form.startswith("utf-16") else 4
        text = head[: min(_TEXT, len(head)) // unit * unit].decode(form, "replace").strip("\0 \t\r\n")
    if not text:
        return text if head.strip(b"\0") else None
    return text if all(char >= " " or char in "\t\n\r\f\x1b" for char in text) else None


def _encoding_of(head: bytes) -> tuple[bytes, str]:
    """Return the head without its byte order mark, and its encoding: by that mark, or by which first bytes are zero."""
    for mark, form in _MARKS:
        if head.startswith(mark):
            return head[len(mark) :], form
    zeroes = [byte == 0 for byte in head[:8]]
    if zeroes == [False, True] * 4:
        return head, "utf-16-le"
    return head, "utf-16-be" if zeroes == [True, False] * 4 else "utf-8"


def _head(file: Readable) -> bytes:
    file.seek(0)
    return file.read(HEAD)


def _at_end(file: Readable, length: int) -> bytes:
    return _read_at(file, max(0, file.seek(0, os.SEEK_END) - length))


def _read_at(file: Readable, place: int) -> bytes:
    file.seek(place)
    return file.read(16)
