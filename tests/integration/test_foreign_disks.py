# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of other hypervisors, made by qemu-img, are imported; those that name other files are not."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, foreign_disks, importer
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request

MIB = 1024 * 1024
DISK = BOOT + random.Random(3).randbytes(MIB - 512) + bytes(2 * MIB) + b"last" * 256 * 1024
MADE = {
    "vmdk": ("vmdk", "subformat=monolithicSparse"),
    "stream.vmdk": ("vmdk", "subformat=streamOptimized"),
    "dynamic.vhd": ("vpc", "subformat=dynamic,force_size=on"),
    "fixed.vhd": ("vpc", "subformat=fixed,force_size=on"),
    "vhdx": ("vhdx", "subformat=dynamic"),
    "fixed.vhdx": ("vhdx", "subformat=fixed"),
    "vdi": ("vdi", "static=off"),
    "static.vdi": ("vdi", "static=on"),
}
# Who made a VHD, by the four bytes with which its footer says it.
CREATORS = (b"win ", b"vbox", b"vpc ", b"qemu", b"wa\0\0", b"else")
NEEDS_OTHERS = {"flat": ("vmdk", "subformat=monolithicFlat"), "extents": ("vmdk", "subformat=twoGbMaxExtentSparse")}


def qemu_img(*words: str) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("disks") / "disk.raw"
    path.write_bytes(DISK)
    return path


@pytest.fixture
def make(raw, tmp_path):
    def run(name: str) -> Path:
        format, options = {**MADE, **NEEDS_OTHERS}[name]
        path = tmp_path / f"disk.{name}"
        qemu_img("convert", "-f", "raw", "-O", format, "-o", options, str(raw), str(path))
        return path

    return run


