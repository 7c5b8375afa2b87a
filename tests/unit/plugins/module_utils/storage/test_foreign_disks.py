# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the headers of other hypervisors' disks say is read, whatever it is. That real ones are converted is in
tests/integration."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
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


def vhd(
    kind: int = 2, size: int = 4 * MIB, first: bool = False, creator: bytes = b"", geometry: tuple[int, ...] = (0, 0, 0)
) -> bytes:
    footer = bytearray(b"conectix".ljust(SECTOR, b"\0"))
    struct.pack_into(">Q", footer, 48, size)
    struct.pack_into(">I", footer, 60, kind)
    footer[28:32] = creator.ljust(4, b"\0")
    struct.pack_into(">HBB", footer, 56, *geometry)
    return bytes(footer) + bytes(SECTOR) if first else bytes(SECTOR * 8) + bytes(footer)


def vdi(kind: int = 1, size: int = 4 * MIB, parent: bytes = b"", begin: int = 0, blocks: int = 0) -> bytes:
    data = bytearray(512)
    data[0x40:0x44] = b"\x7f\x10\xda\xbe"
    struct.pack_into("<I", data, 0x4C, kind)
    struct.pack_into("<Q", data, 0x170, size)
    data[0x1B8 : 0x1B8 + len(parent)] = parent
    for place, value in ((0x158, begin), (0x178, MIB), (0x184, blocks)):
        struct.pack_into("<I", data, place, value)
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


def tar_of(members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT, kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else kind
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def ova(**members: bytes) -> bytes:
    return tar_of({"vm.ovf": b"<Envelope/>", **members})


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
        (vdi(begin=512, blocks=1) + bytes(MIB), "vdi"),
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
        (vdi(begin=513), "it is truncated: it has 512 bytes, its VDI says 513"),
        (vdi(begin=512, blocks=1) + bytes(MIB - 1), f"its VDI says {MIB + 512}"),
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
    ("creator", "geometry", "size"),
    [
        (b"win ", (100, 4, 17), 4 * MIB),
        (b"vbox", (100, 4, 17), 4 * MIB),
        (b"wa", (100, 4, 17), 4 * MIB),
        (b"", (100, 4, 17), 4 * MIB),
        (b"vpc ", (100, 4, 17), 100 * 4 * 17 * SECTOR),
        (b"qemu", (100, 4, 17), 100 * 4 * 17 * SECTOR),
        (b"vpc ", (0, 0, 0), 4 * MIB),
        (b"vpc ", (65535, 16, 255), 4 * MIB),
    ],
)
def test_which_of_its_two_sizes_a_vhd_has(found, creator, geometry, size):
    disk = found(vhd(creator=creator, geometry=geometry))
    assert (disk.size, disk.by_cylinders) == (size, size != 4 * MIB)


@pytest.mark.parametrize("cut", [1, 100])
def test_a_footer_whose_end_is_missing_is_one(found, cut):
    assert found(vhd()[:-cut]) == Foreign("vpc", 0, 9 * SECTOR - cut, 4 * MIB)


OVF, LONG = b"<Envelope/>", "n" * 120
SUM = b"SHA256(a.vmdk)= " + b"A" * 64 + b"\n"
FORMS = {
    "the disk first": tar_of({"a.vmdk": vmdk(), "vm.ovf": OVF}),
    "the manifest first": tar_of({"vm.mf": SUM, "vm.ovf": OVF, "a.vmdk": vmdk()}),
    "from a directory": tar_of({"./": b"", "./vm.ovf": OVF, "./vm.mf": SUM, "./a.vmdk": vmdk()}),
    "within a directory": tar_of({"vm/": b"", "vm/vm.ovf": OVF, "vm/a.vmdk": vmdk()}),
    "in capitals": tar_of({"VM.OVF": OVF, "A.VMDK": vmdk()}),
    "a box of Vagrant": tar_of({"./Vagrantfile": b"", "./box.ovf": OVF, "./metadata.json": b"{}", "./a.vmdk": vmdk()}),
    "GNU's long names": tar_of({LONG + ".ovf": OVF, LONG + ".vmdk": vmdk()}, tarfile.GNU_FORMAT),
    "pax' long names": tar_of({LONG + ".ovf": OVF, LONG + ".vmdk": vmdk()}, tarfile.PAX_FORMAT),
    "pax' names": tar_of({"ä.ovf": OVF, "ä.vmdk": vmdk()}, tarfile.PAX_FORMAT),
    "contiguous": tar_of({"vm.ovf": OVF, "a.vmdk": vmdk()}, kind=tarfile.CONTTYPE),
    "another file by gzip": tar_of({"vm.ovf": OVF, "a.vmdk": vmdk(), "notes.gz": gzip.compress(b"text")}),
    "a broken file by gzip": tar_of({"vm.ovf": OVF, "a.vmdk": vmdk(), "notes.gz": gzip.compress(b"text")[:12]}),
}


@pytest.mark.parametrize("name", FORMS)
def test_an_ova_however_it_was_made(found, name):
    content = FORMS[name]
    disk = found(content)
    assert disk is not None and (disk.format, disk.size) == ("vmdk", 4 * MIB)
    assert content[disk.offset : disk.offset + disk.length] == vmdk()
    assert disk.digest == (("sha256", "a" * 64) if b"SHA256" in content else None)
    assert not disk.member.startswith("./")
    assert found(content, disk.member) == found(content, "./" + disk.member) == disk


def test_a_disk_that_is_packed_in_an_ova_is_known_by_what_is_in_it(found):
    assert found(ova(**{"disk.gz": gzip.compress(vmdk())})).packed
    assert found(ova(**{"a.vhd.gz": gzip.compress(vhd())})).packed


def test_a_tar_archive_that_has_no_description_of_a_machine_is_no_ova(found):
    deep = tar_of({"usr/share/doc/vm.ovf": OVF, "a.vmdk": vmdk()})
    assert found(tar_of({"a.vmdk": vmdk()})) is found(deep) is None


def test_an_ova_with_a_disk_without_its_holes_is_refused(found, tmp_path):
    (tmp_path / "vm.ovf").write_bytes(OVF)
    (tmp_path / "a.vmdk").write_bytes(vmdk())
    os.truncate(tmp_path / "a.vmdk", 4 * MIB)
    for form in ("gnu", "posix"):
        argv = ["tar", f"--format={form}", "--sparse", "-C", tmp_path, "-cf", tmp_path / "vm.ova", "vm.ovf", "a.vmdk"]
        subprocess.run(argv, check=True)
        for member in ("", "a.vmdk"):
            with pytest.raises(ImageRefused, match=r"with their holes: a\.vmdk"):
                found((tmp_path / "vm.ova").read_bytes(), member)


@pytest.mark.parametrize(
    ("content", "member", "words"),
    [
        (ova(**{"a.vmdk.000000000": vmdk(), "a.vmdk.000000001": b"x"}), "", "in several files, of which a"),
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
