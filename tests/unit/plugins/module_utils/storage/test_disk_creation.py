# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are made, copied and grown: their sizes, what qemu-img is told, and keys of encrypted ones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ImageRefused,
    InvalidValue,
    NotFound,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    disk_creation,
    disk_formats,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.qemu_img import MIB
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img, qcow2

RAW = 'json:{"driver": "raw", "file": {"driver": "file", "filename": "/x/source"}}'


# -- sizes -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=20, deadline=None)
def test_the_size_that_a_machine_sees_is_in_the_header(tmp_path_factory, size):
    path = tmp_path_factory.getbasetemp() / "sized"
    path.write_bytes(qcow2(size=size))
    assert disk_creation.virtual_size(str(path), "qcow2") == size
    assert disk_creation.virtual_size(str(path), "raw") == 104


@pytest.mark.parametrize("content", [b"", b"QFI\xfb", qcow2()[:31], b"a raw disk" * 100])
def test_a_disk_that_is_not_what_the_catalog_says(disk, content):
    with pytest.raises(ImageRefused) as caught:
        disk_creation.virtual_size(path := disk(content), "qcow2")
    assert caught.value.asked == f"disk {path}"
    assert caught.value.found == "it is no qcow2 file, as the catalog says"


@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_the_size_of_a_missing_disk(format):
    with pytest.raises(NotFound):
        disk_creation.virtual_size("/nowhere/disk", format)


# -- disks that are made ---------------------------------------------------------------------------------------------


def test_an_empty_raw_disk_takes_no_room(tmp_path):
    path = tmp_path / "disk"
    disk_creation.create_empty(str(path), "raw", 5 * MIB)
    found = path.stat()
    assert (found.st_size, found.st_blocks, found.st_mode & 0o777) == (5 * MIB, 0, 0o600)


def test_an_empty_disk_is_not_made_over_another(disk):
    path = disk(b"a guest's")
    with pytest.raises(InvalidValue, match="File exists"):
        disk_creation.create_empty(path, "raw", MIB)
    assert Path(path).read_bytes() == b"a guest's"


@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_an_unknown_file_system_is_told_with_those_that_are_known(tmp_path, format):
    with pytest.raises(Unsupported, match=r"file system reiserfs: it is not known here. Choose one of ext2, ext3"):
        disk_creation.create_empty(str(tmp_path / "disk"), format, MIB, "reiserfs")
    assert not (tmp_path / "disk.raw").exists()


@pytest.mark.skipif(shutil.which("mkfs.ext4", path="/usr/sbin:/sbin") is None, reason="mkfs.ext4 is not on this host")
def test_a_file_system_that_does_not_fit_says_what_helps(disk):
    path = disk(bytes(512))
    with pytest.raises(CommandFailed, match="give it a larger size"):
        disk_creation.make_filesystem(path, "ext4")


@needs_qemu_img
@pytest.mark.skipif(shutil.which("mkswap", path="/usr/sbin:/sbin") is None, reason="mkswap is not on this host")
@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_swap_in_a_disk_of_each_format(tmp_path, format):
    path, plain = str(tmp_path / "disk"), str(tmp_path / "plain")
    # What a killed run left is in nobody's way.
    Path(path + ".raw").write_bytes(b"half")
    disk_creation.create_empty(path, format, 2 * MIB, "swap")
    disk_creation.copy(path, format, plain, "raw")
    assert Path(plain).read_bytes()[4086:4096] == b"SWAPSPACE2"
    assert disk_creation.virtual_size(path, format) == 2 * MIB
    assert format == "raw" or not os.path.exists(path + ".raw")


