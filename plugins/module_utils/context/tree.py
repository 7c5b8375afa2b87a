# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context as a directory, for a container, which has no drives: it holds what its ISO would, for the root of the
container and nobody else."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from ..host.files import adopt, explained, make_directory, write_atomically
from ..model.context import ContextFile
from . import formats, iso9660
from .files import LARGEST, Entry, collect

_FILE, _EXECUTABLE, _DIRECTORY = 0o400, 0o500, 0o500


def write(
    path: str,
    variables: Mapping[str, str],
    files: Iterable[ContextFile] = (),
    *,
    owner: int,
    format: str = formats.DEFAULT,
    identity: str = "",
) -> str:
    """Make the directory at `path` hold these and nothing else; the digest that an ISO of the same would have.

    owner: the user and group on this host that are root in the container. Files that are as they are to be stay: a
    container that runs sees the directory itself. Parameters otherwise as iso9660.write has them.
    """
    entries = collect(files, LARGEST)
    with iso9660.built(variables, files, os.path.dirname(path), format=format, identity=identity) as iso:
        digest = iso.digest
    _label, documents = formats.documents(format, variables, identity, [entry.path for entry in entries])
    with explained(path):
        _own_directory(path, owner)
        parents = {name for document in documents for name in _parents(document)}
        parents |= {name for entry in entries for name in _parents(entry.path)}
        directories = parents | {entry.path for entry in entries if entry.directory}
        _clear(path, directories, {*documents, *(entry.path for entry in entries if not entry.directory)})
        for name in sorted(directories):
            _own_directory(os.path.join(path, name), owner)
        for name, content in documents.items():
            write_atomically(os.path.join(path, name), content, _FILE, owner, owner)
        for entry in entries:
            if not entry.directory:
                _put(path, entry, owner)
    return digest


def _put(path: str, entry: Entry, owner: int) -> None:
    def copy(target: IO[bytes]) -> None:
        with Path(entry.source).open("rb") as source:
            shutil.copyfileobj(source, target)

    place = os.path.join(path, entry.path)
    write_atomically(place, copy, _EXECUTABLE if entry.executable else _FILE, owner, owner)


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]


def _own_directory(path: str, owner: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
    make_directory(path, _DIRECTORY)
    adopt(path, _DIRECTORY, owner, owner)


def _clear(path: str, directories: set[str], names: set[str]) -> None:
    """Remove what is neither one of these directories nor one of these files."""
    for place, inside, others in os.walk(path, topdown=False):
        for name in (*others, *inside):
            full = os.path.join(place, name)
            mode = os.lstat(full).st_mode
            relative = os.path.relpath(full, path)
            if stat.S_ISDIR(mode):
                if relative not in directories:
                    os.rmdir(full)
            elif relative not in names or not stat.S_ISREG(mode):
                os.unlink(full)
