# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads on the front-end what FILES of contexts name: once in a run, however many machines and nodes use it."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ..dataclass import dataclass, replace
from ..errors import InvalidValue, NebulaError, NotFound, StorageFailed, TimedOut
from ..host.files import explained, lock, make_own_directory, remove_empty_directory, remove_file, write_atomically
from ..host.restricted_directories import RESTRICTED, Rules, is_below
from ..host.urls import MIN_SPEED, is_url
from ..model.context import ContextFile
from ..model.plan import PlannedEntry, PlannedSource
from .files_attribute import MOST, Content, Entry, entries_of_files, source_without_secrets, too_large, too_many

# Bytes of all files of one context.
LARGEST = 64 * 1024 * 1024
# Characters of all contents that one run sends: a plan is one text, which the node holds in memory several times.
MOST_SENT = 128 * 1024 * 1024
# Where what came from the net is kept, below nebula_root.
DIRECTORY = "files"
LOCK_SECONDS = 60
_KEPT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Limits:
    """Says what may be read, and how slowly: below `restricted` directories only what is below a `safe` one, too;
    downloads not after `stall` seconds without a byte, or below `min_speed` bytes a second."""

    safe: tuple[str, ...] = ()
    restricted: tuple[str, ...] = RESTRICTED
    validate_certs: bool = True
    stall: float = 30.0
    min_speed: float = MIN_SPEED


USUAL = Limits()
# Returns the content of a URL, within the limits (context_downloads.py).
Download = Callable[[str, Limits], bytes]


def limits_of(options: Mapping[str, Any]) -> Limits:
    """Return the limits that a module's options give; the usual ones for modules that have no such options."""
    if options.get("restricted_dirs") is None:
        return USUAL
    return Limits(
        safe=tuple(options["safe_dirs"]),
        restricted=tuple(options["restricted_dirs"]),
        validate_certs=options["validate_certs"],
        stall=float(options["timeout"]),
        min_speed=options["min_speed"] * 1024.0,
    )


