# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacks root file systems of containers, and copies, saves and removes them.

What is in them is a stranger's or a guest's, so whatever goes through a tree does so in a process that has no right
over anything else (host/confined_process.py). There are two kinds on a disk: the base of an image, once per node, whose
files belong to ids that nobody has; and the root of a machine, whose files belong to the machine's range of ids."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Collection, Generator, Iterator
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import Any, Optional

from ..dataclass import dataclass
from ..errors import Conflict, ForeignObject, InvalidValue, NotFound, TimedOut, Unsupported
from ..host import confined_process, files, kernel_calls, untrusted_trees
from ..model.container_user_ids import BASES, IdRange, id_range
from . import (
    datastore_layout,
    decompression,
    device_nodes,
    disk_saving,
    file_blocks,
    final_names,
    root_copying,
    root_overlay,
    root_saving,
    root_unpacking,
)

MIB = 1024 * 1024
GIB = 1024 * MIB
WAIT = 600.0
# How a machine got its root: it shows the base, shares the content of its files, or has files of its own, copied from
# there or unpacked.
OVERLAY, REFLINK, COPY, UNPACK = "overlay", "reflink", "copy", "unpack"
# Seconds that an archive may take.
_LONGEST = 4 * 3600.0
_ATTEMPTS = 5
# The end of the name of a tree that is not whole yet.
_NEW = ".unpacking"
# The same of a whole tree that is to be in the place of a root, and of what was there before.
RESTORED, _REPLACED, _REPLACED_LAYERS = ".restored", ".replaced", ".replaced-layers"
# In the directory of a base: its tree, what it was unpacked to, and which machines show it.
_ROOT, _MARK, _USERS = "root", "base.json", "users"
_SHOWN = "shown"
_LONGEST_MARK = 64 * 1024
_Archive = tuple[Optional[int], int, Optional[Generator[bytes, None, None]]]
"""An archive: its open file, how much it unpacks to at least, and, where it is packed, what is in it."""
# Beside the unpacked images, what is tried on their file system.
_TRIAL = ".trial"
# Why machines on a file system (by its number) can't show a base, and why a base would be of no use there. Both are
# tried once in each process.
_without_overlay: dict[tuple[int, int], str] = {}
_useless: dict[int, str] = {}


@dataclass(frozen=True)
class Limits:
    """Limits what an archive may unpack to, and what is saved as an archive.
    size: bytes that its files take
    depth: directories one in another
    length: bytes of a name from the root on, a little less than what readers of archives take
    is_room: the size is the room that there is, and not what is allowed"""

    size: int = 64 * GIB
    entries: int = 4_000_000
    depth: int = 10_000
    length: int = 60_000
    is_room: bool = False

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Unpacked:
    """Says what an archive was unpacked to.
    size: bytes that it takes, about
    devices: how many device nodes were left out
    lost: how many entries have attributes that no container has (labels of other hosts, lists in a form that is not
    read)"""

    entries: int
    size: int
    devices: int
    lost: int

    def warnings(self, what: str) -> list[str]:
        found = []
        if self.devices:
            found.append(f"{what}: {self.devices} device nodes were left out; a container has its own /dev")
        if self.lost:
            found.append(
                f"{what}: {self.lost} of its files have attributes that a container can't have; they were left out"
            )
        return found


def unpack(archive: str, directory: str, ids: IdRange, limits: Limits | None = None, what: str = "") -> Unpacked:
    """Make a new tree of an archive of tar, as it is or packed by gz, xz, bz2 or zst. It gets its name when it is
    whole; what a killed run left of it is removed first. Raise ImageRefused or NoSpace, and then nothing is left,
    or Conflict if something is there already. what: the words that errors begin with."""
    asked = what or f"archive {archive}"
    return _unpack(_open_archive(archive, asked), directory, ids, limits or Limits(), asked, _LONGEST)


