# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the context as a directory, for a container, which has no drives: it holds what its ISO would, for the root of
the container and nobody else.

Its files belong to the host's root, and the container's root may read them. The owner, not the mount, keeps the
container from writing there: it can make the mount writable again. Contexts that an earlier version made belong to the
container's root: they are taken from it, from the top down, before anything in them is looked at."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Callable

from ..errors import InUse
from ..host import untrusted_directories, untrusted_trees
from ..host.files import closing_fd, explained, sync_directory
from ..model.context import ContextFile
from . import iso9660, nocloud_and_configdrive
from .files_attribute import LARGEST, Entry, entries_of_files

_FILE, _EXECUTABLE, _DIRECTORY = 0o400, 0o500, 0o500
_BLOCK = 1 << 20


def write_directory(
    path: str,
    variables: Mapping[str, str],
    files: Iterable[ContextFile] = (),
    *,
    owner: int,
    format: str = nocloud_and_configdrive.DEFAULT,
    identity: str = "",
) -> str:
    """Make the directory at `path` hold this context and nothing else. Return the digest that an ISO of the same would
    have.

    Files that are right already stay: a running container sees the directory itself. Parameters are otherwise those of
    iso9660.write.
    owner: the user on this host that is root in the container, who may read it."""
    entries = entries_of_files(files, LARGEST)
    with iso9660.build_iso(variables, files, os.path.dirname(path), format=format, identity=identity) as iso:
        digest = iso.digest
    _label, documents = nocloud_and_configdrive.documents_of_iso(
        format, variables, identity, [entry.path for entry in entries]
    )
    wanted: dict[str, bytes | Entry] = {}
    for name, content in documents.items():
        wanted[name] = content if isinstance(content, bytes) else content.encode()
    wanted.update({entry.path: entry for entry in entries if not entry.directory})
    directories = {parent for name in wanted for parent in _parents(name)}
    for entry in entries:
        if entry.directory:
            directories |= {entry.path, *_parents(entry.path)}
    with explained(path), closing_fd(_open_top(path, owner)) as top:
        _Writing(path, owner, directories, wanted).fill(top, "")
    return digest


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]


def _open_top(path: str, owner: int) -> int:
    """Return a descriptor of the directory itself, made if it is missing. Only root can write to the one above."""
    if not os.path.isdir(path) or os.path.islink(path):
        untrusted_trees.remove(path)
        os.mkdir(path, 0o700)
        sync_directory(os.path.dirname(path))
    top = os.open(path, untrusted_directories.DIRECTORY)
    untrusted_directories.take(top, _DIRECTORY, owner)
    return top


class _Writing:
    """Writes the directory. wanted: what each file is to hold, by path."""

    def __init__(self, path: str, owner: int, directories: set[str], wanted: Mapping[str, bytes | Entry]) -> None:
        self._path, self._owner, self._directories, self._wanted = path, owner, directories, wanted
        self._inner: dict[str, set[str]] = {}
        for name in (*directories, *wanted):
            self._inner.setdefault(os.path.dirname(name), set()).add(os.path.basename(name))

    def fill(self, fd: int, place: str) -> None:
        """Make an open directory, which is taken already, hold what is wanted. This goes as deep as what is wanted, and
        no deeper, whatever a guest has made."""
        inner = self._inner.get(place, set())
        for name in os.listdir(fd):
            if name not in inner:
                untrusted_trees.remove_in(fd, name, os.path.join(self._path, place, name))
        for name in sorted(inner):
            path = f"{place}/{name}" if place else name
            if path in self._directories:
                with closing_fd(self._directory(fd, name, path)) as below:
                    self.fill(below, path)
            else:
                self._file(fd, name, path)

    def _directory(self, fd: int, name: str, path: str) -> int:
        try:
            below = untrusted_directories.open_directory(fd, name)
        except OSError:
            # None, a file or a link.
            untrusted_trees.remove_in(fd, name, os.path.join(self._path, path))
            os.mkdir(name, 0o700, dir_fd=fd)
            os.fsync(fd)
            below = untrusted_directories.open_directory(fd, name)
        if untrusted_trees.mount_id(below) != untrusted_trees.mount_id(fd):
            os.close(below)
            raise InUse(f"the context {self._path}", f"something is mounted at {path}", "Unmount it, then run again")
        untrusted_directories.take(below, _DIRECTORY, self._owner)
        return below

    def _file(self, fd: int, name: str, path: str) -> None:
        content = self._wanted[path]
        mode = _EXECUTABLE if isinstance(content, Entry) and content.executable else _FILE
        old = _open_if_same(fd, name, content)
        if old >= 0:
            with closing_fd(old):
                untrusted_directories.take(old, mode, self._owner)
            return
        found = _status(fd, name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            untrusted_trees.remove_in(fd, name, os.path.join(self._path, path))
        data = content if isinstance(content, bytes) else _copier(content)
        untrusted_directories.replace(fd, name, data, lambda new: untrusted_directories.take(new, mode, self._owner))


def _copier(entry: Entry) -> Callable[[BinaryIO], None]:
    def copy(target: BinaryIO) -> None:
        with Path(entry.source).open("rb") as source:
            shutil.copyfileobj(source, target)

    return copy


def _open_if_same(fd: int, name: str, content: bytes | Entry) -> int:
    """Return a descriptor of the file if it is ours and has this content, else -1. A file of the container's root may
    still be open there for writing, so it is none of ours."""
    found = _status(fd, name)
    size = len(content) if isinstance(content, bytes) else content.size
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != size:
        return -1
    if found.st_uid != os.geteuid() or found.st_nlink != 1:
        return -1
    old = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    with io.BytesIO(content) if isinstance(content, bytes) else Path(content.source).open("rb") as wanted:
        at = 0
        while True:
            piece = wanted.read(_BLOCK)
            if os.pread(old, _BLOCK if not piece else len(piece), at) != piece:
                os.close(old)
                return -1
            if not piece:
                return old
            at += len(piece)


def _status(fd: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
