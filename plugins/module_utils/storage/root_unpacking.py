# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a root file system of an archive, as a job in a process that can reach nothing but the new tree
(host/confined_process.py), which is its root: links lead to places in it, wherever they lead.

Tar itself was tried first: it has no limit of entries, knows of no room that is to be left, ends with an error for
each device node, and its messages would have to be read to find out what was left out. This job takes as long."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from ..errors import ImageRefused, NebulaError, NoSpace
from ..host.files import NEW_FILE, closing_fd, explain
from ..model.container_user_ids import COUNT
from . import device_nodes, tree_walk
from .free_space_watch import Room
from .long_paths import OpenPaths
from .tar_reader import CHARACTER, DEVICE, DIRECTORY, FIFO, FILE, HARD_LINK, LINK, Entry, Reader, printable_name

MIB = 1024 * 1024
# What each file and directory takes of a disk, at the most that is usual.
_BLOCK = 4096
_SMALL = 256 * 1024
_MADE = 0o755
_OLD = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TOO_LARGE = "Name a smaller image, or raise the limit"
_TOO_MANY = "Remove files of the machine that it does not need, then run again"


def unpack(
    what: str, limits: dict[str, int], reserve: int, users: int = COUNT, devices: bool = False
) -> dict[str, Any]:
    """Unpack the archive at the standard input, and return its numbers.
    what: the words that errors begin with
    limits: as roots.Limits has them
    reserve: bytes of the file system that are left free
    users: how many the machine has
    devices: return the device nodes, which somebody else has to make (storage/device_nodes.py), and count none"""
    tree = Tree(what, limits, reserve, users, devices)
    reader = Reader(lambda size: os.read(0, size), what)
    for entry in reader:
        tree.add(entry, reader)
    tree.finish()
    numbers = {"entries": tree.entries, "size": tree.size, "devices": tree.devices, "lost": tree.lost}
    return {**numbers, "nodes": [device_nodes.described(entry) for entry in tree.nodes.values()]}


