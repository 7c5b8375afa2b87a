# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes calls of the kernel that Python does not have: namespaces, mounts, and mounts that show other owners than are
there.

An error of the kernel is an OSError, of the path that was asked for."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

from .files import closing_fd

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_PROGRAMS = 0x1, 0x2, 0x4, 0x8
REMOUNT, BIND, RECURSIVE, PRIVATE, SHARED = 0x20, 0x1000, 0x4000, 0x40000, 0x100000
DETACH, DO_NOT_FOLLOW = 0x2, 0x8
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38
# Since Linux 5.2 and 5.12; they have the same numbers on all architectures that distributions have images for.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_CLONE_TREE, _CLOSE_ON_EXEC, _EMPTY_PATH, _FROM_EMPTY_PATH = 0x1, 0o2000000, 0x1000, 0x4
_ID_MAPPED = 0x100000
_HERE = -100
# Since Linux 5.6. No mount is crossed, no link followed, and nothing above the directory is reached.
_OPENAT2, _NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 437, 0x1, 0x2, 0x4, 0x8
_TRIES = 100

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    """Lays out struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


class _How(ctypes.Structure):
    """Lays out struct open_how of openat2(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def unshare(flags: int) -> None:
    """Have this process go into new namespaces; it has to have one thread only."""
    _check(_libc.unshare(flags), None)


def die_with_parent(signal: int) -> None:
    """Have the kernel send this process the signal when the thread that made it ends. A change of user undoes that."""
    _check(_libc.prctl(_DIE_WITH_PARENT, signal, 0, 0, 0), None)


def gain_no_privileges() -> None:
    """Keep all programs that this process begins from getting privileges by their mode or their capabilities."""
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), None)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    words = (None if word is None else os.fsencode(word) for word in (source, target, kind))
    _check(_libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options) if options else None), target)


def unmount(target: str, flags: int = DO_NOT_FOLLOW) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new: str, old: str) -> None:
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), new)


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Return a descriptor of what is at a relative path below an open directory. Raise OSError where a link, another
    mount or `..` is on the way; ENOSYS if the kernel has no such call."""
    how = _How(flags, 0, _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for attempt in range(_TRIES):
        found: int = _libc.syscall(_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), size)
        # It says so where something on the way was renamed meanwhile.
        if found >= 0 or ctypes.get_errno() != errno.EAGAIN or attempt == _TRIES - 1:
            break
    return _check(found, path)


def sync_file_system(fd: int) -> None:
    """Wait until all that was written to the file system of what is open is on its disk."""
    _check(_libc.syncfs(fd), None)


def open_tree(source: str) -> int:
    """Return a descriptor of another mount of the directory `source`, without what is mounted below it; it has no
    place yet."""
    flags = _CLONE_TREE | _CLOSE_ON_EXEC
    return _check(_libc.syscall(_OPEN_TREE, _HERE, os.fsencode(source), ctypes.c_uint(flags)), source)


def mount_id_mapped(source: str, target: str, namespace: int) -> None:
    """Mount the directory `source`, without what is mounted below it, read-only at `target`, with the owners that the
    map of a user namespace (a descriptor) makes of those that are there."""
    with closing_fd(open_tree(source)) as tree:
        _place_id_mapped(tree, READ_ONLY | NO_DEVICES, namespace, source, target)


def mount_device_id_mapped(device: str, kind: str, target: str, flags: int, namespace: int) -> None:
    """Mount the file system of a device at `target`, with the owners that the map of a user namespace makes of those
    that are there. There is no moment in which it is seen without them.
    flags: READ_ONLY, NO_SETUID, NO_DEVICES.
    namespace: a descriptor of the user namespace."""
    with closing_fd(open_device(device, kind, flags)) as tree:
        _place_id_mapped(tree, flags, namespace, device, target)


def open_device(device: str, kind: str, flags: int) -> int:
    """Return a descriptor of the root of a device's file system, which is mounted nowhere, and let go when the
    descriptor is closed.
    flags: READ_ONLY, NO_SETUID, NO_DEVICES."""
    with closing_fd(_check(_libc.syscall(_FSOPEN, os.fsencode(kind), ctypes.c_uint(1)), device)) as opened:
        try:
            _configure(opened, _SET_STRING, b"source", os.fsencode(device))
            if flags & READ_ONLY:
                _configure(opened, _SET_FLAG, b"ro", None)
            _configure(opened, _CREATE, None, None)
            return _check(_libc.syscall(_FSMOUNT, opened, ctypes.c_uint(1), ctypes.c_uint(flags)), device)
        except OSError as error:
            raise OSError(error.errno, _reasons(opened) or error.strerror, device) from error


def _configure(opened: int, command: int, key: bytes | None, value: bytes | None) -> None:
    _check(_libc.syscall(_FSCONFIG, opened, ctypes.c_uint(command), key, value, 0), None)


def _reasons(opened: int) -> str:
    """Return what the kernel says of a file system that it does not mount; "" where it says nothing."""
    found = []
    with contextlib.suppress(OSError):
        while True:
            # Each begins with its weight: e, w or i.
            found.append(os.read(opened, 4096).decode("utf-8", "replace").strip()[2:])
    return "; ".join(found)


def _place_id_mapped(tree: int, flags: int, namespace: int, path: str, target: str) -> None:
    attributes = _Attributes(_ID_MAPPED | flags, 0, 0, namespace)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    asked = ctypes.byref(attributes)
    _check(_libc.syscall(_MOUNT_SETATTR, tree, b"", ctypes.c_uint(_EMPTY_PATH), asked, size), path)
    named = ctypes.c_uint(_FROM_EMPTY_PATH)
    _check(_libc.syscall(_MOVE_MOUNT, tree, b"", _HERE, os.fsencode(target), named), target)


def _check(result: int, path: str | None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
