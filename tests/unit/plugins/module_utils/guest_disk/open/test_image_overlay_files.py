# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's file is changed at one go, finished by the next run where one was ended, and left alone where it may not
be written to. QEMU's own tool writes; what opens a guest is in tests/integration/test_image_edits.py."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    ForeignObject,
    ImageRefused,
    InUse,
    InvalidValue,
    NoSpace,
    NotFound,
    TimedOut,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import image_overlay
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open.image_overlay import Image
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names

WHAT = "image web"
MIB = 1024 * 1024
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")


@pytest.fixture
def image(tmp_path) -> Image:
    path = tmp_path / "web.img"
    path.write_bytes(b"old!" * 16384)
    return Image(str(path), "raw", False, WHAT)


def written(overlay: Path) -> None:
    """As a guest that writes into the first sector."""
    # 0x6e is n.
    program = ["qemu-io", "-f", "qcow2", "-c", "write -P 0x6e 0 512", str(overlay)]
    subprocess.run(program, check=True, capture_output=True)


def content(image: Image) -> bytes:
    return Path(image.path).read_bytes()


NEW = b"n" * 512 + (b"old!" * 16384)[512:]


# --- which file it is ------------------------------------------------------------------------------------------------


def test_an_image_is_found_behind_a_link(tmp_path, image):
    (tmp_path / "link").symlink_to(image.path)
    found = image_overlay.locate(str(tmp_path / "link"), "auto", True)
    assert found == Image(os.path.realpath(image.path), "raw", True, f"image {tmp_path}/link")


def test_the_format_that_was_said_is_believed(image):
    assert image_overlay.locate(image.path, "qcow2", False).format == "qcow2"


@pytest.mark.parametrize("find", [image_overlay.locate, lambda *words: image_overlay.locate_for_reading(*words, WHAT)])
@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [("web.img", InvalidValue, "the path is not absolute"), ("DIR", InvalidValue, "it is not a regular file"),
     ("DIR/gone", NotFound, "no such file")],
)  # fmt: skip
def test_what_is_no_image(tmp_path, find, path, kind, said):
    with pytest.raises(kind) as caught:
        find(path.replace("DIR", str(tmp_path)), "auto", False)
    assert said in caught.value.found.lower() and caught.value.remedy


def test_a_format_that_is_not_known(image):
    with pytest.raises(InvalidValue, match=r"format 'vmdk': it is not known here. Choose one of auto, "):
        image_overlay.locate(image.path, "vmdk", False)


def test_a_format_that_can_not_be_written_to(tmp_path):
    (tmp_path / "web.vmdk").write_bytes(b"KDMV".ljust(4096, b"\0"))
    with pytest.raises(ImageRefused, match=r"its format is VMDK\. Import it as an image"):
        image_overlay.locate(str(tmp_path / "web.vmdk"), "auto", False)


@pytest.mark.parametrize(
    ("place", "refused"), [("datastores/1", True), ("datastores/x", False), ("mydatastores", False)]
)
def test_an_image_of_a_datastore_is_not_named_by_its_path(tmp_path, place, refused):
    path = tmp_path / place / "0" / "web.img"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(4096))
    if refused:
        with pytest.raises(InUse, match=r"it lies in a datastore.*hosts of role guest_context"):
            image_overlay.locate(str(path), "raw", False)
    else:
        image_overlay.locate(str(path), "raw", False)


def test_a_place_in_which_anybody_could_exchange_the_image(tmp_path, image):
    tmp_path.chmod(0o777)
    with pytest.raises(InvalidValue, match=r"everybody may write to"):
        image_overlay.locate(image.path, "raw", False)


def test_all_that_is_made_for_it_lies_beside_it(image):
    inode = os.stat(image.path).st_ino
    assert image.directory == os.path.join(os.path.dirname(image.path), ".web.img.context")
    assert image.complete == f"{image.directory}/complete-{inode}-raw" and image.complete_of(7).endswith("-7-raw")


@pytest.mark.parametrize(
    ("format", "trusted", "closed"), [("qcow2", False, True), ("qcow2", True, False), ("raw", False, False)]
)
def test_no_other_file_is_opened_below_what_is_not_trusted(format, trusted, closed):
    told = image_overlay.node_of_image(Image('/srv/a "b".img', format, trusted, WHAT))
    assert told.startswith("json:")
    found = json.loads(told[5:])
    assert found["driver"] == format and found["file"] == {"driver": "file", "filename": '/srv/a "b".img'}
    assert ("backing" in found and found["backing"] is None) is closed