@pytest.fixture
def store(tmp_path):
    directory = tmp_path / "datastores" / "1"
    directory.mkdir(parents=True)

    def run(source, **options):
        request = Request("image demo", str(source), **options)
        facts = importer.inspect_source(request)
        with final_names.locked_destination(str(directory / "image"), 0):
            try:
                stored = importer.store(request, str(directory / "image"))
            finally:
                left = set(os.listdir(directory))
        assert left <= {"image", "image.part"}
        if facts is not None:
            assert (facts.format, -(-facts.virtual_size // MIB)) == (stored.format, stored.size)
        return stored, directory / "image"

    return run


def content(path: Path, format: str) -> bytes:
    if format == "raw":
        return path.read_bytes()
    plain = path.parents[2] / "plain"
    qemu_img("convert", "-f", format, "-O", "raw", str(path), str(plain))
    return plain.read_bytes()


def ova(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in {"vm.ovf": b"<Envelope/>", **members}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", MADE)
def test_it_is_imported_as_qcow2_and_as_raw(make, store, name):
    source = make(name)
    for format in ("", "raw"):
        stored, image = store(source, format=format)
        assert stored.format == (format or "qcow2") and stored.size == 4
        assert content(image, stored.format)[: len(DISK)] == DISK
        assert stored.sha256 == hashlib.sha256(image.read_bytes()).hexdigest()
        assert stored.checksums == {"sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
        assert image.stat().st_mode & 0o777 == 0o440 and not stored.warnings
    packed = source.with_name("packed.gz")
    packed.write_bytes(gzip.compress(source.read_bytes()))
    stored, image = store(packed)
    assert content(image, stored.format)[: len(DISK)] == DISK


@pytest.mark.parametrize("creator", CREATORS)
@pytest.mark.parametrize("name", ["fixed.vhd", "dynamic.vhd"])
def test_a_vhd_ends_where_its_maker_says(make, store, name, creator):
    source = make(name)
    data = bytearray(source.read_bytes())
    for begin in (0, len(data) - 512) if name == "dynamic.vhd" else (len(data) - 512,):
        # Fewer sectors by its cylinders than by its size.
        data[begin + 28 : begin + 32] = creator
        data[begin + 56 : begin + 60] = struct.pack(">HBB", 100, 4, 17)
        data[begin + 64 : begin + 68] = bytes(4)
        data[begin + 64 : begin + 68] = struct.pack(">I", ~sum(data[begin : begin + 512]) & 0xFFFFFFFF)
    # The last byte of the footer is missing in those of the oldest makers.
    source.write_bytes(data[:-1] if name == "fixed.vhd" else data)
    stored, image = store(source)
    seen = content(image, stored.format)
    assert stored.size == -(-len(seen) // MIB)
    if creator in (b"vpc ", b"qemu"):
        assert seen == DISK[: 100 * 4 * 17 * 512]
    else:
        assert seen[: len(DISK)] == DISK and not seen[len(DISK) :].strip(b"\0")


@pytest.mark.parametrize("name", [name for name in MADE if name != "fixed.vhd"])
def test_one_whose_end_is_missing_is_refused(make, store, name):
    source = make(name)
    # A block of a VHDX is larger than this disk.
    os.truncate(source, source.stat().st_size - (5 * MIB if "vhdx" in name else 256 * 1024))
    with pytest.raises(ImageRefused, match=r"truncated|can't be read"):
        store(source)


@pytest.mark.parametrize("left", ["image.new", "image.new.member", "image.new.head", "image.given"])
def test_what_a_killed_run_left_is_replaced(make, store, tmp_path, left):
    source = ova(tmp_path / "vm.ova", **{"a.vmdk.gz": gzip.compress(make("vmdk").read_bytes())})
    (tmp_path / "datastores" / "1" / left).write_bytes(b"half")
    stored, image = store(source)
    assert content(image, stored.format)[: len(DISK)] == DISK


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_part_of_a_disk_is_refused(store, tmp_path, label):
    """The first file of a disk in several has a header of its own, and may have no descriptor."""
    raw, part = tmp_path / "raw", tmp_path / "disk-s001.vmdk"
    raw.write_bytes(b"")
    os.truncate(raw, 8 * MIB)
    subprocess.run(["sfdisk", "-q", raw], input=f"label: {label}\nstart=2048\n".encode(), check=True)
    for length in (8 * MIB, 4 * MIB):
        os.truncate(raw, length)
        qemu_img("convert", "-f", "raw", "-O", "vmdk", str(raw), str(part))
        for format in ("", "raw"):
            if length == 8 * MIB:
                assert store(part, format=format)[0].size == 8
                continue
            with pytest.raises(ImageRefused, match=r"a part of a disk: it has 4194304 bytes, its partition table says"):
                store(part, format=format)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _bit in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def summed(data: bytearray) -> bytes:
    data[4:8] = bytes(4)
    data[4:8] = struct.pack("<I", crc32c(data))
    return bytes(data)


def test_a_vhdx_that_was_not_closed_is_told(make, store):
    source = make("vhdx")
    data = bytearray(source.read_bytes())
    log, end = b"1" * 16, len(data)
    for begin in (64 * 1024, 128 * 1024):
        header = data[begin : begin + 4096]
        header[48:64] = log
        data[begin : begin + 4096] = summed(header)
    entry = bytearray(4096)
    entry[:64] = struct.pack("<4sIIIQII16sQQ", b"loge", 0, 4096, 0, 1, 1, 0, log, end, end)
    entry[64:96] = struct.pack("<4sIQQQ", b"zero", 0, 4096, end - 4096, 1)
    data[MIB : MIB + 4096] = summed(entry)
    source.write_bytes(data)
    with pytest.raises(ImageRefused, match="was not closed: its last changes are in a log") as caught:
        store(source)
    assert "qemu-img" not in str(caught.value) and "Dismount-VHD" in caught.value.remedy


@pytest.mark.parametrize("name", NEEDS_OTHERS)
def test_one_of_several_files_is_refused(make, store, name):
    with pytest.raises(ImageRefused, match=r"VMDK, which names the files|its content is in other files"):
        store(make(name))


@pytest.mark.parametrize(("name", "options"), [("vmdk", ""), ("qcow2", "")])
def test_what_rests_on_another_file_is_refused(make, raw, store, tmp_path, name, options):
    base, over = make("vmdk"), tmp_path / f"over.{name}"
    qemu_img("create", "-q", "-f", name, "-F", "vmdk", "-b", str(base), str(over))
    with pytest.raises(ImageRefused, match=r"differs from another disk|names another file"):
        store(over)


def changed(path: Path, place: int, form: str, value: int | bytes) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, value)
    if path.name.endswith("vhd") and place >= len(data) - 512:
        pass
    path.write_bytes(data)
    return path


def test_differences_of_other_formats_are_refused(make, store):
    vhd = make("fixed.vhd")
    with pytest.raises(ImageRefused, match="differs from another disk"):
        store(changed(vhd, vhd.stat().st_size - 512 + 60, ">I", 4))
    for place, form, value in ((0x4C, "<I", 4), (0x1B8, "16s", b"p" * 16)):
        with pytest.raises(ImageRefused, match="differs from another disk"):
            store(changed(make("vdi"), place, form, value))
    vhdx = make("vhdx")
    data = vhdx.read_bytes()
    key = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
    place = data.index(key, data.index(b"metadata"))
    offset = struct.unpack("<I", data[place + 16 : place + 20])[0]
    with pytest.raises(ImageRefused, match="differs from another disk"):
        store(changed(vhdx, data.index(b"metadata") + offset + 4, "<I", 2))


def test_a_descriptor_within_a_vmdk_that_names_more_is_refused(make, store):
    for old, new in (
        (b"parentCID=ffffffff", b"parentCID=12345678"),
        (b'createType="monolithicSparse"', b'createType="twoGbMaxExtentFla"'),
        (b"# The Disk Data Base", b'RW 8 FLAT "/etc/shadow"'),
        (b"# Extent description", b'parentFileNameHint="'),
    ):
        path = make("vmdk")
        data = path.read_bytes()
        assert old in data
        path.write_bytes(
            data.replace(old, new.ljust(len(old))[: len(old)] if len(new) <= len(old) else new[: len(old)])
        )
        if path.read_bytes() == data:
            raise AssertionError(old)
        with pytest.raises(ImageRefused, match=r"differs from another|of several files"):
            store(path)


def test_one_of_several_disks_of_an_ova(make, raw, store, tmp_path):
    disk, stream = make("vmdk").read_bytes(), make("stream.vmdk").read_bytes()
    for members in ({"a.vmdk": stream}, {"README": b"text", "a.vmdk": disk}, {"a.vmdk.gz": gzip.compress(stream)}):
        source = ova(tmp_path / "vm.ova", **members)
        for format in ("", "raw"):
            stored, image = store(source, format=format)
            assert content(image, stored.format)[: len(DISK)] == DISK
    two = ova(tmp_path / "two.ova", **{"a.vmdk": make("vdi").read_bytes(), "b.vmdk": stream})
    with pytest.raises(ImageRefused, match=r"2 disks: a\.vmdk, b\.vmdk") as caught:
        store(two)
    assert "member: NAME" in caught.value.remedy
    stored, image = store(two, member="b.vmdk")
    assert content(image, stored.format)[: len(DISK)] == DISK
    with pytest.raises(ImageRefused, match="no disk of that name"):
        store(two, member="../a.vmdk")
    with pytest.raises(ImageRefused, match=r"holds no disk.* vm\.ovf, \.\./x"):
        store(ova(tmp_path / "none.ova", **{"../x": b"text"}))
    with pytest.raises(ImageRefused, match="is no OVA"):
        store(raw, member="a.vmdk")


def test_the_manifest_of_an_ova_is_believed(make, store, tmp_path):
    disk = make("stream.vmdk").read_bytes()
    for algorithm in ("SHA1", "SHA256", "SHA512"):
        found = hashlib.new(algorithm.lower(), disk).hexdigest()
        store(ova(tmp_path / "vm.ova", **{"vm.mf": f"{algorithm}(a.vmdk)= {found}\n".encode(), "a.vmdk": disk}))
        wrong = f"{algorithm}(a.vmdk)= {'0' * len(found)}\n".encode()
        with pytest.raises(ImageRefused, match="manifest says"):
            store(ova(tmp_path / "vm.ova", **{"vm.mf": wrong, "a.vmdk": disk}))


@pytest.mark.parametrize("name", MADE)
def test_a_damaged_one_is_refused(make, store, name):
    """Whatever is wrong with it: refused in words, or what can be read of it is stored."""
    whole = make(name).read_bytes()
    source = make(name)
    seeds = random.Random(name)
    for _turn in range(12):
        data = bytearray(whole)
        if seeds.random() < 0.3:
            del data[seeds.randrange(64, len(data)) :]
        for _change in range(seeds.randrange(1, 8)):
            data[seeds.randrange(min(len(data), 4096))] = seeds.randrange(256)
        source.write_bytes(data)
        try:
            store(source, max_size=64 * MIB)
        except ImageRefused as error:
            assert error.found and error.remedy


def test_its_size_is_limited_before_anything_is_converted(make, store):
    with pytest.raises(ImageRefused, match=r"limit|larger"):
        store(make("vdi"), max_size=2 * MIB)
    with pytest.raises(ImageRefused, match=r"limit|larger"):
        store(changed(make("vmdk"), 12, "<Q", 1 << 50))


def test_qemu_is_told_the_format_and_follows_no_name(make, monkeypatch, store):
    seen = []
    real = foreign_disks.qemu_img.run_on_node

    def of_node(verb, *arguments, **options):
        seen.append(json.dumps(options["node"]))
        return real(verb, *arguments, **options)

    monkeypatch.setattr(foreign_disks.qemu_img, "run_on_node", of_node)
    store(make("vmdk"))
    assert seen and all('"backing": null' in each for each in seen)
