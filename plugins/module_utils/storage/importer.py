# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores the file of a path, an upload or a URL in a datastore: checked, in one pass, and in little memory.

source → blocks → (given checksum) → unpacked → (sha256 of what is stored) → sparse file → its format → its name

A disk in another hypervisor's format is stored as it came, beside; what is stored is made of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..dataclass import dataclass
from ..errors import ChecksumMismatch, ImageRefused, InvalidValue
from ..guest_disk.open import image_overlay
from ..host import files
from ..host.restricted_directories import Rules
from ..host.urls import MIN_SPEED, is_url, without_secrets
from ..model import defaults
from ..model.disk import TAR
from . import (
    datastore_layout,
    decompression,
    disk_creation,
    disk_formats,
    file_blocks,
    file_signatures,
    foreign_disks,
    qcow2_header,
)
from .checksum import Checksum
from .decompression import Blocks
from .final_names import GIVEN, NEW, make, publish, temporary_name
from .foreign_disks import Foreign
from .sparse_file import MIB, SparseFile, too_large

if TYPE_CHECKING:
    from ..host.download import Download

_NO_ISO = "Give an ISO file, or import it as OS or DATABLOCK"
DEFAULT_MAX_SIZE = defaults.IMAGE_MAX_SIZE * MIB

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """Says what is to be stored.
    what: how errors name the object
    source, upload: a path on this host, or a URL; upload: it is a file of ours, which may be renamed instead of
    copied
    disk: it has to be a disk that a machine can have; it is unpacked if it is compressed
    cdrom: it has to be an ISO file system
    format: if given, it has to be of this format when it is stored; raw: it is raw, whatever it looks like
    member: the name of the disk in an OVA
    encrypted: LUKS is allowed
    max_size: bytes
    stall, min_speed: seconds that a download may pause, and its bytes a second
    rules: which files of this host it may be; None: any"""

    what: str
    source: str
    checksum: Checksum | None = None
    disk: bool = True
    cdrom: bool = False
    format: str = ""
    member: str = ""
    encrypted: bool = False
    upload: bool = False
    max_size: int = DEFAULT_MAX_SIZE
    validate_certs: bool = True
    stall: float = 30.0
    min_speed: float = MIN_SPEED
    rules: Rules | None = None


@dataclass(frozen=True)
class Stored:
    """Says what was stored.
    size: MiB that a machine sees, rounded up
    sha256: of the stored file
    checksums: digests of the file as given, by their algorithms
    bytes: length of the stored file
    warnings: of its download, and of what it is"""

    format: str
    size: int
    sha256: str
    checksums: Mapping[str, str]
    bytes: int
    warnings: tuple[str, ...] = ()


def inspect_source(request: Request) -> disk_formats.ImageFacts | None:
    """Return what a local source is, as far as its first bytes show; None if that is not known before it is read.

    It raises the errors that store() would raise for the same reason."""
    with contextlib.ExitStack() as held:
        fd, _size = _open_source(request, held)
        held.callback(os.close, fd)
        if not request.disk or decompression.detect(os.pread(fd, decompression.MAGIC_LENGTH, 0)):
            return None
    foreign = _find_foreign(request, request.source)
    if foreign is None:
        return _inspect(request, request.source, deep=False)
    return None if foreign.packed else disk_formats.ImageFacts(_format_of(request), foreign.size)