# --- changing it -----------------------------------------------------------------------------------------------------


@needs_qemu
def test_what_was_written_is_in_the_image_and_nothing_is_left(image):
    said = []
    with image_overlay.begin(image) as resumed:
        assert resumed is False
        written(Path(image.directory, final_names.OVERLAY))
        assert content(image) != NEW
        image_overlay.commit(image, lambda: said.append(content(image) == NEW))
    assert content(image) == NEW and said == [False]
    assert sorted(os.listdir(os.path.dirname(image.path))) == ["web.img"]


@needs_qemu
def test_an_error_before_leaves_the_image_as_it_was(image):
    before = content(image)
    with pytest.raises(ZeroDivisionError), image_overlay.begin(image):
        written(Path(image.directory, final_names.OVERLAY))
        raise ZeroDivisionError
    assert content(image) == before and not os.path.exists(image.directory)


@needs_qemu
def test_what_a_killed_run_left_is_finished_by_the_next(image):
    image_overlay.make_overlay(image, f"{image.path}.overlay")
    written(Path(f"{image.path}.overlay"))
    os.mkdir(image.directory)
    os.rename(f"{image.path}.overlay", image.complete)
    assert image_overlay.is_interrupted(image)
    with image_overlay.begin(image) as resumed:
        assert resumed is True and content(image) == NEW
    assert not image_overlay.is_interrupted(image) and not os.path.exists(image.directory)


@needs_qemu
def test_an_overlay_that_was_not_complete_is_thrown_away(image):
    os.mkdir(image.directory)
    Path(image.directory, final_names.OVERLAY).write_bytes(b"half")
    with image_overlay.begin(image) as resumed:
        assert resumed is False
    assert not os.path.exists(image.directory)


def test_what_somebody_wrote_to_since_is_not_finished(image):
    os.mkdir(image.directory)
    Path(image.complete).write_bytes(b"overlay")
    os.utime(image.complete, (1_000_000, 1_000_000))
    with pytest.raises(WrongState, match=r"written to since by somebody else") as caught, image_overlay.begin(image):
        pass
    assert f"then remove {image.directory}" in caught.value.remedy and os.path.exists(image.complete)


@needs_qemu
def test_what_could_not_be_finished_is_kept_and_told(image):
    os.mkdir(image.directory)
    Path(image.complete).write_bytes(b"no qcow2")
    with pytest.raises(CommandFailed), image_overlay.begin(image):
        pass
    assert os.path.exists(image.complete)
    with pytest.raises(ImageRefused) as caught:
        image_overlay._write_back(image)
    assert f"it is half written, and what it lacks is kept in {image.directory}" in caught.value.remedy


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (NoSpace("qemu-img", "no space left", "Make room"), "Make room. "),
        (CommandFailed("qemu-img", "it broke"), "Mend that, then run again. "),
    ],
)
def test_what_is_to_be_done_before_it_can_be_finished(image, monkeypatch, error, remedy):
    def fail(*_arguments, **_how):
        raise error

    monkeypatch.setattr(image_overlay, "_commit", fail)
    with pytest.raises(type(error)) as caught:
        image_overlay._write_back(image)
    assert caught.value.remedy == (
        f"{remedy}Until a run has finished it, the image must not be used: it is half written, and what it lacks is "
        f"kept in {image.directory}"
    )


@needs_qemu
def test_an_overlay_that_can_not_be_written_back_is_kept_for_the_next_run(image):
    def damage():
        Path(image.directory, final_names.OVERLAY).write_bytes(b"no qcow2")

    with pytest.raises(ImageRefused, match=r"Until a run has finished it"), image_overlay.begin(image):
        image_overlay.commit(image, damage)
    assert image_overlay.is_interrupted(image)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_that_somebody_else_made_is_left_alone(image):
    os.mkdir(image.directory)
    os.chown(image.directory, 65534, 65534)
    with pytest.raises(ForeignObject):
        image_overlay.discard(image)
    assert os.path.isdir(image.directory)


