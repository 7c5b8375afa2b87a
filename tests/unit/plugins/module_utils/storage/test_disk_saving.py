# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk becomes a file that stands alone, there whole or not at all, and snapshots are made, reverted to and removed.

Only root can give a file away, so os.chown, the seam to the operating system, is replaced by one that does nothing."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ImageRefused,
    NebulaError,
    NoSpace,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_saving
from ansible_collections.nebula.provision.plugins.module_utils.storage.disk_saving import MIB, Saved
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img

pytestmark = pytest.mark.usefixtures("no_owners")
HEAD = b"what the guest wrote"


def qemu_img(*words: object) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


def full(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Have the file system so many bytes besides those that are kept free: os.statvfs is the seam to it."""
    blocks = (free + 64 * MIB) // 4096
    found = os.statvfs("/")
    answer = os.statvfs_result((4096, 4096, 1 << 30, blocks, blocks, *tuple(found)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: answer)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(HEAD)
    os.truncate(path, 3 * MIB)
    return path


@pytest.fixture
def chain(tmp_path: Path, raw: Path) -> DiskFiles:
    """An overlay that holds a change at the second MiB, over a raw image."""
    path = tmp_path / "disk.0"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, path)
    return DiskFiles(str(path), "qcow2", ((str(raw), "raw"),))


def read(path: Path, tmp_path: Path, format: str = "qcow2") -> bytes:
    qemu_img("convert", "-f", format, "-O", "raw", path, tmp_path / "read.raw")
    return (tmp_path / "read.raw").read_bytes()


# -- a place ---------------------------------------------------------------------------------------------------------


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    target = tmp_path / "image"
    target.write_bytes(b"what a killed run had made")
    with disk_saving.new_image_file(str(target), "disk 0") as new:
        assert not target.exists() and os.path.dirname(new) == str(tmp_path)
        Path(new).write_bytes(b"whole")
    assert target.read_bytes() == b"whole" and os.listdir(tmp_path) == ["image"]
    assert not target.stat().st_mode & (stat.S_IWUSR | stat.S_IRWXO)


def test_on_an_error_there_is_nothing(tmp_path):
    with pytest.raises(KeyError), disk_saving.new_image_file(str(tmp_path / "image"), "disk 0") as new:
        Path(new).write_bytes(b"half")
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_what_was_not_made_is_an_error(tmp_path):
    with (
        pytest.raises(NebulaError, match="No such file"),
        disk_saving.new_image_file(str(tmp_path / "image"), "disk 0"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_datastore_that_is_not_here_is_told(tmp_path):
    with pytest.raises(NotFound) as caught, disk_saving.new_image_file(str(tmp_path / "gone" / "image"), "disk 0"):
        pytest.fail("there is no place")
    assert caught.value.asked == f"disk 0: directory {tmp_path / 'gone'} on this node"
    assert caught.value.remedy == "Mount the front-end's datastores here"


def test_an_empty_file_for_qemu_is_writable_by_its_group(tmp_path):
    disk_saving.make_empty(str(tmp_path / "new"), "raw", MIB)
    found = (tmp_path / "new").stat()
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (MIB, 0o660)


# -- room that holds nothing -----------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=5))
@settings(max_examples=15, deadline=None)
def test_what_is_reserved_is_given_back_and_the_content_stays(tmp_path_factory, parts):
    """Each part is 64 KiB, either written or only reserved."""
    path, length = tmp_path_factory.getbasetemp() / "reserved", 64 * 1024
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        for number, written in enumerate(parts):
            if written:
                os.pwrite(file.fileno(), b"x" * length, number * length)
        if parts:
            os.posix_fallocate(file.fileno(), 0, len(parts) * length)
    # Not read before: what a kernel has read of it counts as content.
    disk_saving.make_sparse(str(path))
    assert path.stat().st_blocks * 512 <= length * sum(parts) + 4096
    assert path.read_bytes() == b"".join((b"x" if written else b"\0") * length for written in parts)


def test_a_link_is_not_made_sparse(tmp_path, raw):
    (tmp_path / "link").symlink_to(raw)
    with pytest.raises(NebulaError, match="a symbolic link is there"):
        disk_saving.make_sparse(str(tmp_path / "link"))


# -- room that is needed ---------------------------------------------------------------------------------------------


def test_a_raw_disk_takes_what_it_holds(raw, monkeypatch):
    """Without its holes, as long as no machine writes it meanwhile."""
    target, files = str(raw.parent / "copy"), DiskFiles(str(raw), "raw")
    full(monkeypatch, 2 * MIB)
    disk_saving.require_room(target, files, "raw", "saving it")
    with pytest.raises(NoSpace, match=rf"^saving it: 4.0 MiB in {raw.parent}: 2.0 MiB are free"):
        disk_saving.require_room(target, files, "raw", "saving it", running=True)


def test_what_is_below_a_disk_is_copied_too(raw, monkeypatch):
    below = raw.parent / "below"
    below.write_bytes(b"x" * 2 * MIB)
    files = DiskFiles(str(raw), "raw", ((str(below), "raw"),))
    full(monkeypatch, 3 * MIB + 8192)
    disk_saving.require_room(str(raw.parent / "copy"), files, "raw", "x")
    full(monkeypatch, 3 * MIB)
    with pytest.raises(NoSpace):
        disk_saving.require_room(str(raw.parent / "copy"), files, "raw", "x")


@needs_qemu_img
@pytest.mark.parametrize(("format", "running", "free", "fits"), [
    ("qcow2", False, 4.1, True),
    ("qcow2", False, 2.0, True),
    ("qcow2", False, 1.0, False),
    ("raw", False, 2.0, True),
    ("raw", True, 3.9, False),
    ("raw", True, 4.0, True),
    ("qcow2", True, 2.5, True),
])  # fmt: skip
def test_only_what_an_overlay_and_its_image_hold_has_to_fit(chain, monkeypatch, format, running, free, fits):
    """Of 3 MiB, some hundred KiB hold anything; one MiB is kept besides. QEMU writes all of a raw disk."""
    target = os.path.join(os.path.dirname(chain.path), "copy")
    full(monkeypatch, int(free * MIB))
    if fits:
        disk_saving.require_room(target, chain, format, "x", running)
    else:
        with pytest.raises(NoSpace):
            disk_saving.require_room(target, chain, format, "x", running)


# -- a file that stands alone ----------------------------------------------------------------------------------------


@needs_qemu_img
def test_an_overlay_is_saved_with_what_is_below_it(chain, tmp_path):
    disk_saving.flatten(chain, str(tmp_path / "saved"), False, "x")
    assert "backing" not in qemu_img("info", tmp_path / "saved")
    assert read(tmp_path / "saved", tmp_path).rstrip(b"\0") == HEAD


def test_a_disk_that_says_that_it_rests_on_a_file_which_the_catalog_does_not_know_is_refused(chain, tmp_path):
    """A QEMU that was taken over has written that there is one."""
    alone = DiskFiles(chain.path, "qcow2")
    other = DiskFiles(chain.path, "qcow2", (("/x/other", "raw"),))
    for files in (alone, other):
        for act in (
            lambda files=files: disk_saving.flatten(files, str(tmp_path / "saved"), False, "x"),
            lambda files=files: disk_saving.create_snapshot(files, "a"),
        ):
            with pytest.raises(ImageRefused, match=rf"says that it rests on '{tmp_path}/disk.raw'"):
                act()
    assert not (tmp_path / "saved").exists()


@needs_qemu_img
@pytest.mark.parametrize(("format", "encrypted"), [("raw", False), ("qcow2", True)])
def test_a_raw_or_an_encrypted_disk_is_copied_byte_by_byte(raw, tmp_path, format, encrypted):
    disk_saving.flatten(DiskFiles(str(raw), format), str(tmp_path / "saved"), encrypted, "x")
    assert (tmp_path / "saved").read_bytes() == raw.read_bytes()


def test_a_disk_whose_content_is_in_another_file_is_refused(tmp_path):
    path = tmp_path / "disk.0"
    path.write_bytes(b"QFI\xfb" + struct.pack(">I", 3) + bytes(64) + struct.pack(">Q", 4))
    files = DiskFiles(str(path), "qcow2")
    for act in (
        lambda: disk_saving.flatten(files, str(tmp_path / "saved"), False, "saving it"),
        lambda: disk_saving.snapshot_tags(files),
        lambda: disk_saving.create_snapshot(files, "a"),
    ):
        with pytest.raises(ImageRefused, match=r"says that its content is in another file. It was tampered with"):
            act()
    assert os.listdir(tmp_path) == ["disk.0"]


@pytest.mark.parametrize(("size", "expected"), [(0, Saved(3, "raw")), (3 * MIB, Saved(3, "raw")), (3 * MIB + 1, None)])
def test_what_was_saved_is_as_large_as_its_disk(raw, size, expected):
    if expected:
        assert disk_saving.verify(str(raw), "raw", size, False, "x") == expected
    else:
        with pytest.raises(ImageRefused, match=f"it has {3 * MIB} bytes, and the disk {size}. Run again"):
            disk_saving.verify(str(raw), "raw", size, False, "x")


@needs_qemu_img
def test_what_was_saved_names_no_other_file_and_its_size_is_rounded_up(chain, tmp_path):
    with pytest.raises(ImageRefused, match="names another file"):
        disk_saving.verify(chain.path, "qcow2", 0, False, "x")
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "saved", MIB + 512)
    assert disk_saving.verify(str(tmp_path / "saved"), "qcow2", MIB, False, "x") == Saved(2, "qcow2")


# -- snapshots -------------------------------------------------------------------------------------------------------


@needs_qemu_img
def test_a_snapshot_is_made_once_reverted_to_and_removed_once(chain):
    assert disk_saving.snapshot_tags(chain) == []
    assert disk_saving.create_snapshot(chain, "nebula-0") is True
    assert disk_saving.create_snapshot(chain, "nebula-0") is False
    assert disk_saving.snapshot_tags(chain) == ["nebula-0"]
    disk_saving.revert(chain, "nebula-0", "disk 0")
    assert disk_saving.delete_snapshot(chain, "nebula-0") is True
    assert disk_saving.delete_snapshot(chain, "nebula-0") is False
    with pytest.raises(NotFound) as caught:
        disk_saving.revert(chain, "nebula-0", "disk 0: snapshot 0")
    assert caught.value.asked == "disk 0: snapshot 0"
    assert caught.value.found == f"{chain.path} holds none of that name"


@needs_qemu_img
def test_bitmaps_of_backups_go_before_a_disk_goes_back_and_those_of_others_keep_it(chain):
    disk_saving.create_snapshot(chain, "nebula-0")
    for name in ("nebula-0123abcd-b", "nebula-4567abcd-d"):
        qemu_img("bitmap", "--add", chain.path, name)
    disk_saving.revert(chain, "nebula-0", "disk 0")
    assert "nebula-0123abcd-b" not in str(qemu_img("info", chain.path))
    for name in ("nebula-0123abcd-b", "theirs"):
        qemu_img("bitmap", "--add", chain.path, name)
    with pytest.raises(Conflict, match="bitmaps of somebody else, with which it can't go back: theirs"):
        disk_saving.revert(chain, "nebula-0", "disk 0")