def take_in(
    blocks: Generator[bytes, None, None],
    directory: str,
    ids: IdRange,
    what: str,
    timeout: float,
    devices: bool = False,
) -> Unpacked:
    """Make a new tree of what pack() has written on another host, as unpack() does of an archive, and have it on the
    disk. It is bounded by the room that there is: it is a machine's, and no image.
    blocks: the archive. what: the words that errors begin with. timeout: seconds, after which it is given up.
    devices: with its device nodes."""
    room = Limits(size=datastore_layout.free_space(os.path.dirname(directory)), is_room=True)
    coming = contextlib.nullcontext((None, 0, blocks))
    done = _unpack(coming, directory, ids, room, what, timeout, devices)
    _settle(directory)
    return done


def _unpack(
    archive: contextlib.AbstractContextManager[_Archive],
    directory: str,
    ids: IdRange,
    limits: Limits,
    asked: str,
    timeout: float,
    devices: bool = False,
) -> Unpacked:
    with _locked(directory, WAIT):
        new = directory + _NEW
        untrusted_trees.remove(new)
        if os.path.lexists(directory) and not _is_empty(directory):
            raise Conflict(f"{asked}: directory {directory}", "something is there", "See what it is; remove it")
        with archive as (fd, size, blocks):
            require_room(directory, size, asked)
            with files.explained(new):
                os.mkdir(new, 0o700)
            try:
                with files.explained(new):
                    os.chown(new, ids.start, ids.start)
                arguments = {
                    "what": asked,
                    "limits": limits.as_dict(),
                    "reserve": datastore_layout.RESERVE,
                    "users": ids.count,
                    "devices": devices,
                }
                view = confined_process.View([ids], root=new)
                streams: dict[str, Any] = {"source": fd} if blocks is None else {"blocks": blocks}
                done = confined_process.run(root_unpacking.unpack, arguments, view, asked, timeout=timeout, **streams)
                device_nodes.make(new, done.pop("nodes") if devices else (), ids, asked)
                done.pop("nodes", None)
                with files.explained(directory):
                    os.rename(new, directory)
                    files.sync_directory(os.path.dirname(directory))
            except BaseException:
                untrusted_trees.remove(new)
                raise
    return Unpacked(**done)


@dataclass(frozen=True)
class Base:
    """Is the base of an image. path: the tree. made: whether it is new."""

    path: str
    made: bool
    unpacked: Unpacked


def base(cache: str, archive: str, key: str, limits: Limits | None = None, what: str = "") -> Base:
    """Make the unpacked tree of an image, once, and return it.
    cache: the directory of such trees, which nobody but root can enter
    key: what is in them, as the generation of an image"""
    if key != os.path.basename(key) or key.startswith(".") or not key:
        raise InvalidValue(f"the unpacked image {key!r}", "that can't be the name of a directory")
    files.make_own_directory(cache)
    home = os.path.join(cache, key)
    # Another thread or run may be at it.
    with _locked(home, _LONGEST):
        tree = os.path.join(home, _ROOT)
        known = _read_mark(home)
        if known is not None:
            return Base(tree, False, known)
        # What a killed run left of it.
        untrusted_trees.remove(home)
        with files.explained(home):
            os.mkdir(home, 0o700)
        try:
            known = unpack(archive, tree, BASES, limits, what)
            _settle(tree)
            files.write_atomically(os.path.join(home, _MARK), json.dumps(asdict(known)) + "\n")
        except BaseException:
            untrusted_trees.remove(home)
            raise
    return Base(tree, True, known)


def cache_directory(place: str) -> str:
    """Return the directory of unpacked images of the machines whose directories are in a system datastore."""
    return os.path.join(place, datastore_layout.UNPACKED)


def prune(root: str) -> list[str]:
    """Remove the unpacked images of which no machine of this node was made. Return their keys. root: the node's."""
    return prune_cache(cache_directory(datastore_layout.image_directory(root, datastore_layout.SYSTEM)), ())


def prune_cache(cache: str, keep: Collection[str]) -> list[str]:
    """Remove the unpacked images but these, those of which there are machines, and those that another run has in hand.
    Return the keys of those that were removed. An empty cache is removed, too."""
    removed = []
    with files.explained(cache):
        names = sorted(os.listdir(cache)) if os.path.isdir(cache) else []
    for key in names:
        home = os.path.join(cache, key)
        if key in keep or key.endswith(final_names.PART) or not os.path.isdir(home):
            continue
        with contextlib.suppress(TimedOut), _locked(home, 0):
            if key == _TRIAL:
                _end_trial(home)
            elif not _users(home):
                # Without its mark, what a killed run leaves of it is no whole tree.
                files.remove_file(os.path.join(home, _MARK), sync=True)
                untrusted_trees.remove(home)
                removed.append(key)
    files.remove_empty_directory(cache)
    return removed


