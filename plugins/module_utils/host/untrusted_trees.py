# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes and measures trees of directories that a guest may have made, without following a link, without going into
what is mounted in them, however deep they are."""

from __future__ import annotations

import errno
import itertools
import os
import re
from pathlib import Path

from ..errors import InUse
from . import command
from .files import closing_fd, explained

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Names of a directory that are read at once, and directories that are open at once: what is deeper is moved up first.
_NAMES, _OPEN_AT_ONCE = 4096, 100
_MOVED = ".nebula-removed-"
_SECONDS = 600.0
_MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)", re.MULTILINE)


def remove(path: str) -> bool:
    """Return whether there was something. A link is removed, and not what it leads to. Raise InUse where something is
    mounted there."""
    # Not synced: a disk that is told which blocks are free (discard) may take ten seconds for it.
    directory, flags = os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with explained(path), closing_fd(os.open(directory, flags)) as parent:
        return _remove_in(parent, os.path.basename(path), path, False)


def remove_in(parent: int, name: str, path: str) -> bool:
    """Remove what has this name in an open directory, while somebody else may be changing it: each directory is taken
    from its owner before it is looked at. Return whether there was something. Raise InUse where something is
    mounted there.
    path: for errors."""
    with explained(path):
        return _remove_in(parent, name, path, True)


def _remove_in(parent: int, name: str, path: str, contested: bool) -> bool:
    try:
        top = os.open(name, _OPEN, dir_fd=parent)
    except FileNotFoundError:
        return False
    except OSError:
        # Neither is it a directory.
        os.unlink(name, dir_fd=parent)
        return True
    try:
        mount = mount_id(top)
        if mount != mount_id(parent):
            raise _mounted(path, ".")
        _empty_directory(top, path, mount, contested)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)
    return True


def _take_ownership(fd: int) -> None:
    """Take the directory from its owner, so that nobody else changes what is in it."""
    if os.fstat(fd).st_uid != os.geteuid():
        os.fchown(fd, os.geteuid(), -1)
    os.fchmod(fd, 0o700)


def mount_id(fd: int) -> str:
    """Return the kernel's name of the mount by which an open file or directory was reached."""
    found = _MOUNT_ID.search(Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii"))
    return found[1] if found else ""


def bytes_on_disk(path: str) -> int:
    """Return the number of bytes that a tree takes on its disk; a file with several names counts once."""
    found = command.run(["du", "-s", "-x", "--block-size=1", "--", path], timeout=_SECONDS, check=False)
    # What vanishes meanwhile is an error to it, after which it counts on.
    number = found.stdout.partition("\t")[0]
    if not number.isdigit():
        raise command.failure_of(found)
    return int(number)


class _Level:
    """Describes a directory on the way down: open, with its name in the directory above, and the directories in it
    that are known."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd, self.name = fd, name
        self.inner: list[str] = []


def _empty_directory(top: int, path: str, mount: str, contested: bool) -> None:
    numbers = itertools.count()
    levels = [_Level(os.dup(top), "")]
    if contested:
        _take_ownership(top)
    try:
        while levels:
            here = levels[-1]
            if not here.inner and not _unlink_all(here, path):
                levels.pop()
                os.close(here.fd)
                if levels:
                    _remove_directory(here.name, levels[-1].fd, path)
            elif here.inner and len(levels) > _OPEN_AT_ONCE:
                name = here.inner.pop()
                os.rename(name, f"{_MOVED}{next(numbers)}", src_dir_fd=here.fd, dst_dir_fd=top)
            elif here.inner:
                name = here.inner.pop()
                levels.append(_Level(os.open(name, _OPEN, dir_fd=here.fd), name))
                if mount_id(levels[-1].fd) != mount:
                    raise _mounted(path, name)
                if contested:
                    _take_ownership(levels[-1].fd)
    finally:
        for level in levels:
            os.close(level.fd)


def _unlink_all(level: _Level, path: str) -> bool:
    """Remove what is no directory, as far as names are read at once, and return whether there were any names."""
    with os.scandir(level.fd) as found:
        entries = list(itertools.islice(found, _NAMES))
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            level.inner.append(entry.name)
            continue
        try:
            os.unlink(entry.name, dir_fd=level.fd)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise _mounted(path, entry.name) from error
            raise
    return bool(entries)


def _remove_directory(name: str, parent: int, path: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _mounted(path, name) from error
        raise


def _mounted(path: str, name: str) -> InUse:
    return InUse(
        f"removing {path}",
        f"something is mounted there ({name!r})" if name != "." else "something is mounted there",
        "Unmount it (see /proc/self/mountinfo), then run again",
    )
