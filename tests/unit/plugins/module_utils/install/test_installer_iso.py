# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ISOs as other programs make them, and what other programs read of ours."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.install import installer_iso

KERNEL, INITRD = b"kernel" * 1000, b"initrd" * 5000


def made(tmp_path: Path, *options: str, program: str = "genisoimage") -> Path:
    """An ISO as mkisofs makes it, with a kernel, and boot images that no machine would like."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    tree = tmp_path / "tree"
    (tree / "install.amd").mkdir(parents=True)
    (tree / "install.amd/vmlinuz").write_bytes(KERNEL)
    (tree / "install.amd/initrd.gz").write_bytes(INITRD)
    (tree / "boot").mkdir()
    for name in ("bios.img", "efi.img"):
        (tree / "boot" / name).write_bytes(bytes(4096))
    iso = tmp_path / "made.iso"
    command = [program, *(["-as", "mkisofs"] if program == "xorriso" else [])]
    subprocess.run([*command, "-quiet", "-V", "My Installer 1", *options, "-o", str(iso), str(tree)], check=True)
    return iso


def test_a_directory_is_told_and_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NebulaError, match=f"path {tmp_path}: Is a directory"):
        installer_iso.read_facts(str(tmp_path), "iso")
    assert len(os.listdir("/proc/self/fd")) == before


BIOS = ("-b", "boot/bios.img", "-no-emul-boot", "-boot-load-size", "4", "-c", "boot/boot.cat")
EFI = ("-e", "boot/efi.img", "-no-emul-boot")


@pytest.mark.parametrize(
    ("program", "options", "bios", "uefi"),
    [
        ("genisoimage", (), False, False),
        ("genisoimage", BIOS, True, False),
        ("genisoimage", (*BIOS, "-eltorito-alt-boot", *EFI), True, True),
        ("xorriso", (), False, False),
        ("xorriso", BIOS, True, False),
        ("xorriso", (*EFI, "-c", "boot/boot.cat"), False, True),
        ("xorriso", (*BIOS, "-eltorito-alt-boot", *EFI), True, True),
    ],
)
@pytest.mark.parametrize("tree", [("-R",), ("-R", "-J"), ()])
def test_what_boots_it_and_what_is_in_it(tmp_path, program, options, bios, uefi, tree):
    if not tree and program == "xorriso":
        pytest.skip("it always writes long names")
    iso = made(tmp_path, *tree, *options, program=program)
    found = installer_iso.read_facts(str(iso), "iso")
    assert (found.label.upper(), found.bios, found.uefi) == ("MY INSTALLER 1", bios, uefi)
    if tree:
        pair = installer_iso.find(
            str(iso), [("casper/vmlinuz", "casper/initrd"), ("install.amd/vmlinuz", "install.amd/initrd.gz")], "iso"
        )
        assert pair is not None
        assert [b"".join(installer_iso.content(str(iso), place, "iso")) for place in pair] == [KERNEL, INITRD]
        assert installer_iso.find(str(iso), [("/INSTALL.AMD/VMLINUZ",)], "iso") == pair[:1]
    assert installer_iso.find(str(iso), [("install.amd/vmlinuz", "nothing")], "iso") is None
    # A file is no directory, and a directory no file.
    assert installer_iso.find(str(iso), [("install.amd/vmlinuz/x",)], "iso") is None
    assert installer_iso.find(str(iso), [("boot",)], "iso") is None


def test_a_boot_sector_for_sticks_is_none_for_drives(tmp_path):
    iso = made(tmp_path, "-R")
    with iso.open("r+b") as file:
        file.seek(446)
        file.write(b"\x80" + bytes(15))
        file.seek(510)
        file.write(b"\x55\xaa")
    found = installer_iso.read_facts(str(iso), "iso")
    assert found.hybrid and not found.bios and not found.uefi


@pytest.mark.parametrize("content", [b"", b"no ISO", bytes(40000), bytes(32768) + b"\x01CD001\x01"])
def test_what_is_no_iso(tmp_path, content):
    path = tmp_path / "x.iso"
    path.write_bytes(content)
    with pytest.raises(ImageRefused, match="it is not an ISO 9660 file system"):
        installer_iso.read_facts(str(path), "iso x")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.integers(32768, 60000), st.integers(0, 255)), min_size=1, max_size=40))
def test_a_damaged_iso_is_an_error_and_nothing_else(tmp_path, damage):
    iso = tmp_path / "made.iso"
    if not iso.exists():
        made(tmp_path, "-R", *BIOS)
        shutil.copy(iso, tmp_path / "whole.iso")
    data = bytearray((tmp_path / "whole.iso").read_bytes())
    for place, byte in damage:
        if place < len(data):
            data[place] = byte
    broken = tmp_path / "broken.iso"
    broken.write_bytes(data)
    try:
        installer_iso.read_facts(str(broken), "iso")
        for place in installer_iso.find(str(broken), [("install.amd/vmlinuz", "install.amd/initrd.gz")], "iso") or ():
            assert sum(map(len, installer_iso.content(str(broken), place, "iso"))) == place.size
    except NebulaError:
        pass


def test_a_directory_that_is_its_own_child_ends(tmp_path):
    iso = made(tmp_path, "-R")
    data = bytearray(iso.read_bytes())
    # Every extent is the root directory's.
    root = struct.unpack_from("<I", data, 32768 + 156 + 2)[0]
    place = data.find(b"INSTALL_AMD") if b"INSTALL_AMD" in data else data.find(b"INSTALL")
    struct.pack_into("<I", data, place - 33 + 2, root)
    iso.write_bytes(data)
    assert installer_iso.find(str(iso), [("/".join(["install.amd"] * 200),)], "iso") is None


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (installer_iso.LARGEST_FILE, "the ISO is damaged or cut off"),
        (installer_iso.LARGEST_FILE + 1, "a file in it has 1073741825 bytes. The limit is 1024 MiB"),
    ],
)
def test_how_large_a_file_of_an_iso_may_be(tmp_path, size, words):
    path = tmp_path / "x.iso"
    path.write_bytes(b"")
    with pytest.raises(ImageRefused, match=words):
        next(installer_iso.content(str(path), installer_iso.Place(0, size, False), "iso x"))


@pytest.mark.parametrize("header_id", [b"\x90", b"\x91"], ids=["more to come", "last"])
def test_a_boot_catalog_may_be_full(header_id):
    header = bytearray(b"\1" + bytes(29) + b"\x55\xaa")
    struct.pack_into("<H", header, 28, -sum(struct.unpack("<16H", header)) & 0xFFFF)
    section = header_id + b"\xef" + struct.pack("<H", 61) + bytes(28)
    entry = b"\x88" + bytes(31)
    full = bytes(header) + entry + section + entry * 61
    assert len(full) == installer_iso.SECTOR
    assert installer_iso._catalog(io.BytesIO(full), 0) == (True, True)


def test_a_directory_may_end_with_its_last_record():
    # Where the length, the sector and the size of a file called A are.
    record = struct.pack("<BBI4xI4x14xB", 34, 0, 7, 5, 1) + b"A"
    assert len(record) == 34
    for data in (record, record * 2):
        found = installer_iso._child(io.BytesIO(data), installer_iso.Place(0, len(data), True), "a", "iso")
        assert found == installer_iso.Place(7 * installer_iso.SECTOR, 5, False)


def test_long_names_end_where_a_field_can_not_be():
    record = bytes(32) + b"\1A" + b"NM\x0b\1\0longer"
    assert installer_iso._names_of_record(record) == {"a", "longer"}
    # No field has three bytes: what follows is none either.
    assert installer_iso._names_of_record(bytes(32) + b"\1A" + b"XX\3" + b"NM\x0b\1\0longer") == {"a"}


# -- an archive behind an initrd --------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 511, 512])
def test_an_archive_is_read_by_cpio(tmp_path, size):
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not here")
    files = {"preseed.cfg": b"x" * size, "other": b"\0\xff"}
    archive = installer_iso.archive(files)
    assert len(archive) % 512 == 0
    subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_an_archive_begins_where_linux_looks():
    for size in (0, 1, 3, 511, 512, 1025):
        assert (size + len(installer_iso.padding(size))) % 512 == 0


# -- a floppy ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "files",
    [
        {"autounattend.xml": b"<unattend/>"},
        {"autounattend.xml": bytes(range(256)) * 700, "a.txt": b"", "thirteen-long": b"x" * 512},
        {f"file-number-{n}.text": str(n).encode() * 300 for n in range(30)},
    ],
    ids=["one", "sizes", "many"],
)
def test_a_floppy_is_read_by_mtools_and_found_sound(tmp_path, files):
    if shutil.which("mcopy") is None or shutil.which("fsck.fat", path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip("mtools or dosfstools is not here")
    image = tmp_path / "floppy.img"
    image.write_bytes(installer_iso.floppy(files))
    assert image.stat().st_size == 1474560
    done = subprocess.run(["/usr/sbin/fsck.fat", "-n", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for name, content in files.items():
        subprocess.run(["mcopy", "-n", "-i", str(image), f"::{name}", str(tmp_path / "out")], check=True)
        assert (tmp_path / "out").read_bytes() == content
        (tmp_path / "out").unlink()
    assert installer_iso.floppy(files) == installer_iso.floppy(files)


def test_what_does_not_fit_on_a_floppy():
    with pytest.raises(ImageRefused, match="Give them on an ISO"):
        installer_iso.floppy({"a": bytes(1474560)})


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not here")
def test_an_archive_ends_as_cpio_ends_one():
    done = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b"", capture_output=True, check=True)
    assert installer_iso.archive({}) == done.stdout


def test_what_is_no_boot_record_is_not_read_as_one():
    """Its first byte says what a descriptor is: 0 is a boot record, 2 a supplementary volume."""
    for kind, bios in ((0, True), (2, False)):
        record = bytearray(installer_iso.SECTOR)
        record[:39] = bytes([kind]) + b"CD001\1" + b"EL TORITO SPECIFICATION".ljust(32, b"\0")
        struct.pack_into("<I", record, 71, 18)
        record[-1] = 1 - kind // 2
        header = bytearray(b"\1" + bytes(29) + b"\x55\xaa")
        struct.pack_into("<H", header, 28, -sum(struct.unpack("<16H", header)) & 0xFFFF)
        catalog = (bytes(header) + b"\x88" + bytes(31)).ljust(installer_iso.SECTOR, b"\0")
        end = (b"\xffCD001\1").ljust(installer_iso.SECTOR, b"\0")
        assert installer_iso._boots(io.BytesIO(bytes(16 * installer_iso.SECTOR) + record + end + catalog)) == (
            bios,
            False,
        )
