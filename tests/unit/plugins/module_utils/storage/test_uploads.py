# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chunks from the control node make up the file that was sent, in whatever order runs and retries bring them."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import DownloadFailed, InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.storage import uploads

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 2


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "datastores" / "1"


def send(place: Path, offset: int, content: bytes, identity: str = ID) -> int:
    chunk = place.parent.parent / "chunk"
    chunk.write_bytes(content)
    return uploads.append(str(place), identity, offset, str(chunk))


def here(place: Path, identity: str = ID) -> bytes:
    return Path(uploads.path_of(str(place), identity)).read_bytes()


def test_the_first_chunk_makes_the_directory_and_the_file(place):
    assert send(place, 0, b"first") == 5
    assert here(place) == b"first"
    assert stat.S_IMODE(place.stat().st_mode) == 0o711
    assert [name for name in os.listdir(place) if name.startswith(uploads.PREFIX)] == [uploads.PREFIX + ID]


def test_chunks_follow_each_other(place):
    send(place, 0, b"first")
    assert send(place, 5, b", second") == 13
    assert here(place) == b"first, second"
    assert uploads.bytes_received(str(place), ID) == 13


def test_what_somebody_else_put_in_its_place_is_refused(place, tmp_path):
    host = tmp_path / "host"
    host.write_bytes(b"host's")
    place.mkdir(parents=True)
    path = Path(uploads.path_of(str(place), ID))
    path.symlink_to(host)
    with pytest.raises(NebulaError):
        send(place, 6, b"more")
    path.unlink()
    path.write_bytes(b"theirs")
    if os.geteuid() == 0:
        os.chown(path, 12345, 0)
        with pytest.raises(InvalidValue, match="user 12345 owns /"):
            send(place, 6, b"more")
    assert (host.read_bytes(), path.read_bytes()) == (b"host's", b"theirs")


def test_a_chunk_that_is_no_file_is_refused(place, tmp_path):
    chunk = tmp_path / "pipe"
    os.mkfifo(chunk)
    with pytest.raises(NebulaError):
        uploads.append(str(place), ID, 0, str(chunk))
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(NebulaError):
        uploads.append(str(place), ID, 0, str(tmp_path / "link"))
    assert here(place) == b""


def test_nothing_is_received_of_what_was_never_sent(place):
    assert uploads.bytes_received(str(place), ID) == 0


def test_a_chunk_that_is_here_already_is_left_out(place):
    """Another run sends the same file: the answer says where to go on."""
    send(place, 0, b"0123456789")
    assert send(place, 4, b"XXXX") == 10
    assert send(place, 0, b"YY") == 10
    assert here(place) == b"0123456789"


def test_a_chunk_behind_a_gap_is_refused_and_says_what_to_do(place):
    send(place, 0, b"01234")
    with pytest.raises(DownloadFailed) as caught:
        send(place, 7, b"later")
    assert caught.value.asked == f"upload {ID}: chunk at 7"
    assert caught.value.found == "only 5 bytes are here"
    assert caught.value.remedy == "Run again: it goes on from there"
    assert here(place) == b"01234"


@pytest.mark.parametrize(
    "identity",
    ["", "abc", "g" * 32, "A" * 32, "0" * 31, "0" * 65, "../../../../etc/passwd", "0" * 32 + "/x", "0" * 32 + "\n"],
)
def test_a_name_that_is_no_digest_leads_nowhere(identity):
    with pytest.raises(InvalidValue, match=r"that is no digest. Leave uploads to the action plugin"):
        uploads.path_of("/var/lib/nebula/datastores/1", identity)


@pytest.mark.parametrize("length", [32, 64])
def test_a_digest_names_a_file_of_the_datastore(length):
    assert uploads.path_of("/store", "a" * length) == "/store/.upload-" + "a" * length


def test_zeroes_take_no_room_and_count_as_received(place):
    data = b"head" + bytes(3 << 20)
    assert send(place, 0, data) == len(data)
    assert send(place, len(data), bytes(1 << 20)) == len(data) + (1 << 20)
    found = Path(uploads.path_of(str(place), ID)).stat()
    assert here(place) == data + bytes(1 << 20)
    assert found.st_blocks * 512 <= 1 << 20


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(0, 5), max_size=6))
@settings(max_examples=20, deadline=None)
def test_what_was_sent_in_parts_is_whole_however_often_parts_come_again(parts, repeated):
    with tempfile.TemporaryDirectory() as scratch:
        place, content, offsets = Path(scratch, "a", "b"), b"".join(parts), []
        for part in parts:
            offsets.append(uploads.bytes_received(str(place), ID))
            assert send(place, offsets[-1], part) == offsets[-1] + len(part)
        for number in repeated:
            if number < len(parts) and offsets[number] < len(content):
                assert send(place, offsets[number], parts[number]) == len(content)
        assert uploads.bytes_received(str(place), ID) == len(content)
        assert not parts or here(place) == content


def test_what_may_not_be_on_the_disk_does_not_count(place, monkeypatch):
    """The kernel's fsync fails, as with a broken disk; os.fsync is the seam to the operating system."""
    send(place, 0, b"01234")

    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NebulaError, match="Input/output error"):
        send(place, 5, b"56789")
    assert uploads.bytes_received(str(place), ID) == 5


def test_an_upload_that_nobody_goes_on_with_is_forgotten_when_another_begins(place):
    send(place, 0, b"old")
    send(place, 0, b"young", OTHER)
    (place / "image").write_bytes(b"somebody's")
    then = time.time() - uploads.KEPT_SECONDS - 60
    for name in (uploads.PREFIX + ID, "image"):
        os.utime(place / name, (then, then))
    os.utime(place / (uploads.PREFIX + OTHER), (then + 120, then + 120))
    send(place, 0, b"new", "a" * 32)
    assert sorted(os.listdir(place)) == sorted([uploads.PREFIX + OTHER, uploads.PREFIX + "a" * 32, "image"])


def test_going_on_with_an_old_upload_keeps_it(place):
    send(place, 0, b"old")
    path = Path(uploads.path_of(str(place), ID))
    then = time.time() - uploads.KEPT_SECONDS - 60
    os.utime(path, (then, then))
    assert send(place, 3, b"er") == 5


def test_all_uploads_are_removed_and_nothing_else(place):
    send(place, 0, b"one")
    send(place, 0, b"two", OTHER)
    (place / "image").write_bytes(b"an image")
    uploads.remove(str(place))
    assert os.listdir(place) == ["image"]


def test_removing_uploads_needs_no_directory(place):
    uploads.remove(str(place))
    assert not place.exists()


def test_a_link_in_the_place_of_an_upload_is_not_followed(place, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"")
    place.mkdir(parents=True)
    Path(uploads.path_of(str(place), ID)).symlink_to(target)
    with pytest.raises(NebulaError, match="a symbolic link is there"):
        send(place, 0, b"content")
    assert target.read_bytes() == b""
