# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives as tar and Python's tarfile write them are read as they were meant; others are refused, by what is wrong."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import tar_reader
from ansible_collections.nebula.provision.plugins.module_utils.storage.tar_reader import FILE, Reader

KINDS = {
    tarfile.REGTYPE: b"content", tarfile.DIRTYPE: b"", tarfile.SYMTYPE: b"", tarfile.LNKTYPE: b"",
    tarfile.FIFOTYPE: b"", tarfile.CHRTYPE: b"", tarfile.BLKTYPE: b"",
}  # fmt: skip


def reader(data: bytes) -> Reader:
    return Reader(io.BytesIO(data).read, "archive demo")


def read(data: bytes) -> list[tuple[str, bytes, bytes]]:
    found = reader(data)
    return [(entry.kind, entry.name, b"".join(found.content())) for entry in found]


def archive(*entries: tuple[str, bytes, bytes], format: int = tarfile.PAX_FORMAT, **attributes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(content)
            for key, value in attributes.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def one(name: str = "a", **attributes) -> bytearray:
    return bytearray(archive((name, tarfile.REGTYPE, b"content"), **attributes))


def summed(data: bytearray, at: int = 0) -> bytes:
    """With the checksum that the header has now."""
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


names = st.text(st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), min_size=1, max_size=300)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    names=st.lists(names.filter(lambda name: len(name.encode()) < 99), min_size=1, max_size=5),
    kind=st.sampled_from(sorted(KINDS)),
    uid=st.integers(0, 65535),
    mtime=st.integers(0, 2**33 - 1),
)
def test_what_tarfile_writes(names, kind, uid, mtime, format):
    data = archive(*((name, kind, KINDS[kind]) for name in names), format=format, uid=uid, mtime=mtime, mode=0o4711)
    found = list(reader(data))
    endings = ["/"] if kind == tarfile.DIRTYPE else ["", "/"]
    assert len(found) == len(names)
    assert all(entry.name.decode() in [name + end for end in endings] for entry, name in zip(found, names))
    for entry in found:
        assert (entry.uid, entry.mtime, entry.mode) == (uid, mtime * 10**9, 0o4711) and entry.kind == kind.decode()
    assert [content for _kind, _name, content in read(data)] == [KINDS[kind]] * len(names)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(name=names, target=names)
def test_long_names_and_targets(name, target, format):
    data = archive((name * 3, tarfile.SYMTYPE, b""), format=format, linkname=target * 3)
    (entry,) = reader(data)
    assert (entry.name.decode(), entry.target.decode()) == (name * 3, target * 3)


@given(mtime=st.decimals(-(2**34), 2**40, places=9), size=st.integers(0, 70000))
def test_times_and_sizes_of_pax(mtime, size):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("a")
        entry.size, entry.pax_headers = size, {"mtime": f"{mtime:f}", "size": str(size)}
        tar.addfile(entry, io.BytesIO(bytes(size)))
    (found,) = reader(file.getvalue())
    assert found.mtime == int(mtime * 10**9) and found.size == size


