# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of roots in backups: what is packed comes back, whatever is done with it in between, and what was altered is
told before anything is made of it. Real roots are in tests/integration/test_lxc_backups.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    InUse,
    InvalidValue,
    MissingDependency,
    NebulaError,
    NoSpace,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import command
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout, root_backups

WHAT = "disk 0 of web"
DATA = os.urandom(1 << 20) * 3 + b"the end"
FORMS = [(compress, key) for compress in (True, False) for key in ("", "a key")]


@pytest.fixture(autouse=True)
def programs():
    if shutil.which("zstd") is None or shutil.which("qemu-nbd") is None:
        pytest.skip("no zstd, or no qemu-nbd")


def pack(fd: int, _seconds: float) -> int:
    view = memoryview(DATA)
    while view:
        view = view[os.write(fd, view) :]
    return 5


def fails(fd: int, _seconds: float) -> int:
    os.write(fd, DATA[:70_000])
    raise InUse("the root", "it changed while it was read", "Run again")


def content(place, stored, key=""):
    found = []

    def unpack(blocks, _seconds):
        found.extend(blocks)
        return ["a warning"]

    assert root_backups.restore_root(str(place), stored, unpack, WHAT, key) == ["a warning"]
    return b"".join(found)


def stored_as(place, compress, key, **more):
    name = root_backups.file_name("b.root.0", compress, key)
    return root_backups.store_root(str(place), name, pack, len(DATA), WHAT, compress=compress, key=key, **more)


@pytest.mark.parametrize(("compress", "key"), FORMS)
def test_there_and_back(tmp_path, compress, key):
    stored = stored_as(tmp_path, compress, key)
    assert stored.left_out == 5 and os.listdir(tmp_path) == [stored.file.name]
    path = tmp_path / stored.file.name
    assert (stored.file.size, path.stat().st_mode & 0o777) == (path.stat().st_size, 0o600)
    assert path.stat().st_uid == os.geteuid()
    found = content(tmp_path, stored.file, key)
    # In a container, zeroes follow a plain archive, up to the end of a sector.
    assert found.rstrip(b"\0") == DATA and (found == DATA or (key and not compress))
    assert root_backups.verify_root(str(tmp_path), stored.file, WHAT, key) == len(found)
    assert root_backups.verify_root(str(tmp_path), stored.file, WHAT) == (0 if key else len(found))
    if compress and not key:
        assert subprocess.run(["zstd", "-dcq", str(path)], check=True, capture_output=True).stdout == DATA
    # A second one takes the place of the first.
    assert stored_as(tmp_path, compress, key).file.size == stored.file.size


@pytest.mark.parametrize(("compress", "key"), FORMS)
def test_what_goes_wrong_with_the_root_is_raised_and_nothing_stays(tmp_path, compress, key):
    with pytest.raises(InUse, match="changed while it was read"):
        root_backups.store_root(str(tmp_path), "b.root.0.tar", fails, 1, WHAT, compress=compress, key=key)
    assert os.listdir(tmp_path) == []


def test_altered(tmp_path):
    stored = stored_as(tmp_path, True, "").file
    path = tmp_path / stored.name
    whole = path.read_bytes()

    def refused(match):
        with pytest.raises(ChecksumMismatch, match=match):
            content(tmp_path, stored)
        with pytest.raises(ChecksumMismatch, match=match):
            root_backups.verify_root(str(tmp_path), stored, WHAT)

    path.write_bytes(whole[:-1])
    refused("bytes, and had")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused("SHA-256")
    path.unlink()
    os.mkfifo(path)
    refused("no regular file")
    path.unlink()
    (tmp_path / "other").write_bytes(whole)
    path.symlink_to("other")
    with pytest.raises(NebulaError, match="link"):
        content(tmp_path, stored)


def test_what_is_packed_wrongly_though_its_sum_is_right(tmp_path):
    stored = stored_as(tmp_path, True, "").file
    path = tmp_path / stored.name
    path.write_bytes(path.read_bytes()[:-9])
    digest = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True).stdout.split()[0]
    altered = replace(stored, size=path.stat().st_size, sha256=digest)
    with pytest.raises(NebulaError, match="damaged or truncated"):
        content(tmp_path, altered)


def test_another_key(tmp_path):
    stored = stored_as(tmp_path, True, "a key").file
    with pytest.raises(InvalidValue, match="another key"):
        content(tmp_path, stored, "another key")


def test_a_full_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr(datastore_layout, "RESERVE", 1 << 60)
    monkeypatch.setattr("ansible_collections.nebula.provision.plugins.module_utils.storage.free_space_watch._BYTES", 1)
    with pytest.raises(NoSpace, match=WHAT):
        stored_as(tmp_path, False, "")
    assert os.listdir(tmp_path) == []


def test_no_faster_than_it_may_be(tmp_path):
    began = time.monotonic()
    stored_as(tmp_path, False, "", rate=6 << 20)
    assert time.monotonic() - began > 0.4


def test_without_zstd(tmp_path, monkeypatch):
    def missing(program):
        raise MissingDependency(f"program {program}", "it is not on this host")

    monkeypatch.setattr(command, "find", missing)
    with pytest.raises(MissingDependency, match="zstd"):
        stored_as(tmp_path, True, "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("compress", "key"), FORMS)
def test_an_archive_as_it_was_packed(tmp_path, compress, key):
    name = root_backups.file_name("20261130T040000Z-000001.root.0", compress, key)
    stored = root_backups.store_root(str(tmp_path), name, pack, len(DATA), WHAT, compress=compress, key=key).file
    path = tmp_path / "archive"
    root_backups.write_archive(str(tmp_path), stored, str(path), WHAT, key)
    # What LUKS has of it ends with a sector.
    assert path.read_bytes().rstrip(b"\0") == DATA
    path.unlink()
    with pytest.raises(ChecksumMismatch):
        root_backups.write_archive(str(tmp_path), replace(stored, sha256="0" * 64), str(path), WHAT, key)
    assert not path.exists()
