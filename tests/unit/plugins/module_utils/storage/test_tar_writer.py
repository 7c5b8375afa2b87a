# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that are written are read as they were meant: by our reader, by Python's, and by tar."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.storage import tar_writer
from ansible_collections.nebula.provision.plugins.module_utils.storage.tar_reader import (
    CHARACTER,
    DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    LINK,
    Entry,
    Reader,
)

names = st.binary(min_size=1, max_size=300).map(lambda name: name.replace(b"\0", b"x").replace(b"/", b"y"))


def entry(kind: str, name: bytes, target: bytes = b"", **more) -> Entry:
    found = Entry(kind, name, target)
    found.mode = 0o644
    for key, value in more.items():
        setattr(found, key, value)
    return found


def written(*entries: tuple[Entry, bytes]) -> bytes:
    parts = []
    for found, content in entries:
        parts += [tar_writer.header(found), content, tar_writer.padding(len(content))]
    data = b"".join(parts)
    return data + tar_writer.end(len(data))


@given(
    name=names,
    target=names,
    kind=st.sampled_from([FILE, DIRECTORY, LINK, HARD_LINK, FIFO]),
    mode=st.integers(0, 0o7777),
    owner=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    mtime=st.integers(-(2**62), 2**62),
    content=st.binary(max_size=2000),
    attributes=st.dictionaries(st.sampled_from([b"user.a", b"security.capability"]), st.binary(max_size=300)),
)
def test_our_reader_reads_it(name, target, kind, mode, owner, mtime, content, attributes):
    content = content if kind == FILE else b""
    target = target if kind in (LINK, HARD_LINK) else b""
    first = entry(kind, name, target, mode=mode, uid=owner[0], gid=owner[1], mtime=mtime, xattrs=attributes)
    first.size = first.length = len(content)
    last = entry(FILE, b"last", size=1, length=1)
    data = written((first, content), (last, b"x"))
    assert len(data) % 10240 == 0
    reader = Reader(io.BytesIO(data).read, "archive")
    found = [(one, reader.whole()) for one in reader]
    end = b"/" if kind == DIRECTORY and not name.endswith(b"/") else b""
    for key, value in (("name", name + end), ("target", target), ("kind", kind), ("mode", mode), ("uid", owner[0])):
        assert getattr(found[0][0], key) == value
    assert (found[0][0].gid, found[0][0].mtime, found[0][0].xattrs) == (owner[1], mtime, attributes)
    assert found[0][1] == content and (found[1][0].name, found[1][1]) == (b"last", b"x")


MANY = [(number * 1536, 512) for number in range(6)]
STRETCHES = [[], [(0, 5)], [(5, 5)], [(995, 5)], MANY, [(0, 512), (1024, 1024), (9990, 10)]]


@pytest.mark.parametrize("name", [b"sparse", b"s" * 99, b"s" * 150])
@pytest.mark.parametrize("stretches", STRETCHES)
def test_sparse_files_are_read_by_all(stretches, name, tmp_path: Path):
    content = b"".join(b"%d" % (index % 10) * size for index, (_offset, size) in enumerate(stretches))
    whole, at = bytearray(10000), 0
    for offset, size in stretches:
        whole[offset : offset + size] = content[at : at + size]
        at += size
    data = written((entry(FILE, name, sparse=stretches, size=len(content), length=10000), content))
    reader = Reader(io.BytesIO(data).read, "archive")
    (found,) = ((one.name, one.length, one.sparse, reader.whole()) for one in reader)
    assert found == (name, 10000, [*stretches, (10000, 0)], content)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (member,) = tar
        file = tar.extractfile(member)
        assert member.name == name.decode() and file is not None and file.read() == whole
    subprocess.run(["tar", "-x", "-C", tmp_path], input=data, check=True)
    assert (tmp_path / name.decode()).read_bytes() == whole


def test_large_sizes():
    big = entry(FILE, b"big", size=8**11 + 5, length=8**11 + 5)
    header = tar_writer.header(big)
    found = next(iter(Reader(io.BytesIO(header + bytes(512)).read, "archive")))
    assert found.size == 8**11 + 5


def test_the_same_entry_makes_the_same_bytes():
    one, other = (
        entry(LINK, b"a" * 200, b"b", xattrs=found) for found in ({b"a": b"1", b"b": b"2"}, {b"b": b"2", b"a": b"1"})
    )
    assert tar_writer.header(one) == tar_writer.header(other)


@given(
    kind=st.sampled_from([CHARACTER, DEVICE]), numbers=st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1))
)
def test_devices_have_their_numbers(kind, numbers):
    data = written((entry(kind, b"dev/x", major=numbers[0], minor=numbers[1]), b""))
    (found,) = Reader(io.BytesIO(data).read, "x")
    assert (found.kind, found.major, found.minor) == (kind, *numbers)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (seen,) = tar.getmembers()
    assert (seen.devmajor, seen.devminor) == numbers


def test_owners_that_octal_digits_can_not_say_are_understood_by_all():
    data = written((entry(FILE, b"f", uid=3_000_000_000, gid=2**21 - 1), b""))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (seen,) = tar.getmembers()
    assert (seen.uid, seen.gid) == (3_000_000_000, 2**21 - 1)
