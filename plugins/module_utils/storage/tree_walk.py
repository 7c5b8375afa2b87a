# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Goes through a tree that a guest may have made, from a process that has it for its root (host/confined_process.py):
in the order of names, without following a link, with the attributes that a root file system keeps."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ..errors import ImageRefused, InUse
from ..host.files import opened

CAPABILITY = b"security.capability"
ACCESS, _DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_kept(attribute: bytes) -> bool:
    """Return whether a root file system keeps the attribute. Labels and signatures are a host's or an overlay's."""
    return attribute in (CAPABILITY, ACCESS, _DEFAULT) or attribute.startswith(b"user.")


class _Level:
    """Is a directory on the way down: which it is, how long its own name is, and the names in it that are left."""

    def __init__(self, fd: int, length: int) -> None:
        self.itself = _identity(os.fstat(fd))
        self.length = length
        # Backwards, as they are taken from the end.
        self.names = sorted(map(os.fsencode, os.listdir(fd)), reverse=True)


def walk(top: str, what: str, depth: int) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """Yield path from the top, name and status of whatever is below a directory, which itself comes first as b"" and
    b".". Raise ImageRefused for directories deeper in one another than `depth`, InUse if they are moved meanwhile.
    what: the words that errors begin with.

    The name is in the working directory until the next one is asked for. A directory comes before what is in it.
    However deep it is, one directory is open, and one path is kept."""
    levels = [_enter(top, 0)]
    place = b""
    yield b"", b".", os.stat(b".")
    while levels:
        level = levels[-1]
        if not level.names:
            levels.pop()
            if levels:
                _go_up(levels[-1], what)
                place = place[: -level.length - 1]
            continue
        name = level.names.pop()
        path = place + name
        status = os.lstat(name)
        yield path, name, status
        if stat.S_ISDIR(status.st_mode):
            if len(levels) > depth:
                raise ImageRefused(what, f"it has directories that are deeper than {depth}", "Remove them there")
            levels.append(_enter(name, len(name)))
            place = path + b"/"


def _enter(name: str | bytes, length: int) -> _Level:
    with opened(name, _OPEN) as fd:
        level = _Level(fd, length)
        os.chdir(fd)
        return level


def _go_up(level: _Level, what: str) -> None:
    with opened("..", _OPEN) as fd:
        if _identity(os.fstat(fd)) != level.itself:
            raise InUse(what, "a directory was moved while it was read", "Stop the machine, then run again")
        os.chdir(fd)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def attributes(place: int | bytes) -> dict[bytes, bytes]:
    """Return the attributes that are kept, of an open file, or of what has the name in the working directory."""
    follow: dict[str, bool] = {} if isinstance(place, int) else {"follow_symlinks": False}
    found = {}
    for text in os.listxattr(place, **follow):
        name = os.fsencode(text)
        if is_kept(name):
            found[name] = os.getxattr(place, name, **follow)
    return found


def data_extents(fd: int, status: os.stat_result) -> list[tuple[int, int]]:
    """Return offset and length of what a file holds; all of it at once where it has no holes."""
    size = status.st_size
    if status.st_blocks * 512 >= size:
        return [(0, size)] if size else []
    found = []
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            # There is nothing behind.
            break
        end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        found.append((start, end - start))
    return found
