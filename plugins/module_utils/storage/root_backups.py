# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores the root of a container in a backup, as an archive of tar that zstd packs and LUKS encrypts where that is
wanted, and makes a root of such a file again. How a root is packed and unpacked, the caller knows; what is read here
may be anybody's."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from ..dataclass import dataclass
from ..errors import ChecksumMismatch, CommandFailed, NebulaError
from ..host import command, files
from ..model.machine_backup import StoredFile
from . import datastore_layout, decompression, file_blocks, luks_stream
from .free_space_watch import Room

MIB = 1024 * 1024
# Seconds that one root may take.
LONGEST = 4 * 3600.0
TAR, PACKED, ENCRYPTED = ".tar", ".zst", ".luks"
# How much larger an archive may be than its files: by headers of entries that take nothing of the disk.
_MOST_BESIDE, _TIMES = 64 * 1024 * MIB, 4
_PIPE, _SET_PIPE_SIZE = MIB, 1031
_SECTOR = luks_stream.SECTOR
_PACK = ("zstd", "-q", "-3", "-T1", "-c")
# A frame that zstd leaves out, by which a packed archive fills its last sector.
_SKIPPED = b"\x50\x2a\x4d\x18"

Pack = Callable[[int, float], int]
"""Writes the archive to the pipe of this descriptor, within so many seconds, and returns of how much it has no place
for."""
Unpack = Callable[[Generator[bytes, None, None], float], "list[str]"]
"""Makes the root of these blocks, whole or not at all, within so many seconds, and returns warnings."""


@dataclass(frozen=True)
class StoredRoot:
    """Says what was stored. left_out: sockets, device nodes and attributes that an archive can't have."""

    file: StoredFile
    left_out: int = 0


@dataclass(frozen=True)
class ReadableRoot:
    """Is a root that can be read now. size: bytes that it takes. pack: writes its archive."""

    size: int
    pack: Pack

    def left_out(self, stored: StoredRoot, what: str) -> list[str]:
        """Return the warnings of what is not in the file."""
        kinds = "sockets, device nodes and attributes"
        return [f"{what}: {stored.left_out} {kinds} are not in it"] if stored.left_out else []


def file_name(start: str, compress: bool, key: str) -> str:
    """Return the name of a root's file. start: of its name, which says of which backup and disk it is."""
    return f"{start}{TAR}{PACKED if compress else ''}{ENCRYPTED if key else ''}"


def store_root(
    place: str, name: str, pack: Pack, size: int, what: str, *, compress: bool = True, key: str = "", rate: int = 0
) -> StoredRoot:
    """Store a root as the file `name` in the directory `place`: whole and on the disk, or not at all. A file of that
    name is replaced.
    size: bytes that the root takes, about. what: the words that errors begin with. key: "" for no encryption.
    rate: bytes a second at most, 0 for all there is."""
    new = os.path.join(place, f".{name}.tmp")
    files.remove_file(new)
    if compress:
        command.find(_PACK[0])
    try:
        with packing(pack, what) as under_way:
            coming = _packed(under_way.source, what) if compress else _read_pipe(under_way.source)
            blocks = under_way.checked(_limited(coming, rate))
            if key:
                # How large the archive becomes nobody knows; no more of the container is on the disk than is in it.
                luks_stream.write(new, _filled(blocks, compress), key, _TIMES * size + _MOST_BESIDE, what)
                with files.explained(new), files.opened(new, os.O_RDONLY | os.O_NOFOLLOW) as fd:
                    digest = _digest(fd)
            else:
                digest = _write(new, blocks, what)
        with files.explained(place):
            length = os.stat(new).st_size
            os.rename(new, os.path.join(place, name))
            files.sync_directory(place)
    except BaseException:
        files.remove_file(new)
        raise
    return StoredRoot(StoredFile(name, length, digest), under_way.left_out)


def restore_root(place: str, stored: StoredFile, unpack: Unpack, what: str, key: str = "") -> list[str]:
    """Make a root of its file in the directory `place`. Return warnings. Raise ChecksumMismatch, before anything is
    made, for a file that is not as it was stored.
    what: the words that errors begin with. key: of an encrypted one."""
    with archive_of(place, stored, what, key) as blocks:
        return unpack(blocks, LONGEST)


@contextlib.contextmanager
def archive_of(place: str, stored: StoredFile, what: str, key: str = "") -> Iterator[Generator[bytes, None, None]]:
    """Yield what is in a root's file in the directory `place`. Raise ChecksumMismatch for one that is not as it was
    stored. what: the words that errors begin with. key: of an encrypted one."""
    with _opened(place, stored, what) as fd, contextlib.closing(_archive(place, stored, fd, key, what)) as blocks:
        yield blocks


def write_archive(place: str, stored: StoredFile, path: str, what: str, key: str = "") -> None:
    """Write the archive of a root's file in the directory `place`, neither encrypted nor packed, to the new file
    `path`. After an error there is none. what, key: as for restore_root()."""

    def write(blocks: Generator[bytes, None, None], _seconds: float) -> list[str]:
        _write(path, blocks, what)
        return []

    try:
        restore_root(place, stored, write, what, key)
    except BaseException:
        files.remove_file(path)
        raise


def verify_root(place: str, stored: StoredFile, what: str, key: str = "") -> int:
    """Read all of a root's file, and return how many bytes its archive has. Raise ChecksumMismatch for a file that is
    not as it was stored, ImageRefused for one that can't be unpacked. Without its key, an encrypted one is read as it
    lies there, and that is 0 bytes."""
    with _opened(place, stored, what) as fd:
        if stored.name.endswith(ENCRYPTED) and not key:
            return 0
        with contextlib.closing(_archive(place, stored, fd, key, what)) as blocks:
            return sum(map(len, blocks))


