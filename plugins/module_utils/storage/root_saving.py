# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an archive of a machine's root, as a job in a process that can reach nothing else (host/confined_process.py).
Owners are those that the machine sees."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from ..errors import ImageRefused, InUse
from ..host.files import opened
from . import tar_writer, tree_walk
from .free_space_watch import Room
from .tar_reader import (
    CHARACTER,
    DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    LINK,
    LONGEST_HEADER,
    Entry,
    printable_name,
)

_CHUNK = 1024 * 1024
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: LINK, stat.S_IFIFO: FIFO}
_DEVICES = {stat.S_IFCHR: CHARACTER, stat.S_IFBLK: DEVICE}
_OUT = 1


def save(what: str, reserve: int, depth: int, length: int, devices: bool = False) -> dict[str, Any]:
    """Write the archive to the standard output, and return its numbers.
    what: the words that errors begin with
    reserve: bytes of its file system that are left free
    depth, length: what may be unpacked again
    devices: with the device nodes"""
    saving = _Saving(what, Room(what, _OUT, reserve), {**_KINDS, **(_DEVICES if devices else {})})
    for path, name, status in tree_walk.walk("/", what, depth):
        if len(path) > length:
            raise ImageRefused(
                what, f"the path {printable_name(path)} is longer than {length} bytes", "Remove it there"
            )
        saving.add(path, name, status)
    saving.finish()
    return {"entries": saving.entries, "size": saving.size, "left_out": saving.left_out}


class _Saving:
    """Writes the archive. size: its bytes. left_out: sockets, device nodes and attributes that can't be written."""

    def __init__(self, what: str, room: Room, kinds: Mapping[int, str]) -> None:
        self.entries = self.size = self.left_out = 0
        self._what, self._room, self._kinds = what, room, kinds
        self._links: dict[tuple[int, int], bytes] = {}
        self._waiting: list[bytes] = []
        self._waits = 0

    def add(self, path: bytes, name: bytes, status: os.stat_result) -> None:
        kind = self._kinds.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.left_out += 1
            return
        self.entries += 1
        entry = Entry(kind, path or b"./", b"")
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.uid, entry.gid, entry.mtime = status.st_uid, status.st_gid, status.st_mtime_ns
        key = (status.st_dev, status.st_ino)
        # Nodes of devices are made when all else is there, so that each is one of its own.
        may_be_linked = kind not in (DIRECTORY, CHARACTER, DEVICE)
        if may_be_linked and status.st_nlink > 1 and self._links.setdefault(key, path) != path:
            entry.kind, entry.target = HARD_LINK, self._links[key]
            self._write(tar_writer.header(entry))
        elif kind == FILE:
            self._file(entry, name, key)
        else:
            if kind == LINK:
                entry.target = os.readlink(name)
            elif kind in (CHARACTER, DEVICE):
                entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
            self._add_attributes(entry, tree_walk.attributes(name))
            self._write(tar_writer.header(entry))

    def finish(self) -> None:
        self._write(tar_writer.end(self.size))
        self._flush()

    def _file(self, entry: Entry, name: bytes, key: tuple[int, int]) -> None:
        with opened(name, _OLD) as fd:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != key or not stat.S_ISREG(status.st_mode):
                raise self._changed(entry)
            stretches = tree_walk.data_extents(fd, status)
            entry.length = status.st_size
            entry.size = sum(length for _start, length in stretches)
            if entry.size != entry.length:
                entry.sparse = stretches
            self._add_attributes(entry, tree_walk.attributes(fd))
            self._write(tar_writer.header(entry))
            for start, length in stretches:
                at, end = start, start + length
                while at < end:
                    piece = os.pread(fd, min(_CHUNK, end - at), at)
                    if not piece:
                        raise self._changed(entry)
                    self._write(piece)
                    at += len(piece)
            self._write(tar_writer.padding(entry.size))

    def _add_attributes(self, entry: Entry, found: dict[bytes, bytes]) -> None:
        for key, value in found.items():
            # The form has no way to write such a name; what is longer than readers take is left out as well.
            if b"=" in key or sum(map(len, entry.xattrs.values())) + len(value) > LONGEST_HEADER // 2:
                self.left_out += 1
            else:
                entry.xattrs[key] = value

    def _write(self, data: bytes) -> None:
        if data:
            self._waiting.append(data)
            self._waits += len(data)
            self.size += len(data)
        if self._waits >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._room.take(self._waits)
        view = memoryview(b"".join(self._waiting))
        self._waiting, self._waits = [], 0
        while view:
            view = view[os.write(_OUT, view) :]

    def _changed(self, entry: Entry) -> InUse:
        return InUse(
            self._what, f"{printable_name(entry.name)} changed while it was read", "Stop the machine, then run again"
        )
