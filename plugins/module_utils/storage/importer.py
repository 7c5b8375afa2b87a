# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a path, an upload or a URL to a checked file in a datastore, in one pass and little memory.

source → blocks → (given checksum) → unpacked → (sha256 of what is stored) → sparse file → its format → its name
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import ChecksumMismatch, ImageRefused, InvalidValue, NoSpace
from ..guest_disk.open import edits
from ..host import download, files
from ..host.download import Download, is_url, without_secrets
from ..host.restricted import Rules
from ..model import defaults
from . import datastore, formats, pipeline, unpacking
from .unpacking import Blocks

MIB = 1024 * 1024
CHUNK = pipeline.CHUNK
# How often the free space is looked at while writing what has no known size.
SPACE_CHECK = 64 * MIB
ALGORITHMS = {"sha256": 64, "sha512": 128, "sha384": 96, "sha224": 56, "sha1": 40, "md5": 32}
DEFAULT_MAX_SIZE = defaults.IMAGE_MAX_SIZE * MIB
# Held by the run that stores a file, empty; what it stores, until that is whole.
PART, NEW = ".part", ".new"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Checksum:
    algorithm: str
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"

    @classmethod
    def parse(cls, text: str, what: str) -> Checksum:
        algorithm, colon, digest = text.strip().lower().partition(":")
        if not colon or algorithm not in ALGORITHMS:
            raise InvalidValue(
                f"{what}: checksum {text!r}",
                f"{algorithm!r} is no algorithm known here" if colon else "it names no algorithm",
                f"Write it as sha256:DIGEST; known are {', '.join(ALGORITHMS)}",
            )
        if len(digest) != ALGORITHMS[algorithm] or set(digest) - set("0123456789abcdef"):
            raise InvalidValue(
                f"{what}: checksum {text!r}",
                "the part after the colon is not a digest of this algorithm",
                f"{algorithm} has {ALGORITHMS[algorithm]} hexadecimal digits",
            )
        return cls(algorithm, digest)


@dataclass(frozen=True)
class Request:
    """What is to be stored. source: a path on this host or a URL. upload: source is a file of ours, which may be taken
    as it is. disk: it has to be a disk a machine can have, and is unpacked if it is compressed; cdrom: it has to be an
    ISO file system; format: it has to be of this one, if it is given. encrypted: it may be so, by LUKS. max_size:
    bytes. min_speed: bytes a second of a download. rules: which files of this host it may be; None: any. what: how
    errors call it."""

    what: str
    source: str
    checksum: Checksum | None = None
    disk: bool = True
    cdrom: bool = False
    format: str = ""
    encrypted: bool = False
    upload: bool = False
    max_size: int = DEFAULT_MAX_SIZE
    validate_certs: bool = True
    stall: float = 30.0
    min_speed: float = download.MIN_SPEED
    rules: Rules | None = None


@dataclass(frozen=True)
class Stored:
    """size: MiB that a machine sees, rounded up. sha256: of the stored file. checksums: of the file as given, one
    "algorithm:digest" or two, separated by a blank. bytes: length of the stored file. warnings: of its download."""

    format: str
    size: int
    sha256: str
    checksums: str
    bytes: int
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def reserved(destination: str, timeout: float) -> Iterator[None]:
    """Hold `destination` against other runs, by a file beside it that is gone afterwards; what a killed run had stored
    is removed first. It is held until the catalog knows of the file, so it can't be the file itself, which is renamed
    before. TimedOut: another run is at it.
    """
    with files.lock(destination + PART, timeout=timeout):
        try:
            files.remove_file(destination + NEW)
            yield
        finally:
            files.remove_file(destination + PART, sync=True)


def look(request: Request) -> formats.ImageFacts | None:
    """What can be seen of a local source without reading it all, or None; raises what store() would raise of that."""
    with contextlib.ExitStack() as held:
        fd, _size = _open_source(request, held)
        held.callback(os.close, fd)
        if not request.disk or unpacking.detect(os.pread(fd, unpacking.MAGIC_LENGTH, 0)):
            return None
    return _inspect(request, request.source, deep=False)


