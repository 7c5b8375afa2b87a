# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is written anew beside itself and takes its own place at the end, and a copy of a file is the file.

Only root can give a file away, so os.chown, the seam to the operating system, is replaced by one that does nothing."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ImageRefused,
    InvalidValue,
    NoSpace,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_creation, image_files
from ansible_collections.nebula.provision.plugins.module_utils.storage.image_files import BESIDE, MIB, WORK
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img

pytestmark = pytest.mark.usefixtures("no_owners")
BLOCK = 64 * 1024


@pytest.fixture
def no_clones(monkeypatch):
    """A file system that can't share blocks: the ioctl of the operating system is the seam."""
    monkeypatch.setattr(files, "clone", lambda _source, _target: False)


@pytest.fixture
def full(monkeypatch):
    """A file system with no byte left besides those that are kept free: os.statvfs is the seam to it."""
    found = os.statvfs("/")
    answer = os.statvfs_result((4096, 4096, 1 << 30, 64 * 256, 64 * 256, *tuple(found)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: answer)


# -- a copy ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * BLOCK)), max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_copy_is_its_source_holes_and_all(tmp_path_factory, parts):
    """Each part is written, or a hole."""
    base = tmp_path_factory.mktemp("copy")
    source, target = base / "source", base / "target"
    with source.open("wb") as file:
        for written, length in parts:
            if written:
                file.write(b"x" * length)
            else:
                file.seek(length, os.SEEK_CUR)
        file.truncate(file.tell())
    image_files.duplicate(str(source), str(target), "x")
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 8 * len(parts)


@pytest.mark.usefixtures("no_clones")
def test_a_copy_tells_how_far_it_is(tmp_path, monkeypatch):
    """Its steps are shorter here, as 64 MiB would take too long."""
    monkeypatch.setattr(image_files, "_STEP", MIB // 2)
    said: list[str] = []
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"x" * MIB)
        file.seek(3 * MIB)
        file.write(b"y" * MIB)
    image_files.duplicate(str(source), str(tmp_path / "target"), "x", said.append)
    assert said == ["12 %", "25 %", "87 %", "100 %"] and (tmp_path / "target").read_bytes() == source.read_bytes()


@pytest.mark.usefixtures("no_clones")
def test_a_copy_between_file_systems_that_the_kernel_does_not_join(tmp_path, monkeypatch):
    """os.copy_file_range, the seam to the operating system, fails as older kernels do."""

    def refuse(*_arguments):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    content = os.urandom(MIB + 5000)
    (tmp_path / "source").write_bytes(content)
    image_files.duplicate(str(tmp_path / "source"), str(tmp_path / "target"), "x")
    assert (tmp_path / "target").read_bytes() == content


@pytest.mark.usefixtures("no_clones")
def test_a_source_that_becomes_shorter_is_told(tmp_path, monkeypatch):
    """As above: nothing is there any more to be copied."""
    monkeypatch.setattr(os, "copy_file_range", lambda *_arguments: 0)
    (tmp_path / "source").write_bytes(b"content")
    with pytest.raises(ImageRefused, match=r"copying its file: it became shorter meanwhile. Run again"):
        image_files.duplicate(str(tmp_path / "source"), str(tmp_path / "target"), "x")


def test_a_copy_takes_nobodys_place(tmp_path):
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(InvalidValue, match=f"path {tmp_path / 'target'}: File exists"):
        image_files.duplicate(str(tmp_path / "source"), str(tmp_path / "target"), "x")
    assert (tmp_path / "target").read_bytes() == b"old"
    with pytest.raises(NotFound, match=f"path {tmp_path / 'nowhere'}"):
        image_files.duplicate(str(tmp_path / "nowhere"), str(tmp_path / "other"), "x")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("full", "no_clones")
@pytest.mark.parametrize(("content", "fits"), [(b"", True), (b"x" * BLOCK, False)])
def test_a_copy_needs_room_for_what_the_file_holds(tmp_path, content, fits):
    source = tmp_path / "source"
    source.write_bytes(content)
    os.truncate(source, 9 * MIB)
    if fits:
        image_files.duplicate(str(source), str(tmp_path / "target"), "a copy")
        assert (tmp_path / "target").stat().st_size == 9 * MIB
    else:
        with pytest.raises(NoSpace, match=rf"^a copy: 0.1 MiB in {tmp_path}"):
            image_files.duplicate(str(source), str(tmp_path / "target"), "a copy")


# -- an image written anew -------------------------------------------------------------------------------------------


@needs_qemu_img
@pytest.mark.parametrize("compress", [False, True])
def test_a_disk_is_written_anew_beside_itself_and_then_in_its_place(tmp_path, compress):
    image, plain = tmp_path / "image", tmp_path / "plain"
    content = b"content" * 10_000 + bytes(MIB)
    image.write_bytes(content.ljust(2 * MIB, b"\0"))
    # What a killed run left is taken away, and not written to.
    (tmp_path / "elsewhere").write_bytes(b"somebody's")
    Path(str(image) + WORK).symlink_to("elsewhere")
    image_files.rewrite(str(image), "raw", "qcow2", 3 * MIB, compress, "", "")
    assert image_files.has_work(str(image)) and image.read_bytes().startswith(content)
    image_files.swap(str(image), writable=False)
    assert not image_files.has_work(str(image)) and sorted(os.listdir(tmp_path)) == ["elsewhere", "image"]
    assert (tmp_path / "elsewhere").read_bytes() == b"somebody's"
    assert disk_creation.virtual_size(str(image), "qcow2") == 3 * MIB and not image.stat().st_mode & 0o222
    disk_creation.copy(str(image), "qcow2", str(plain), "raw")
    assert plain.read_bytes() == content.ljust(3 * MIB, b"\0")


@pytest.mark.parametrize("writable", [False, True])
def test_what_takes_the_place_of_an_image_has_its_mode(tmp_path, writable):
    (tmp_path / "image").write_bytes(b"old")
    (tmp_path / ("image" + WORK)).write_bytes(b"new")
    image_files.swap(str(tmp_path / "image"), writable)
    mode = stat.S_IMODE((tmp_path / "image").stat().st_mode)
    assert (tmp_path / "image").read_bytes() == b"new" and bool(mode & stat.S_IWUSR) is writable
    assert not mode & stat.S_IRWXO


def test_what_was_made_is_undone_and_the_image_stays(tmp_path):
    (tmp_path / "image").write_bytes(b"old")
    (tmp_path / ("image" + WORK)).symlink_to("nowhere")
    assert image_files.has_work(str(tmp_path / "image"))
    image_files.undo(str(tmp_path / "image"))
    image_files.undo(str(tmp_path / "image"))
    assert not image_files.has_work(str(tmp_path / "image")) and os.listdir(tmp_path) == ["image"]


def test_what_was_to_be_put_into_a_disk_is_taken_away(tmp_path):
    beside = tmp_path / ("image" + BESIDE)
    beside.mkdir()
    (beside / "file0").write_bytes(b"x")
    (tmp_path / "image").write_bytes(b"disk")
    image_files.remove_additions(str(tmp_path / "image"))
    image_files.remove_additions(str(tmp_path / "image"))
    assert os.listdir(tmp_path) == ["image"]


def test_an_image_grows_in_its_own_file(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"content")
    inode = image.stat().st_ino
    image_files.grow(str(image), "raw", MIB, "")
    image_files.grow(str(image), "raw", 1, "")
    assert image.stat().st_ino == inode and image.read_bytes() == b"content".ljust(MIB, b"\0")


@pytest.mark.skipif(shutil.which("fallocate") is None, reason="program fallocate is not on this host")
def test_zeroes_become_holes_and_the_content_stays(tmp_path):
    image = tmp_path / "image"
    content = b"x" * BLOCK + bytes(MIB) + b"y" * BLOCK
    image.write_bytes(content)
    image_files.dig_holes(str(image))
    assert image.read_bytes() == content and image.stat().st_blocks * 512 < MIB // 2


@needs_qemu_img
@pytest.mark.usefixtures("full")
def test_room_is_asked_for_before_anything_is_written(tmp_path):
    (tmp_path / "image").write_bytes(b"x" * MIB)
    with pytest.raises(NoSpace, match=rf"^compressing: 5.\d MiB in {tmp_path}"):
        image_files.require_room(str(tmp_path / "image"), "raw", "qcow2", "", "compressing")


@pytest.mark.usefixtures("full")
def test_what_is_encrypted_takes_what_it_takes_now(tmp_path):
    (tmp_path / "image").write_bytes(b"x" * MIB)
    with pytest.raises(NoSpace, match=r"^sealing: 5.0 MiB in "):
        image_files.require_room(str(tmp_path / "image"), "qcow2", "qcow2", "key", "sealing")
