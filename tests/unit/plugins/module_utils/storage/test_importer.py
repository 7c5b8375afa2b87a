# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source becomes a file of a datastore, hashed and checked, or nothing is there and the error says why.

Only root can give a file away, so os.chown, the seam to the operating system, is replaced by one that does nothing."""

from __future__ import annotations

import bz2
import errno
import fcntl
import gzip
import hashlib
import lzma
import os
import random
import stat
from pathlib import Path

import pytest
import web_server
from raw_disks import BOOT

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    ImageRefused,
    InUse,
    InvalidValue,
    NebulaError,
    NoSpace,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import download, files
from ansible_collections.nebula.provision.plugins.module_utils.host.restricted_directories import Rules
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, importer
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import Checksum
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request, Stored
from ansible_collections.nebula.provision.plugins.module_utils.storage.sparse_file import MIB
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img

pytestmark = pytest.mark.usefixtures("no_owners")
# Content, a hole, content that ends within a block.
CONTENT = BOOT + random.Random(1).randbytes(MIB // 4) + bytes(2 * MIB) + b"end" * 1024
PACKERS = {
    "gz": gzip.compress,
    "bz2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
}
WHAT = "image demo"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(place):
    def run(source, **options) -> Stored:
        say = options.pop("say", None)
        with final_names.locked_destination(str(place / "image"), 0):
            return importer.store(Request(WHAT, str(source), **options), str(place / "image"), say)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with web_server.serve() as served:
        yield served


# -- checksums -------------------------------------------------------------------------------------------------------


# -- one run at a time -----------------------------------------------------------------------------------------------


# -- what is stored --------------------------------------------------------------------------------------------------


@needs_qemu_img
def test_a_path_is_stored_with_its_hashes_and_its_holes(store, place, source):
    said: list[str] = []
    given_ = Checksum("md5", hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    stored = store(source, checksum=given_, say=said.append)
    image = place / "image"
    assert stored == Stored("raw", 3, sha256(CONTENT), {"md5": given_.digest, "sha256": sha256(CONTENT)}, len(CONTENT))
    assert image.read_bytes() == CONTENT == source.read_bytes()
    assert image.stat().st_blocks * 512 < len(CONTENT) - MIB
    assert not image.stat().st_mode & (stat.S_IWUSR | stat.S_IRWXO)
    assert said[-1].startswith("100 % at ") and os.listdir(place) == ["image"]


@needs_qemu_img
@pytest.mark.parametrize("packing", PACKERS)
def test_a_packed_disk_is_unpacked_and_both_are_hashed(store, place, source, packing):
    packed = PACKERS[packing](CONTENT)
    source.write_bytes(packed)
    stored = store(source, checksum=Checksum("sha256", sha256(packed)))
    assert (place / "image").read_bytes() == CONTENT
    assert (stored.sha256, stored.checksums) == (sha256(CONTENT), {"sha256": sha256(packed)})


def test_what_is_no_disk_is_stored_as_it_is(store, place, source):
    """A kernel, an initial RAM disk, a file for a context: what looks packed or like a qcow2 is its own business."""
    packed = gzip.compress(b"QFI\xfb initrd")
    source.write_bytes(packed)
    stored = store(source, disk=False)
    assert (place / "image").read_bytes() == packed
    assert stored == Stored("raw", 1, sha256(packed), {"sha256": sha256(packed)}, len(packed))


def test_an_upload_is_renamed_and_not_copied(store, place):
    upload = place / ".upload-1"
    upload.write_bytes(CONTENT)
    inode = upload.stat().st_ino
    assert store(upload, disk=False, upload=True).sha256 == sha256(CONTENT)
    assert (place / "image").stat().st_ino == inode and os.listdir(place) == ["image"]


@needs_qemu_img
def test_a_packed_upload_is_gone_once_it_is_unpacked(store, place):
    (place / ".upload-1").write_bytes(gzip.compress(CONTENT))
    store(place / ".upload-1", upload=True)
    assert os.listdir(place) == ["image"] and (place / "image").read_bytes() == CONTENT


def test_an_upload_stays_where_it_does_not_fit_its_checksum(store, place):
    """It is what the next run would have to send again."""
    (place / ".upload-1").write_bytes(CONTENT)
    with pytest.raises(ChecksumMismatch):
        store(place / ".upload-1", disk=False, upload=True, checksum=Checksum("sha256", "0" * 64))
    assert os.listdir(place) == [".upload-1"]


def test_a_url_is_stored(store, place, site):
    site.files["/kernel"] = CONTENT
    stored = store(site.url + "/kernel", disk=False)
    assert (place / "image").read_bytes() == CONTENT and stored.sha256 == sha256(CONTENT)


@pytest.mark.parametrize("checked", [True, False])
def test_only_a_checksum_lets_a_file_leave_https(store, site, monkeypatch, checked):
    """What is asked of the download, and what it warns of: the redirect itself is a matter of host/download.py."""
    asked = []

    class Sent(download.Download):
        def __init__(self, url, **options):
            asked.append(options["to_http"])
            super().__init__(url, **options)
            self.warnings.append("the server sent on")

    monkeypatch.setattr(download, "Download", Sent)
    site.files["/kernel"] = CONTENT
    checksum = Checksum("sha256", sha256(CONTENT)) if checked else None
    stored = store(site.url + "/kernel", disk=False, checksum=checksum)
    assert bool(asked[0]) is not checked and stored.warnings == (f"{WHAT}: the server sent on",)


def test_progress_of_what_has_no_known_length_is_told_in_mib(store, site):
    site.files["/kernel"] = CONTENT
    site.lengths = False
    said: list[str] = []
    store(site.url + "/kernel", disk=False, say=said.append)
    assert said[-1].startswith("2 MiB at ")


def test_a_source_may_be_a_link(store, place, source, tmp_path):
    (tmp_path / "link").symlink_to(source)
    store(tmp_path / "link", disk=False)
    assert (place / "image").read_bytes() == CONTENT and not (place / "image").is_symlink()


@needs_qemu_img
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_an_empty_disk_is_made(place, format):
    stored = importer.make_empty(str(place / "image"), 3, format, "")
    assert (stored.format, stored.size, stored.sha256, stored.checksums) == (format, 3, "", {})
    assert stored.bytes == (place / "image").stat().st_size and os.listdir(place) == ["image"]


# -- what is looked at without storing it ----------------------------------------------------------------------------


@needs_qemu_img
def test_a_local_disk_is_looked_at(source):
    facts = importer.inspect_source(Request(WHAT, str(source)))
    assert facts is not None and (facts.format, facts.iso) == ("raw", False) and facts.virtual_size >= len(CONTENT)


@pytest.mark.parametrize(("content", "disk"), [(gzip.compress(b"x", mtime=0), True), (b"kernel", False)])
def test_nothing_is_seen_of_a_packed_disk_or_of_what_is_none(source, content, disk):
    source.write_bytes(content)
    assert importer.inspect_source(Request(WHAT, str(source), disk=disk)) is None


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["look", "store"])
@pytest.mark.parametrize(
    ("name", "error", "found"),
    [
        ("source", InvalidValue, "it is not absolute"),
        ("/nowhere/disk", NotFound, "No such file or directory"),
        ("{}", InvalidValue, "it is a directory"),
        ("{}/pipe", InvalidValue, "it is not a regular file"),
    ],
)
def test_a_path_that_is_no_file(store, place, tmp_path, act, name, error, found):
    os.mkfifo(tmp_path / "pipe")
    path = name.format(tmp_path)
    with pytest.raises(error) as caught:
        importer.inspect_source(Request(WHAT, path)) if act == "look" else store(path)
    assert caught.value.asked == f"{WHAT}: path {path}" and caught.value.found == found and caught.value.remedy
    assert os.listdir(place) == []


def test_what_was_opened_is_what_is_compared(tmp_path, source, store, place):
    """Whatever the path leads to a moment later."""
    (tmp_path / "kept").mkdir()
    source.rename(tmp_path / "kept/secret")
    source.symlink_to(tmp_path / "kept/secret")
    rules = Rules([str(tmp_path / "kept")])
    with pytest.raises(InvalidValue, match=r"kept/secret is below .*restricted"):
        importer.inspect_source(Request(WHAT, str(source), rules=rules))
    with pytest.raises(InvalidValue, match=rf"{WHAT}: path {source}: "):
        store(source, rules=rules)
    assert os.listdir(place) == []


def test_an_upload_is_no_link(store, place, source):
    (place / ".upload-1").symlink_to(source)
    with pytest.raises(InvalidValue, match=rf"{WHAT}: path .*a symbolic link is there"):
        store(place / ".upload-1", upload=True, disk=False)


@pytest.mark.parametrize("act", ["look", "store"])
def test_a_source_that_another_run_writes_to_is_not_read(store, source, act):
    with source.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InUse, match=f"^{WHAT}: path {source}: another run prepares it"):
            importer.inspect_source(Request(WHAT, str(source))) if act == "look" else store(source)


def test_a_source_that_was_left_half_written_is_not_read(store, source):
    left = source.parent / f".{source.name}.context"
    left.mkdir()
    (left / f"complete-{source.stat().st_ino}-raw").write_bytes(b"x")
    with pytest.raises(WrongState, match="half written") as caught:
        store(source)
    assert str(left) in caught.value.remedy


def test_a_wrong_checksum_tells_both_and_leaves_nothing(store, place, source):
    checksum = Checksum("sha1", "0" * 40)
    with pytest.raises(ChecksumMismatch) as caught:
        store(source, checksum=checksum, disk=False)
    assert caught.value.asked == f"{WHAT}: checksum {checksum}"
    found = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    assert caught.value.found == f"the file has sha1:{found} ({len(CONTENT)} bytes)"
    assert os.listdir(place) == []


def test_an_error_about_a_url_shows_no_password(store, site):
    site.files["/kernel"] = b"content"
    url = site.url.replace("://", "://me:hidden@") + "/kernel?sig=hidden"
    with pytest.raises(ChecksumMismatch) as caught:
        store(url, disk=False, checksum=Checksum("sha256", "0" * 64))
    assert f"{site.url}/kernel?... has sha256:{sha256(b'content')}" in caught.value.found
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("disk", [False, pytest.param(True, marks=needs_qemu_img)])
def test_an_empty_file_is_refused(store, place, source, disk):
    source.write_bytes(b"")
    with pytest.raises(ImageRefused, match=rf"^{WHAT}: (the file|it) is empty"):
        store(source, disk=disk)
    assert os.listdir(place) == []


@needs_qemu_img
def test_a_disk_of_another_format_than_asked_for(store, place, source):
    with pytest.raises(ImageRefused, match=f"{WHAT}: format qcow2: the file's format is raw. Leave format out"):
        store(source, format="qcow2")
    assert os.listdir(place) == []


@needs_qemu_img
def test_a_cdrom_has_to_be_an_iso(store, source):
    with pytest.raises(ImageRefused, match=r"type CDROM: it is not an ISO file system \(its format is raw\)"):
        store(source, cdrom=True)


@pytest.mark.parametrize(("packing", "seen"), [("", 4), ("gz", 3)])
def test_what_is_larger_than_the_limit_is_refused(store, place, source, packing, seen):
    """Packed, only what comes out is too large, and it is not all written before that is seen."""
    content = random.Random(2).randbytes(1000) + bytes(4 * MIB)
    source.write_bytes(gzip.compress(content) if packing else content)
    with pytest.raises(ImageRefused) as caught:
        store(source, max_size=2 * MIB)
    assert caught.value.asked == WHAT and caught.value.found == f"it has {seen} MiB or more, the limit is 2 MiB"
    assert "max_size (nebula_image_max_size)" in caught.value.remedy and os.listdir(place) == []


def test_a_stream_that_goes_on_for_ever_ends_at_the_limit(store, place, site):
    site.files["/kernel"] = bytes(4 * MIB)
    site.lengths = False
    with pytest.raises(ImageRefused, match="the limit is 2 MiB"):
        store(site.url + "/kernel", disk=False, max_size=2 * MIB)
    assert os.listdir(place) == []


def test_packed_files_of_nothing_that_go_on_for_ever_end_at_the_limit(store, site):
    site.files["/disk.gz"] = gzip.compress(b"") * 3000
    site.lengths = False
    with pytest.raises(ImageRefused, match=r"or more, the limit is 0 MiB"):
        store(site.url + "/disk.gz", max_size=50_000)


@needs_qemu_img
def test_a_small_file_of_a_large_disk_is_held_to_the_limit(store, source):
    header = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (3 * MIB).to_bytes(8, "big")
    source.write_bytes(header.ljust(104, b"\0"))
    with pytest.raises(ImageRefused):
        store(source, max_size=2 * MIB)


def test_a_file_that_changes_while_it_is_read(store, place):
    upload = place / ".upload-1"
    upload.write_bytes(CONTENT)

    def grow(_text: str) -> None:
        os.truncate(upload, len(CONTENT) + 4)

    with pytest.raises(ImageRefused) as caught:
        store(upload, disk=False, upload=True, say=grow)
    assert f"it had {len(CONTENT)} bytes, then {len(CONTENT) + 4}" in caught.value.found
    assert caught.value.remedy == "Run again when it is complete"
    assert "image" not in os.listdir(place)


@pytest.mark.parametrize(
    ("number", "error", "found", "remedy"),
    [
        (errno.ENOSPC, NoSpace, "the file system is full after 0 MiB", "nebula_root"),
        (errno.EIO, NebulaError, os.strerror(errno.EIO), ""),
    ],
)
def test_what_the_disk_does_not_take_is_told(store, place, source, monkeypatch, number, error, found, remedy):
    """os.pwrite, the seam to the operating system, fails; a clone would write nothing."""
    monkeypatch.setattr(files, "clone", lambda _source, _target: False)

    def fail(_fd: int, _data: bytes, _offset: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(error) as caught:
        store(source, disk=False)
    assert caught.value.found == found and remedy in caught.value.remedy and os.listdir(place) == []
    assert number == errno.EIO or caught.value.asked == f"{WHAT}: storing it in {place}"


def test_there_has_to_be_room_before_anything_is_written(store, place, source, monkeypatch):
    """os.statvfs, the seam to the operating system, tells of a file system with a MiB beside what is kept free."""
    found = os.statvfs(place)
    full = os.statvfs_result((4096, 4096, found.f_blocks, 65 * 256, 65 * 256, *tuple(found)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    source.write_bytes(b"x" * 2 * MIB)
    with pytest.raises(NoSpace, match=rf"{WHAT}: storing it: 2.0 MiB in {place}: 1.0 MiB are free"):
        store(source, disk=False)
    assert os.listdir(place) == []