# -- storing -----------------------------------------------------------------------------------------------------------
class Packing:
    """Is a root that a thread packs.
    source: the end of the pipe from which it comes.
    left_out: of how much the archive has no place, once all of it has come."""

    def __init__(self, pack: Pack, what: str) -> None:
        self.left_out = 0
        self._failed: list[BaseException] = []
        self.source, self._writing = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.source, _SET_PIPE_SIZE, _PIPE)
        self._pack = pack
        self._thread = threading.Thread(target=self._work, name=f"packing {what}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.left_out = self._pack(self._writing, LONGEST)
        except BaseException as error:
            self._failed.append(error)
        finally:
            os.close(self._writing)

    def blocks(self) -> Iterator[bytes]:
        """Yield the archive. Raise, at its end, what went wrong with what makes it."""
        return self.checked(_read_pipe(self.source))

    def checked(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the blocks. Raise, at their end, what went wrong with what makes them."""
        try:
            yield from blocks
        except NebulaError:
            self.raise_failure()
            raise
        self._thread.join()
        self.raise_failure()

    def raise_failure(self) -> None:
        if self._failed:
            raise self._failed[0]

    def close(self) -> None:
        # What packs it ends where nobody reads.
        os.close(self.source)
        self._thread.join()


@contextlib.contextmanager
def packing(pack: Pack, what: str) -> Iterator[Packing]:
    """Yield a root while it is packed. what: the words that errors begin with."""
    under_way = Packing(pack, what)
    try:
        yield under_way
    finally:
        under_way.close()


def _read_pipe(fd: int) -> Generator[bytes, None, None]:
    while block := os.read(fd, MIB):
        yield block


def _packed(source: int, what: str) -> Generator[bytes, None, None]:
    """Yield what comes from the pipe, packed."""
    pipes: dict[str, Any] = {"stdin": source, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with command.start(_PACK, **pipes) as process:
        sink = process.stdout
        while sink is not None and (block := sink.read(MIB)):
            yield block
        process.wait()
        if process.returncode != 0:
            text = process.stderr.read(command.ERROR_LIMIT) if process.stderr is not None else b""
            lines = command.last_lines((text or b"").decode("utf-8", "replace"), 2)
            raise CommandFailed(f"{what}: zstd", f"it ended with {process.returncode}: {lines or 'it says nothing'}")


def _limited(blocks: Iterable[bytes], rate: int) -> Iterator[bytes]:
    """Yield the blocks, no faster than so many bytes a second."""
    began, passed = time.monotonic(), 0
    for block in blocks:
        yield block
        passed += len(block)
        if rate:
            # A pause that is wanted, and nothing to wait for.
            time.sleep(max(0.0, began + passed / rate - time.monotonic()))


def _filled(blocks: Iterable[bytes], packed: bool) -> Iterator[bytes]:
    """Yield the blocks, up to the end of a sector: after a plain archive with zeroes, which tar passes over."""
    size = 0
    for block in blocks:
        size += len(block)
        yield block
    rest = -size % _SECTOR
    if rest and packed:
        rest += _SECTOR if rest < 8 else 0
        yield _SKIPPED + (rest - 8).to_bytes(4, "little") + bytes(rest - 8)


def _write(path: str, blocks: Iterable[bytes], what: str) -> str:
    """Write a new file. Return the SHA-256 of what is in it."""
    digest, written = hashlib.sha256(), 0
    with files.explained(path), files.opened(path, files.NEW_FILE) as fd:
        room, early = Room(what, fd, datastore_layout.RESERVE), file_blocks.EarlyWriteback(fd)
        for block in blocks:
            room.take(len(block))
            digest.update(block)
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
            written += len(block)
            early.up_to(written)
        os.fsync(fd)
    return digest.hexdigest()


# -- reading -----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _opened(place: str, stored: StoredFile, what: str) -> Iterator[int]:
    """Open a file of a backup, and see whether it is as it was stored."""
    path = os.path.join(place, stored.name)
    with files.explained(path):
        # A pipe that nobody writes to is not waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with files.closing_fd(fd):
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ChecksumMismatch(what, f"{path} is no regular file", "See who put it there; take another backup")
        if found.st_size != stored.size:
            raise _altered(what, path, f"it has {found.st_size} bytes, and had {stored.size}")
        digest = _digest(fd)
        if digest != stored.sha256:
            raise _altered(what, path, f"its SHA-256 is {digest}, and was {stored.sha256}")
        yield fd


def _archive(place: str, stored: StoredFile, fd: int, key: str, what: str) -> Generator[bytes, None, None]:
    """Return the archive of a root's file in blocks."""
    blocks = file_blocks.read(fd)
    if stored.name.endswith(ENCRYPTED):
        blocks = luks_stream.read(os.path.join(place, stored.name), key, what)
    first = next(blocks, b"")
    packing = decompression.detect(first[: decompression.MAGIC_LENGTH])
    again = _from(first, blocks)
    return decompression.unpack(packing, again, what) if packing else again


def _from(first: bytes, blocks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    with contextlib.closing(blocks):
        if first:
            yield first
        yield from blocks


def _digest(fd: int) -> str:
    digest = hashlib.sha256()
    for block in file_blocks.read(fd):
        digest.update(block)
    return digest.hexdigest()


def _altered(what: str, path: str, found: str) -> ChecksumMismatch:
    return ChecksumMismatch(what, f"{path} is not as it was stored: {found}", "Take another backup")
