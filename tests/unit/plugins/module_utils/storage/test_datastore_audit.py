# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit of the image datastore finds what is missing, changed or left over, and says what to do about each.

Files of images belong to root; here they belong to whoever runs this, whom os.lstat, the seam to the operating system,
shows as root."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import (
    DIFFERENCE,
    KINDS,
    UNFINISHED,
    Finding,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    GROW,
    Prepare,
    Return,
    Rewrite,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_audit
from ansible_collections.nebula.provision.plugins.module_utils.storage.datastore_audit import AGAIN, LOST, MIB
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img

CONTENT = b"x" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def owned_by_root(monkeypatch):
    real = os.lstat

    def lstat(path, **options):
        found = real(path, **options)
        if (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid()):
            return os.stat_result((*found[:4], 0, 0, *found[6:]))
        return found

    monkeypatch.setattr(os, "lstat", lstat)


def image(place: Path, content: bytes | None = CONTENT, mode: int = 0o440, **values) -> Image:
    """A READY image of 1 MiB whose file is as it was stored."""
    path = place / "abc"
    if content is not None:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    given = {"id": 3, "name": "demo", "state": ImageState.READY, "source": str(path), "size": 1, "sha256": DIGEST}
    return Image(**{**given, **values})


def found(place: Path, *images: Image, deep: bool = False) -> list[Finding]:
    return datastore_audit.findings(images, str(place.parent.parent), deep)


def only(place: Path, *images: Image, deep: bool = False) -> Finding:
    (finding,) = found(place, *images, deep=deep)
    assert finding.kind in KINDS and finding.host == "" and finding.remedy
    return finding


# -- images that are there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_found_where_all_is_as_it_was_stored(place, deep):
    (place / ".nebula-catalog").write_text("x")
    assert found(place, image(place), deep=deep) == []
    assert found(place, image(place, mode=0o660, persistent=True, state=ImageState.USED_PERS), deep=deep) == []


def test_no_datastore_and_no_images_are_no_difference(tmp_path):
    assert datastore_audit.findings([], str(tmp_path)) == []


def test_a_missing_file(place):
    finding = only(place, image(place, None))
    assert (finding.kind, finding.object, finding.severity) == ("image-file", "image demo (id 3)", DIFFERENCE)
    assert (finding.found, finding.remedy) == (f"its file {place}/abc is not there", LOST)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_file_in_its_place(place, make):
    make(place / "abc")
    assert only(place, image(place, None)).found == f"its file {place}/abc is no file"


@pytest.mark.parametrize(
    ("mode", "persistent", "fits"),
    [
        (0o440, False, True),
        (0o400, False, True),
        (0o444, False, False),
        (0o640, False, False),
        (0o660, True, True),
        (0o600, True, True),
        (0o664, True, False),
    ],
)
def test_who_may_read_and_write_it(place, mode, persistent, fits):
    findings = found(place, image(place, mode=mode, persistent=persistent))
    if fits:
        assert findings == []
    else:
        assert f"its file {place}/abc has mode {mode:04o} and owner 0:0" in findings[0].found
        assert f"chmod {'0660' if persistent else '0440'} {place}/abc" in findings[0].remedy


@pytest.mark.parametrize(
    ("values", "told"),
    [({}, True), ({"persistent": True}, False), ({"type": ImageType.KERNEL}, False), ({"type": ImageType.CDROM}, True)],
)
def test_whose_it_is(place, monkeypatch, values, told):
    """QEMU's user has what it writes to, and what a machine boots directly."""
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: os.stat_result((*real(path)[:4], 64055, 64055, *real(path)[6:])))
    findings = found(place, image(place, **values))
    assert [f"{place}/abc has mode 0440 and owner 64055:64055" in each.found for each in findings] == [True] * told


@pytest.mark.parametrize(
    ("length", "persistent", "fits"),
    [(2 * MIB, False, True), (MIB + 1, False, True), (MIB, False, False), (2 * MIB + 1, False, False)]
    + [(3 * MIB, True, True), (MIB, True, False)],
)
def test_how_large_it_is(place, length, persistent, fits):
    """One that a larger disk was made of has grown; none is ever smaller."""
    one = image(place, size=2, persistent=persistent, sha256="")
    (place / "abc").chmod(0o600)
    os.truncate(place / "abc", length)
    (place / "abc").chmod(0o440)
    findings = found(place, one)
    expected = [] if fits else [f"its file {place}/abc has {-(-length // MIB)} MiB, and the image 2"]
    assert [each.found for each in findings] == expected


def test_a_kernel_has_no_size_of_a_disk(place):
    assert found(place, image(place, type=ImageType.KERNEL, size=7)) == []


def test_content_that_was_changed_is_seen_by_a_deep_audit_only(place):
    one = image(place, b"y" * 1000)
    assert found(place, one) == []
    other = hashlib.sha256(b"y" * 1000).hexdigest()
    assert datastore_audit.findings([one], str(place.parent.parent)) == []
    finding = only(place, one, deep=True)
    assert finding.found == f"its file {place}/abc has the SHA-256 {other}, and {DIGEST} was stored"
    # A machine writes to it, or has written.
    assert found(place, image(place, None, state=ImageState.USED_PERS), deep=True) == []
    assert found(place, image(place, None, sha256=""), deep=True) == []


def test_a_file_that_is_no_qcow2_any_more(place):
    finding = only(place, image(place, format="qcow2"))
    assert finding.found == f"its file {place}/abc can't be read: it is no qcow2 file, as the catalog says"


