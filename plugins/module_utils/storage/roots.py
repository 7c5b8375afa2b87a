# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems of containers: unpacked from archives, copied for machines, saved as archives, removed.

What is in them is a stranger's or a guest's, so whatever goes through a tree does so in a process that has no right
over anything else (host/confined.py). There are two kinds on a disk: the base of an image, once per node, whose files
belong to ids that nobody has; and the root of a machine, whose files belong to the machine's range of ids.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator, Iterator
from typing import Any, Optional

from ..dataclass import dataclass
from ..errors import Conflict, InvalidValue
from ..host import confined, files, trees
from ..model.id_range import IdRange
from . import datastore, pipeline, publishing, root_unpacking, unpacking

MIB = 1024 * 1024
GIB = 1024 * MIB
WAIT = 600.0
# Seconds that an archive may take.
_LONGEST = 4 * 3600.0
# The end of the name of a tree that is not whole yet.
_NEW = ".unpacking"


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to. size: bytes that its files take. depth: directories one in another. length: bytes
    of a name from the root on."""

    size: int = 64 * GIB
    entries: int = 4_000_000
    depth: int = 256
    length: int = 3900

    def as_dict(self) -> dict[str, int]:
        return {"size": self.size, "entries": self.entries, "depth": self.depth, "length": self.length}


@dataclass(frozen=True)
class Unpacked:
    """size: bytes that it takes, about. devices: device nodes that were left out. lost: entries with attributes that
    no container has (labels of other hosts, lists in a form that is not read)."""

    entries: int
    size: int
    devices: int
    lost: int

    def warnings(self, what: str) -> list[str]:
        found = []
        if self.devices:
            found.append(f"{what}: {self.devices} device nodes were left out; a container has its own /dev")
        if self.lost:
            found.append(
                f"{what}: {self.lost} of its files have attributes that a container can't have; they were left out"
            )
        return found


def unpack(archive: str, directory: str, ids: IdRange, limits: Optional[Limits] = None, what: str = "") -> Unpacked:
    """Make a new tree of an archive of tar, as it is or packed by gz, xz, bz2 or zst. It gets its name when it is
    whole; what a killed run left of it is removed first. what: the words that errors begin with. ImageRefused, NoSpace:
    then nothing is left. Conflict: something is there already."""
    asked = what or f"archive {archive}"
    limits = limits or Limits()
    with publishing.reserved(directory, WAIT):
        new = directory + _NEW
        trees.remove(new)
        if os.path.lexists(directory) and not _is_empty(directory):
            raise Conflict(f"{asked}: directory {directory}", "something is there", "See what it is; remove it")
        with _opened(archive, asked) as (fd, size, blocks):
            require_room(directory, size, asked)
            with files.explained(new):
                os.mkdir(new, 0o700)
            try:
                with files.explained(new):
                    os.chown(new, ids.start, ids.start)
                arguments = {"what": asked, "limits": limits.as_dict(), "reserve": datastore.RESERVE}
                view = confined.View([ids], root=new)
                streams: dict[str, Any] = {"source": fd} if blocks is None else {"blocks": blocks}
                done = confined.run(root_unpacking.unpack, arguments, view, asked, timeout=_LONGEST, **streams)
                with files.explained(directory):
                    os.rename(new, directory)
                    files.sync_directory(os.path.dirname(directory))
            except BaseException:
                trees.remove(new)
                raise
    return Unpacked(**done)


def remove(directory: str) -> bool:
    """Remove a tree, and what a killed run left of one; True if there was anything."""
    with publishing.reserved(directory, WAIT):
        there = trees.remove(directory + _NEW)
        return trees.remove(directory) or there


def space_taken(directory: str) -> int:
    """The number of bytes that the tree takes on its disk."""
    return trees.taken(directory)


def require_room(directory: str, size: int, what: str) -> None:
    """NoSpace unless so many bytes fit where the directory is to be."""
    datastore.require_space(os.path.dirname(directory), size, what)


def _is_empty(directory: str) -> bool:
    with files.explained(directory):
        return stat.S_ISDIR(os.lstat(directory).st_mode) and not os.listdir(directory)


@contextlib.contextmanager
def _opened(archive: str, what: str) -> Iterator[tuple[int, int, Optional[Generator[bytes, None, None]]]]:
    """The open file, how much it unpacks to at least, and, where it is packed, what is in it."""
    with files.explained(archive):
        fd = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidValue(what, f"{archive} is not a regular file", "Name a file")
        packing = unpacking.detect(os.pread(fd, unpacking.MAGIC_LENGTH, 0))
        blocks = unpacking.unpack(packing, pipeline.read(fd), what) if packing else None
        with contextlib.closing(blocks) if blocks is not None else contextlib.nullcontext():
            yield fd, found.st_size, blocks
    finally:
        os.close(fd)
