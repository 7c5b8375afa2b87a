# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk image is, by its header alone, what of it is refused, and what qemu-img is told about the rest."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ImageRefused,
    InvalidValue,
    NebulaError,
    NotFound,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_formats, file_signatures
from ansible_collections.nebula.provision.plugins.module_utils.storage.disk_formats import MIB, ImageFacts
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img

ISO_SIZE = 20 * 2048
RAW = 'json:{"driver": "raw", "file": {"driver": "file", "filename": "/x/source"}}'


def qcow2(
    version: int = 3,
    backing: int = 0,
    backing_length: int = 0,
    size: int = 8 * MIB,
    crypt: int = 0,
    incompatible: int = 0,
) -> bytes:
    """The header of a qcow2 file, as QEMU's docs/interop/qcow2.txt lays it out, without any table."""
    head = b"QFI\xfb" + struct.pack(">IQIIQI", version, backing, backing_length, 16, size, crypt)
    head += bytes(72 - len(head))
    return head + struct.pack(">Q", incompatible) + bytes(24)


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


@pytest.fixture
def disk(tmp_path: Path):
    def make(content: bytes, name: str = "disk") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return make


class Program:
    """A qemu-img that is found before the real one: it writes down what it is told, and answers as a test says."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        path = place / "qemu-img"
        path.write_text(
            f"#!/bin/sh\ncd {place}\n"
            "for word; do printf '%s\\n' \"$word\"; done > told\n"
            'while read -r line || [ "$line" ]; do printf \'%s\' "$line"; done > input\n'
            'echo . >> times\n[ -e answer ] && . ./answer\n[ -e "answer-$1" ] && . "./answer-$1"\nexit 0\n'
        )
        path.chmod(0o755)

    def answers(self, out: str = "", err: str = "", code: int = 0, verb: str = "", times: int = 0) -> None:
        """verb: of this command only. times: so often, and well from then on."""
        say = f"printf '%s' {shlex.quote(out)}\nprintf '%s' {shlex.quote(err)} >&2\nexit {code}\n"
        if times:
            say = f"echo . >> tries\nset -- $(cat tries)\n[ $# -gt {times} ] && exit 0\n{say}"
        (self.place / (f"answer-{verb}" if verb else "answer")).write_text(say)

    @property
    def told(self) -> list[str]:
        return (self.place / "told").read_text().splitlines()

    @property
    def input(self) -> str:
        return (self.place / "input").read_text()

    @property
    def times(self) -> int:
        return len((self.place / "times").read_text().split())


@pytest.fixture
def qemu_img(tmp_path, monkeypatch):
    program = Program(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{program.place}:{os.environ['PATH']}")
    return program


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


# -- sizes -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=20, deadline=None)
def test_the_size_that_a_machine_sees_is_in_the_header(tmp_path_factory, size):
    path = tmp_path_factory.getbasetemp() / "sized"
    path.write_bytes(qcow2(size=size))
    assert disk_formats.virtual_size(str(path), "qcow2") == size
    assert disk_formats.virtual_size(str(path), "raw") == 104


@pytest.mark.parametrize("content", [b"", b"QFI\xfb", qcow2()[:31], b"a raw disk" * 100])
def test_a_disk_that_is_not_what_the_catalog_says(disk, content):
    with pytest.raises(ImageRefused) as caught:
        disk_formats.virtual_size(path := disk(content), "qcow2")
    assert caught.value.asked == f"disk {path}"
    assert caught.value.found == "it is no qcow2 file, as the catalog says"


@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_the_size_of_a_missing_disk(format):
    with pytest.raises(NotFound):
        disk_formats.virtual_size("/nowhere/disk", format)


# -- disks that are made ---------------------------------------------------------------------------------------------


def test_an_empty_raw_disk_takes_no_room(tmp_path):
    path = tmp_path / "disk"
    disk_formats.create_empty(str(path), "raw", 5 * MIB)
    found = path.stat()
    assert (found.st_size, found.st_blocks, found.st_mode & 0o777) == (5 * MIB, 0, 0o600)


def test_an_empty_disk_is_not_made_over_another(disk):
    path = disk(b"a guest's")
    with pytest.raises(InvalidValue, match="File exists"):
        disk_formats.create_empty(path, "raw", MIB)
    assert Path(path).read_bytes() == b"a guest's"


@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_an_unknown_file_system_is_told_with_those_that_are_known(tmp_path, format):
    with pytest.raises(Unsupported, match=r"file system reiserfs: it is not known here. Choose one of ext2, ext3"):
        disk_formats.create_empty(str(tmp_path / "disk"), format, MIB, "reiserfs")
    assert not (tmp_path / "disk.raw").exists()


@pytest.mark.skipif(shutil.which("mkfs.ext4", path="/usr/sbin:/sbin") is None, reason="mkfs.ext4 is not on this host")
def test_a_file_system_that_does_not_fit_says_what_helps(disk):
    path = disk(bytes(512))
    with pytest.raises(CommandFailed, match="give it a larger size"):
        disk_formats.make_filesystem(path, "ext4")


@needs_qemu_img
@pytest.mark.skipif(shutil.which("mkswap", path="/usr/sbin:/sbin") is None, reason="mkswap is not on this host")
@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_swap_in_a_disk_of_each_format(tmp_path, format):
    path, plain = str(tmp_path / "disk"), str(tmp_path / "plain")
    # What a killed run left is in nobody's way.
    Path(path + ".raw").write_bytes(b"half")
    disk_formats.create_empty(path, format, 2 * MIB, "swap")
    disk_formats.copy(path, format, plain, "raw")
    assert Path(plain).read_bytes()[4086:4096] == b"SWAPSPACE2"
    assert disk_formats.virtual_size(path, format) == 2 * MIB
    assert format == "raw" or not os.path.exists(path + ".raw")


@pytest.mark.parametrize(
    "act",
    [
        lambda path: disk_formats.create_empty(path, "vmdk", MIB),
        lambda path: disk_formats.create_overlay(path, path, "vmdk", MIB),
        lambda path: disk_formats.copy(path, "vmdk", path, "raw"),
        lambda path: disk_formats.copy(path, "raw", path, "vmdk"),
        lambda path: disk_formats.rewrite(path, "vmdk", path, "raw"),
        lambda path: disk_formats.rewrite(path, "raw", path, "vmdk"),
        lambda path: disk_formats.resize(path, "vmdk", MIB),
    ],
)
def test_a_format_that_is_not_ours_is_refused_before_anything_is_touched(disk, act):
    path = disk(b"content")
    with pytest.raises(Unsupported, match=r"format vmdk: it is not known here. Choose one of raw, qcow2"):
        act(path)
    assert Path(path).read_bytes() == b"content"


def test_a_disk_is_not_smaller_than_its_image(disk, tmp_path):
    base = disk(bytes(3 * MIB))
    with pytest.raises(InvalidValue) as caught:
        disk_formats.create_overlay(path := str(tmp_path / "disk.0"), base, "raw", 2 * MIB + MIB // 2)
    assert caught.value.asked == f"disk {path}: size 2.5 MiB" and caught.value.found == "its image has 3 MiB"
    assert "leave SIZE out, or raise it" in caught.value.remedy and not os.path.exists(path)


def test_an_overlay_is_told_format_and_size_of_its_base(disk, qemu_img):
    base = disk(bytes(MIB))
    disk_formats.create_overlay("/x/disk.0", base, "raw", MIB)
    assert qemu_img.told == [
        *("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", base), "/x/disk.0", str(MIB),
    ]  # fmt: skip


@needs_qemu_img
def test_a_disk_copied_from_format_to_format_reads_the_same(disk, tmp_path):
    content = b"head" + bytes(MIB) + os.urandom(5000) + bytes(MIB - 5004)
    ways = [("raw", "raw"), ("raw", "qcow2"), ("qcow2", "qcow2"), ("qcow2", "raw")]
    source = disk(content)
    for number, (before, after) in enumerate(ways):
        target = str(tmp_path / f"copy{number}")
        disk_formats.copy(source, before, target, after)
        assert disk_formats.virtual_size(target, after) == len(content)
        source = target
    assert Path(source).read_bytes() == content


@needs_qemu_img
@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_a_disk_grows_and_never_shrinks(tmp_path, format):
    path = str(tmp_path / "disk")
    disk_formats.create_empty(path, format, 2 * MIB)
    assert disk_formats.resize(path, format, 3 * MIB) is True
    assert disk_formats.resize(path, format, 3 * MIB) is False
    assert disk_formats.resize(path, format, MIB) is False
    assert disk_formats.virtual_size(path, format) == 3 * MIB


@needs_qemu_img
def test_the_room_that_is_asked_for_is_enough(disk, tmp_path):
    source, target = disk(os.urandom(300_000) + bytes(2 * MIB)), tmp_path / "target"
    room = disk_formats.room_for(source, "raw", "qcow2")
    disk_formats.rewrite(source, "raw", str(target), "qcow2")
    assert target.stat().st_size <= room


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_goes_through_a_pipe_and_not_through_arguments(qemu_img):
    disk_formats.create_empty("/x/disk", "qcow2", MIB, key="passphrase")
    assert qemu_img.input == "passphrase" and not any("passphrase" in word for word in qemu_img.told)
    assert qemu_img.told == [
        *("create", "--object", "secret,id=key,file=/dev/stdin", "-q", "-f", "qcow2", "-o", disk_formats.LUKS),
        *("/x/disk", str(MIB)),
    ]


def test_nothing_of_keys_is_said_without_one(qemu_img):
    disk_formats.create_empty("/x/disk", "qcow2", MIB)
    assert qemu_img.told == ["create", "-q", "-f", "qcow2", "/x/disk", str(MIB)] and qemu_img.input == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["-S", "4k", "-O", "qcow2", RAW]),
        ({"compress": True}, ["-S", "4k", "-c", "-O", "qcow2", RAW]),
        ({"key": "k"}, ["-S", "4k", "-O", "qcow2", "-o", disk_formats.LUKS, RAW]),
    ],
)
def test_what_rewriting_says_to_qemu_img(qemu_img, options, expected):
    disk_formats.rewrite("/x/source", "raw", "/x/target", "qcow2", **options)
    assert [word for word in qemu_img.told if word not in ("--object", "secret,id=key,file=/dev/stdin")] == [
        "convert", "-q", *expected, "/x/target",
    ]  # fmt: skip
    assert qemu_img.input == options.get("key", "")


def test_a_comma_in_the_name_of_an_encrypted_disk_is_part_of_it(disk, qemu_img):
    path = disk(qcow2(crypt=2), "a,b")
    disk_formats.rewrite(path, "qcow2", "/x/target", "raw", source_key="k")
    named = next(word for word in qemu_img.told if word.startswith("json:"))
    assert json.loads(named[5:]) == {
        "driver": "qcow2", "file": {"driver": "file", "filename": path}, "backing": None,
        "encrypt": {"key-secret": "key"},
    }  # fmt: skip
    assert "-f" not in qemu_img.told


def test_a_processor_that_could_not_be_measured_is_tried_again(qemu_img):
    qemu_img.answers(err="qemu-img: Unable to get accurate CPU usage\n", code=1, times=2)
    disk_formats.create_empty("/x/disk", "qcow2", MIB, key="k")
    assert qemu_img.times == 3


def test_without_a_key_nothing_is_measured_and_nothing_tried_again(qemu_img):
    qemu_img.answers(err="qemu-img: Unable to get accurate CPU usage\n", code=1, times=2)
    with pytest.raises(CommandFailed, match="accurate CPU usage"):
        disk_formats.create_empty("/x/disk", "qcow2", MIB)
    assert qemu_img.times == 1


def test_any_other_failure_is_told_at_once(qemu_img):
    qemu_img.answers(err="qemu-img: Permission denied\n", code=1)
    with pytest.raises(CommandFailed, match="Permission denied"):
        disk_formats.create_empty("/x/disk", "qcow2", MIB, key="k")
    assert qemu_img.times == 1


def test_a_wrong_passphrase_is_told_as_such(disk, qemu_img):
    qemu_img.answers(err="qemu-img: Could not open '/x': Invalid password, cannot unlock any keyslot\n", code=1)
    with pytest.raises(InvalidValue) as caught:
        disk_formats.rewrite(disk(qcow2(crypt=2)), "qcow2", "/x/target", "raw", source_key="no such")
    assert caught.value.found == "the passphrase does not open the disk"
    assert caught.value.remedy == "Give the one that it was encrypted with"
    assert "no such" not in str(caught.value)
