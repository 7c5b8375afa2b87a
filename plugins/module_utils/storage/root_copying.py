# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a machine's own tree of the base of its image, as a job in a process that can reach nothing but the two
(host/confined_process.py), where they are /source and /target.

The process has two ranges of ids: the machine's begins with 0, and the base's with COUNT."""

from __future__ import annotations

import os
import stat
from typing import Any

from ..errors import ImageRefused, Unsupported
from ..host.files import NEW_FILE, clone, closing_fd, opened
from ..model.container_user_ids import COUNT
from . import tree_walk
from .free_space_watch import Room
from .long_paths import OpenPaths
from .tar_reader import printable_name
from .tree_walk import CAPABILITY

_SMALL = 256 * 1024
_CHUNK = 1024 * 1024
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Tries, none of which worked, after which no file is tried to be shared.
_TRIES = 8
# Of an attribute that lists who may do what: those entries that name somebody, and the bytes of an entry.
_NAMING, _ACL_HEAD, _ACL_ENTRY = (0x02, 0x08), 4, 8


def copy(what: str, reserve: int, depth: int, first: int = COUNT, shares: bool = False) -> dict[str, Any]:
    """Copy the tree, and return its numbers.
    what: the words that errors begin with
    reserve: bytes to leave free
    first: the id that the tree's root user has in this process
    shares: raise Unsupported for a file whose content can't be shared"""
    top = os.open("/target", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    copying = _Copying(what, Room(what, top, reserve), OpenPaths(top), first, shares)
    for path, name, status in tree_walk.walk("/source", what, depth):
        copying.add(path, name, status)
    copying.finish()
    return {"entries": copying.entries, "shared": copying.shared}


class _Copying:
    """Makes the entries of the new tree. shared: files whose content is on the disk once."""

    def __init__(self, what: str, room: Room, places: OpenPaths, first: int, shares: bool) -> None:
        self.entries = self.shared = 0
        self._tries = 0
        self._first, self._shares = first, shares
        self._what, self._room, self._places = what, room, places
        self._links: dict[tuple[int, int], bytes] = {}
        self._directories: list[tuple[bytes, os.stat_result, dict[bytes, bytes]]] = []

    def add(self, path: bytes, name: bytes, status: os.stat_result) -> None:
        self.entries += 1
        self._room.take(made=1)
        kind = stat.S_IFMT(status.st_mode)
        if not all(self._first <= number < self._first + COUNT for number in (status.st_uid, status.st_gid)):
            raise ImageRefused(
                self._what,
                f"{printable_name(path)} of the unpacked image has an owner that it was not given",
                "Remove it there",
            )
        if kind == stat.S_IFDIR:
            if path:
                place, target = self._places.at(path)
                os.mkdir(target, 0o700, dir_fd=place)
            self._directories.append((path, status, tree_walk.attributes(name)))
            return
        key = (status.st_dev, status.st_ino)
        first = self._links.setdefault(key, path) if status.st_nlink > 1 else path
        if first != path:
            self._link(first, path)
            return
        place, target = self._places.at(path)
        if kind == stat.S_IFREG:
            self._file(name, place, target)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name), target, dir_fd=place)
            self._settle_name(place, target, status)
        elif kind == stat.S_IFIFO:
            os.mkfifo(target, 0o600, dir_fd=place)
            self._settle_name(place, target, status)

    def finish(self) -> None:
        for path, status, attributes in self._directories:
            place, target = self._places.at(path)
            with opened(target or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place) as fd:
                self._settle(fd, status, attributes)

    def _link(self, first: bytes, path: bytes) -> None:
        source, name = self._places.at(first)
        # It may be closed when the other is opened.
        with closing_fd(os.dup(source)) as held:
            place, target = self._places.at(path)
            os.link(name, target, src_dir_fd=held, dst_dir_fd=place, follow_symlinks=False)

    def _file(self, name: bytes, place: int, target: bytes) -> None:
        with opened(name, _OLD) as source:
            status = os.fstat(source)
            with opened(target, NEW_FILE, dir_fd=place) as fd:
                if status.st_size and not self._share(source, fd):
                    self._write(source, fd, status)
                self._settle(fd, status, tree_walk.attributes(source))

    def _share(self, source: int, fd: int) -> bool:
        if self._tries >= _TRIES and not self.shared:
            return False
        self._tries += 1
        done = clone(source, fd)
        self.shared += done
        if self._shares and not done:
            raise Unsupported(self._what, "this file system does not share the content of all files", "Run again")
        return done

    def _write(self, source: int, fd: int, status: os.stat_result) -> None:
        if status.st_size <= _SMALL and status.st_blocks * 512 >= status.st_size:
            self._room.take(status.st_size)
            os.write(fd, os.read(source, status.st_size))
            return
        os.ftruncate(fd, status.st_size)
        for start, length in tree_walk.data_extents(source, status):
            at, end = start, start + length
            os.lseek(fd, at, os.SEEK_SET)
            while at < end:
                written = os.sendfile(fd, source, at, min(_CHUNK, end - at))
                if not written:
                    raise ImageRefused(self._what, "a file of the unpacked image became shorter", "Remove it there")
                at += written
                self._room.take(written)

    def _settle(self, fd: int, status: os.stat_result, attributes: dict[bytes, bytes]) -> None:
        # Whoever is given a file loses its set-uid bit and its capability: the owner comes first.
        if status.st_uid != self._first or status.st_gid != self._first:
            os.fchown(fd, status.st_uid - self._first, status.st_gid - self._first)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
        for key, value in attributes.items():
            os.setxattr(fd, key, _of_this_root(key, value, self._first))
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def _settle_name(self, place: int, target: bytes, status: os.stat_result) -> None:
        owners = (status.st_uid - self._first, status.st_gid - self._first)
        os.chown(target, *owners, dir_fd=place, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, stat.S_IMODE(status.st_mode), dir_fd=place)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=place, follow_symlinks=False)


def _of_this_root(key: bytes, value: bytes, first: int = COUNT) -> bytes:
    """Return an attribute with the ids of the machine where it has ids of the base."""
    if key == CAPABILITY:
        # The second version of the three has no root; the kernel adds that of this namespace.
        return value[:3] + b"\2" + value[4:20]
    if key.startswith(b"system."):
        changed = bytearray(value)
        for at in range(_ACL_HEAD, len(value), _ACL_ENTRY):
            if value[at] in _NAMING:
                number = int.from_bytes(value[at + 4 : at + 8], "little") - first
                changed[at + 4 : at + 8] = number.to_bytes(4, "little")
        return bytes(changed)
    return value