@pytest.mark.parametrize("format", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_sparse_files_of_tar(format, count, tmp_path: Path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for index in range(count):
            os.pwrite(file.fileno(), b"%d" % index * 5000, index * 256 * 1024 + 65536)
        file.truncate(count * 256 * 1024 + 300000)
    options = [f"--format={word}" if not word.startswith("-") else word for word in format.split()]
    data = subprocess.run(
        ["tar", "-c", "-S", "--hole-detection=seek", *options, "-C", tmp_path, "sparse"],
        check=True,
        capture_output=True,
    ).stdout
    found = reader(data)
    entry = next(iter(found))
    content = b"".join(found.content())
    whole = bytearray(entry.length)
    at = 0
    for offset, size in entry.sparse or [(0, entry.size)]:
        whole[offset : offset + size] = content[at : at + size]
        at += size
    assert (entry.kind, entry.name, whole) == (FILE, b"sparse", path.read_bytes()) and len(content) <= count * 16384


def test_attributes():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for headers in (
            {"SCHILY.xattr.user.a=b": "v=\n1"},
            {"SCHILY.acl.access": "user::rwx"},
            {"LIBARCHIVE.xattr.user.x": "eA=="},
        ):
            entry = tarfile.TarInfo("a")
            entry.pax_headers = headers
            tar.addfile(entry)
    found = list(reader(file.getvalue()))
    # The key of a record ends with the first sign of equality.
    assert found[0].xattrs == {b"user.a": b"b=v=\n1"} and [entry.lost for entry in found] == [0, 1, 1]


def test_the_label_and_a_comment_for_all_are_no_entries(tmp_path: Path):
    (tmp_path / "a").write_text("x")
    words = ["tar", "-c", "-V", "a label", "--pax-option=globexthdr.name=x,comment=of git", "-C", tmp_path, "a"]
    data = subprocess.run(words, check=True, capture_output=True).stdout
    assert read(data) == [(FILE, b"a", b"x")]


@given(cut=st.integers(1, 4096))
def test_a_truncated_archive(cut):
    data = archive(("a", tarfile.REGTYPE, b"content" * 100), ("b", tarfile.DIRTYPE, b""), format=tarfile.USTAR_FORMAT)
    whole = data[: 512 + 1024 + 512 + 1024]
    assert len(read(whole)) == 2
    with pytest.raises(ImageRefused, match="truncated"):
        read(whole[: -(cut % (len(whole) - 1) + 1)])


def test_what_is_left_is_skipped_whoever_reads_it():
    found = reader(archive(("a", tarfile.REGTYPE, b"x" * 5000), ("b", tarfile.REGTYPE, b"y" * 700)))
    seen = []
    for entry in found:
        seen.append(entry.name)
        next(found.content())
    assert seen == [b"a", b"b"]


def with_text(text: bytes, kind: bytes = b"x") -> bytes:
    """An entry behind an extended header of this text."""
    data = bytearray(archive(("a", tarfile.REGTYPE, b""), pax_headers={"comment": "x" * 100}))
    data[512:1024] = text.ljust(512, b"\0")
    data[124:136] = b"%011o\0" % len(text)
    data[156:157] = kind
    return summed(data)


def with_records(*records: bytes, kind: bytes = b"x") -> bytes:
    return with_text(b"".join(b"%d %s\n" % (len(record) + 4, record) for record in records), kind)


def of_type(kind: bytes, size: int = 0) -> bytes:
    data = one()
    data[156:157], data[124:136] = kind, b"%011o\0" % size
    return summed(data)


def changed(at: int, value: bytes) -> bytes:
    data = one()
    data[at : at + len(value)] = value
    return summed(data)


TWO = archive(("a", tarfile.REGTYPE, b""))
REFUSED = {
    "nothing": (b"", "truncated"),
    "no tar": (b"something else" * 100, "no header of tar"),
    "zeroes": (bytes(10240), "is empty"),
    "two archives": (TWO + TWO, "something follows after its end"),
    "a word behind the end": (TWO + b"x", "something follows after its end"),
    "one block of zeroes": (TWO[:512] + bytes(512) + TWO[:512], "something follows after its end"),
    "a damaged header": (bytes(one()).replace(b"ustar", b"USTAR"), "no header of tar"),
    "an unknown type": (of_type(b"Q"), "of the type b'Q'"),
    "a part of several": (of_type(b"M"), "of the type b'M'"),
    "a directory with a content": (of_type(b"5", 7), "has a content"),
    "a link with a content": (of_type(b"2", 7), "has a content"),
    "a size below zero": (changed(124, b"\xff" * 12), "below zero"),
    "an owner below zero": (changed(108, b"\xff" * 8), "below zero"),
    "a size of 2 to the 80": (changed(124, b"\x80" + b"\xff" * 11), "truncated"),
    "a size that is no number": (changed(124, b"-1\0"), "no number"),
    "a mode that is no number": (changed(100, b"99999999"), "no number"),
    "an extended header of 8 GiB": (of_type(b"x", 0o77777777777), "extended header has 8589934591 bytes"),
    "a long name of 8 GiB": (of_type(b"L", 0o77777777777), "extended header has"),
    "headers without end": (of_type(b"V")[:512] * 3, "truncated"),
    "an owner for all": (with_records(b"uid=123456", kind=b"g"), "of all that follow"),
    "an attribute for all": (with_records(b"SCHILY.xattr.user.x=1", kind=b"g"), "of all that follow"),
    "a record without an end": (with_text(b"99 path=x\n"), "damaged"),
    "a record without a length": (with_text(b"path=x\n"), "damaged"),
    "a record of length 0": (with_text(b"0 path=x\n"), "damaged"),
    "a record below zero": (with_text(b"-5 path=x\n"), "damaged"),
    "a name with a NUL": (with_records(b"path=x\0y-------"), "can't be that of a file"),
    "a time that is none": (with_records(b"mtime=x-------"), "no number"),
    "a time that no system has": (changed(136, b"\x80\x7f" + bytes(10)), "no system has"),
    "a time long before all": (changed(136, b"\xff\x80" + bytes(10)), "no system has"),
    "an attribute with a NUL": (with_records(b"SCHILY.xattr.user.a\0b=1"), "no file can have"),
    "sparse and longer than any": (
        with_records(b"GNU.sparse.map=0,0", b"GNU.sparse.size=9223372036854775808"), "none can have"
    ),
    "a size in words": (with_records(b"size=1e33333333"), "no number"),
    "sparse of version 7": (
        with_records(b"GNU.sparse.major=7", b"GNU.sparse.minor=0"), "in a form that is not known"
    ),
    "sparse and beyond its end": (
        with_records(b"GNU.sparse.map=0,99", b"GNU.sparse.size=1"), "not what it has"
    ),
    "sparse and backwards": (
        with_records(b"GNU.sparse.map=10,5,3,1", b"GNU.sparse.size=99"), "not in order"
    ),
    "stretches of odd lengths": (
        with_records(b"GNU.sparse.map=0,5,9,5", b"GNU.sparse.size=99"), "not of whole blocks"
    ),
    "half a stretch": (with_records(b"GNU.sparse.map=1", b"GNU.sparse.size=9"), "stretches"),
    "sparse and no map": (
        with_records(b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.realsize=9"), "does not say where"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    data, found = REFUSED[what]
    with pytest.raises(ImageRefused, match=found) as caught:
        read(data)
    assert caught.value.asked == "archive demo" and caught.value.remedy


@given(data=st.binary(max_size=3000), at=st.integers(0, 2000))
def test_whatever_is_in_it_it_is_read_or_refused(data, at):
    whole = one("b", pax_headers={"comment": "x" * 100})
    whole[at : at + len(data)] = data
    try:
        read(bytes(whole))
    except ImageRefused as error:
        assert error.found
    for place in (0, 1024):
        if len(whole) >= place + 512:
            try:
                read(summed(whole, place))
            except ImageRefused as error:
                assert error.found


def test_how_names_are_shown():
    assert (
        tar_reader.printable_name(b"a\nb\xff") == "'a\\nb\\\\xff'" and len(tar_reader.printable_name(b"x" * 5000)) < 250
    )