@dataclass(frozen=True)
class RootCopy:
    """Says how a root was made. way: OVERLAY, REFLINK, COPY or UNPACK. why: why it is no overlay."""

    way: str
    why: str = ""


def copy(base: str, directory: str, ids: IdRange, what: str = "") -> RootCopy:
    """Make a machine's own root of an unpacked image (the path of a Base), by the cheapest way that this node has.
    Raise Conflict if there is a root, which remove() removes."""
    asked = what or f"root {directory}"
    home = os.path.dirname(base)
    with _locked(directory, WAIT):
        untrusted_trees.remove(directory + _NEW)
        if root_overlay.is_unfinished(directory):
            root_overlay.remove(directory)
        if os.path.lexists(directory + root_overlay.LAYERS) or (
            os.path.lexists(directory) and not _is_empty(directory)
        ):
            raise Conflict(f"{asked}: directory {directory}", "something is there", "See what it is; remove it")
        files.remove_empty_directory(directory)
        with _locked(home, WAIT):
            if _read_mark(home) is None:
                raise NotFound(f"{asked}: the unpacked image {base}", "it is not on this node, or not whole")
            _add_user(home, directory)
        try:
            why = _show_base(base, directory, ids)
            return RootCopy(_copy(base, directory, ids, asked), why) if why else RootCopy(OVERLAY)
        except BaseException:
            if not os.path.lexists(directory + root_overlay.LAYERS):
                files.remove_file(_user(home, directory))
            raise


def make(cache: str, archive: str, key: str, directory: str, ids: IdRange, what: str = "") -> RootCopy:
    """Make a machine's own root of an image: see base() and copy(). Where machines can't share what the image unpacks
    to, its archive is unpacked for each: that takes no longer than to copy the tree, which would take room besides."""
    why = _without_base(cache, os.path.join(cache, key))
    if why:
        if root_overlay.is_unfinished(directory):
            remove(directory)
        unpack(archive, directory, ids, what=what)
        return RootCopy(UNPACK, why)
    for attempt in range(_ATTEMPTS):
        unpacked = base(cache, archive, key, what=what)
        try:
            return copy(unpacked.path, directory, ids, what)
        except NotFound:
            # Another run has just removed it, as no machine was made of it yet.
            if attempt == _ATTEMPTS - 1:
                raise
    raise NotFound(what or f"root {directory}", f"the unpacked image {key} is removed by other runs", "Run again")


def is_there(directory: str) -> bool:
    """Return whether the machine has its root, mounted or not: what a killed run left of a root does not count."""
    if root_overlay.is_unfinished(directory):
        return False
    return os.path.lexists(directory + root_overlay.LAYERS) or (os.path.isdir(directory) and not _is_empty(directory))


def root_of(name: str) -> str:
    """Return the name of the root that a name in its directory belongs to: the root itself, or what is beside it."""
    for end in (root_overlay.LAYERS, _NEW, RESTORED, _REPLACED, _REPLACED_LAYERS):
        name = name.removesuffix(end)
    return name


def mount_again(directory: str) -> bool:
    """Mount the root of a machine if it shows its image, which ends with the host. Return whether that was needed."""
    with _locked(directory, WAIT):
        return root_overlay.mount_again(directory)


def remove(directory: str) -> bool:
    """Remove a root, or what a killed run left of it. Return whether there was anything. Raise InUse if it is used."""
    with _locked(directory, WAIT):
        shown = None
        with contextlib.suppress(ForeignObject, InvalidValue):
            shown = root_overlay.read(directory)
        there = root_overlay.remove(directory)
        for tree in (*_beside(directory), directory):
            there = untrusted_trees.remove(tree) or there
        if shown is not None:
            files.remove_file(_user(os.path.dirname(shown.base), directory))
    return there


