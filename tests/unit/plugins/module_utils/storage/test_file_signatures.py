# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is no disk is known for what it is; what is one is taken, by what blkid and we find in it."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import random
import subprocess
import tarfile

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.errors import ChecksumMismatch, ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import file_signatures, final_names, importer
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import Checksum
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request

MIB = 1024 * 1024
NOISE = random.Random(5).randbytes(64 * 1024)
PAGE = b"""<!DOCTYPE html>
<html><head><title>
  Sign in \xe2\x80\x94 \x1b[31mExample</title></head><body>%s</body></html>""" % (b"<p>word</p>" * 900)
SUM = b"8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"
# What a disk with a GPT has in its first sectors.
GPT = bytes(510) + b"\x55\xaa" + b"EFI PART".ljust(MIB, b"\0")


def tar_of(name: str, content: bytes, form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def oldest(archive: bytes) -> bytes:
    """The first header as tar wrote it before it had a magic."""
    header = bytearray(archive[:257].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + archive[512:]


NO_DISKS = {
    "a page": (PAGE, r"page of HTML, with the title 'Sign in — \\x1b\[31mExample'.*in place of the file"),
    "a page after a blank": (b"\r\n  <HTML lang=en>" + PAGE, "page of HTML"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "it is XML"),
    "checksums": (SUM + b"  disk.qcow2\n" + SUM + b" *other.iso\n", "a list of checksums"),
    "checksums of BSD": (b"SHA256 (disk.qcow2) = " + SUM + b"\n", "a list of checksums"),
    "a signature": (b"-----BEGIN PGP SIGNATURE-----\n\niQIz\n", "signature"),
    "JSON": (b'{"error": "not found"}', "JSON"),
    "a word": (b"Not Found", "it is text, and begins with 'Not Found'"),
    "a word in UTF-16": ("Not Found".encode("utf-16"), "begins with 'Not Found'"),
    "a script": (b"#!/bin/sh\nexit 0\n", "begins with '#!/bin/sh'"),
    "a pointer": (b"version https://git-lfs.example/spec/v1\noid sha256:" + SUM, "it is text"),
    "lz4": (b"\x04\x22\x4d\x18" + NOISE, "compressed by lz4"),
    "lzma": (lzma.compress(BOOT, lzma.FORMAT_ALONE), "compressed by lzma"),
    "lzip": (b"LZIP\1" + NOISE, "compressed by lzip"),
    "gz in gz": (gzip.compress(gzip.compress(BOOT)), "compressed by gzip"),
    "sparse": (b"\x3a\xff\x26\xed\1\0\0\0" + NOISE, "sparse image of Android"),
    "VMA": (b"VMA\0\0\0\0\1" + NOISE, "VMA"),
    "UDIF": (NOISE[:4096] + b"koly\0\0\0\4" + bytes(504), "UDIF"),
    "cpio": (b"070701" + NOISE, "cpio"),
    "zip": (b"PK\3\4" + NOISE, "zip archive"),
    "a descriptor": (b"# Disk DescriptorFile\nversion=1\n", "names the files that have its content"),
    "a descriptor after a mark": (
        b"\xef\xbb\xbf\r\n# Disk DescriptorFile\r\n",
        "names the files that have its content",
    ),
    "a descriptor in UTF-16": ("# Disk DescriptorFile\n".encode("utf-16"), "names the files that have its content"),
    "a descriptor without its title": (b'version=1\nCID=1\nparentCID=ffffffff\ncreateType="vmfs"\n', "its content"),
    "a page in Latin-1": (PAGE.decode().replace("—", "ü").encode("latin-1"), "page of HTML, with the title 'Sign in ü"),
    "a page in UTF-16": (PAGE.decode().encode("utf-16"), "page of HTML, with the title 'Sign in —"),
    "a page in UTF-16 without a mark": (PAGE.decode().encode("utf-16-be"), "page of HTML, with the title 'Sign in —"),
    "a page in UTF-32": (PAGE.decode().encode("utf-32"), "page of HTML, with the title 'Sign in —"),
    "a page that is filled up": (PAGE[:300].ljust(8192, b"\0"), "page of HTML"),
    "a page with something else in it": (PAGE[:300] + b"\0\1\2\xff" + NOISE, "page of HTML"),
    "a page after many blanks": (b" \r\n" * 20_000 + PAGE, "page of HTML"),
    "a page after a comment": (b"<!-- %s -->\n" % (b"x" * 2000) + PAGE, "page of HTML"),
    "a part of a page": (b"<h1>404 Not Found</h1>", "page of HTML"),
    "XML without a prolog": (b'<ListBucketResult xmlns="x"></ListBucketResult>', "it is XML"),
    "bare checksums": (b"# of today\n" + SUM + b"\n", "a list of checksums"),
    "a pointer of LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "RTF": (b"{\\rtf1 text}", r"document \(RTF\)"),
    "an INI file": (b"[Unit]\nDescription=x\n", r"it is text, and begins with '\[Unit\]'"),
    "blanks": (b"\n", "it is text"),
    "lrzip": (b"LRZI\0\6" + NOISE, "compressed by lrzip"),
    "zlib": (b"\x78\x9c" + NOISE, "compressed by zlib"),
    "an empty zip": (b"PK\5\6" + bytes(18), "zip archive"),
    "EWF": (b"EVF\x09\r\n\xff\0" + NOISE, "EnCase"),
    "a part of ESX": (b"\xbe\xba\xfe\xca\0\0\0\0" + NOISE, "part of a VMDK of ESX"),
    "cloop": (b"#!/bin/sh\n#V2.0 Format\n" + NOISE, "cloop"),
    "a signature of OpenPGP": (b"\x89\2\x33\4\0" + NOISE, r"signature \(OpenPGP\)"),
    "encrypted": (b"\x8c\x0d\4\x09\3\x0a" + NOISE, r"encrypted \(OpenPGP\)"),
    "a kernel": (b"MZ".ljust(510, b"\1") + b"\x55\xaa\xeb\x66HdrS" + NOISE, "a kernel of Linux"),
    "an image of Nero": (NOISE + b"NER5" + bytes(8), "Nero"),
    "tar": (tar_of("disk.raw", GPT, tarfile.USTAR_FORMAT), "a tar archive"),
    "tar of the oldest form": (oldest(tar_of("disk.raw", GPT, tarfile.USTAR_FORMAT)), "a tar archive"),
    "a package": (b"!<arch>\ndebian-binary   ", "package"),
    "a program": (b"\x7fELF\2\1\1\0" + NOISE, "a program"),
    "a program of Windows": (b"MZ\x90\0" + NOISE, "a program"),
    "a document": (b"%PDF-1.7\n\xff" + NOISE, "PDF"),
    "raw sectors of a CD": (b"\0" + b"\xff" * 10 + b"\0" + NOISE, "BIN"),
    "noise": (NOISE, "its first bytes are"),
    "zeroes, and then something": (bytes(3 * MIB) + b"x" + bytes(MIB), "its first bytes are 00"),
}


@pytest.fixture
def store(tmp_path):
    directory = tmp_path / "datastores" / "1"
    directory.mkdir(parents=True)

    def run(content, **options):
        source, image = tmp_path / "source", directory / "image"
        source.write_bytes(content)
        request = Request("image demo", str(source), **options)
        with final_names.locked_destination(str(image), 0):
            return importer.store(request, str(image))

    return run


@pytest.mark.parametrize("name", NO_DISKS)
def test_what_is_no_disk_is_refused_for_what_it_is(store, tmp_path, name):
    content, words = NO_DISKS[name]
    with pytest.raises(ImageRefused, match=words) as caught:
        store(content)
    assert caught.value.remedy
    # Before anything is registered for it, where that costs nothing.
    if not content.startswith(b"\x1f\x8b"):
        with pytest.raises(ImageRefused, match=words):
            importer.inspect_source(Request("image demo", str(tmp_path / "source")))
    # The user's word; what is no disk for a machine needs none.
    assert store(content, format="raw").format == "raw"
    assert store(content, disk=False).format == "raw"


@pytest.mark.parametrize(
    ("name", "remedy"), [("lzma", "Unpack it"), ("zlib", "Unpack it"), ("encrypted", "Decrypt it"), ("a word", "Give")]
)
def test_what_holds_a_disk_is_to_be_unpacked(store, name, remedy):
    with pytest.raises(ImageRefused) as caught:
        store(NO_DISKS[name][0])
    assert caught.value.remedy.startswith(remedy) and "format: raw" in caught.value.remedy


def made(tmp_path, *argv, size=8 * MIB, head=b""):
    path = tmp_path / "made"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    if argv:
        subprocess.run([*argv, path], check=True, capture_output=True)
    return path.read_bytes()


DISKS = {
    "empty": (),
    "zeroes": (),
    "boot code": (),
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "vfat": ("mkfs.vfat",),
    "swap": ("mkswap", "-q"),
    "GPT": ("sh", "-c", 'echo label: gpt | sfdisk -q "$0"'),
    "GPT in sectors of 4096 bytes": (),
    "a volume of LVM": (),
    "LUKS": (
        "cryptsetup",
        "luksFormat",
        "-q",
        "--type",
        "luks1",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "/dev/null",
    ),
}


@pytest.mark.parametrize("name", DISKS)
def test_a_raw_disk_is_taken(store, tmp_path, name):
    if name == "boot code":
        content = BOOT + NOISE
    elif name == "zeroes":
        content = bytes(MIB)
    elif name == "GPT in sectors of 4096 bytes":
        content = bytes(4096) + b"EFI PART".ljust(MIB, b"\0")
    elif name == "a volume of LVM":
        body = (32).to_bytes(4, "little") + b"LVM2 001" + b"a" * 32 + (8 * MIB).to_bytes(8, "little") + bytes(440)
        content = bytes(512) + label(body) + bytes(4 * MIB)
    elif name == "LUKS":
        path = tmp_path / "made"
        path.write_bytes(bytes(4 * MIB))
        key = tmp_path / "key"
        key.write_bytes(b"word")
        argv = [*DISKS[name][:-1], str(key), str(path)]
        subprocess.run([argv[0], *argv[1:-1], argv[-1]], check=True, capture_output=True)
        content = path.read_bytes()
    else:
        content = made(tmp_path, *DISKS[name])
    stored = store(content)
    assert (stored.format, stored.bytes, stored.warnings) == ("raw", len(content), ())


def label(body: bytes) -> bytes:
    """Of a physical volume: LVM's own sum of it, a CRC with another beginning, is in it."""
    rest = body[:492]
    crc = 0xF597A6CF
    for byte in (32).to_bytes(4, "little") + rest[4:]:
        crc ^= byte
        for _bit in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    return b"LABELONE" + (1).to_bytes(8, "little") + crc.to_bytes(4, "little") + (32).to_bytes(4, "little") + rest[4:]


def test_a_length_of_broken_sectors_is_told(store):
    (warning,) = store(BOOT + NOISE + b"x").warnings
    assert "66049 bytes, which is no multiple of 512" in warning
    assert not store(BOOT + NOISE + b"x", disk=False).warnings


SIGNED = b"untrusted comment: signed\n" + NOISE[:100]


@pytest.mark.parametrize(
    ("argv", "behind", "warned"),
    [
        (("gzip", "-c"), b"", 0),
        (("gzip", "-c"), bytes(1000), 0),
        (("gzip", "-c"), SIGNED, len(SIGNED)),
        (("gzip", "-c"), bytes(70_000) + SIGNED, len(SIGNED)),
        (("gzip", "-c"), b"x", 1),
        (("gzip", "-c"), gzip.compress(b"more", mtime=0), 0),
        (("xz", "-c"), bytes(4), 0),
        (("xz", "-c"), lzma.compress(b"more"), 0),
        (("xz", "-c"), SIGNED, len(SIGNED)),
        (("bzip2", "-c"), SIGNED, len(SIGNED)),
        (("zstd", "-q", "-c"), b"\x5a\x2a\x4d\x18\4\0\0\0text", 0),
        (("zstd", "-q", "-c"), bytes(1000), 0),
        (("zstd", "-q", "-c"), SIGNED, len(SIGNED)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_follows_a_stream(store, tmp_path, argv, behind, warned):
    content = BOOT + NOISE * 20
    source = tmp_path / "plain"
    source.write_bytes(content)
    packed = subprocess.run([*argv, source], check=True, capture_output=True).stdout
    stored = store(packed + behind)
    more = b"more" if behind[:3] in (b"\x1f\x8b\x08", b"\xfd7z") else b""
    assert stored.sha256 == hashlib.sha256(content + more).hexdigest()
    told = [f"image demo: {warned} bytes behind the end of its"] if warned else []
    assert [each[: len(told[0])] for each in stored.warnings if "behind the end of its" in each] == told
    if argv[0] == "zstd" and behind.startswith(b"\x5a"):
        assert store(behind + packed).sha256 == stored.sha256


def test_a_second_stream_that_is_damaged_is_damage(store):
    second = bytearray(gzip.compress(NOISE))
    second[100] ^= 1
    with pytest.raises(ImageRefused, match="damaged"):
        store(gzip.compress(BOOT) + bytes(second))
    with pytest.raises(ImageRefused, match="damaged"):
        store(gzip.compress(BOOT) + bytes(second[:50]))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5"])
def test_the_checksum_of_what_is_packed_is_named(store, algorithm):
    packed = gzip.compress(BOOT + NOISE)
    inside, outside = (hashlib.new(algorithm, data).hexdigest() for data in (BOOT + NOISE, packed))
    with pytest.raises(ChecksumMismatch, match="that of what is in it, unpacked") as caught:
        store(packed, checksum=Checksum.parse(f"{algorithm}:{inside}", "x"))
    assert f"{algorithm}:{outside}" in caught.value.remedy
    with pytest.raises(ChecksumMismatch) as other:
        store(packed, checksum=Checksum.parse(f"{algorithm}:{'0' * len(inside)}", "x"))
    assert "unpacked" not in str(other.value)


def test_hostile_text_is_shown_as_data(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(b"<html><title>a\r\nfatal: [node]: FAILED!\x1b]0;x\x07\xe2\x80\xae</title>")
    with path.open("rb") as file:
        words = file_signatures.looks_like(file)
    assert words.isprintable() and "\u202e" not in words
