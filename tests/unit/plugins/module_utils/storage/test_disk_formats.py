# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk image is, by its header alone, what of it is refused, and what qemu-img is told about the rest."""

from __future__ import annotations

import io
import json
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ImageRefused,
    NebulaError,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    disk_formats,
    file_signatures,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.disk_formats import ImageFacts
from ansible_collections.nebula.provision.plugins.module_utils.storage.qemu_img import MIB
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img, qcow2

ISO_SIZE = 20 * 2048


def mbr(*partitions: tuple[int, int, int, int], start: bytes = b"") -> bytes:
    """A boot sector with these partitions: status, kind, first sector, sectors."""
    sector = bytearray(512)
    sector[: len(start)] = start
    for index, partition in enumerate(partitions):
        sector[446 + 16 * index : 462 + 16 * index] = struct.pack("<B3xB3xII", *partition)
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def gpt(last_sector: int) -> bytes:
    """A protective MBR that claims all there can be, and a GPT whose copy is in this sector."""
    header = b"EFI PART" + bytes(24) + struct.pack("<Q", last_sector)
    return mbr((0, 0xEE, 1, 0xFFFFFFFF)) + header.ljust(512, b"\0")


def iso(blocks: int, magic: bytes = b"\1CD001") -> bytes:
    descriptor = bytearray(2048)
    descriptor[:6] = magic
    descriptor[80:84] = struct.pack("<I", blocks)
    descriptor[128:130] = struct.pack("<H", 2048)
    return (bytes(16 * 2048) + bytes(descriptor)).ljust(ISO_SIZE, b"\0")


# -- what it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "raw"),
        (b"a guest's data", "raw"),
        (bytes(2048), "raw"),
        (qcow2(3), "qcow2"),
        (qcow2(2), "qcow2"),
        (qcow2(1), "qcow"),
        (b"QFI\xfb", "qcow"),
        (b"QFI\xfb\0\0", "qcow"),
        (b"KDMV\1", "vmdk"),
        (b"COWD", "a part of a VMDK of ESX"),
        (b"# Disk DescriptorFile\nversion=1", "the descriptor of a VMDK, which names the files that have its content"),
        (b"vhdxfile", "vhdx"),
        (b"conectix", "vpc"),
        (b"QED\0", "qed"),
        (b"LUKS\xba\xbe\0\2", "raw"),
        (bytes(512) + b"conectix" + bytes(504), "vpc"),
        (b"WithoutFreeSpace", "parallels"),
        (b"WithouFreSpacExt", "parallels"),
        (b"Bochs Virtual HD Image", "bochs"),
        (b"<<< Oracle VM VirtualBox Disk Image >>>".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", "vdi"),
        (b"PK\3\4", "a zip archive"),
        (b"disk.img".ljust(257, b"\0") + b"ustar\0", "tar"),
        (b"web.OVF".ljust(257, b"\0") + b"ustar\0", "ova"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\7", "a rar archive"),
        (b"\0" + b"KDMV", "raw"),
    ],
)
def test_the_format_by_the_header(content, expected):
    assert disk_formats.probe(io.BytesIO(content)) == expected


@given(st.binary(max_size=1100))
@settings(max_examples=50, deadline=None)
def test_any_header_has_a_format_wherever_the_file_was_read_to(content):
    file = io.BytesIO(content)
    first = disk_formats.probe(file)
    file.seek(0, os.SEEK_END)
    assert disk_formats.probe(file) == first != ""


@pytest.mark.parametrize(("magic", "expected"), [(b"\1CD001", True), (b"\0BEA01", True), (b"\1CD002", False)])
def test_an_iso_by_its_descriptor(magic, expected):
    assert file_signatures.is_iso(io.BytesIO(iso(20, magic))) is expected
    assert file_signatures.is_iso(io.BytesIO(b"short")) is False


