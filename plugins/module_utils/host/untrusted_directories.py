# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the work of the host's root below a directory that somebody else may write to: each step begins at an open
directory, no link is followed, nothing that is mounted is entered, and however deep a tree is, few descriptors are
open.

A path is of no use there: between two looks at it, whoever owns a directory can exchange it for a link. A directory
that is taken (take()) is changed by nobody else any more; what is listed after that stays what it is."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO, Callable, Union

from . import kernel_calls
from .untrusted_trees import mount_id

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A list of who may do what, as its attribute has it: version 2, then entries of tag, rights and id.
_ACL, _ACL_VERSION, _NOBODY = "system.posix_acl_access", 2, 0xFFFFFFFF
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ACL = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM)
# What is said of a name that leads elsewhere, or that is no directory (any more).
_ASTRAY = (errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.EXDEV)
# Whether this kernel has openat2 (since Linux 5.6); it is found out by the first call.
_has_openat2 = [True]
Identity = tuple[int, int]
Content = Union[bytes, Callable[[BinaryIO], None]]


def open_directory(top: int, path: str) -> int:
    """Return a descriptor of the directory at a relative path below an open one. Raise OSError where a link, `..` or
    another mount would be on the way."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names or path.startswith("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    if not names:
        return os.dup(top)
    if _has_openat2[0]:
        try:
            return kernel_calls.open_beneath(top, "/".join(names), DIRECTORY)
        except OSError as error:
            # EPERM: a sandbox that does not know the call.
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.E2BIG):
                raise
            _has_openat2[0] = False
    return _walked(top, names)


def _walked(top: int, names: list[str]) -> int:
    here, mount = os.dup(top), mount_id(top)
    try:
        for name in names:
            below = os.open(name, DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
            if mount_id(here) != mount:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        return os.dup(here)
    finally:
        os.close(here)


def identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def take(fd: int, mode: int, reader_id: int | None = None) -> None:
    """Make an open file or directory the property of whoever runs this, who alone may change it from then on, whatever
    rights somebody else has to it now.
    reader_id: a user that may read it, and enter it where it is a directory; the group of this number where the
    file system has no access lists."""
    found = os.fstat(fd)
    uid, gid = os.geteuid(), os.getegid()
    wanted_gid = gid
    if reader_id is not None and reader_id != uid and not _is_granted(fd, mode, reader_id):
        # First the owner: who is not the owner can't give anybody rights in between.
        if found.st_uid != uid:
            os.fchown(fd, uid, -1)
        if not _grant(fd, mode, reader_id):
            wanted_gid = reader_id
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != (uid, wanted_gid):
        os.fchown(fd, uid, wanted_gid)
    shown = mode if reader_id is None or reader_id == uid else mode | (mode >> 3 & 0o050)
    if stat.S_IMODE(os.fstat(fd).st_mode) != shown:
        os.fchmod(fd, shown)


def _rights(mode: int, user: int) -> bytes:
    owner = mode >> 6 & 7
    seen = owner & 5
    entries = [(_OWNER, owner, _NOBODY), (_USER, seen, user), (_GROUP, 0, _NOBODY)]
    entries += [(_MASK, seen, _NOBODY), (_OTHER, 0, _NOBODY)]
    return struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _is_granted(fd: int, mode: int, user: int) -> bool:
    try:
        return os.getxattr(fd, _ACL) == _rights(mode, user)
    except OSError:
        return False


def _grant(fd: int, mode: int, user: int) -> bool:
    try:
        os.setxattr(fd, _ACL, _rights(mode, user))
    except OSError as error:
        if error.errno not in _NO_ACL:
            raise
        return False
    return True


def replace(directory: int, name: str, content: Content, settle: Callable[[int], None], sync: bool = True) -> None:
    """Make a new file of this name, in place of what has the name, which must be no directory.
    settle: gives the open file its owner and mode."""
    temporary = f".{name}.{secrets.token_hex(4)}.tmp"
    with os.fdopen(os.open(temporary, _NEW, 0o600, dir_fd=directory), "wb") as file:
        try:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            settle(file.fileno())
            if sync:
                os.fsync(file.fileno())
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            raise
    if sync:
        os.fsync(directory)


class _Level:
    """Describes a directory on the way down: its identity, its name in the directory above, and the directories in it
    that are known."""

    def __init__(self, name: str, itself: Identity) -> None:
        self.name, self.itself = name, itself
        self.inner: list[tuple[str, Identity]] = []


def walk(top: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield whatever is below an open directory, on its own file system: the open directory that holds it, its name
    there, and its status.

    The descriptor is good until the next item. What is moved meanwhile may be left out; nothing else is ever
    entered."""
    device = os.fstat(top).st_dev
    here = os.dup(top)
    levels = [_Level("", identity(os.fstat(top)))]
    try:
        while True:
            level = levels[-1]
            for name in os.listdir(here):
                try:
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                    level.inner.append((name, identity(found)))
                yield here, name, found
            here = _next(top, here, levels)
            if here < 0:
                return
    finally:
        if here >= 0:
            os.close(here)


def _next(top: int, here: int, levels: list[_Level]) -> int:
    """Return the next directory to be read, in place of `here`, which is closed; -1 after the last."""
    while levels:
        while levels[-1].inner:
            name, itself = levels[-1].inner.pop()
            below = _open_same(here, name, itself)
            if below >= 0:
                levels.append(_Level(name, itself))
                os.close(here)
                return below
        levels.pop()
        if levels:
            above = _open_same(here, "..", levels[-1].itself)
            os.close(here)
            # It was moved: all that is known begins at the top.
            here = above if above >= 0 else _reopen(top, levels)
    os.close(here)
    return -1


def _open_same(directory: int, name: str, itself: Identity) -> int:
    """Return a descriptor of exactly this directory, -1 if the name has another one, or none, by now."""
    try:
        fd = os.open(name, DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in _ASTRAY:
            return -1
        raise
    if identity(os.fstat(fd)) != itself:
        os.close(fd)
        return -1
    return fd


def _reopen(top: int, levels: list[_Level]) -> int:
    """Return the last of the levels, opened anew from the top down. Levels that are not there any more are given up."""
    here = os.dup(top)
    for number, level in enumerate(levels[1:], 1):
        below = _open_same(here, level.name, level.itself)
        if below < 0:
            del levels[number:]
            break
        os.close(here)
        here = below
    return here