def test_what_is_left_for_another_file_of_the_name_is_not_meant(image):
    os.mkdir(image.directory)
    Path(image.complete).write_bytes(b"x")
    Path(f"{image.path}.new").write_bytes(b"another")
    os.rename(f"{image.path}.new", image.path)
    assert not image_overlay.is_interrupted(image)
    image_overlay.discard(image)
    assert not os.path.exists(image.directory)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_not_ours_is_left_alone(tmp_path, image, kind):
    other = tmp_path / "other"
    other.mkdir()
    if kind == "link":
        os.symlink(other, image.directory)
    else:
        Path(image.directory).write_text("x")
    with pytest.raises(ForeignObject, match=r"something that this run did not make is there"):
        image_overlay.discard(image)
    assert other.is_dir() and os.path.lexists(image.directory)


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    gone = Image(str(tmp_path / "gone.img"), "raw", False, WHAT)
    said = r"image web: its file .*: there is none on this host. Mount its datastore"
    with pytest.raises(NotFound, match=said), image_overlay.begin(gone):
        pass
    with pytest.raises(NotFound):
        image_overlay.is_interrupted(gone)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trusted", [True, False])
def test_an_image_that_names_another_file(tmp_path, trusted):
    header = struct.pack(">4sIQI", b"QFI\xfb", 3, 512, 11).ljust(512, b"\0") + b"/etc/shadow"
    (tmp_path / "web.qcow2").write_bytes(header.ljust(4096, b"\0"))
    image = Image(str(tmp_path / "web.qcow2"), "qcow2", trusted, WHAT)
    if trusted:
        image_overlay.refuse_strange(image)
        return
    with pytest.raises(ImageRefused, match=r"names another file.*'/etc/shadow'.*or say trusted: true"):
        image_overlay.refuse_strange(image)


# --- others who have it ----------------------------------------------------------------------------------------------

# F_OFD_SETLK of 64 bit systems: a lock of one opened file, as QEMU's are, which another of this process meets too.
F_OFD_SETLK = 37


@pytest.fixture
def held(image):
    files = []

    def hold(byte):
        file = Path(image.path).open("r+b")  # noqa: SIM115
        files.append(file)
        fcntl.fcntl(file, F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))

    yield hold
    for file in files:
        file.close()


@pytest.mark.parametrize(("byte", "used"), [(100, True), (203, True), (299, True), (99, False), (300, False)])
def test_qemus_locks_are_seen(image, held, byte, used):
    held(byte)
    if not used:
        image_overlay.refuse_used(image)
        return
    with pytest.raises(InUse, match=r"image web: QEMU has it open: .* Power that machine off first"):
        image_overlay.refuse_used(image)


@needs_qemu
@pytest.mark.parametrize(("byte", "refused"), [(101, True), (100, False)])
def test_who_reads_minds_only_those_who_write(image, held, byte, refused):
    held(byte)
    if refused:
        with pytest.raises(InUse, match=r"a machine writes to it"):
            image_overlay.locate_for_reading(image.path, "raw", False, WHAT)
    else:
        assert image_overlay.locate_for_reading(image.path, "raw", False, WHAT).format == "raw"


def test_an_image_that_is_read_is_not_prepared_meanwhile(image):
    with Path(image.path).open("rb") as file, image_overlay.hold_for_reading(file.fileno(), image.path, WHAT):
        with Path(image.path).open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(TimedOut), files.lock(image.path, timeout=0):
            pass


def test_an_image_that_is_prepared_is_not_read_meanwhile(image):
    with Path(image.path).open("rb") as preparing, Path(image.path).open("rb") as reading:
        fcntl.flock(preparing, fcntl.LOCK_EX)
        words = r"image web: another run prepares it, and writes to it. Wait for it to end"
        with pytest.raises(InUse, match=words), image_overlay.hold_for_reading(reading.fileno(), image.path, WHAT):
            pass


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_an_image_that_is_half_written_is_not_read(image, format):
    os.mkdir(image.directory)
    left = Path(image.directory, f"complete-{os.stat(image.path).st_ino}-{format}")
    left.write_bytes(b"x")
    with (
        Path(image.path).open("rb") as file,
        pytest.raises(WrongState) as caught,
        image_overlay.hold_for_reading(file.fileno(), image.path, WHAT),
    ):
        pass
    assert "it is half written" in caught.value.found
    assert "nebula_image_prepare" in caught.value.remedy and image.directory in caught.value.remedy


def test_an_image_of_the_catalog_names_no_other_file(tmp_path, image):
    (tmp_path / "link").symlink_to(image.path)
    found = image_overlay.locate_catalogued(str(tmp_path / "link"), "raw", WHAT)
    assert found == Image(os.path.realpath(image.path), "raw", False, WHAT)