def store(request: Request, destination: str, say: Say | None = None) -> Stored:
    """Bring the source to `destination`, within reserved(). On an error there is nothing there."""
    pass_ = _Pass(request, say)
    with _unpublished(destination) as temporary:
        if request.upload and not pass_.packing and _on_one_file_system(request.source, destination):
            written = request.source
            pass_.hash_only()
        else:
            written = temporary
            with files.explained(temporary):
                os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            pass_.write(temporary)
        facts = _inspect(request, written)
        stored = Stored(
            format=facts.format,
            size=-(-facts.virtual_size // MIB),
            sha256=pass_.sha256,
            checksums=pass_.checksums,
            bytes=os.path.getsize(written),
            warnings=pass_.warnings,
        )
        _publish(written, destination)
    if request.upload:
        files.remove_file(request.source)
    return stored


def make_empty(destination: str, size: int, format: str, fs: str, key: str = "") -> Stored:
    """An empty disk of `size` MiB, within reserved(). Its hash is not taken: there is nothing to compare it with.
    key: of a qcow2 that is to be encrypted."""
    make(destination, lambda temporary: formats.create_empty(temporary, format, size * MIB, fs, key))
    return Stored(format=format, size=size, sha256="", checksums="", bytes=os.path.getsize(destination))


def make(destination: str, fill: Callable[[str], None]) -> None:
    """Bring what `fill` writes to the new file of that name to `destination`, within reserved()."""
    with _unpublished(destination) as temporary:
        fill(temporary)
        _publish(temporary, destination)


def _on_one_file_system(path: str, destination: str) -> bool:
    """Whether a file can become another by a rename: each datastore may be one of its own."""
    return os.stat(path).st_dev == os.stat(os.path.dirname(destination)).st_dev


@contextlib.contextmanager
def _unpublished(destination: str) -> Iterator[str]:
    """The name for a file that is not whole yet, free within reserved(); nothing is left there."""
    temporary = destination + NEW
    try:
        yield temporary
    finally:
        files.remove_file(temporary)


def _publish(written: str, destination: str) -> None:
    with files.explained(written):
        files.settle(written)
        datastore.protect(written, writable=False)
        os.rename(written, destination)
        files.sync_directory(os.path.dirname(destination))


def _inspect(request: Request, path: str, deep: bool = True) -> formats.ImageFacts:
    if not request.disk:
        size = os.path.getsize(path)
        if size == 0:
            raise ImageRefused(request.what, "the file is empty", "Give the right file")
        return formats.ImageFacts("raw", size)
    facts = formats.inspect(path, what=request.what, deep=deep, encrypted=request.encrypted)
    if request.format and facts.format != request.format:
        raise ImageRefused(
            f"{request.what}: format {request.format}", f"the file's format is {facts.format}", "Leave format out"
        )
    if request.cdrom and not facts.iso:
        raise ImageRefused(
            f"{request.what}: type CDROM",
            f"it is not an ISO file system (its format is {facts.format})",
            "Give an ISO file, or import it as OS or DATABLOCK",
        )
    if facts.virtual_size > request.max_size:
        raise _too_large(request, facts.virtual_size)
    return facts


class _Pass:
    """The one pass over a source. packing: how it is compressed, "" if it is not (or is not to be unpacked)."""

    def __init__(self, request: Request, say: Say | None) -> None:
        self.request = request
        self.say = say
        self.sha256 = ""
        self.checksums = ""
        self._download: Download | None = None
        self._fd = -1
        self._held = contextlib.ExitStack()
        self._taken = 0
        self._began = time.monotonic()
        if is_url(request.source):
            self._download = Download(
                request.source,
                validate_certs=request.validate_certs,
                stall=request.stall,
                min_speed=request.min_speed,
                to_http="" if request.checksum else "Give its checksum, or the file's own https URL",
            )
            self._download.open()
            self.size = self._download.size
            blocks = self._download.blocks()
        else:
            self._fd, self.size = _open_source(request, self._held)
            blocks = pipeline.read(self._fd)
        try:
            self._first, self._rest = _peek(blocks)
        except BaseException:
            self._close()
            raise
        self.packing = unpacking.detect(self._first) if request.disk else ""
        algorithms = {"sha256"} | ({request.checksum.algorithm} if request.checksum else set())
        self._given = {name: _new_hash(name) for name in sorted(algorithms)}

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"{self.request.what}: {text}" for text in self._download.warnings) if self._download else ()

    def hash_only(self) -> None:
        """The file is in place already, as it is to be stored: read it once, for its hashes."""
        try:
            self._drain()
        finally:
            self._close()
        self._finish()

    def write(self, path: str) -> None:
        try:
            if self.size is not None and self.size > self.request.max_size:
                raise _too_large(self.request, self.size)
            # What it takes unpacked is not known; less than packed it can't be.
            datastore.require_space(os.path.dirname(path), self._needed(), f"{self.request.what}: storing it")
            if not self.packing and self._clone(path):
                self._drain()
            else:
                blocks = self._blocks()
                if self.packing:
                    blocks = unpacking.unpack(self.packing, blocks, self.request.what)
                with contextlib.closing(blocks), _SparseFile(path, self.request, hashed=bool(self.packing)) as file:
                    for block in blocks:
                        file.write(block)
                    self.sha256 = file.finish()
        finally:
            self._close()
        self._finish()

    def _drain(self) -> None:
        for _block in self._blocks():
            pass

    def _blocks(self) -> Blocks:
        """The source as given, hashed and counted on its way."""
        with contextlib.closing(self._rest):
            if self._first:
                yield self._count(self._first)
            for block in self._rest:
                yield self._count(block)

    def _count(self, block: bytes) -> bytes:
        for hash in self._given.values():
            hash.update(block)
        self._taken += len(block)
        # Packed, it may go on for ever without anything in it.
        if self._taken > self.request.max_size:
            raise _too_large(self.request, self._taken)
        if self.say is not None:
            self.say(_how_far(self._taken, self.size, time.monotonic() - self._began))
        return block

    def _finish(self) -> None:
        if self.size is not None and self._taken != self.size:
            raise ImageRefused(
                self.request.what,
                f"the file changed while it was read: it had {self.size} bytes, then {self._taken}",
                "Run again when it is complete",
            )
        checksum = self.request.checksum
        if checksum is not None:
            found = self._given[checksum.algorithm].hexdigest()
            if found != checksum.digest:
                raise ChecksumMismatch(
                    f"{self.request.what}: checksum {checksum}",
                    f"{without_secrets(self.request.source) if self._download else 'the file'} has "
                    f"{checksum.algorithm}:{found} ({self._taken} bytes)",
                    "The file is not the one that was meant: check path and checksum",
                )
        first = [checksum.algorithm] if checksum else []
        names = [*first, *(name for name in self._given if name not in first)]
        if not self.packing:
            self.sha256 = self._given["sha256"].hexdigest()
        self.checksums = " ".join(f"{name}:{self._given[name].hexdigest()}" for name in names)

    def _needed(self) -> int:
        if self._fd >= 0 and not self.packing:
            found = os.fstat(self._fd)
            return min(found.st_size, found.st_blocks * 512)
        return self.size or 0

    def _clone(self, path: str) -> bool:
        """Share the source's blocks where the file system can (btrfs, xfs). What is read from then on is the clone."""
        if self._fd < 0:
            return False
        with files.explained(path):
            target = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not files.clone(self._fd, target):
                return False
        finally:
            os.close(target)
        os.close(self._fd)
        self._held.close()
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._first, self._rest = b"", pipeline.read(self._fd)
        return True

    def _close(self) -> None:
        if self._download is not None:
            self._download.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._held.close()


