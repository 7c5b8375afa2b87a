# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes files in a guest's tree of directories on this host, which may hold any link: each step is taken
from an open directory, and none leads out of the tree."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import field

from ..dataclass import dataclass
from ..host import files

_MOST_LINKS = 40
# On the way to one directory: each that is above it is open meanwhile, and paths and links may be a stranger's.
_MOST_DEPTH, _MOST_STEPS = 128, 4096


@dataclass(frozen=True)
class Entry:
    """Describes a file as it is to be. path: absolute in the guest, or in its partition (partitions.find)."""

    path: str
    content: bytes = field(repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    partition: str = ""


def is_there(root: int, entry: Entry, owned: bool) -> bool:
    """Return whether there is such a file, with this content, and with this mode and owner where files have any."""
    with contextlib.suppress(FileNotFoundError), _opened_parent(root, entry.path) as (directory, name):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_size != len(entry.content):
            return False
        is_so = (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
        if owned and is_so != (entry.mode, entry.uid, entry.gid):
            return False
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with files.reader(os.open(name, flags, dir_fd=directory)) as file:
            return file.read(len(entry.content) + 1) == entry.content
    return False


def put(root: int, entry: Entry, owned: bool, directories: tuple[int, int] | None = None) -> None:
    """Write the file, in place of what has its name.
    owned: files have owners and modes there.
    directories: who owns the directories that are made for it."""
    with _opened_parent(root, entry.path, make=True, owner=directories) as (directory, name):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory), "wb") as file:
            file.write(entry.content)
            if owned:
                os.fchown(file.fileno(), entry.uid, entry.gid)
                os.fchmod(file.fileno(), entry.mode)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def _opened_parent(
    root: int, path: str, make: bool = False, owner: tuple[int, int] | None = None
) -> Iterator[tuple[int, str]]:
    """Yield (a descriptor of the directory that the path is in, its last part). make, owner: see open_directory()."""
    head, name = posixpath.split(path)
    directory = open_directory(root, head, make, owner)
    try:
        yield directory, name
    finally:
        os.close(directory)


def open_directory(root: int, path: str, make: bool = True, owner: tuple[int, int] | None = None) -> int:
    """Return a descriptor of the guest's directory. Each step is one name without a link; links are followed here, as
    the guest does it: an absolute one, and "..", end at the guest's root.
    make: make the directory if it is not there.
    owner: of the directories that are made."""
    names = path.split("/")
    opened = [os.dup(root)]
    links = steps = 0
    try:
        while names:
            name = names.pop(0)
            steps += 1
            if steps > _MOST_STEPS:
                raise OSError(0, f"the way to its directory {path[:100]} has more than {_MOST_STEPS} steps")
            if name in ("", "."):
                continue
            if name == "..":
                if len(opened) > 1:
                    os.close(opened.pop())
                continue
            target = _link_target(opened[-1], name)
            if target is None:
                if len(opened) > _MOST_DEPTH:
                    raise OSError(0, f"its directory {path[:100]} is in more than {_MOST_DEPTH} others")
                opened.append(_enter(opened[-1], name, make, owner))
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(0, f"its directory {path[:100]} leads around in links")
            if target.startswith("/"):
                while len(opened) > 1:
                    os.close(opened.pop())
            names = target.split("/") + names
        return os.dup(opened[-1])
    finally:
        for fd in opened:
            os.close(fd)


def _link_target(directory: int, name: str) -> str | None:
    try:
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return os.readlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    return None


def _enter(directory: int, name: str, make: bool, owner: tuple[int, int] | None) -> int:
    made = False
    with contextlib.suppress(FileExistsError):
        if make:
            os.mkdir(name, 0o755, dir_fd=directory)
            made = True
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        # By the descriptor: what has the name may be a link by now.
        if made:
            os.fchmod(fd, 0o755)
            if owner is not None:
                os.fchown(fd, *owner)
    except BaseException:
        os.close(fd)
        raise
    return fd


def get(root: int, path: str, limit: int) -> bytes | None:
    """Return what the regular file holds, of which at most `limit` bytes are read; None if there is none."""
    missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    with missing, _opened_parent(root, path) as (directory, name), contextlib.suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        with files.reader(fd) as file:
            return file.read(limit)
    return None


def mode_of(root: int, path: str) -> os.stat_result | None:
    """Return what is at the path, without following the link that is its last part; None if there is nothing."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened_parent(root, path) as (directory, name):
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    return None


def link(root: int, path: str, target: str, directories: tuple[int, int] | None = None) -> None:
    """Make a symbolic link, in place of what has its name."""
    with _opened_parent(root, path, make=True, owner=directories) as (directory, name):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        os.symlink(target, name, dir_fd=directory)


def remove(root: int, path: str) -> bool:
    """Remove a file or link. Return whether there was one."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened_parent(root, path) as (directory, name):
        os.unlink(name, dir_fd=directory)
        return True
    return False