@dataclass(frozen=True)
class Saved:
    """Says what was saved. size: bytes of the archive. left_out: sockets, device nodes and attributes it can't have."""

    entries: int
    size: int
    left_out: int


def save(directory: str, target: str, ids: IdRange, what: str = "") -> Saved:
    """Write the root of a machine that is stopped, or frozen, to a new archive at `target`, with the owners that the
    machine sees. Raise InUse if it changed meanwhile."""
    asked = what or f"root {directory}"
    with _locked(directory, WAIT):
        require_room(target, _size(directory, asked), asked)
        with (
            disk_saving.new_image_file(target, asked) as new,
            files.explained(new),
            files.opened(new, files.NEW_FILE) as fd,
        ):
            return _pack(directory, fd, ids, asked, datastore_layout.RESERVE, _LONGEST)


def shows_image(directory: str) -> bool:
    """Return whether a machine's root shows its image, and has only what it changed in a place of its own."""
    return os.path.lexists(directory + root_overlay.LAYERS)


def share(directory: str, new: str, ids: IdRange, what: str) -> bool:
    """Make a tree `new` of the root of a machine that stands still, which shares the content of its files, so that it
    takes a moment. Return False, and leave nothing, where that can't be. what: the words that errors begin with."""
    if shows_image(directory):
        # What is seen there belongs to no file system that could share it.
        return False
    try:
        with files.explained(new):
            os.mkdir(new, 0o700)
            os.chown(new, ids.start, ids.start)
        view = confined_process.View([ids], below=[("source", directory), ("target", new)], reads=[directory])
        arguments = {"what": what, "reserve": datastore_layout.RESERVE, "depth": Limits().depth, "first": 0}
        arguments["shares"] = True
        confined_process.run(root_copying.copy, arguments, view, what, timeout=_LONGEST)
    except Unsupported:
        untrusted_trees.remove(new)
        return False
    except BaseException:
        untrusted_trees.remove(new)
        raise
    return True


def pack(directory: str, fd: int, ids: IdRange, what: str, timeout: float, devices: bool = False) -> Saved:
    """Write the root of a machine that is stopped to a pipe, as save() does to a file.
    what: the words that errors begin with. timeout: seconds, after which it is given up. devices: with its device
    nodes."""
    with _locked(directory, WAIT):
        _have_mounted(directory, what)
        return _pack(directory, fd, ids, what, 0, timeout, devices)


def size(directory: str, what: str) -> int:
    """Return the bytes that a machine's root takes where it shows no image. what: the words that errors begin with."""
    with _locked(directory, WAIT):
        return _size(directory, what)


def unmount(directory: str) -> None:
    """Have the root of a machine that is off not mounted, where it shows its image."""
    with _locked(directory, WAIT):
        root_overlay.unmount(directory)


def _have_mounted(directory: str, asked: str) -> None:
    if not os.path.isdir(directory):
        raise NotFound(asked, "it is not there", "Deploy the machine")
    root_overlay.mount_again(directory)


def _size(directory: str, asked: str) -> int:
    _have_mounted(directory, asked)
    return untrusted_trees.bytes_on_disk(directory)


def _pack(
    directory: str, fd: int, ids: IdRange, asked: str, reserve: int, timeout: float, devices: bool = False
) -> Saved:
    limits = Limits()
    arguments = {
        "what": asked,
        "reserve": reserve,
        "depth": limits.depth,
        "length": limits.length,
        "devices": devices,
    }
    view = confined_process.View([ids], root=directory, reads=[directory])
    return Saved(**confined_process.run(root_saving.save, arguments, view, asked, timeout=timeout, target=fd))


