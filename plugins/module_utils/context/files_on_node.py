# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps on a node, below nebula_root, the files of contexts that plans bring; ISOs are made of them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field

from .. import errors
from ..dataclass import dataclass, replace
from ..errors import NebulaError, StorageFailed
from ..host import node_file
from ..host.files import content_digest, explain, lock, make_directory, reader, remove_file, write_atomically
from ..model.context import ContextFile
from ..model.plan import Plan, PlannedEntry
from .files_attribute import ContextFileParts, Entry, source_without_secrets

DIRECTORY = "cache"
# Others may keep other things in that directory.
PREFIX = "context-"
LOCK_SECONDS = 600
AGAIN = "Run again: it is sent again then"
_OURS = re.compile(rf"{PREFIX}([0-9a-f]{{64}})")


@dataclass
class KeptContents:
    """Says which of a plan's contents are here. faults: by digest, why one is not here. new: digests of new ones."""

    faults: dict[str, str] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)


def place(root: str) -> str:
    return os.path.join(root, DIRECTORY)


def path_of(root: str, digest: str) -> str:
    return os.path.join(place(root), PREFIX + digest)


def digests(root: str) -> tuple[str, ...]:
    """Return the SHA-256 digests of the contents kept here, from names of files alone, so that a poll stays cheap."""
    try:
        return tuple(sorted(match[1] for match in map(_OURS.fullmatch, os.listdir(place(root))) if match))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def keep_contents(root: str, plan: Plan) -> KeptContents:
    """Keep what the plan brings, and look at all that it names. What is damaged is removed: the next plan brings it."""
    sizes = _sizes(plan)
    filled = KeptContents()
    if not sizes:
        return filled
    try:
        with _locked(root, plan) as current:
            for digest, size in sizes.items() if current else ():
                try:
                    _fill_one(root, plan.contents.get(digest), digest, size, filled)
                except NebulaError as error:
                    filled.faults[digest] = f"it can't be kept: {error}"
                except OSError as error:
                    filled.faults[digest] = f"it can't be kept: {explain(error, path_of(root, digest))}"
    except (NebulaError, OSError) as error:
        filled.faults.update(dict.fromkeys(sizes, f"it can't be kept: {error}"))
    return filled


def missing_contents(root: str, plan: Plan) -> KeptContents:
    """Return what fill() would find missing, for check mode; nothing is changed."""
    there = set(digests(root))
    return KeptContents(faults={digest: "it is not here yet" for digest in _sizes(plan) if digest not in there})


def context_files(root: str, plan: Plan, files: Iterable[ContextFile], filled: KeptContents) -> list[ContextFileParts]:
    """Return the files of a context as its ISO is made of them. Raise the error of the first file that is not here."""
    return [_gathered(root, plan, file, filled) for file in files]


def prune(root: str, plan: Plan) -> None:
    """Remove what this plan does not name, unless a newer plan was accepted, which may name it. Every plan holds all
    unfinished machines of its node."""
    if not os.path.isdir(place(root)):
        return
    keep = set(_sizes(plan))
    with contextlib.suppress(NebulaError, OSError), _locked(root, plan) as current:
        for name in _own_names(root) if current else ():
            match = _OURS.fullmatch(name)
            if match is None or match[1] not in keep:
                remove_file(os.path.join(place(root), name))


def remove(root: str) -> bool:
    """Remove everything that is kept here, for a node that is given back. Return whether there was anything."""
    if not os.path.isdir(place(root)) or os.path.islink(place(root)):
        return False
    with lock(os.path.join(place(root), ""), LOCK_SECONDS):
        removed = [remove_file(os.path.join(place(root), name)) for name in _own_names(root)]
    return any(removed)


def _own_names(root: str) -> list[str]:
    """Return the names of the contents that are kept, and of files that a killed run was about to keep."""
    return [
        name
        for name in os.listdir(place(root))
        if _OURS.fullmatch(name) or (name.startswith(".") and _OURS.match(name, 1) and name.endswith(".tmp"))
    ]


@contextlib.contextmanager
def _locked(root: str, plan: Plan) -> Iterator[bool]:
    """Yield whether the plan still counts, with the directory made and locked. A node that was given back must not get
    the directory again."""
    directory = place(root)
    if not os.path.isdir(directory):
        # Noted before: a run that is killed must not leave what nobody knows of.
        node_file.update(root, lambda before: _with_directory(before, directory))
        with node_file.fence(root, plan.catalog, plan.number) as current:
            if not current:
                yield False
                return
            make_directory(directory, 0o711)
    with lock(os.path.join(directory, ""), LOCK_SECONDS):
        yield node_file.is_current(root, plan.catalog, plan.number)


def _with_directory(before: node_file.NodeFile, directory: str) -> node_file.NodeFile:
    if directory in before.directories or before.given_back:
        return before
    return replace(before, directories=(*before.directories, directory))


def _sizes(plan: Plan) -> dict[str, int]:
    """Return the size in bytes of each content that the plan names, by digest."""
    return {entry.sha256: entry.size for source in plan.sources.values() for entry in source.entries if entry.sha256}


def _fill_one(root: str, text: str | None, digest: str, size: int, filled: KeptContents) -> None:
    path = path_of(root, digest)
    if _OURS.fullmatch(PREFIX + digest) is None:
        filled.faults[digest] = "its digest is none"
        return
    state = _state(path, digest, size)
    if state == "whole":
        return
    if state == "damaged":
        remove_file(path)
    if text is None:
        filled.faults[digest] = "it was damaged on this node" if state else "it is not on this node any more"
        return
    data = _unpacked(text, size)
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        filled.faults[digest] = "what the plan brought of it is not what was read"
        return
    write_atomically(path, data, 0o600)
    filled.new.add(digest)


def _state(path: str, digest: str, size: int) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            # What it leads to is not looked at; the link itself goes.
            return "damaged"
        raise
    with reader(fd) as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return "damaged"
        return "whole" if content_digest(file) == digest else "damaged"


def _unpacked(text: str, size: int) -> bytes | None:
    """Return the bytes of a content, at most one more than `size`; None if its text is damaged."""
    try:
        # One more than there are to be, since 0 would be no limit.
        return zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError):
        return None


def _gathered(root: str, plan: Plan, file: ContextFile, filled: KeptContents) -> ContextFileParts:
    source = plan.sources.get(file.key)
    asked = f"FILES: {source_without_secrets(file.source)}"
    if source is None:
        raise StorageFailed(asked, "the plan does not hold it", "Run again: a new plan does")
    if source.error is not None:
        raise _error_of(source.error)
    for entry in source.entries:
        if entry.sha256 in filled.faults:
            raise StorageFailed(asked, filled.faults[entry.sha256], AGAIN)
    return ContextFileParts(
        file.source, file.target, entries=tuple(_entry(root, file.target, e) for e in source.entries)
    )


def _entry(root: str, target: str, entry: PlannedEntry) -> Entry:
    path = f"{target}/{entry.path}" if entry.path else target
    source = "" if entry.directory else path_of(root, entry.sha256)
    return Entry(path, source, entry.size, entry.executable, entry.directory)


def _error_of(error: Mapping[str, str]) -> NebulaError:
    kind = getattr(errors, error.get("kind", ""), NebulaError)
    kind = kind if isinstance(kind, type) and issubclass(kind, NebulaError) else NebulaError
    return kind(error.get("asked", ""), error.get("found", ""), error.get("remedy", ""))