@needs_qemu_img
def test_damaged_tables_are_told_unless_a_machine_writes_them(place):
    header = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (MIB).to_bytes(8, "big")
    one = image(place, header.ljust(200, b"\0"), format="qcow2", sha256="")
    assert f"its file {place}/abc is damaged: " in only(place, one).found
    assert found(place, image(place, None, format="qcow2", state=ImageState.USED_PERS)) == []


# -- images that are not finished ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said", "remedy"),
    [
        ({"state": ImageState.LOCKED}, "it was not stored completely", AGAIN),
        ({"state": ImageState.INIT}, "it was not stored completely", AGAIN),
        ({"state": ImageState.DELETE}, "it was not removed completely", AGAIN),
        (
            {"state": ImageState.LOCKED, "operation": Rewrite(GROW, {}, ImageState.READY)},
            "it was not changed completely",
            AGAIN,
        ),
        (
            {"state": ImageState.LOCKED, "operation": Prepare(ImageState.READY)},
            "it was not changed completely",
            "Run nebula_image_prepare for it again, which finishes it",
        ),
    ],
)
def test_what_a_killed_run_left_half_done(place, values, said, remedy):
    finding = only(place, image(place, **values))
    assert (finding.kind, finding.severity) == ("image-unfinished", UNFINISHED)
    assert (finding.found, finding.remedy) == (said, remedy)


def test_a_run_that_is_at_it_is_waited_for(place):
    one = image(place, state=ImageState.LOCKED)
    with (place / "abc.part").open("wb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        unfinished, left = found(place, one)
    assert (unfinished.found, unfinished.remedy) == ("it is LOCKED: a run is at it", "Wait for that run")
    assert (left.found, left.remedy) == ("a file that a run is storing", "Wait for that run")


def test_an_image_that_is_on_a_host_comes_back(place):
    finding = only(place, image(place, None, state=ImageState.LOCKED, operation=Return("host1")))
    assert "was saved as it, is on host host1" in finding.found and finding.severity == UNFINISHED
    assert "nebula.provision.forget_host" in finding.remedy


@pytest.mark.parametrize(
    ("unfinished", "remedy"), [("", f"Remove the cause. {AGAIN}"), ("install", "Let what installs it come to its end")]
)
def test_an_image_that_failed_says_why(place, unfinished, remedy):
    finding = only(place, image(place, state=ImageState.ERROR, error="no room", unfinished=unfinished))
    assert (finding.kind, finding.found) == ("image-failed", "it is ERROR (no room)")
    assert finding.remedy.startswith(remedy)


# -- what is left over -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said", "severity"),
    [
        ("other", "it belongs to no image of the catalog", DIFFERENCE),
        ("other.new", "it belongs to no image of the catalog", DIFFERENCE),
        (".other.context", "it belongs to no image of the catalog", DIFFERENCE),
        (".upload-" + "a" * 32, "an upload that was broken off", UNFINISHED),
        ("abc.new", "what a run that was killed had stored of an image", UNFINISHED),
        ("abc.new.raw", "what a run that was killed had stored of an image", UNFINISHED),
        ("abc.new.member", "what a run that was killed had stored of an image", UNFINISHED),
        ("abc.new.head", "what a run that was killed had stored of an image", UNFINISHED),
        ("abc.new.d", "what a run that was killed had stored of an image", UNFINISHED),
        ("abc.work", "what a run that was killed had stored of an image", UNFINISHED),
        ("abc.part", "what a run that was killed had stored of an image", UNFINISHED),
        ("abc.return", "what comes back of an image from a host, or an earlier run had begun to fetch", UNFINISHED),
        (".abc.return.x7", "what comes back of an image from a host, or an earlier run had begun to fetch", UNFINISHED),
        (".abc.context", "what a run that was killed changed in an image", UNFINISHED),
    ],
)
def test_what_lies_beside_images(place, name, said, severity):
    one = image(place)
    (place / name).write_bytes(b"x")
    finding = only(place, one)
    assert (finding.kind, finding.object) == ("image-left", f"file {place / name}")
    assert (finding.found, finding.severity) == (said, severity)


@pytest.mark.parametrize(
    ("name", "lock", "said"),
    [
        (".upload-" + "a" * 32, ".upload-" + "a" * 32, "an upload that goes on"),
        (".abc.context", "abc.part", "what a run changes in an image"),
    ],
)
def test_what_a_run_is_at_now(place, name, lock, said):
    one = image(place)
    (place / name).write_bytes(b"x")
    with (place / lock).open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        findings = {each.object: each.found for each in found(place, one)}
    assert findings[f"file {place / name}"] == said


def test_each_datastore_is_looked_through_but_that_of_machines(place):
    for number in ("0", "2", "100"):
        (place.parent / number).mkdir()
        (place.parent / number / "left").write_bytes(b"x")
    elsewhere = place.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "left").write_bytes(b"x")
    objects = [each.object for each in found(place, image(place), image(elsewhere, name="far"))]
    assert objects == [
        f"file {directory}/left" for directory in sorted([f"{place.parent}/100", f"{place.parent}/2", str(elsewhere)])
    ]


def test_what_came_back_of_an_image_that_there_is_not_is_no_part_of_one(place):
    (place / f"other{datastore_audit.RETURN}").write_bytes(b"x")
    assert "comes back" not in only(place).found
