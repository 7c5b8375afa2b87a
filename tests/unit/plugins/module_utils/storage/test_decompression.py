# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a compressed file holds comes out whole and in bounded blocks, or the file is refused with the reason."""

from __future__ import annotations

import bz2
import errno
import gzip
import itertools
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Generator, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import decompression
from ansible_collections.nebula.provision.plugins.module_utils.storage.decompression import CHUNK, MAGIC_LENGTH

CONTENT = b"of a disk " * 20_000
LIBRARIES = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="program zstd is not on this host")
ALL = [*LIBRARIES, pytest.param("zst", marks=needs_zstd)]
# A frame that wants a window of 2 GiB, with one empty block.
WIDE_ZST = b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00"


def packed(packing: str, content: bytes = CONTENT) -> bytes:
    if packing == "zst":
        return subprocess.run(["zstd", "-q", "-c"], input=content, capture_output=True, check=True).stdout
    return LIBRARIES[packing](content)


def blocks_of(data: bytes, length: int = 1000) -> Generator[bytes, None, None]:
    yield from (data[start : start + length] for start in range(0, len(data), length))


def unpacked(packing: str, data: bytes, length: int = 1000) -> bytes:
    return b"".join(decompression.unpack(packing, blocks_of(data, length), "image demo"))


def wide_xz() -> bytes:
    """An xz file whose block header asks for a dictionary of 4 GiB."""
    data = bytearray(lzma.compress(b"content"))
    data[16] = 40
    data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
    return bytes(data)