def put_in_place(directory: str) -> None:
    """Have the tree beside a root, with RESTORED at its end, be the machine's root from now on. What was there stays
    beside it until remove_replaced() or put_back(). Where a run was killed in the middle, this goes on with it: for a
    moment there is no root. The machine is off. Raise InUse if its root is used."""
    new, layers = directory + RESTORED, directory + root_overlay.LAYERS
    with _locked(directory, WAIT), files.explained(directory):
        if not os.path.lexists(new):
            return
        root_overlay.unmount(directory)
        if not any(os.path.lexists(directory + end) for end in (_REPLACED, _REPLACED_LAYERS)):
            if os.path.lexists(layers):
                os.rename(layers, directory + _REPLACED_LAYERS)
            elif os.path.lexists(directory) and not _is_empty(directory):
                os.rename(directory, directory + _REPLACED)
        # An empty directory makes room for it.
        os.rename(new, directory)
        files.sync_directory(os.path.dirname(directory))


def put_back(directory: str) -> None:
    """Have the machine's root be what it was before put_in_place(), as far as that came. The machine is off."""
    new = directory + RESTORED
    with _locked(directory, WAIT), files.explained(directory):
        for before, place in ((_REPLACED, directory), (_REPLACED_LAYERS, directory + root_overlay.LAYERS)):
            if os.path.lexists(directory + before):
                if not os.path.lexists(new):
                    os.rename(directory, new)
                if place != directory:
                    files.make_directory(directory, 0o755)
                os.rename(directory + before, place)
        files.sync_directory(os.path.dirname(directory))
        untrusted_trees.remove(new)


def remove_replaced(directory: str) -> bool:
    """Remove what is beside a root that put_in_place() has used, or was to use. Return whether there was anything."""
    layers = directory + _REPLACED_LAYERS
    with _locked(directory, WAIT), files.explained(directory):
        if os.path.lexists(layers):
            with contextlib.suppress(ForeignObject, InvalidValue):
                files.remove_file(_user(os.path.dirname(root_overlay.read_layers(layers).base), directory))
        removed = [untrusted_trees.remove(tree) for tree in _beside(directory)]
        return any(removed)


def _beside(directory: str) -> list[str]:
    return [directory + end for end in (_NEW, RESTORED + _NEW, RESTORED, _REPLACED, _REPLACED_LAYERS)]


def require_room(directory: str, size: int, what: str) -> None:
    """Raise NoSpace unless so many bytes fit where the directory is to be."""
    datastore_layout.require_space(os.path.dirname(directory), size, what)


def _show_base(base: str, directory: str, ids: IdRange) -> str:
    """Have the machine show the base. Return why it can't, "" where it does."""
    with files.explained(directory):
        places = (os.stat(base).st_dev, os.stat(os.path.dirname(directory)).st_dev)
    if places not in _without_overlay:
        why = root_overlay.make(base, directory, ids)
        if not why:
            return ""
        _without_overlay[places] = why
    return _without_overlay[places]


def _without_base(cache: str, home: str) -> str:
    """Return why machines could not share what is in an unpacked image of this cache, "" where they can."""
    files.make_own_directory(cache)
    with files.explained(cache):
        number = os.stat(cache).st_dev
    if number not in _useless and _read_mark(home) is None:
        trial = os.path.join(cache, _TRIAL)
        with _locked(trial, WAIT):
            # Another thread may have done it meanwhile.
            if number not in _useless:
                _useless[number] = _try_overlay(trial)
    return _useless.get(number, "")


def _try_overlay(trial: str) -> str:
    _end_trial(trial)
    try:
        tree, probe = os.path.join(trial, _ROOT), os.path.join(trial, _MARK)
        with files.explained(trial):
            os.mkdir(trial, 0o700)
            os.mkdir(tree, 0o755)
            os.chown(tree, BASES.start, BASES.start)
        files.write_atomically(probe, b"x" * 4096, sync=False)
        why = root_overlay.make(tree, os.path.join(trial, _SHOWN), id_range(0))
        return "" if not why or can_share(probe, trial) else why
    finally:
        _end_trial(trial)


def _end_trial(trial: str) -> None:
    if os.path.isdir(trial):
        root_overlay.remove(os.path.join(trial, _SHOWN))
        untrusted_trees.remove(trial)