class Sources:
    """Reads each file once, and fetches each URL once.
    lacking: URLs that found() was asked for and that are not fetched yet; empty in check mode.
    absent: paths that are missing in check mode, and that an earlier task may be about to bring.
    coming: the paths that an earlier task brings, as far as the caller knows; None: it may be any path."""

    def __init__(
        self, root: str, limits: Limits = USUAL, check_mode: bool = False, coming: Collection[str] | None = None
    ) -> None:
        self._root = root
        self._limits = limits
        self._check_mode = check_mode
        self._coming = coming
        self._rules = Rules(limits.restricted, limits.safe)
        self._read: dict[tuple[str, bool], PlannedSource | NebulaError] = {}
        self._fetched: dict[str, str | NebulaError] = {}
        self._contents: dict[str, str] = {}
        self._sent = 0
        # What this run fetched is not to be pruned by another before it is referenced.
        self._held = contextlib.ExitStack()
        self._holds = False
        self.lacking: dict[str, None] = {}
        self.absent: dict[str, None] = {}

    def close(self) -> None:
        self._holds = False
        self._held.close()

    # -- for a machine --------------------------------------------------------------------------------------------
    def found(self, files: Iterable[ContextFile], kept: Mapping[str, str]) -> tuple[ContextFile, ...]:
        """Return the files of one context; those from URLs have the digest of what was fetched. Raise the error of the
        first file that is not as it has to be. kept: the SHA-256 of what the machine has and keeps, by URL."""
        found, size, count = [], 0, 0
        for given in files:
            file = given
            if is_url(file.source):
                file = replace(file, sha256=kept.get(file.source, ""))
                if not file.sha256 or self._is_lost(file):
                    file = replace(file, sha256=self._digest(file.source))
            found.append(file)
            source = self._source(file)
            if source is None:
                continue
            size += sum(entry.size for entry in source.entries)
            count += len(source.entries)
            if size > LARGEST:
                raise too_large(file.source, LARGEST)
            if count > MOST:
                raise too_many(file.source)
        return tuple(found)

    def _digest(self, url: str) -> str:
        known = self._fetched.get(url, "")
        if isinstance(known, NebulaError):
            raise _copy_of(known)
        if not known and not self._check_mode:
            self.lacking[url] = None
        return known

    def _is_lost(self, file: ContextFile) -> bool:
        """Return whether what was fetched is gone, as after a catalog was restored, which has nothing else with it."""
        try:
            self._source(file)
        except NotFound:
            return True
        return False

    # -- for a plan -----------------------------------------------------------------------------------------------
    def planned(self, files: Iterable[ContextFile]) -> dict[str, PlannedSource]:
        """Return the files as a plan gives them to a node, with their digests. Files that are missing only because of
        check mode are left out."""
        found: dict[str, PlannedSource] = {}
        for file in files:
            if file.key in found:
                continue
            try:
                source = self._source(file)
            except NebulaError as error:
                source = PlannedSource(error=error.as_dict())
                if file.sha256 and isinstance(error, NotFound) and file.source not in self._fetched:
                    self._digest(file.source)
            if source is not None:
                found[file.key] = source
        return found

    def contents(self, sources: dict[str, PlannedSource], there: Collection[str]) -> dict[str, str]:
        """Return the contents of these sources that are not there. A source that this run can't send gets an error."""
        wanted: dict[str, str] = {}
        for key, source in list(sources.items()):
            lacking = [entry for entry in source.entries if entry.sha256 and entry.sha256 not in there]
            if all(entry.sha256 in self._contents for entry in lacking):
                wanted.update((entry.sha256, self._contents[entry.sha256]) for entry in lacking)
                continue
            error = StorageFailed(
                "FILES",
                f"the files of all machines have more than {MOST_SENT // 2**20} MiB, which is what one run sends",
                "Run again, which sends the others; or put large files into images of type DATABLOCK",
            )
            sources[key] = PlannedSource(error=error.as_dict())
        return wanted

    # -- reading --------------------------------------------------------------------------------------------------
    def _source(self, file: ContextFile) -> PlannedSource | None:
        """Return what a plan says of the file; None if it is not here yet, and not expected to be."""
        # The path of an image alone opens no restricted directory.
        key = (file.key, bool(file.image))
        known = self._read.get(key)
        if known is None:
            if is_url(file.source) and not file.sha256:
                return None
            if self._check_mode and file.image and not os.path.lexists(file.source):
                return None  # an earlier task would have stored it
            if self._may_come(file.source):
                self._check(file.source, os.path.realpath(file.source))
                self.absent[file.source] = None
                return None
            try:
                known = self._look(file)
            except NebulaError as error:
                known = error
            self._read[key] = known
        if isinstance(known, NebulaError):
            raise _copy_of(known)
        return known

    def _may_come(self, path: str) -> bool:
        """Return whether, in check mode, a missing file is one that an earlier task may be about to bring."""
        if not self._check_mode or is_url(path) or os.path.exists(path):
            return False
        return self._coming is None or path in self._coming

    def _look(self, file: ContextFile) -> PlannedSource:
        if file.sha256:
            return PlannedSource((self._kept(file),))
        entries = entries_of_files([ContextFile(file.source, "x")], LARGEST, None if file.image else self._check)
        return PlannedSource(tuple(self._entry(entry) for entry in entries))

    def _entry(self, entry: Entry) -> PlannedEntry:
        path = entry.path.partition("/")[2]
        if entry.directory:
            return PlannedEntry(path, directory=True)
        with contextlib.closing(Content(entry)) as content, explained(entry.source):
            data = content.read()
        return PlannedEntry(path, self._keep(data), len(data), entry.executable)

    def _keep(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._contents and self._sent < MOST_SENT:
            text = base64.b64encode(zlib.compress(data, 1)).decode()
            if self._sent + len(text) <= MOST_SENT:
                self._sent += len(text)
                self._contents[digest] = text
        return digest

    def _check(self, named: str, path: str) -> None:
        # normpath() leaves two slashes at the beginning as they are.
        given = "/" + os.path.normpath(named).lstrip("/")
        if is_below(path, self._own) or is_below(given, self._own):
            raise InvalidValue(
                f"FILES: {named!r}",
                f"{path} is below nebula_root",
                'Put it elsewhere; an image of type CONTEXT is named by FILES_DS = "$FILE[IMAGE=...]"',
            )
        self._rules.refuse(f"FILES: {named!r}", path)

    @functools.cached_property
    def _own(self) -> list[str]:
        """Return nebula_root, and where links in it lead: directories of datastores are often on another disk."""
        found = [os.path.abspath(self._root), os.path.realpath(self._root)]
        for place in (self._root, os.path.join(self._root, "datastores")):
            with explained(place), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found += [os.path.realpath(os.path.join(place, name)) for name in os.listdir(place)]
        return list(dict.fromkeys(found))

    # -- from the net ---------------------------------------------------------------------------------------------
    def fetch(self, download: Download) -> None:
        """Fetch what found() did not find here. A failure becomes the error of the machines that refer to the URL."""
        for url in self.lacking:
            try:
                self._fetched[url] = self._stored(download(url, self._limits))
            except NebulaError as error:
                self._fetched[url] = error
        self.lacking = {}

    def _stored(self, data: bytes) -> str:
        """Keep what was fetched, and return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        place = os.path.join(self._root, DIRECTORY)
        make_own_directory(place)
        if not self._holds:
            self._held.enter_context(lock(os.path.join(place, ""), LOCK_SECONDS, shared=True))
            self._holds = True
        write_atomically(os.path.join(place, digest), data, 0o600)
        # It may have been lost before.
        self._read.pop((digest, False), None)
        return digest

    def _kept(self, file: ContextFile) -> PlannedEntry:
        path = os.path.join(self._root, DIRECTORY, file.sha256)
        try:
            found = self._entry(entries_of_files([ContextFile(path, "x")], LARGEST)[0])
        except NotFound:
            found = PlannedEntry("")
        if found.sha256 != file.sha256:
            raise NotFound(
                f"FILES: {source_without_secrets(file.source)}",
                f"what was fetched is {'damaged' if found.sha256 else 'not there any more'} ({path})",
                "Change the machine's CONTEXT, or have it made anew (recreate: true): then it is fetched again",
            )
        return replace(found, executable=False)

    def prune(self, referenced: Callable[[], set[str]]) -> None:
        """Remove what no machine references, unless another run is fetching just now. referenced: returns the digests
        that machines reference; called when no other run can fetch."""
        self.close()
        place = os.path.join(self._root, DIRECTORY)
        if os.path.isdir(place) and not os.path.islink(place):
            with contextlib.suppress(TimedOut), lock(os.path.join(place, ""), 0):
                keep = referenced()
                for name in _files_of(place):
                    if name not in keep:
                        remove_file(os.path.join(place, name))


def remove_kept(root: str) -> None:
    """Remove everything that was fetched, for a catalog that is gone."""
    place = os.path.join(root, DIRECTORY)
    if os.path.isdir(place) and not os.path.islink(place):
        for name in _files_of(place):
            remove_file(os.path.join(place, name))
        remove_empty_directory(place)


def _files_of(place: str) -> Sequence[str]:
    """Return the names of our files: contents that are kept, and contents that a killed run was about to keep."""
    return [
        name
        for name in os.listdir(place)
        if _KEPT.fullmatch(name) or (name.startswith(".") and _KEPT.match(name, 1) and name.endswith(".tmp"))
    ]


def _copy_of(error: NebulaError) -> NebulaError:
    """Return a copy of the error, since each machine puts its name into its own."""
    return type(error)(error.asked, error.found, error.remedy)