class Watched:
    """A source of blocks that tells whether it was closed."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.closed = False
        self.blocks = self._blocks(blocks)

    def _blocks(self, blocks: Iterable[bytes]) -> Generator[bytes, None, None]:
        try:
            yield from blocks
        finally:
            self.closed = True


@pytest.mark.parametrize("packing", ALL)
def test_a_packed_file_is_known_by_its_first_bytes(packing):
    assert decompression.detect(packed(packing)[:MAGIC_LENGTH]) == packing


@pytest.mark.parametrize(
    "head", [b"", b"\x1f\x8b", b"QFI\xfb\0\0", b"PK\3\4\0\0", b"\xfd7zX", bytes(6), b"\x1f\x8b\x09\0\0\0"]
)
def test_what_is_not_packed_so_is_not_unpacked(head):
    assert decompression.detect(head) == ""


@pytest.mark.parametrize("length", [1, 7_000, 10**7])
@pytest.mark.parametrize("packing", LIBRARIES)
def test_the_content_comes_out_whatever_the_blocks_are(packing, length):
    content = CONTENT[:2000] if length == 1 else CONTENT
    assert unpacked(packing, packed(packing, content), length) == content


@needs_zstd
def test_the_content_of_zstd_comes_out():
    assert unpacked("zst", packed("zst")) == CONTENT


@given(
    st.sampled_from(sorted(LIBRARIES)),
    st.lists(st.binary(max_size=2000), min_size=1, max_size=4),
    st.integers(0, 9),
    st.integers(1, 500),
)
@settings(max_examples=50, deadline=None)
def test_streams_behind_each_other_are_one_content(packing, contents, padding, length):
    """A file may be several packed ones joined, and end in zeroes (as tapes leave them)."""
    data = b"".join(packed(packing, content) for content in contents) + bytes(padding)
    assert unpacked(packing, data, length) == b"".join(contents)


@pytest.mark.parametrize("packing", ALL)
def test_blocks_are_bounded_however_much_is_in_a_few_bytes(packing):
    content = bytes(3 * CHUNK + 5)
    lengths = [len(block) for block in decompression.unpack(packing, blocks_of(packed(packing, content)), "x")]
    assert max(lengths) <= CHUNK and sum(lengths) == len(content)


@pytest.mark.parametrize("packing", ALL)
@pytest.mark.parametrize("left", [0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(packing, left):
    data = packed(packing)
    with pytest.raises(ImageRefused) as caught:
        unpacked(packing, data[: int(len(data) * left)])
    assert caught.value.asked == "image demo"
    assert caught.value.found.startswith("the compressed file is damaged or truncated: ")
    assert caught.value.remedy == "Get a whole copy of it"


@pytest.mark.parametrize("packing", ALL)
def test_a_file_whose_middle_is_damaged_is_refused(packing):
    data = bytearray(packed(packing, bytes(range(256)) * 400))
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    with pytest.raises(ImageRefused, match="damaged or truncated"):
        unpacked(packing, bytes(data))


@pytest.mark.parametrize("packing", ALL)
def test_what_follows_the_content_and_is_none_is_refused(packing):
    with pytest.raises(ImageRefused, match="damaged or truncated"):
        unpacked(packing, packed(packing) + b"something else entirely")


@pytest.mark.parametrize(
    ("packing", "data"), [("xz", wide_xz()), pytest.param("zst", WIDE_ZST, marks=needs_zstd)], ids=["xz", "zst"]
)
def test_a_file_that_needs_too_much_memory_is_refused(packing, data):
    with pytest.raises(ImageRefused, match="unpacking it needs more than 256 MiB of memory") as caught:
        unpacked(packing, data)
    assert caught.value.remedy == "Pack it with a smaller window, or give it unpacked"


@pytest.mark.parametrize("packing", ALL)
def test_an_error_of_the_source_stays_its_own(packing):
    """A disk that fails is not a damaged file: bz2 raises OSError for both."""

    def failing() -> Generator[bytes, None, None]:
        yield packed(packing)[:100]
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(decompression.unpack(packing, failing(), "image demo"))


@pytest.mark.parametrize("packing", ALL)
def test_the_source_is_closed_when_nobody_reads_on(packing):
    source = Watched(itertools.repeat(packed(packing)))
    stream = decompression.unpack(packing, source.blocks, "image demo")
    assert next(stream)
    stream.close()
    assert source.closed


@pytest.mark.parametrize("packing", ALL)
def test_the_source_is_closed_at_the_end(packing):
    source = Watched([packed(packing)])
    assert b"".join(decompression.unpack(packing, source.blocks, "image demo")) == CONTENT
    assert source.closed


def frames(content: bytes, *options: str) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", *options], input=content, capture_output=True, check=True).stdout


SKIPPED = b"\x5a\x2a\x4d\x18\4\0\0\0text"
BEHIND_ZST = {
    "a signature": ((packed, SKIPPED), b"untrusted comment: x", 20),
    "a byte": ((packed,), b"\1", 1),
    "what could begin a frame": ((packed, packed), b"\x28\xb5\x2f", 3),
    "zeroes": ((SKIPPED, packed), bytes(5000), 0),
    "zeroes, and something": ((packed,), bytes(5000) + b"some", 4),
}


@needs_zstd
@pytest.mark.parametrize("length", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("name", BEHIND_ZST)
def test_what_follows_the_frames_of_zstd_is_counted(name, length):
    parts, more, counted = BEHIND_ZST[name]
    content = b"word " * 30_000
    whole = [part if isinstance(part, bytes) else frames(content, "--fast=5") for part in parts]
    behind: list[int] = []
    data = bytes(9).join(whole) + more
    blocks = decompression.unpack("zst", blocks_of(data, length), "image demo", behind.append)
    assert b"".join(blocks) == content * sum(part is packed for part in parts)
    assert sum(behind) == counted


@needs_zstd
@pytest.mark.parametrize("options", [("--no-check", "--no-content-size"), ("--no-check", "--no-content-size", "-19")])
def test_what_may_have_been_cut_off_within_a_frame_is_damage(options):
    # Nothing in it tells how much it holds, and the block that follows could be what was taken for something else.
    data = frames(CONTENT, *options)
    assert b"".join(decompression.unpack("zst", blocks_of(data), "image demo", lambda _count: None)) == CONTENT
    with pytest.raises(ImageRefused, match="damaged"):
        b"".join(decompression.unpack("zst", blocks_of(data + b"text"), "image demo", lambda _count: None))


@needs_zstd
@pytest.mark.parametrize("left", [3, 5, 9, 13, -5, -1])
def test_frames_that_are_cut_off_are_damage_where_what_follows_them_is_counted(left):
    with pytest.raises(ImageRefused, match="damaged"):
        b"".join(decompression.unpack("zst", blocks_of(frames(CONTENT)[:left], 7), "image demo", lambda _count: None))