def _copy(base: str, directory: str, ids: IdRange, what: str) -> str:
    new = directory + _NEW
    if not can_share(os.path.join(os.path.dirname(base), _MARK), os.path.dirname(directory)):
        require_room(directory, untrusted_trees.bytes_on_disk(base), what)
    try:
        with files.explained(new):
            os.mkdir(new, 0o700)
            os.chown(new, ids.start, ids.start)
        view = confined_process.View([ids, BASES], below=[("source", base), ("target", new)], reads=[base])
        arguments = {"what": what, "reserve": datastore_layout.RESERVE, "depth": Limits().depth}
        done = confined_process.run(root_copying.copy, arguments, view, what, timeout=_LONGEST)
        _settle(new)
        with files.explained(directory):
            os.rename(new, directory)
            files.sync_directory(os.path.dirname(directory))
    except BaseException:
        untrusted_trees.remove(new)
        raise
    return REFLINK if done["shared"] else COPY


def can_share(path: str, directory: str) -> bool:
    """Return whether files of the directory can share the content of the file."""
    with files.explained(directory), TemporaryFile(dir=directory) as file, files.opened(path, os.O_RDONLY) as fd:
        return files.clone(fd, file.fileno())


def _settle(tree: str) -> None:
    """Have all of a tree on the disk, so that after a power cut what is taken for whole is whole."""
    with files.explained(tree), files.opened(tree, os.O_RDONLY | os.O_DIRECTORY) as fd:
        kernel_calls.sync_file_system(fd)


def _read_mark(home: str) -> Unpacked | None:
    """Return what a base was unpacked to; None for a base that is not whole."""
    try:
        found = json.loads(files.read_limited(os.path.join(home, _MARK), _LONGEST_MARK, follow=False))
        return Unpacked(*(int(found[name]) for name in ("entries", "size", "devices", "lost")))
    except (NotFound, ValueError, KeyError, TypeError):
        return None


def _user(home: str, directory: str) -> str:
    name = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:32]
    return os.path.join(home, _USERS, name)


def _add_user(home: str, directory: str) -> None:
    # Before it was made anew it may have been another image's.
    cache = os.path.dirname(home)
    for key in os.listdir(cache):
        if os.path.isdir(os.path.join(cache, key)):
            files.remove_file(_user(os.path.join(cache, key), directory))
    files.make_directory(os.path.join(home, _USERS), 0o700)
    files.write_atomically(_user(home, directory), os.fsencode(directory) + b"\n", sync=False)


def _users(home: str) -> list[str]:
    """Return the directories of machines that were made of the base, or are being made of it."""
    place = os.path.join(home, _USERS)
    found = []
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
        path = os.path.join(place, name)
        directory = os.fsdecode(files.read_limited(path, _LONGEST_MARK, follow=False)).rstrip("\n")
        if os.path.lexists(directory) or os.path.lexists(directory + root_overlay.LAYERS) or _is_reserved(directory):
            found.append(directory)
        else:
            # Of a run that was killed before it made anything.
            files.remove_file(path)
    return found


def _is_reserved(directory: str) -> bool:
    if not os.path.isdir(os.path.dirname(directory)):
        return False
    try:
        with _locked(directory, 0):
            return False
    except TimedOut:
        return True


@contextlib.contextmanager
def _locked(path: str, timeout: float) -> Iterator[None]:
    """Hold what is at `path`, or will be, against other runs. Nothing waits for the disk: a disk that is told which
    blocks are free (discard) may take ten seconds for a tree that was removed before."""
    with files.lock(path + final_names.PART, timeout=timeout):
        try:
            yield
        finally:
            files.remove_file(path + final_names.PART)


def _is_empty(directory: str) -> bool:
    with files.explained(directory):
        return stat.S_ISDIR(os.lstat(directory).st_mode) and not os.listdir(directory)


@contextlib.contextmanager
def _open_archive(archive: str, what: str) -> Iterator[_Archive]:
    with files.explained(archive):
        fd = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidValue(what, f"{archive} is not a regular file", "Name a file")
        packing = decompression.detect(os.pread(fd, decompression.MAGIC_LENGTH, 0))
        blocks = decompression.unpack(packing, file_blocks.read(fd), what) if packing else None
        with contextlib.closing(blocks) if blocks is not None else contextlib.nullcontext():
            yield fd, found.st_size, blocks
    finally:
        os.close(fd)
