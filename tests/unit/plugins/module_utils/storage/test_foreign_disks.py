# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the headers of other hypervisors' disks say is read, whatever it is. That real ones are converted is in
tests/integration."""

from __future__ import annotations

import io
import struct
import tarfile
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import foreign_disks
from ansible_collections.nebula.provision.plugins.module_utils.storage.foreign_disks import Foreign

SECTOR = 512
MIB = 1024 * 1024
SNAPSHOT = "differs from another disk"
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=9b1d2f04
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 8192 SPARSE "disk.vmdk"
"""


def vmdk(descriptor: str = DESCRIPTOR, capacity: int = 8192, at: int = 1) -> bytes:
    head = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, capacity, 128, at, 20, 512, 21, 26, 128)
    return head.ljust(SECTOR * at, b"\0") + descriptor.encode().ljust(20 * SECTOR, b"\0")


def vhd(kind: int = 2, size: int = 4 * MIB, first: bool = False) -> bytes:
    footer = bytearray(b"conectix".ljust(SECTOR, b"\0"))
    struct.pack_into(">Q", footer, 48, size)
    struct.pack_into(">I", footer, 60, kind)
    return bytes(footer) + bytes(SECTOR) if first else bytes(SECTOR * 8) + bytes(footer)


def vdi(kind: int = 1, size: int = 4 * MIB, parent: bytes = b"") -> bytes:
    data = bytearray(512)
    data[0x40:0x44] = b"\x7f\x10\xda\xbe"
    struct.pack_into("<I", data, 0x4C, kind)
    struct.pack_into("<Q", data, 0x170, size)
    data[0x1B8 : 0x1B8 + len(parent)] = parent
    return bytes(data)