class _SparseFile:
    """Writes blocks of any length as chunks with holes for zeroes, and keeps the size and the free space in bounds."""

    def __init__(self, path: str, request: Request, hashed: bool) -> None:
        self._path = path
        self._request = request
        self._buffer = bytearray()
        self._offset = 0
        self._unchecked = 0
        self._hash = hashlib.sha256() if hashed else None
        with files.explained(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._written = pipeline.Written(self._fd)

    def __enter__(self) -> _SparseFile:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)

    def write(self, block: bytes) -> None:
        if not self._buffer and len(block) == CHUNK:
            self._put(block)
            return
        self._buffer += block
        while len(self._buffer) >= CHUNK:
            self._put(bytes(self._buffer[:CHUNK]))
            del self._buffer[:CHUNK]

    def finish(self) -> str:
        """Write what is left; the SHA-256 of all, "" if it was not wanted."""
        if self._buffer:
            self._put(bytes(self._buffer))
        with files.explained(self._path):
            os.ftruncate(self._fd, self._offset)
        return self._hash.hexdigest() if self._hash is not None else ""

    def _put(self, chunk: bytes) -> None:
        if self._offset + len(chunk) > self._request.max_size:
            raise _too_large(self._request, self._offset + len(chunk))
        if self._hash is not None:
            self._hash.update(chunk)
        view = memoryview(chunk)
        try:
            for start, end in pipeline.stretches(chunk):
                self._write(view[start:end], self._offset + start)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._no_space() from error
            raise files.explain(error, self._path) from error
        self._offset += len(chunk)
        self._written.up_to(self._offset)

    def _write(self, piece: memoryview, offset: int) -> None:
        self._unchecked += len(piece)
        if self._unchecked >= SPACE_CHECK:
            self._unchecked = 0
            if datastore.free_space(os.path.dirname(self._path)) < SPACE_CHECK:
                raise self._no_space()
        while piece:
            done = os.pwrite(self._fd, piece, offset)
            piece, offset = piece[done:], offset + done

    def _no_space(self) -> NoSpace:
        return NoSpace(
            f"{self._request.what}: storing it in {os.path.dirname(self._path)}",
            f"the file system is full after {self._offset // MIB} MiB",
            "Make room on it, or set nebula_root to a larger one; then run again",
        )


