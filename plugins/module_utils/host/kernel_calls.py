# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of the kernel that Python does not have: namespaces, mounts, and mounts that show other owners than are there.

An error of the kernel is an OSError, of the path that was asked for.
"""

from __future__ import annotations

import ctypes
import os
from typing import Optional

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_PROGRAMS = 0x1, 0x2, 0x4, 0x8
REMOUNT, BIND, RECURSIVE, PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
DETACH, DO_NOT_FOLLOW = 0x2, 0x8
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38
# Since Linux 5.2 and 5.12; they have the same numbers on all architectures that distributions have images for.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE_TREE, _CLOSE_ON_EXEC, _EMPTY_PATH, _FROM_EMPTY_PATH = 0x1, 0o2000000, 0x1000, 0x4
_ID_MAPPED = 0x100000
_HERE = -100

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


def unshare(flags: int) -> None:
    """Have this process go into new namespaces; it has to have one thread only."""
    _check(_libc.unshare(flags), None)


def die_with_parent(signal: int) -> None:
    """Have the kernel send this process the signal when the thread that made it ends. A change of user undoes that."""
    _check(_libc.prctl(_DIE_WITH_PARENT, signal, 0, 0, 0), None)


def gain_no_privileges() -> None:
    """No program that this process begins gets privileges by its mode or its capabilities."""
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), None)


def mount(source: Optional[str], target: str, kind: Optional[str] = None, flags: int = 0, options: str = "") -> None:
    words = (None if word is None else os.fsencode(word) for word in (source, target, kind))
    _check(_libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options) if options else None), target)


def unmount(target: str, flags: int = DO_NOT_FOLLOW) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new: str, old: str) -> None:
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), new)


def sync_file_system(fd: int) -> None:
    """Wait until all that was written to the file system of what is open is on its disk."""
    _check(_libc.syncfs(fd), None)


def mount_id_mapped(source: str, target: str, namespace: int) -> None:
    """Mount the directory `source`, without what is mounted below it, read-only at `target`, with the owners that the
    map of a user namespace (a descriptor of it) makes of those that are there."""
    flags = _CLONE_TREE | _CLOSE_ON_EXEC
    tree = _check(_libc.syscall(_OPEN_TREE, _HERE, os.fsencode(source), ctypes.c_uint(flags)), source)
    try:
        attributes = _Attributes(_ID_MAPPED | READ_ONLY | NO_DEVICES, 0, 0, namespace)
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        asked = ctypes.byref(attributes)
        _check(_libc.syscall(_MOUNT_SETATTR, tree, b"", ctypes.c_uint(_EMPTY_PATH), asked, size), source)
        named = ctypes.c_uint(_FROM_EMPTY_PATH)
        _check(_libc.syscall(_MOVE_MOUNT, tree, b"", _HERE, os.fsencode(target), named), target)
    finally:
        os.close(tree)


def _check(result: int, path: Optional[str]) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