@needs_qemu_img
@pytest.mark.parametrize(
    ("content", "size"),
    [
        (bytes(8192), 8192),
        (mbr((0x80, 0x83, 1, 3)) + bytes(3 * 512), 2048),
        (mbr((0x80, 0x83, 1, 2000), start=b"\xeb\x52\x90NTFS    ") + bytes(512), 1024),
        (mbr((0x80, 0x83, 1, 2000), start=bytes(54) + b"FAT16") + bytes(512), 1024),
        (mbr((0x80, 0x83, 1, 2000), start=bytes(82) + b"FAT32") + bytes(512), 1024),
        (mbr((0x33, 0x83, 1, 2000)) + bytes(512), 1024),
        (mbr((0, 0, 1, 2000)) + bytes(512), 1024),
        (mbr((0, 0xEE, 1, 0xFFFFFFFF)) + bytes(512), 1024),
        (gpt(3) + bytes(1024), 2048),
    ],
    ids=["empty", "mbr", "NTFS", "FAT16", "FAT32", "code", "no table", "protective", "gpt"],
)
def test_a_raw_disk_as_large_as_it_says(disk, content, size):
    assert disk_formats.inspect(disk(content)) == ImageFacts("raw", size)


@needs_qemu_img
def test_a_whole_iso(disk):
    assert disk_formats.inspect(disk(iso(20))) == ImageFacts("raw", ISO_SIZE, iso=True)


@needs_qemu_img
def test_a_known_format_is_not_probed(disk):
    """A guest can write such a header into its raw disk: it is data."""
    assert disk_formats.inspect(disk(qcow2(backing=104).ljust(512, b"x")), "raw") == ImageFacts("raw", 512)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NebulaError, match=str(tmp_path / "pipe")):
        disk_formats.inspect(str(tmp_path / "pipe"))


def test_a_directory_is_told_and_closed(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NebulaError, match=f"path {tmp_path}: Is a directory"):
        disk_formats.inspect(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_file_is_named():
    with pytest.raises(NotFound, match="path /nowhere/disk: "):
        disk_formats.inspect("/nowhere/disk")


# -- what is refused before any program sees it ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zip", "tar", "7z", "rar"])
def test_an_archive_is_to_be_unpacked(disk, name):
    content = {"zip": b"PK\3\4", "tar": bytes(257) + b"ustar", "7z": b"7z\xbc\xaf\x27\x1c", "rar": b"Rar!"}[name]
    with pytest.raises(ImageRefused) as caught:
        disk_formats.inspect(disk(content), what="image demo")
    assert (caught.value.asked, caught.value.found) == ("image demo", f"it is a {name} archive")
    assert caught.value.remedy.startswith("Unpack it, and import the disk that is in it")
    assert ("format: tar" in caught.value.remedy) == (name == "tar")


@pytest.mark.parametrize(
    ("content", "name"), [(b"QED\0", "qed"), (b"Bochs Virtual HD Image", "bochs"), (qcow2(1), "qcow")]
)
def test_another_format_is_to_be_converted(disk, content, name):
    with pytest.raises(ImageRefused) as caught:
        disk_formats.inspect(path := disk(content))
    assert (caught.value.asked, caught.value.found) == (f"image file {path}", f"its format is {name}")
    assert caught.value.remedy == file_signatures.WHOLE


@pytest.mark.parametrize(("content", "name"), [(b"KDMV", "VMDK"), (b"vhdxfile", "VHDX"), (b"conectix", "VHD")])
def test_one_that_is_converted_when_it_is_imported(disk, content, name):
    with pytest.raises(ImageRefused, match=f"its format is {name}.*Import it as an image"):
        disk_formats.inspect(disk(content))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is empty"),
        (
            mbr((0, 0x83, 1, 4), (0x80, 0x83, 2048, 2048)) + bytes(512),
            f"it is truncated: it has 1024 bytes, its partition table says {4096 * 512}",
        ),
        (gpt(4) + bytes(1024), f"it is truncated: it has 2048 bytes, its partition table says {5 * 512}"),
        (iso(21), f"it is truncated: it has {ISO_SIZE} bytes, its file system says {21 * 2048}"),
    ],
    ids=["empty", "mbr", "gpt", "iso"],
)
def test_a_raw_disk_that_is_cut_off(disk, content, found):
    with pytest.raises(ImageRefused) as caught:
        disk_formats.inspect(disk(content), what="image demo")
    assert (caught.value.asked, caught.value.found) == ("image demo", found)
    assert caught.value.remedy == "Get a whole copy of it and import that"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (qcow2()[:71], "its qcow2 header is cut off"),
        (qcow2(backing=104, backing_length=11) + b"/etc/shadow", "its backing file: '/etc/shadow'"),
        (qcow2(backing=10**6, backing_length=11), "it names another file, as its backing file"),
        (qcow2(2, backing=104, backing_length=6) + b"\xff\n-pipe", "its backing file: '\ufffd\\n-pip'"),
        (qcow2(size=(1 << 60) + 1), f"it says that it is a disk of {(1 << 60) + 1} bytes"),
        (qcow2(incompatible=4), "it names another file, as its external data file"),
        (qcow2(incompatible=2), "it is marked as corrupt"),
        (qcow2(crypt=2), "it is encrypted"),
        (qcow2(crypt=1), "it is encrypted in a way that is broken (AES, not LUKS)"),
    ],
)
def test_a_qcow2_header_that_is_refused(disk, content, found):
    with pytest.raises(ImageRefused) as caught:
        disk_formats.inspect(disk(content), what="image demo")
    assert caught.value.asked == "image demo" and found in caught.value.found and caught.value.remedy


