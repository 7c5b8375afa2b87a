# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacks compressed files to streams of what is in them: gz, xz, bz2 and zst, in bounded memory whatever they hold."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import subprocess
import threading
import zlib
from collections.abc import Callable, Generator
from typing import Any

from ..errors import ImageRefused
from ..host import command, sandbox

# Whoever stops early closes them, and with them the program that makes them.
Blocks = Generator[bytes, None, None]
CHUNK = 1024 * 1024
# What a decoder gets at once: each stream that ends copies what is left, and a stream may be 14 bytes.
SLICE = 32 * 1024
# What a decompressor may take for its window; xz -9 needs 65 MiB, zstd --ultra -22 128 MiB.
MEMORY = 256 * 1024 * 1024
MAGIC = ((b"\x1f\x8b\x08", "gz"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zst"))
MAGIC_LENGTH = 6
# A frame that says something to others, and that zstd leaves out: 16 magics that differ in their first byte.
_SKIPPED = b"\x2a\x4d\x18"
_FRAME = b"\x28\xb5\x2f\xfd"


def detect(head: bytes) -> str:
    """Return how a file that begins like this is compressed; "" if it is not."""
    for magic, name in MAGIC:
        if head.startswith(magic):
            return name
    if head[1:4] == _SKIPPED and head[0] >> 4 == 5:
        return "zst"
    return ""


def unpack(packing: str, blocks: Blocks, what: str, behind: Callable[[int], None] | None = None) -> Blocks:
    """Yield the content, in blocks of at most 1 MiB. Raise ImageRefused if it is damaged, cut off, or needs too much
    memory. behind: called with the number of bytes that follow and are something else, as a signature is; without
    it, these are damage."""
    if packing == "zst":
        if behind is not None:
            blocks = _frames(blocks, behind)
        return _by_program(["zstd", "-dc", "-q", f"--memory={MEMORY // (1024 * 1024)}MB"], blocks, what)
    return _by_library(packing, blocks, what, behind)


def _frames(blocks: Blocks, behind: Callable[[int], None]) -> Blocks:
    """Yield the frames of zstd, for which what follows them is damage. Zeroes between them are padding."""
    steps = _steps()
    want, how = next(steps, _NEXT)
    held = b""
    with contextlib.closing(blocks):
        for block in blocks:
            data, begin, at, held = held + block, 0, 0, b""
            while at < len(data) or not want:
                if how == _PASSED:
                    passed = min(want, len(data) - at)
                    at, want = at + passed, want - passed
                    if want:
                        break
                    want, how = next(steps, _NEXT)
                    continue
                if how == _MAGIC and data[at] == 0:
                    if at > begin:
                        yield data[begin:at]
                    zeroes = data[at : at + _ZEROES]
                    at = begin = at + len(zeroes) - len(zeroes.lstrip(b"\0"))
                    continue
                if len(data) - at < want:
                    held = data[at:]
                    break
                seen = data[at : at + want]
                try:
                    want, how = steps.send(seen)
                except StopIteration as end:
                    yield data[begin:at]
                    left = data[at:]
                    if not end.value:
                        # It may be packed by something else that zstd knows, or damaged: zstd tells.
                        yield left
                        yield from blocks
                        return
                    behind(len(left))
                    for left in blocks:
                        behind(len(left))
                    return
                at += len(seen)
            yield data[begin:at]
        if how == _MAGIC:
            behind(len(held))
        else:
            yield held


# Zeroes between frames that are looked at in one step.
_ZEROES = 1024
# What is done with the next bytes: they are looked at, as the beginning of a frame or of a part of one, or passed on.
_MAGIC, _SEEN, _PASSED = "magic", "seen", "passed"
# As each frame begins.
_NEXT = (4, _MAGIC)


def _steps() -> Generator[tuple[int, str], bytes, bool]:
    """Yield how many bytes come next in zstd's frames, and what is done with them (RFC 8878). Return, where something
    follows that is no frame, whether the last one has a sum, or its length, by which zstd sees that it is whole."""
    whole = False
    while True:
        magic = yield _NEXT
        if magic[1:] == _SKIPPED and magic[0] >> 4 == 5:
            yield int.from_bytes((yield 4, _SEEN), "little"), _PASSED
            continue
        if magic != _FRAME:
            return whole
        flags = (yield 1, _SEEN)[0]
        single, summed, length = flags >> 5 & 1, flags >> 2 & 1, flags >> 6
        whole = bool(single or summed or length)
        yield (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[length] + 1 - single, _PASSED
        last = False
        while not last:
            block = int.from_bytes((yield 3, _SEEN), "little")
            last = bool(block & 1)
            # Of a block of one byte many times, the length is what it is unpacked.
            yield 1 if block >> 1 & 3 == 1 else block >> 3, _PASSED
        yield 4 * summed, _PASSED


class _Gzip:
    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)

    @property
    def finished(self) -> bool:
        return self._decoder.eof

    def step(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return up to 1 MiB, and what to go on with: b"" if more comes without input, None if input is wanted."""
        out = self._decoder.decompress(data, CHUNK)
        rest = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
        return out, rest or (b"" if len(out) == CHUNK and not self._decoder.eof else None)


class _Library:
    """Decodes with bz2 and lzma, which keep input themselves."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    @property
    def finished(self) -> bool:
        return bool(self._decoder.eof)

    def step(self, data: bytes) -> tuple[bytes, bytes | None]:
        out = self._decoder.decompress(data, CHUNK)
        if self._decoder.eof:
            return out, self._decoder.unused_data or None
        return out, None if self._decoder.needs_input else b""


_DECODERS: dict[str, Callable[[], Any]] = {
    "gz": _Gzip,
    "bz2": lambda: _Library(bz2.BZ2Decompressor()),
    "xz": lambda: _Library(lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY)),
}


def _by_library(packing: str, blocks: Blocks, what: str, behind: Callable[[int], None] | None) -> Blocks:
    new = _DECODERS[packing]
    decoder = new()
    # Of what follows a stream: bytes of which it is not known yet whether another stream begins with them.
    rest = b""
    try:
        for block in blocks:
            for start in range(0, len(block), SLICE):
                data: bytes | None = block[start : start + SLICE]
                while data is not None:
                    if decoder.finished:
                        # Zeroes are padding.
                        data = (rest + data).lstrip(b"\0")
                        if len(data) < MAGIC_LENGTH:
                            rest = data
                            break
                        if detect(data) != packing and behind is not None:
                            behind(len(data) + len(block) - min(len(block), start + SLICE))
                            for left in blocks:
                                behind(len(left))
                            return
                        rest, decoder = b"", new()
                    out, data = decoder.step(data)
                    if out:
                        yield out
    except (zlib.error, EOFError, lzma.LZMAError) as error:
        raise _damaged(what, str(error)) from error
    except OSError as error:
        # bz2 says so, and has no number; what the source says has one.
        if error.errno is not None:
            raise
        raise _damaged(what, str(error)) from error
    finally:
        blocks.close()
    if rest and behind is not None:
        behind(len(rest))
    elif rest or not decoder.finished:
        raise _damaged(what, "it ends before its content does")


def _by_program(argv: list[str], blocks: Blocks, what: str) -> Blocks:
    pipe = subprocess.PIPE
    # What strangers packed is read by a program that has nothing but its pipes. The library's own limit of memory tells
    # what is wrong; the kernel's holds if it does not.
    before = sandbox.sandbox_words(argv[0], 2 * MEMORY)
    limit = None if before else 2 * MEMORY
    with command.start(argv, before=before, memory=limit, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        source, sink, complaints = process.stdin, process.stdout, process.stderr
        if source is None or sink is None or complaints is None:
            raise ValueError("a stream that was asked for is not there")
        failed: list[BaseException] = []
        output: list[bytes] = []

        def feed() -> None:
            try:
                for block in blocks:
                    view = memoryview(block)
                    while view:
                        view = view[source.write(view) or 0 :]
            except BrokenPipeError:
                pass
            except BaseException as error:
                failed.append(error)
            finally:
                source.close()

        def listen() -> None:
            while True:
                text = complaints.read(4096)
                if not text:
                    return
                output[:] = [b"".join(output)[-4096:], text]

        threads = [threading.Thread(target=task, name="unpacking", daemon=True) for task in (feed, listen)]
        for thread in threads:
            thread.start()
        try:
            while True:
                block = sink.read(CHUNK)
                if not block:
                    break
                yield block
            process.wait()
        finally:
            # A consumer that stops early: what feeds the program ends with it.
            process.kill()
            for thread in threads:
                thread.join()
            blocks.close()
        if failed:
            raise failed[0]
        if process.returncode != 0:
            raise _damaged(what, command.last_lines(b"".join(output).decode("utf-8", "replace"), 2))


def _damaged(what: str, reason: str) -> ImageRefused:
    if any(word in reason.lower() for word in ("limit", "memory", "window")):
        return ImageRefused(
            what,
            f"unpacking it needs more than {MEMORY // (1024 * 1024)} MiB of memory ({reason})",
            "Pack it with a smaller window, or give it unpacked",
        )
    return ImageRefused(what, f"the compressed file is damaged or truncated: {reason}", "Get a whole copy of it")
