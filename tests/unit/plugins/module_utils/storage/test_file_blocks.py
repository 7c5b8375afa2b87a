# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading ahead, and what of a chunk is written."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.storage import file_blocks
from ansible_collections.nebula.provision.plugins.module_utils.storage.file_blocks import CHUNK, HOLE


def joined(*blocks: bytes) -> bytes:
    return b"".join(blocks)


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (b"", []),
        (bytes(CHUNK), []),
        (bytes(100), []),
        (b"x", [(0, 1)]),
        (joined(b"x", bytes(CHUNK - 1)), [(0, HOLE)]),
        (joined(bytes(CHUNK - 1), b"x"), [(CHUNK - HOLE, CHUNK)]),
        (joined(bytes(HOLE), b"x" * 2 * HOLE, bytes(HOLE), b"y"), [(HOLE, 3 * HOLE), (4 * HOLE, 4 * HOLE + 1)]),
        (joined(b"x" * HOLE, bytes(10)), [(0, HOLE)]),
        (joined(b"x" * HOLE, bytes(10), b"y"), [(0, HOLE + 11)]),
    ],
)
def test_stretches(chunk, expected):
    assert list(file_blocks.nonzero_extents(chunk)) == expected


@given(st.lists(st.tuples(st.integers(1, 3 * HOLE), st.booleans()), max_size=8))
def test_written_over_zeroes_stretches_are_the_chunk(parts):
    chunk = b"".join((b"\1" if data else b"\0") * length for length, data in parts)[:CHUNK]
    copy = bytearray(len(chunk))
    for start, end in file_blocks.nonzero_extents(chunk):
        assert start % HOLE == 0 and (end % HOLE == 0 or end == len(chunk))
        copy[start:end] = chunk[start:end]
    assert copy == chunk


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5])
def test_the_whole_file_is_read(tmp_path, length):
    content = os.urandom(length)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        file.seek(7)
        assert b"".join(file_blocks.read(file.fileno())) == content
        assert file.tell() == 7


def test_reading_is_asked_for_ahead_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(file_blocks, "AHEAD", 4 * CHUNK)
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, offset, length, advice: asked.append((offset, length, advice)))
    (tmp_path / "file").write_bytes(bytes(20 * CHUNK))
    with (tmp_path / "file").open("rb") as file:
        for number, _block in enumerate(file_blocks.read(file.fileno())):
            # At least so much beyond what is read now.
            assert asked[-1][0] + asked[-1][1] >= (number + 4) * CHUNK
    offsets = [offset for offset, _length, _advice in asked]
    assert offsets == sorted(set(offsets)) and {(length, advice) for _offset, length, advice in asked} == {
        (4 * CHUNK, os.POSIX_FADV_WILLNEED)
    }


def test_a_file_system_that_takes_no_advice(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        assert b"".join(file_blocks.read(file.fileno())) == b"content"
        file_blocks.EarlyWriteback(file.fileno()).up_to(file_blocks.BEHIND)


@pytest.mark.parametrize("forget", [False, True])
def test_what_is_on_its_disk_stays_in_memory_unless_it_is_to_be_forgotten(monkeypatch, forget):
    found = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, offset, length, _advice: found.append((offset, length)))
    written = file_blocks.EarlyWriteback(-1, forget=forget)
    step = file_blocks.BEHIND
    for offset in (step - 1, step, step + 1, 2 * step, 3 * step, 5 * step):
        written.up_to(offset)
    begun = [(0, step), (step, step), (2 * step, step), (3 * step, 2 * step)]
    again = [(0, step), (step, step)]
    assert sorted(found) == sorted(begun + (again if forget else []))


def test_what_another_program_writes_goes_to_its_disk_meanwhile(tmp_path, monkeypatch):
    advised = threading.Event()

    def advise(_fd, offset, length, advice):
        assert (offset, length, advice) == (0, 2 * file_blocks.BEHIND, os.POSIX_FADV_DONTNEED)
        advised.set()

    monkeypatch.setattr(os, "posix_fadvise", advise)
    path = tmp_path / "file"
    with file_blocks.written_back_early(str(path)):
        (tmp_path / "made").write_bytes(b"")
        os.truncate(tmp_path / "made", 2 * file_blocks.BEHIND)
        # It was not there when the block began, and has all of its length at once.
        os.rename(tmp_path / "made", path)
        assert advised.wait(20)


@pytest.mark.parametrize("make", [lambda path: None, os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_left_alone(tmp_path, monkeypatch, make):
    monkeypatch.setattr(os, "posix_fadvise", lambda *_arguments: pytest.fail("it was advised of"))
    make(tmp_path / "file")
    looked, really = threading.Semaphore(0), os.open

    def look(*arguments):
        looked.release()
        return really(*arguments)

    monkeypatch.setattr(os, "open", look)
    open_now = set(os.listdir("/proc/self/fd"))
    with file_blocks.written_back_early(str(tmp_path / "file")):
        assert looked.acquire(timeout=20)
    assert set(os.listdir("/proc/self/fd")) == open_now