def store(request: Request, destination: str, say: Say | None = None) -> Stored:
    """Bring the source to `destination`, within reserved(). After an error there is no file. say: called with the
    progress in words, after each block."""
    pass_ = _Pass(request, say)
    with temporary_name(destination) as temporary:
        if request.upload and not pass_.packing and _on_one_file_system(request.source, destination):
            written = request.source
            pass_.hash_only()
        else:
            written = temporary
            with files.explained(temporary):
                os.close(os.open(temporary, files.NEW_FILE | os.O_CLOEXEC, 0o600))
            pass_.write(temporary)
        with pass_.explained():
            foreign = _find_foreign(request, written)
            if foreign is None:
                facts, sha256 = _inspect(request, written), pass_.sha256
        if foreign is not None:
            written, facts = _convert(request, foreign, written, destination, say)
            sha256 = _sha256(written)
        stored = Stored(
            format=facts.format,
            size=-(-facts.virtual_size // MIB),
            sha256=sha256,
            checksums=pass_.checksums,
            bytes=os.path.getsize(written),
            warnings=(*pass_.warnings, *_warn_of_odd_length(request, written, facts)),
        )
        publish(written, destination)
    if request.upload:
        files.remove_file(request.source)
    return stored


def make_empty(destination: str, size: int, format: str, fs: str, key: str = "") -> Stored:
    """Make an empty disk of `size` MiB, within reserved(). It has no hash, since there is nothing to compare it with.
    key: of a qcow2 that is to be encrypted."""
    make(destination, lambda temporary: disk_creation.create_empty(temporary, format, size * MIB, fs, key))
    return Stored(format=format, size=size, sha256="", checksums={}, bytes=os.path.getsize(destination))


def _find_foreign(request: Request, path: str) -> Foreign | None:
    """Return the disk of another hypervisor that the file is, or holds, where a disk is wanted."""
    if not request.disk or request.cdrom or request.format == TAR:
        return None
    foreign = foreign_disks.find(path, request.what, request.member)
    if foreign is not None and foreign.size > request.max_size:
        raise too_large(request.what, request.max_size, foreign.size)
    return foreign


def _format_of(request: Request) -> str:
    """Return the format in which a disk of another hypervisor is stored."""
    return request.format or "qcow2"


def _convert(
    request: Request, foreign: Foreign, written: str, destination: str, say: Say | None
) -> tuple[str, disk_formats.ImageFacts]:
    new, given = destination + NEW, destination + GIVEN
    try:
        if written == new:
            os.rename(new, given)
            written = given
        size = foreign_disks.convert(foreign, written, new, _format_of(request), request.max_size, request.what, say)
        if size >= 2 * disk_formats.SECTOR:
            disk_formats.refuse_part(request.what, new, _format_of(request), size)
    finally:
        files.remove_file(given)
    return new, disk_formats.ImageFacts(_format_of(request), size)


def _sha256(path: str) -> str:
    with files.explained(path), qcow2_header.open_binary(path) as file:
        return files.content_digest(file)


def _warn_of_odd_length(request: Request, path: str, facts: disk_formats.ImageFacts) -> list[str]:
    """Return a warning for a disk whose last sector is not whole: something was cut off it, or put behind it."""
    length = os.path.getsize(path)
    if not request.disk or request.cdrom or facts.format != "raw" or length % disk_formats.SECTOR == 0:
        return []
    found = f"its file has {length} bytes, which is no multiple of {disk_formats.SECTOR}"
    return [
        f"{request.what}: {found}: it may be cut off, or have something behind its end; its last sector is filled up"
    ]


def _on_one_file_system(path: str, destination: str) -> bool:
    """Return whether a rename can bring the file there: each datastore may be a file system of its own."""
    return os.stat(path).st_dev == os.stat(os.path.dirname(destination)).st_dev


def _inspect(request: Request, path: str, deep: bool = True) -> disk_formats.ImageFacts:
    if not request.disk:
        size = os.path.getsize(path)
        if size == 0:
            raise ImageRefused(request.what, "the file is empty", "Give the right file")
        return disk_formats.ImageFacts("raw", size)
    if request.cdrom:
        _refuse_other_disk(request, path)
    known = TAR if request.format == TAR else None
    meant = request.format == "raw" or request.cdrom
    facts = disk_formats.inspect(path, known, request.what, deep, request.encrypted, meant)
    if request.format and facts.format != request.format:
        raise ImageRefused(
            f"{request.what}: format {request.format}", f"the file's format is {facts.format}", "Leave format out"
        )
    if request.cdrom and not facts.iso:
        raise ImageRefused(
            f"{request.what}: type CDROM", f"it is not an ISO file system ({_described(path, facts)})", _NO_ISO
        )
    if facts.virtual_size > request.max_size:
        raise too_large(request.what, request.max_size, facts.virtual_size)
    return facts


def _refuse_other_disk(request: Request, path: str) -> None:
    with files.explained(path), qcow2_header.open_binary(path) as file:
        name = file_signatures.FOREIGN_FORMATS.get(file_signatures.signature(file))
    if name:
        found = f"it is not an ISO file system (its format is {name})"
        raise ImageRefused(f"{request.what}: type CDROM", found, _NO_ISO)


def _described(path: str, facts: disk_formats.ImageFacts) -> str:
    with files.explained(path), qcow2_header.open_binary(path) as file:
        known = file_signatures.signature(file)
        if known == TAR or " " in known:
            return "it is a tar archive" if known == TAR else f"it is {known}"
        if facts.format != "raw" or file_signatures.is_raw_disk(path, file):
            return f"its format is {facts.format}"
        return file_signatures.looks_like(file)


class _Pass:
    """Reads a source once. packing: how it is compressed; "" if it is not, or is not to be unpacked."""

    def __init__(self, request: Request, say: Say | None) -> None:
        self.request = request
        self.say = say
        self.sha256 = ""
        self.checksums: dict[str, str] = {}
        self._download: Download | None = None
        self._fd = -1
        self._held = contextlib.ExitStack()
        self._taken = 0
        self._began = time.monotonic()
        if is_url(request.source):
            from ..host.download import Download

            self._download = Download(
                request.source,
                validate_certs=request.validate_certs,
                stall=request.stall,
                min_speed=request.min_speed,
                to_http="" if request.checksum else "Give its checksum, or the file's own https URL",
                # What is no disk is stored as it comes, and nothing would show that it is packed.
                packed=request.disk,
            )
            self._download.open()
            self.size = self._download.size
            blocks = self._download.blocks()
        else:
            self._fd, self.size = _open_source(request, self._held)
            blocks = file_blocks.read(self._fd)
        try:
            self._first, self._rest = _peek(blocks)
        except BaseException:
            self._close()
            raise
        self._begins = self._first[: file_signatures.HEAD]
        self.packing = decompression.detect(self._first) if request.disk else ""
        algorithms = {"sha256"} | ({request.checksum.algorithm} if request.checksum else set())
        self._given = {name: _new_hash(name) for name in sorted(algorithms)}
        self._unpacked = _new_hash(request.checksum.algorithm) if request.checksum and self.packing else None
        # Bytes that came behind what is packed.
        self._behind: list[int] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        texts = list(self._download.warnings) if self._download else []
        if any(self._behind):
            found = f"{sum(self._behind)} bytes behind the end of its {self.packing} were left out"
            texts.append(f"{found} (some projects sign their files so)")
        return tuple(f"{self.request.what}: {text}" for text in texts)

    def hash_only(self) -> None:
        """Read a file that is stored as it is once, for its hashes."""
        try:
            self._drain()
        finally:
            self._close()
        self._finish()

    def write(self, path: str) -> None:
        try:
            if self.size is not None and self.size > self.request.max_size:
                raise too_large(self.request.what, self.request.max_size, self.size)
            # How much room it takes unpacked is not known, but at least as much as packed.
            datastore_layout.require_space(os.path.dirname(path), self._needed(), f"{self.request.what}: storing it")
            if not self.packing and self._clone(path):
                self._drain()
            else:
                blocks = self._blocks()
                if self.packing:
                    blocks = self._hash_unpacked(
                        decompression.unpack(self.packing, blocks, self.request.what, self._behind.append)
                    )
                with (
                    contextlib.closing(blocks),
                    SparseFile(path, self.request.what, self.request.max_size, hashed=bool(self.packing)) as file,
                ):
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
        """Yield the blocks of the source as given, each hashed and counted."""
        with contextlib.closing(self._rest):
            if self._first:
                yield self._count(self._first)
            for block in self._rest:
                yield self._count(block)

    def _count(self, block: bytes) -> bytes:
        for hash in self._given.values():
            hash.update(block)
        self._taken += len(block)
        # A packed source may go on for ever and unpack to nothing.
        if self._taken > self.request.max_size:
            raise too_large(self.request.what, self.request.max_size, self._taken)
        if self.say is not None:
            self.say(_how_far(self._taken, self.size, time.monotonic() - self._began))
        return block

    def _hash_unpacked(self, blocks: Blocks) -> Blocks:
        """Yield what was unpacked; its checksum may be the one that was given."""
        with contextlib.closing(blocks):
            for block in blocks:
                if self._unpacked is not None:
                    self._unpacked.update(block)
                yield block

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
                raise self._mismatch(checksum, found)
        first = [checksum.algorithm] if checksum else []
        names = [*first, *(name for name in self._given if name not in first)]
        if not self.packing:
            self.sha256 = self._given["sha256"].hexdigest()
        self.checksums = {name: self._given[name].hexdigest() for name in names}

    def _mismatch(self, checksum: Checksum, found: str) -> ChecksumMismatch:
        asked = f"{self.request.what}: checksum {checksum}"
        file = without_secrets(self.request.source) if self._download else "the file"
        text = f"{file} has {checksum.algorithm}:{found} ({self._taken} bytes)"
        text += self._on_the_way()
        if self._unpacked is not None and self._unpacked.hexdigest() == checksum.digest:
            text += f". The checksum is that of what is in it, unpacked ({self.packing})"
            right = f"Give the checksum of the file as it comes, {checksum.algorithm}:{found}"
            return ChecksumMismatch(asked, text, f"{right}, or the path or URL of the unpacked one")
        looks = "" if self.packing else file_signatures.kind_of_text(self._begins)
        text += f". Of what it is: {looks}" if looks else ""
        return ChecksumMismatch(asked, text, "The file is not the one that was meant: check path and checksum")

    def _on_the_way(self) -> str:
        encoding = self._download.encoding if self._download else ""
        cause = f". The server packed it on the way (Content-Encoding: {encoding}), which nobody asked for"
        return cause if encoding else ""

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Add to the error for a file that is refused that it is not what the server has."""
        try:
            yield
        except ImageRefused as error:
            error.found += self._on_the_way()
            raise

    def _needed(self) -> int:
        if self._fd >= 0 and not self.packing:
            found = os.fstat(self._fd)
            return min(found.st_size, found.st_blocks * 512)
        return self.size or 0

    def _clone(self, path: str) -> bool:
        """Share the source's blocks if the file system can (btrfs, xfs), and return whether it can. The clone is read
        then."""
        if self._fd < 0:
            return False
        with files.explained(path), files.opened(path, os.O_WRONLY | os.O_NOFOLLOW) as target:
            if not files.clone(self._fd, target):
                return False
        os.close(self._fd)
        self._held.close()
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._first, self._rest = b"", file_blocks.read(self._fd)
        return True

    def _close(self) -> None:
        if self._download is not None:
            self._download.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._held.close()


def _open_source(request: Request, held: contextlib.ExitStack) -> tuple[int, int]:
    """Return the open file and its size. held: keeps runs waiting that would write to it."""
    path = request.source
    if not os.path.isabs(path):
        raise InvalidValue(f"{request.what}: path {path}", "it is not absolute", "Give the full path on the front-end")
    try:
        # O_NONBLOCK, since opening a named pipe would wait for its writer. A user may name a link; an upload is our own
        # file.
        links = os.O_NOFOLLOW if request.upload else 0
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | links)
    except OSError as error:
        error_ = files.explain(error, path)
        error_.asked = f"{request.what}: path {path}"
        raise error_ from error
    try:
        mode = os.fstat(fd).st_mode
        if request.cdrom and stat.S_ISBLK(mode):
            # The medium in a drive is copied like a file.
            size = os.lseek(fd, 0, os.SEEK_END)
            os.lseek(fd, 0, os.SEEK_SET)
            return fd, size
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise InvalidValue(f"{request.what}: path {path}", f"it is {kind}", "Give the path of a file")
        if not request.upload:
            if request.rules is not None:
                # The rules apply to the file that was opened: another one may have the path by now.
                request.rules.refuse_medium(f"{request.what}: path {path}", os.readlink(f"/proc/self/fd/{fd}"))
            held.enter_context(image_overlay.hold_for_reading(fd, path, f"{request.what}: path {path}"))
        return fd, os.fstat(fd).st_size
    except BaseException:
        os.close(fd)
        raise


def _peek(blocks: Blocks) -> tuple[bytes, Blocks]:
    """Return enough of the beginning to see how it is packed, and the blocks after it."""
    first = b""
    for block in blocks:
        first += block
        if len(first) >= decompression.MAGIC_LENGTH:
            break
    return first, blocks


def _new_hash(name: str) -> Any:
    # Some projects publish sha1 or md5 only. FIPS builds refuse these unless they are called not used for security.
    return hashlib.new(name, usedforsecurity=False)


def _how_far(taken: int, size: int | None, seconds: float) -> str:
    speed = f"{taken / MIB / seconds:.0f} MB/s" if seconds > 0.5 else "…"
    return f"{100 * taken // size} % at {speed}" if size else f"{taken // MIB} MiB at {speed}"