@pytest.mark.parametrize(
    "act",
    [
        lambda path: disk_creation.create_empty(path, "vmdk", MIB),
        lambda path: disk_creation.create_overlay(path, path, "vmdk", MIB),
        lambda path: disk_creation.copy(path, "vmdk", path, "raw"),
        lambda path: disk_creation.copy(path, "raw", path, "vmdk"),
        lambda path: disk_creation.rewrite(path, "vmdk", path, "raw"),
        lambda path: disk_creation.rewrite(path, "raw", path, "vmdk"),
        lambda path: disk_creation.resize(path, "vmdk", MIB),
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
        disk_creation.create_overlay(path := str(tmp_path / "disk.0"), base, "raw", 2 * MIB + MIB // 2)
    assert caught.value.asked == f"disk {path}: size 2.5 MiB" and caught.value.found == "its image has 3 MiB"
    assert "leave SIZE out, or raise it" in caught.value.remedy and not os.path.exists(path)


def test_an_overlay_is_told_format_and_size_of_its_base(disk, qemu_img):
    base = disk(bytes(MIB))
    disk_creation.create_overlay("/x/disk.0", base, "raw", MIB)
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
        disk_creation.copy(source, before, target, after)
        assert disk_creation.virtual_size(target, after) == len(content)
        source = target
    assert Path(source).read_bytes() == content


@needs_qemu_img
@pytest.mark.parametrize("format", disk_formats.FORMATS)
def test_a_disk_grows_and_never_shrinks(tmp_path, format):
    path = str(tmp_path / "disk")
    disk_creation.create_empty(path, format, 2 * MIB)
    assert disk_creation.resize(path, format, 3 * MIB) is True
    assert disk_creation.resize(path, format, 3 * MIB) is False
    assert disk_creation.resize(path, format, MIB) is False
    assert disk_creation.virtual_size(path, format) == 3 * MIB


@needs_qemu_img
def test_the_room_that_is_asked_for_is_enough(disk, tmp_path):
    source, target = disk(os.urandom(300_000) + bytes(2 * MIB)), tmp_path / "target"
    room = disk_creation.room_for(source, "raw", "qcow2")
    disk_creation.rewrite(source, "raw", str(target), "qcow2")
    assert target.stat().st_size <= room


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_goes_through_a_pipe_and_not_through_arguments(qemu_img):
    disk_creation.create_empty("/x/disk", "qcow2", MIB, key="passphrase")
    assert qemu_img.input == "passphrase" and not any("passphrase" in word for word in qemu_img.told)
    assert qemu_img.told == [
        *("create", "--object", "secret,id=key,file=/dev/stdin", "-q", "-f", "qcow2", "-o", disk_creation.LUKS),
        *("/x/disk", str(MIB)),
    ]


def test_nothing_of_keys_is_said_without_one(qemu_img):
    disk_creation.create_empty("/x/disk", "qcow2", MIB)
    assert qemu_img.told == ["create", "-q", "-f", "qcow2", "/x/disk", str(MIB)] and qemu_img.input == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["-S", "4k", "-O", "qcow2", RAW]),
        ({"compress": True}, ["-S", "4k", "-c", "-O", "qcow2", RAW]),
        ({"key": "k"}, ["-S", "4k", "-O", "qcow2", "-o", disk_creation.LUKS, RAW]),
    ],
)
def test_what_rewriting_says_to_qemu_img(qemu_img, options, expected):
    disk_creation.rewrite("/x/source", "raw", "/x/target", "qcow2", **options)
    assert [word for word in qemu_img.told if word not in ("--object", "secret,id=key,file=/dev/stdin")] == [
        "convert", "-q", *expected, "/x/target",
    ]  # fmt: skip
    assert qemu_img.input == options.get("key", "")


def test_a_comma_in_the_name_of_an_encrypted_disk_is_part_of_it(disk, qemu_img):
    path = disk(qcow2(crypt=2), "a,b")
    disk_creation.rewrite(path, "qcow2", "/x/target", "raw", source_key="k")
    named = next(word for word in qemu_img.told if word.startswith("json:"))
    assert json.loads(named[5:]) == {
        "driver": "qcow2", "file": {"driver": "file", "filename": path}, "backing": None,
        "encrypt": {"key-secret": "key"},
    }  # fmt: skip
    assert "-f" not in qemu_img.told


def test_a_processor_that_could_not_be_measured_is_tried_again(qemu_img):
    qemu_img.answers(err="qemu-img: Unable to get accurate CPU usage\n", code=1, times=2)
    disk_creation.create_empty("/x/disk", "qcow2", MIB, key="k")
    assert qemu_img.times == 3


def test_without_a_key_nothing_is_measured_and_nothing_tried_again(qemu_img):
    qemu_img.answers(err="qemu-img: Unable to get accurate CPU usage\n", code=1, times=2)
    with pytest.raises(CommandFailed, match="accurate CPU usage"):
        disk_creation.create_empty("/x/disk", "qcow2", MIB)
    assert qemu_img.times == 1


def test_any_other_failure_is_told_at_once(qemu_img):
    qemu_img.answers(err="qemu-img: Permission denied\n", code=1)
    with pytest.raises(CommandFailed, match="Permission denied"):
        disk_creation.create_empty("/x/disk", "qcow2", MIB, key="k")
    assert qemu_img.times == 1


def test_a_wrong_passphrase_is_told_as_such(disk, qemu_img):
    qemu_img.answers(err="qemu-img: Could not open '/x': Invalid password, cannot unlock any keyslot\n", code=1)
    with pytest.raises(InvalidValue) as caught:
        disk_creation.rewrite(disk(qcow2(crypt=2)), "qcow2", "/x/target", "raw", source_key="no such")
    assert caught.value.found == "the passphrase does not open the disk"
    assert caught.value.remedy == "Give the one that it was encrypted with"
    assert "no such" not in str(caught.value)
