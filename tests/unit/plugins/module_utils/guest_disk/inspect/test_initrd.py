# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drivers are found in initial RAM disks, however many archives these consist of and however the last is packed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess

import pytest
from hostile import bounded
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect import initrd

WHAT = "image web: /boot/initrd.img-6.1"
DRIVERS = {
    "usr/lib/modules/6.1/kernel/virtio-blk.ko": b"x" * 5,
    "lib/modules/6.1/kernel/net/virtio_net.ko.xz": b"",
    "lib/modules/6.1/modules.dep": b"kernel/a.ko: kernel/b.ko\n",
    "init": b"#!/bin/sh\n",
}
FOUND = frozenset({"virtio_blk", "virtio_net"})
MICROCODE = {"kernel/x86/microcode/GenuineIntel.bin": b"\1" * 77}


def entry(name: str, content: bytes, magic: bytes = b"070701") -> bytes:
    """As the kernel's documentation has it: thirteen numbers of eight digits, name and content to multiples of four."""
    length = len(name.encode()) + 1
    numbers = [1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, length, 0]
    head = magic + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def cpio(files, magic: bytes = b"070701") -> bytes:
    return b"".join(entry(name, content, magic) for name, content in files.items()) + entry("TRAILER!!!", b"", magic)


def found(tmp_path, data: bytes):
    path = tmp_path / "initrd"
    path.write_bytes(data)
    return initrd.modules(str(path), WHAT)


def zstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, zstd, bz2.compress])
@pytest.mark.parametrize("before", [b"", cpio(MICROCODE), cpio(MICROCODE) + bytes(300) + cpio({"etc/x": b"y"})])
def test_drivers_of_an_archive_behind_others(tmp_path, before, pack):
    assert found(tmp_path, before + pack(cpio(DRIVERS))) == FOUND


def test_archives_with_checksums(tmp_path):
    assert found(tmp_path, cpio(DRIVERS, b"070702")) == FOUND


def test_zeroes_behind_the_archive(tmp_path):
    assert found(tmp_path, cpio(DRIVERS) + bytes(1024)) == FOUND


def test_what_the_program_cpio_writes(tmp_path):
    if shutil.which("cpio") is None:
        pytest.skip("needs cpio")
    place = tmp_path / "tree/lib/modules"
    place.mkdir(parents=True)
    (place / "ext4.ko.zst").write_bytes(b"z" * 1001)
    names = "lib\nlib/modules\nlib/modules/ext4.ko.zst\n"
    done = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=tmp_path / "tree",
                          capture_output=True, check=True)  # fmt: skip
    assert found(tmp_path, gzip.compress(done.stdout)) == {"ext4"}


@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}(\.ko)?", fullmatch=True), st.binary(max_size=9), max_size=5))
@settings(max_examples=50, deadline=None)
def test_contents_of_any_length_move_no_name(tmp_path_factory, files):
    place = tmp_path_factory.mktemp("initrd")
    assert found(place, cpio(files)) == {name[:-3] for name in files if name.endswith(".ko")}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "its packing is not known here"),
        (b"\x02\x21\x4c\x18lz4", "its packing is not known here"),
        (cpio(DRIVERS)[:150], "it is no cpio archive: it ends before its content does"),
        (cpio(DRIVERS)[:60], "it is no cpio archive: it ends before its content does"),
        (entry("a", b"1234") + b"x" * 200, "a header is not where it should be"),
        (gzip.compress(b"no archive" * 20, mtime=0), "a header is not where it should be"),
        (gzip.compress(cpio(DRIVERS), mtime=0)[:-20], "the compressed file is damaged or truncated"),
        (entry("a", b"")[:94] + b"00002000" + bytes(9000), "a name is too long"),
        (entry("a", b"")[:54] + b"nonumber" + entry("a", b"")[62:], "it is no cpio archive"),
    ],
)
def test_what_is_no_initial_ram_disk_is_refused_and_told(tmp_path, data, said):
    with pytest.raises(ImageRefused) as caught:
        found(tmp_path, data)
    assert caught.value.asked == WHAT and said in caught.value.found
    drivers, why = initrd.modules_or_reason(str(tmp_path / "initrd"), WHAT)
    assert drivers is None and said in why


@pytest.mark.parametrize("digits", [b"-0000070", b"-000ffff", b"+0000000", b"0x000000", b"0_000000", b" 0000000"])
def test_a_number_that_is_none_is_refused_and_leads_nowhere(tmp_path, digits):
    # With a name of one letter, header and name are 112 bytes.
    for at in (54, 94):
        data = bytearray(entry("a", b"") * 2)
        data[at : at + 8] = digits
        with bounded(repr(digits)), pytest.raises(ImageRefused, match="a number in a header is none"):
            found(tmp_path, bytes(data))


@pytest.mark.parametrize("where", ["before", "behind"])
def test_padding_of_any_length(tmp_path, where):
    path = tmp_path / "initrd"
    with path.open("wb") as file:
        file.write(cpio(MICROCODE if where == "before" else DRIVERS))
        file.seek(256 << 20)
        file.write(cpio(DRIVERS) if where == "before" else b"")
        file.truncate()
    with bounded(where, 2):
        assert initrd.modules(str(path), WHAT) == FOUND


def test_files_without_end(tmp_path):
    """Each takes as long as any other, and there would be eighteen millions of them."""
    path = tmp_path / "initrd"
    path.write_bytes(gzip.compress(entry("x", b"") * 210_000 + cpio(DRIVERS)))
    with bounded("files", 5), pytest.raises(ImageRefused, match="more than 200000 files"):
        initrd.modules(str(path), WHAT)


def test_archives_without_end(tmp_path):
    path = tmp_path / "initrd"
    path.write_bytes(cpio(MICROCODE) * 100_000 + cpio(DRIVERS))
    with bounded("archives"), pytest.raises(ImageRefused, match="more than 100 archives"):
        initrd.modules(str(path), WHAT)


def test_another_packing_has_a_remedy(tmp_path):
    with pytest.raises(ImageRefused, match="Use gzip, xz or zstd for it"):
        found(tmp_path, b"\x02\x21\x4c\x18lz4")


def test_content_without_end_is_not_unpacked(tmp_path, monkeypatch):
    """The limit is lowered for it."""
    monkeypatch.setattr(initrd, "LIMIT", 10_000)
    with pytest.raises(ImageRefused, match="it holds more than 10000 bytes"):
        found(tmp_path, gzip.compress(cpio({"zeroes": bytes(20_000)})))


def test_a_file_that_is_not_there(tmp_path):
    drivers, why = initrd.modules_or_reason(str(tmp_path / "gone"), WHAT)
    assert drivers is None and "No such file" in why


def test_no_obstacle(tmp_path):
    (tmp_path / "initrd").write_bytes(cpio(DRIVERS))
    assert initrd.modules_or_reason(str(tmp_path / "initrd"), WHAT) == (FOUND, "")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("kernel/drivers/virtio-scsi.ko", ["virtio_scsi"]),
        ("a.ko.gz", ["a"]),
        ("a.ko.zst", ["a"]),
        ("a.ko.sig", []),
        ("modules.dep", []),
        ("a.ko/file", []),
        (".ko", []),
    ],
)
def test_names_of_drivers(path, names):
    assert list(initrd.module_names(path)) == names
