# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk files as the real qemu-img and mkfs make and read them."""

from __future__ import annotations

import json
import struct
import subprocess

import pytest
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ImageRefused,
    InvalidValue,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_creation, disk_formats

MIB = 1024 * 1024


def qemu_img(*arguments) -> str:
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def written_qcow2(path, size=8 * MIB):
    """A qcow2 whose clusters are really there, so that a cut hurts."""
    raw = path.with_suffix(".raw")
    raw.write_bytes((BOOT + bytes(range(1, 251)) * (size // 250))[:size])
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)
    raw.unlink()
    return path


def partitioned(path, size, claimed):
    """A raw disk whose MBR has one partition that ends at `claimed` bytes."""
    sector = bytearray(512)
    sector[446:462] = struct.pack("<B3xB3xII", 0x80, 0x83, 2048, claimed // 512 - 2048)
    sector[510:] = b"\x55\xaa"
    path.write_bytes(sector)
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def iso(path, blocks):
    with path.open("wb") as file:
        descriptor = bytearray(2048)
        descriptor[0:6] = b"\1CD001"
        descriptor[80:84] = struct.pack("<I", blocks)
        descriptor[128:130] = struct.pack("<H", 2048)
        file.seek(16 * 2048)
        file.write(descriptor)
        file.truncate(100 * 2048)
    return path


def test_raw(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(BOOT + b"anything" * 936)
    # QEMU fills up the last sector.
    assert disk_formats.inspect(str(path)) == disk_formats.ImageFacts("raw", 8192)


def test_qcow2(tmp_path):
    path = written_qcow2(tmp_path / "disk")
    assert disk_formats.inspect(str(path)) == disk_formats.ImageFacts("qcow2", 8 * MIB)
    assert disk_creation.virtual_size(str(path), "qcow2") == 8 * MIB


def test_iso(tmp_path):
    assert disk_formats.inspect(str(iso(tmp_path / "cd", 100))).iso is True


def test_a_known_format_is_never_probed(tmp_path):
    """What a guest wrote into its raw disk is data, even if it looks like a qcow2 that names a file of the host."""
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path, "1M")
    assert disk_formats.inspect(str(path), "raw").format == "raw"
    copy = tmp_path / "copy"
    disk_creation.copy(str(path), "raw", str(copy), "raw")
    # qemu-img fills the last sector up.
    assert copy.read_bytes().startswith(path.read_bytes())


@pytest.mark.parametrize("base", ["/etc/passwd", "json:{}", "nbd:localhost:1"])
def test_a_backing_file_is_refused(tmp_path, base):
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", base, path, "1M")
    with pytest.raises(ImageRefused, match="names another file, as its backing file") as caught:
        disk_formats.inspect(str(path), what="image evil")
    assert caught.value.asked == "image evil"
    assert base in caught.value.found


def test_an_external_data_file_is_refused(tmp_path):
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'},data_file_raw=on", path, "1M")
    with pytest.raises(ImageRefused, match="external data file"):
        disk_formats.inspect(str(path))


def test_an_encrypted_image_is_refused(tmp_path):
    path = written_qcow2(tmp_path / "disk")
    with path.open("r+b") as file:
        file.seek(32)
        file.write(struct.pack(">I", 2))
    with pytest.raises(ImageRefused, match="encrypted"):
        disk_formats.inspect(str(path))


@pytest.mark.parametrize("format", ["vmdk", "vdi", "vhdx", "vpc", "qed", "parallels"])
def test_other_formats_are_refused_with_the_way_to_convert(tmp_path, format):
    path = tmp_path / "disk"
    name = "vhd" if format == "vpc" else format
    remedy = "Export it as one file" if format in ("qed", "parallels") else "Import it as an image"
    qemu_img("create", "-q", "-f", format, path, "4M")
    with pytest.raises(ImageRefused, match=rf"(?i)its format is {name}\. {remedy}"):
        disk_formats.inspect(str(path))


def test_a_truncated_qcow2(tmp_path):
    path = written_qcow2(tmp_path / "disk")
    with path.open("r+b") as file:
        file.truncate(5 * MIB)
    with pytest.raises(ImageRefused, match="damaged or truncated"):
        disk_formats.inspect(str(path))


@pytest.mark.parametrize("length", [10, 60, 100])
def test_a_qcow2_of_a_few_bytes(tmp_path, length):
    path = written_qcow2(tmp_path / "disk")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ImageRefused):
        disk_formats.inspect(str(path))


def test_a_qcow2_with_garbage_in_its_tables(tmp_path):
    path = written_qcow2(tmp_path / "disk")
    with path.open("r+b") as file:
        file.seek(struct.unpack(">Q", path.read_bytes()[40:48])[0])
        file.write(b"\x7f" * 8)
    with pytest.raises(ImageRefused, match="damaged"):
        disk_formats.inspect(str(path))


def test_leaked_clusters_are_no_damage(tmp_path):
    path = written_qcow2(tmp_path / "disk")
    # An L1 entry of zero: what it held is lost room, not lost references.
    with path.open("r+b") as file:
        file.seek(struct.unpack(">Q", path.read_bytes()[40:48])[0])
        file.write(bytes(8))
    assert "leaks" in json.loads(
        subprocess.run(["qemu-img", "check", "--output=json", path], capture_output=True, text=True).stdout
    )
    assert disk_formats.inspect(str(path)).format == "qcow2"


def test_an_empty_file(tmp_path):
    (tmp_path / "disk").touch()
    with pytest.raises(ImageRefused, match="it is empty"):
        disk_formats.inspect(str(tmp_path / "disk"))


def test_a_raw_disk_that_ends_before_its_partition(tmp_path):
    assert disk_formats.inspect(str(partitioned(tmp_path / "whole", 4 * MIB, 4 * MIB))).virtual_size == 4 * MIB
    with pytest.raises(ImageRefused, match=r"truncated: it has 3145728 bytes, its partition table says 4194304"):
        disk_formats.inspect(str(partitioned(tmp_path / "cut", 3 * MIB, 4 * MIB)))


def test_a_raw_disk_that_ends_before_its_gpt(tmp_path):
    path = tmp_path / "disk"
    header = bytearray(92)
    header[:8] = b"EFI PART"
    header[32:40] = struct.pack("<Q", 8191)
    path.write_bytes(bytes(512) + header + bytes(4 * MIB - 604))
    assert disk_formats.inspect(str(path)).virtual_size == 4 * MIB
    with path.open("r+b") as file:
        file.truncate(4 * MIB - 512)
    with pytest.raises(ImageRefused, match="truncated"):
        disk_formats.inspect(str(path))


def test_a_boot_sector_without_a_table_is_no_table(tmp_path):
    path = tmp_path / "disk"
    sector = bytearray(b"\xeb\x3c\x90mkfs.fat" + b"\xff" * 501)
    sector[54:62] = b"FAT16   "
    sector[510:] = b"\x55\xaa"
    path.write_bytes(bytes(sector) + bytes(1024))
    assert disk_formats.inspect(str(path)).format == "raw"


def test_a_truncated_iso(tmp_path):
    with pytest.raises(ImageRefused, match="its file system says 409600"):
        disk_formats.inspect(str(iso(tmp_path / "cd", 200)))


@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize("fs", ["", "ext4", "xfs", "vfat", "swap"])
def test_empty_disks(tmp_path, format, fs):
    path, size = str(tmp_path / "disk"), 320 * MIB
    disk_creation.create_empty(path, format, size, fs)
    assert disk_formats.inspect(path, format) == disk_formats.ImageFacts(format, size)
    assert (tmp_path / "disk").stat().st_blocks * 512 < 128 * MIB
    assert [p.name for p in tmp_path.iterdir()] == ["disk"]
    if fs:
        plain = tmp_path / "plain"
        disk_creation.copy(path, format, str(plain), "raw")
        blkid = subprocess.run(["blkid", "-p", "-o", "value", "-s", "TYPE", plain], capture_output=True, text=True)
        assert blkid.stdout.strip() == fs


def test_a_file_system_that_does_not_fit_or_is_unknown(tmp_path):
    with pytest.raises(CommandFailed, match="larger size"):
        disk_creation.create_empty(str(tmp_path / "disk"), "raw", MIB, "xfs")
    with pytest.raises(Unsupported, match="file system zfs"):
        disk_creation.create_empty(str(tmp_path / "other"), "raw", MIB, "zfs")


@pytest.mark.parametrize("base_format", ["raw", "qcow2"])
def test_overlays(tmp_path, base_format):
    base, overlay = str(tmp_path / "base"), str(tmp_path / "overlay")
    disk_creation.create_empty(base, base_format, 8 * MIB)
    disk_creation.create_overlay(overlay, base, base_format, 16 * MIB)
    facts = json.loads(qemu_img("info", "--output=json", overlay))
    assert (facts["backing-filename"], facts["backing-filename-format"]) == (base, base_format)
    assert facts["virtual-size"] == 16 * MIB
    with pytest.raises(InvalidValue, match="its image has 8 MiB"):
        disk_creation.create_overlay(overlay, base, base_format, 7 * MIB)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_growth(tmp_path, format):
    path = str(tmp_path / "disk")
    disk_creation.create_empty(path, format, 8 * MIB)
    assert disk_creation.resize(path, format, 16 * MIB) is True
    assert disk_creation.resize(path, format, 16 * MIB) is False
    assert disk_creation.resize(path, format, 4 * MIB) is False
    assert disk_creation.virtual_size(path, format) == 16 * MIB