def test_a_file_that_names_another_is_to_be_made_whole(disk):
    with pytest.raises(ImageRefused, match=r"names another file.*\. Export it as one file"):
        disk_formats.inspect(disk(qcow2(incompatible=4)))


@pytest.mark.parametrize(
    ("crypt", "remedy"), [(2, "Give luks_secret"), (1, "Have whoever made it give a copy that is not encrypted")]
)
def test_what_helps_with_an_encrypted_image(disk, crypt, remedy):
    with pytest.raises(ImageRefused, match=remedy):
        disk_formats.inspect(disk(qcow2(crypt=crypt)))


def test_only_luks_may_encrypt(disk):
    with pytest.raises(ImageRefused, match="AES, not LUKS"):
        disk_formats.inspect(disk(qcow2(crypt=1)), encrypted=True)


# -- what qemu-img says of it ----------------------------------------------------------------------------------------


def qemu_img_named(path: str) -> str:
    return disk_formats.qemu_img.block_node(disk_formats.DiskFiles(path, "qcow2"))


def info(**facts) -> str:
    return json.dumps({"virtual-size": 8 * MIB, "format": "qcow2", **facts})


def test_a_qcow2_is_looked_at_and_then_checked(disk, qemu_img):
    path = disk(qcow2())
    qemu_img.answers(info(), verb="info")
    assert disk_formats.inspect(path) == ImageFacts("qcow2", 8 * MIB)
    assert qemu_img.told == ["check", "--output=json", "-U", qemu_img_named(path)]
    assert qemu_img.times == 2


@pytest.mark.parametrize(("crypt", "deep"), [(0, False), (2, True)])
def test_tables_are_not_checked_where_they_need_not_or_cannot(disk, qemu_img, crypt, deep):
    path = disk(qcow2(crypt=crypt))
    qemu_img.answers(info())
    facts = disk_formats.inspect(path, deep=deep, encrypted=True)
    assert facts == ImageFacts("qcow2", 8 * MIB, encrypted=bool(crypt))
    assert qemu_img.told == ["info", "--output=json", "-U", qemu_img_named(path)]


@pytest.mark.parametrize("facts", [{"backing-filename": "/x"}, {"format-specific": {"data": {"data-file": "/x"}}}])
def test_a_file_that_qemu_img_finds_named_in_it(disk, qemu_img, facts):
    qemu_img.answers(info(**facts))
    with pytest.raises(ImageRefused, match=r"it names another file, as its backing or data file: '/x'"):
        disk_formats.inspect(disk(qcow2()), what="image demo")


@pytest.mark.parametrize("said", ["Could not open it", "File too large", "No space left on device"])
def test_a_header_that_qemu_img_refuses_is_damaged(disk, qemu_img, said):
    """Nothing is written by that: what has no room is what the header claims."""
    qemu_img.answers(err=f"qemu-img: {said}\n", code=1)
    with pytest.raises(ImageRefused) as caught:
        disk_formats.inspect(disk(qcow2()), what="image demo")
    assert caught.value.found.startswith("it is damaged or truncated: ") and said in caught.value.found


@pytest.mark.parametrize(("code", "refused"), [(0, False), (1, True), (2, True), (3, False)])
def test_leaked_clusters_hurt_nobody(disk, qemu_img, code, refused):
    qemu_img.answers(info(), verb="info")
    qemu_img.answers("{}", code=code, verb="check")
    path = disk(qcow2())
    if refused:
        with pytest.raises(ImageRefused, match=f"damaged or truncated: ended with code {code}"):
            disk_formats.inspect(path, what="image demo")
    else:
        assert disk_formats.inspect(path).virtual_size == 8 * MIB