def vhdx(bits: int = 0, size: int = 4 * MIB, lacks: str = "", far: bool = False) -> bytes:
    data = bytearray(b"vhdxfile".ljust(MIB, b"\0"))
    regions = [(uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08"), 512 * 1024)]
    place = (1 << 64) - 1 if far else 256 * 1024
    regions += [(uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e"), place)] if lacks != "metadata" else []
    data[192 * 1024 : 192 * 1024 + 4] = b"regi"
    struct.pack_into("<I", data, 192 * 1024 + 8, len(regions))
    for number, (key, place) in enumerate(regions):
        struct.pack_into("<16sQII", data, 192 * 1024 + 16 + 32 * number, key.bytes_le, place, MIB, 1)
    items = {
        "parameters": ("caa16737-fa36-4d43-b3b6-33f0aa44e76b", struct.pack("<II", MIB, bits)),
        "size": ("2fa54224-cd1b-4876-b211-5dbed83bf4b8", struct.pack("<Q", size)),
    }
    table = 256 * 1024
    struct.pack_into("<8sHH", data, table, b"metadata", 0, len(items))
    for number, (name, (key, value)) in enumerate(items.items()):
        guid = uuid.UUID(int=5) if name == lacks else uuid.UUID(key)
        offset = 64 * 1024 + 16 * number
        struct.pack_into("<16sIII", data, table + 32 + 32 * number, guid.bytes_le, offset, len(value), 4)
        data[table + offset : table + offset + len(value)] = value
    return bytes(data)


def ova(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in {"vm.ovf": b"<Envelope/>", **members}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture
def found(tmp_path):
    def run(content: bytes, member: str = "") -> Foreign | None:
        path = tmp_path / "disk"
        path.write_bytes(content)
        return foreign_disks.find(str(path), "image demo", member)

    return run


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (vmdk(), "vmdk"),
        (vmdk(""), "vmdk"),
        (vmdk(DESCRIPTOR.replace("monolithicSparse", "streamOptimized")), "vmdk"),
        (vmdk(DESCRIPTOR, at=4), "vmdk"),
        (vhd(), "vpc"),
        (vhd(3, first=True), "vpc"),
        (vdi(), "vdi"),
        (vdi(2), "vdi"),
        (vhdx(), "vhdx"),
        (vhdx(1), "vhdx"),
    ],
)
def test_a_disk_that_stands_alone(found, content, format):
    assert found(content) == Foreign(format, 0, len(content), 4 * MIB)


@pytest.mark.parametrize("content", [b"", b"QFI\xfb\0\0\0\3", bytes(MIB), bytes(300) + b"ustar"])
def test_other_files_are_none(found, content):
    assert found(content) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (vmdk(capacity=0), "its content is in other files"),
        (vmdk(DESCRIPTOR.replace("ffffffff", "9b1d2f03")), SNAPSHOT),
        (vmdk(DESCRIPTOR.replace("parentCID=ffffffff", "ParentCID = 9B1D2F03")), SNAPSHOT),
        (vmdk(DESCRIPTOR + 'parentFileNameHint="/etc/shadow"\n'), SNAPSHOT),
        (vmdk(DESCRIPTOR.replace("monolithicSparse", "monolithicFlat")), "of several files"),
        (vmdk(DESCRIPTOR.replace("SPARSE", "FLAT")), "of several files"),
        (vmdk(DESCRIPTOR + 'RW 8192 SPARSE "/etc/shadow"\n'), "of several files"),
        (vmdk(DESCRIPTOR.replace("\n", "\r\n") + "RDONLY 1 ZERO\n"), "of several files"),
        # QEMU reads the one behind the header, whatever the header says.
        (vmdk("", at=0)[:SECTOR].ljust(SECTOR, b"\0") + DESCRIPTOR.replace("ffffffff", "9b1d2f03").encode(), SNAPSHOT),
        (vhd(4), SNAPSHOT),
        (vhd(4, first=True), SNAPSHOT),
        (vhd(7), "of the type 7"),
        (vhd(size=0), "of no bytes"),
        (vdi(4), SNAPSHOT),
        (vdi(parent=b"p"), SNAPSHOT),
        (vhdx(2), SNAPSHOT),
        (vhdx(3), SNAPSHOT),
        (vhdx(lacks="metadata"), "has no metadata"),
        (vhdx(lacks="size"), "has no metadata"),
        (vhdx(far=True), "has no metadata"),
        (vhdx()[: 300 * 1024], "header of VHDX is cut off"),
        (b"KDMV", "header of VMDK is cut off"),
        (b"vhdxfile", "has no metadata"),
        (vdi()[:100], "header of VDI is cut off"),
    ],
)
def test_what_needs_other_files_or_is_cut_off_is_refused(found, content, words):
    with pytest.raises(ImageRefused, match=f"^image demo: .*{words}") as caught:
        found(content)
    assert caught.value.remedy


def test_where_a_disk_lies_in_an_ova(found):
    content = ova(**{"vm.mf": b"SHA256(a.vmdk)= " + b"A" * 64 + b"\r\n", "a.vmdk": vmdk(), "vm.nvram": b"x"})
    disk = found(content)
    assert (disk.format, disk.size, disk.member) == ("vmdk", 4 * MIB, "a.vmdk")
    assert content[disk.offset : disk.offset + disk.length] == vmdk()
    assert disk.digest == ("sha256", "a" * 64)
    packed = found(ova(**{"a.vmdk.gz": b"\x1f\x8b\x08"}))
    assert (packed.packed, packed.member, packed.size) == (True, "a.vmdk.gz", 0)


@pytest.mark.parametrize(
    ("content", "member", "words"),
    [
        (ova(**{"a.vmdk": vmdk(), "b.vdi": vdi()}), "", r"holds 2 disks: a\.vmdk, b\.vdi"),
        (ova(**{"a.vmdk": vmdk(), "b.vdi": vdi()}), "c", r"no disk of that name; it has a\.vmdk, b\.vdi"),
        (ova(**{"a.vmdk": vmdk(capacity=0)}), "", "content is in other files"),
        (ova(**{"a\x1b[2J": b"x"}), "", r"holds no disk.*a\\x1b\[2J"),
        (ova(**{f"{number}.txt": b"x" for number in range(1001)}), "", "more than 1000 files"),
        (ova(**{"a.vmdk": vmdk()})[:4096], "", "cut off"),
        (ova(**{"deeper.ovf": ova(**{"a.vmdk": vmdk()})}), "", "holds no disk"),
        (vmdk(), "a.vmdk", "its file is no OVA"),
    ],
)
def test_what_is_wrong_with_an_ova_is_told(found, content, member, words):
    with pytest.raises(ImageRefused, match=words) as caught:
        found(content, member)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [vmdk(), vhd(), vhd(3, first=True), vdi(), vhdx(), ova(**{"a.vmdk": vmdk()})])
@given(
    changes=st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=9)), max_size=6),
    cut=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_whatever_a_header_says_the_answer_is_a_disk_or_words(tmp_path_factory, content, changes, cut):
    data = bytearray(content)
    for place, text in changes:
        data[place : place + len(text)] = text
    path = tmp_path_factory.mktemp("disk") / "disk"
    path.write_bytes(data[: len(data) // (2**cut)])
    try:
        found = foreign_disks.find(str(path), "image demo")
    except ImageRefused as error:
        assert error.found and error.remedy
    else:
        assert found is None or found.packed or found.size > 0