class Tree:
    """Makes a tree of the entries. devices: device nodes that were left out. nodes: those that are wanted, by their
    places. lost: entries that have lost attributes."""

    def __init__(
        self, what: str, limits: dict[str, int], reserve: int, users: int = COUNT, devices: bool = False
    ) -> None:
        self.entries = self.size = self.devices = self.lost = 0
        self.nodes: dict[bytes, Entry] = {}
        # Bytes of their names and attributes.
        self._node_bytes = 0
        self._what, self._limits, self._users, self._wants_devices = what, limits, users, devices
        self._room = Room(what, ".", reserve)
        self._places = OpenPaths(os.open(".", _OLD))
        # Those that are there, as real directories or behind links to some.
        self._known = {b""}
        # Directories get their modes, owners and times when all is in them; None for those that only files named.
        self._directories: dict[bytes, Entry | None] = {b"": None}
        self._make: dict[str, Callable[[bytes, Entry, Reader], None]] = {
            FILE: self._file, HARD_LINK: self._hard_link, LINK: self._link, DIRECTORY: self._directory,
            FIFO: self._fifo, CHARACTER: self._device, DEVICE: self._device,
        }  # fmt: skip

    def add(self, entry: Entry, reader: Reader) -> None:
        self.entries += 1
        if self.entries > self._limits["entries"]:
            remedy = _TOO_MANY if self._limits.get("is_room") else _TOO_LARGE
            raise self._refused(f"it has more than {self._limits['entries']} entries", remedy)
        if entry.uid >= self._users or entry.gid >= self._users:
            raise self._refused(
                f"{printable_name(entry.name)} belongs to user {entry.uid}, group {entry.gid}; a machine has 0 to "
                f"{self._users - 1}",
                "Change the owner, and pack it anew",
            )
        name = self._place(entry.name)
        self._room.take(made=1)
        try:
            if b"/" in name:
                self._have_parents(name)
            self._make[entry.kind](name, entry, reader)
        except OSError as error:
            raise self._explain(entry, error) from error
        self.lost += bool(entry.lost)

    def finish(self) -> None:
        for name, entry in self._directories.items():
            try:
                place, here = self._places.at(name)
                fd = os.open(here or b".", _OLD, dir_fd=place)
            except OSError as error:
                raise self._refused(
                    f"{printable_name(name)} is a directory, and something else by another entry"
                ) from error
            try:
                if entry is None:
                    os.fchmod(fd, _MADE)
                else:
                    self._settle(fd, entry, entry.uid or entry.gid)
            except OSError as error:
                raise self._explain(entry, error) from error
            finally:
                os.close(fd)

    # --- kinds --------------------------------------------------------------------------------------------------------

    def _directory(self, name: bytes, entry: Entry, _reader: Reader) -> None:
        # The same as the name by which it is known, which may be long.
        entry.name = name
        if name:
            place, here = self._places.at(name)
            try:
                os.mkdir(here, 0o700, dir_fd=place)
                self.size += _BLOCK
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(here, dir_fd=place, follow_symlinks=False).st_mode):
                    os.unlink(here, dir_fd=place)
                    os.mkdir(here, 0o700, dir_fd=place)
                    self._places.forget()
        self._known.add(name)
        self._directories[name] = entry

    def _file(self, name: bytes, entry: Entry, reader: Reader) -> None:
        self._count(entry.size)
        # Whoever is given a file loses its set-uid bit, and a capability.
        given = bool(entry.uid or entry.gid)
        plain = not (given or entry.mode & 0o7000)
        mode = entry.mode if plain else 0o600
        with closing_fd(
            self._replace(name, lambda place, here: os.open(here, NEW_FILE | os.O_CLOEXEC, mode, dir_fd=place))
        ) as fd:
            if entry.sparse is not None:
                self._write_stretches(fd, entry, reader)
            elif entry.size <= _SMALL:
                _write(fd, reader.whole())
                self._room.take(entry.size)
            else:
                for piece in reader.content():
                    _write(fd, piece)
                    self._room.take(len(piece))
            if plain and not entry.xattrs:
                os.utime(fd, ns=(entry.mtime, entry.mtime))
            else:
                self._settle(fd, entry, given)

    def _write_stretches(self, fd: int, entry: Entry, reader: Reader) -> None:
        os.ftruncate(fd, entry.length)
        stretches = iter(entry.sparse or ())
        at = end = 0
        for piece in reader.content():
            self._room.take(len(piece))
            rest = memoryview(piece)
            while rest:
                while at == end:
                    at, size = next(stretches)
                    end = at + size
                written = os.pwrite(fd, rest[: end - at], at)
                at += written
                rest = rest[written:]

    def _hard_link(self, name: bytes, entry: Entry, _reader: Reader) -> None:
        source, target = self._places.at(self._place(entry.target))
        # It may be closed when the other is opened.
        with closing_fd(os.dup(source)) as held:
            self._replace(
                name,
                lambda place, here: os.link(target, here, src_dir_fd=held, dst_dir_fd=place, follow_symlinks=False),
            )

    def _link(self, name: bytes, entry: Entry, _reader: Reader) -> None:
        self._replace(name, lambda place, here: os.symlink(entry.target, here, dir_fd=place))
        self._settle_name(name, entry)

    def _fifo(self, name: bytes, entry: Entry, _reader: Reader) -> None:
        self._replace(name, lambda place, here: os.mkfifo(here, 0o600, dir_fd=place))
        self._settle_name(name, entry)

    def _device(self, name: bytes, entry: Entry, _reader: Reader) -> None:
        # The kernel lets nobody make them in a user namespace, and most containers have a /dev of their own.
        if not self._wants_devices:
            self.devices += 1
            return
        if not name:
            raise self._refused("its root is no directory")
        entry.name = name
        for key in [key for key in entry.xattrs if not tree_walk.is_kept(key)]:
            del entry.xattrs[key]
            entry.lost += 1
        self.nodes[name] = entry
        self._node_bytes += len(name) + sum(len(key) + len(value) for key, value in entry.xattrs.items())
        if len(self.nodes) > device_nodes.MOST or self._node_bytes > device_nodes.MOST_BYTES:
            raise self._refused(
                f"it has more than {device_nodes.MOST} device nodes, or more than {device_nodes.MOST_BYTES} bytes of "
                f"their names and attributes; the first that is too many is {printable_name(name)}",
                "Remove them there",
            )

    # --- what they have in common -------------------------------------------------------------------------------------

    def _place(self, name: bytes) -> bytes:
        """Return the path from the root of the tree, b"" for the root itself."""
        if len(name) > self._limits["length"]:
            raise self._refused(
                f"the name {printable_name(name)} has {len(name)} bytes; the limit is {self._limits['length']}"
            )
        if name[:2] == b"./":
            name = name[2:]
        if b"//" in name or b"/." in name or name[:1] in (b"/", b".") or name[-1:] == b"/":
            parts = [part for part in name.split(b"/") if part not in (b"", b".")]
            if b".." in parts:
                raise self._refused(f"the name {printable_name(name)} leads out of where it is")
            name = b"/".join(parts)
        if name.count(b"/") >= self._limits["depth"]:
            raise self._refused(f"{printable_name(name)} is deeper than {self._limits['depth']} directories")
        return name

    def _have_parents(self, name: bytes) -> None:
        parent = name[: name.rindex(b"/")]
        if parent in self._known:
            return
        at = 0
        while at != -1:
            at = parent.find(b"/", at + 1)
            place = parent if at == -1 else parent[:at]
            if place in self._known:
                continue
            above, here = self._places.at(place)
            try:
                os.mkdir(here, 0o700, dir_fd=above)
                self._directories[place] = None
                self.size += _BLOCK
            except FileExistsError:
                # It may be a link; wherever that leads is in the tree.
                if not stat.S_ISDIR(os.stat(here, dir_fd=above).st_mode):
                    raise self._refused(
                        f"{printable_name(name)} is in {printable_name(place)}, which is no directory"
                    ) from None
            self._known.add(place)

    def _replace(self, name: bytes, make: Callable[[int, bytes], Any]) -> Any:
        """Return what `make` makes, in the place of what is there; a directory has to be empty. make: is given an open
        directory, and the path from there."""
        if not name:
            raise self._refused("its root is no directory")
        self.size += _BLOCK
        place, here = self._places.at(name)
        try:
            return make(place, here)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(here, dir_fd=place, follow_symlinks=False).st_mode):
                os.rmdir(here, dir_fd=place)
            else:
                os.unlink(here, dir_fd=place)
            made = make(place, here)
            # Paths that led through it may lead elsewhere.
            self._known = {b""}
            self._directories.pop(name, None)
            self._places.forget()
            return made

    def _settle(self, fd: int, entry: Entry, given: object) -> None:
        if given:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        self._add_attributes(fd, entry)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _settle_name(self, name: bytes, entry: Entry) -> None:
        place, here = self._places.at(name)
        if entry.uid or entry.gid:
            os.chown(here, entry.uid, entry.gid, dir_fd=place, follow_symlinks=False)
        if entry.kind == FIFO:
            os.chmod(here, entry.mode, dir_fd=place)
        if entry.xattrs:
            # No call gives attributes to a name in another directory than this one.
            os.chdir(place)
            try:
                self._add_attributes(here, entry)
            finally:
                os.chdir(self._places.top)
        os.utime(here, ns=(entry.mtime, entry.mtime), dir_fd=place, follow_symlinks=False)

    def _add_attributes(self, place: Any, entry: Entry) -> None:
        for key, value in entry.xattrs.items():
            if not tree_walk.is_kept(key):
                entry.lost += 1
                continue
            try:
                if isinstance(place, int):
                    os.setxattr(place, key, value)
                else:
                    os.setxattr(place, key, value, follow_symlinks=False)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOTSUP):
                    raise
                raise self._refused(
                    f"{printable_name(entry.name)} can't have the attribute {printable_name(key)} that it has"
                ) from error

    def _count(self, size: int) -> None:
        self.size += size + -size % _BLOCK
        if self.size <= self._limits["size"]:
            return
        if self._limits.get("is_room"):
            raise NoSpace(
                f"{self._what}: room for its root",
                f"it takes more than the {self._limits['size'] // MIB} MiB that were free, besides "
                f"{self._room.reserve // MIB} MiB that are kept so; {self.size // MIB} MiB of it have come",
                "Make room on that file system, or name a host with more; then run again",
            )
        raise self._refused(f"it unpacks to more than {self._limits['size'] // MIB} MiB", _TOO_LARGE)

    def _explain(self, entry: Entry | None, error: OSError) -> NebulaError:
        name = printable_name(b"a directory" if entry is None else entry.name)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            found = explain(error, name)
            return type(found)(self._what, f"{found.asked}: {found.found}", found.remedy)
        if error.errno == errno.ENOENT and entry is not None and entry.kind == HARD_LINK:
            return self._refused(
                f"{name} is a link to {printable_name(entry.target)}, which it does not have before it"
            )
        return self._refused(f"{name} can't be made: {error.strerror}")

    def _refused(self, found: str, remedy: str = "Have it made anew, by tar") -> ImageRefused:
        return ImageRefused(self._what, found, remedy)


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])
