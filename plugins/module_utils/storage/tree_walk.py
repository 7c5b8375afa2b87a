# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree that a guest may have made, gone through from a process that has it for its root (host/confined.py): in the
order of names, without following a link, with the attributes that a root file system keeps."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Union

from ..errors import ImageRefused

CAPABILITY = b"security.capability"
_ACCESS, _DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_kept(attribute: bytes) -> bool:
    """Whether it is one of a root file system. Labels and signatures are a host's, and what overlays note is theirs."""
    return attribute in (CAPABILITY, _ACCESS, _DEFAULT) or attribute.startswith(b"user.")


def walk(top: str, what: str, depth: int) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """Path from the top, name and status of whatever is below a directory, which itself comes first as b"" and b".".
    Until the next one, the working directory is that in which the name is. A directory comes before what is in it.
    what: the words that errors begin with. ImageRefused: directories are deeper in one another than `depth`."""
    fd = os.open(top, _OPEN)
    levels = [(fd, b"", _names(fd))]
    try:
        os.chdir(fd)
        yield b"", b".", os.fstat(fd)
        while levels:
            fd, place, names = levels[-1]
            if not names:
                os.close(levels.pop()[0])
                if levels:
                    os.chdir(levels[-1][0])
                continue
            name = names.pop()
            path = place + name
            status = os.lstat(name)
            yield path, name, status
            if stat.S_ISDIR(status.st_mode):
                if len(levels) > depth:
                    raise ImageRefused(what, f"it has directories that are deeper than {depth}", "Remove them there")
                below = os.open(name, _OPEN)
                levels.append((below, path + b"/", _names(below)))
                os.chdir(below)
    finally:
        for fd, _place, _rest in levels:
            os.close(fd)


def attributes(place: Union[int, bytes]) -> dict[bytes, bytes]:
    """Those of an open file, or of what has the name in the working directory, that are kept."""
    follow: dict[str, bool] = {} if isinstance(place, int) else {"follow_symlinks": False}
    found = {}
    for text in os.listxattr(place, **follow):
        name = os.fsencode(text)
        if is_kept(name):
            found[name] = os.getxattr(place, name, **follow)
    return found


def stretches(fd: int, status: os.stat_result) -> list[tuple[int, int]]:
    """Offset and length of what a file holds; all of it at once where it has no holes."""
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


def _names(fd: int) -> list[bytes]:
    """Backwards, as they are taken from the end."""
    return sorted(map(os.fsencode, os.listdir(fd)), reverse=True)