def _open_source(request: Request, held: contextlib.ExitStack) -> tuple[int, int]:
    """The open file and its size. held: keeps those waiting who would write to it."""
    path = request.source
    if not os.path.isabs(path):
        raise InvalidValue(f"{request.what}: path {path}", "it is not absolute", "Give the full path on the front-end")
    try:
        # O_NONBLOCK: a named pipe would wait for its writer.
        # What users name may be a link; an upload is a file of ours.
        links = os.O_NOFOLLOW if request.upload else 0
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | links)
    except OSError as error:
        error_ = files.explain(error, path)
        error_.asked = f"{request.what}: path {path}"
        raise error_ from error
    try:
        mode = os.fstat(fd).st_mode
        if request.cdrom and stat.S_ISBLK(mode):
            # What is in a drive: it is copied, as from a file.
            size = os.lseek(fd, 0, os.SEEK_END)
            os.lseek(fd, 0, os.SEEK_SET)
            return fd, size
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise InvalidValue(f"{request.what}: path {path}", f"it is {kind}", "Give the path of a file")
        if not request.upload:
            if request.rules is not None:
                # Of what was opened, whatever has the path by now.
                request.rules.refuse_medium(f"{request.what}: path {path}", os.readlink(f"/proc/self/fd/{fd}"))
            held.enter_context(edits.held(fd, path, f"{request.what}: path {path}"))
        return fd, os.fstat(fd).st_size
    except BaseException:
        os.close(fd)
        raise


def _peek(blocks: Blocks) -> tuple[bytes, Blocks]:
    """Enough of the beginning to see how it is packed, and the rest."""
    first = b""
    for block in blocks:
        first += block
        if len(first) >= unpacking.MAGIC_LENGTH:
            break
    return first, blocks


def _new_hash(name: str) -> Any:
    # sha1 and md5 serve those who only have these; FIPS builds refuse them unless told that nothing hangs on it.
    return hashlib.new(name, usedforsecurity=False)


def _too_large(request: Request, size: int) -> ImageRefused:
    return ImageRefused(
        request.what,
        f"it has {size // MIB} MiB or more, the limit is {request.max_size // MIB} MiB",
        "If it is what was meant, raise the limit: max_size (nebula_image_max_size)",
    )


def _how_far(taken: int, size: int | None, seconds: float) -> str:
    speed = f"{taken / MIB / seconds:.0f} MB/s" if seconds > 0.5 else "…"
    return f"{100 * taken // size} % at {speed}" if size else f"{taken // MIB} MiB at {speed}"
