# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps backups of machines in a directory: a mark that says that it is ours, and for each machine a directory with its
backups, each of which is there when its manifest is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import time as clock
import uuid as uuids
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Callable

from ..dataclass import replace
from ..errors import CatalogError, ForeignObject, InvalidValue, NebulaError, NotFound, StorageFailed, WrongState
from ..host import mounts, restricted_directories
from ..host.files import (
    adopt,
    explained,
    lock,
    make_directory,
    read_limited,
    refuse_exchangeable,
    remove_file,
    require_absolute,
    sync_directory,
    write_atomically,
)
from ..model import backup_retention
from ..model.dataclass_json import json_value
from ..model.machine_backup import MachineBackup
from . import backup_by_hand, backup_manifests, backup_merging, datastore_layout
from .backup_directory import LOCK_SECONDS
from .backup_files import UNFINISHED, ChainFile
from .backup_manifests import ID, MANIFEST

MARK = "nebula-machine-backups.json"
FORMAT = 1
LOCK = ".lock"
_ASKED = "directory of backups"
_LONGEST_MARK = 4096
# What a file system of its own has in it when nobody has put anything there.
_NOBODYS = ("lost+found", LOCK)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MACHINE = re.compile(rf"([0-9]{{1,10}})-({_UUID.pattern})")
_NAME = re.compile(rf"{ID}(\.[a-z0-9_-]+){{1,4}}")
_OWN = re.compile(rf"({ID})(\.[a-z0-9_-]+){{1,4}}")
_UNFINISHED = re.compile(r"\..*\.tmp")
# A place without even this much room is full.
LEAST = 8 << 20
# Manifests of a machine, and their bytes: so many backups every hour makes in almost two years.
MOST_MANIFESTS, _LARGEST_MANIFESTS = 16384, 256 << 20
# Seconds by which a backup's time may be later than the clock: more is a clock that was wrong.
AHEAD = 86400


class Place:
    """Is a directory of backups.
    uuid: by which it is known to hypervisors, wherever it is mounted.
    warnings: a sentence each."""

    def __init__(self, directory: str, uuid: str, catalog: str, for_writing: bool, warnings: Sequence[str]) -> None:
        self.directory, self.uuid, self.catalog, self.for_writing = directory, uuid, catalog, for_writing
        self.warnings = tuple(warnings)

    @classmethod
    def open(
        cls,
        directory: str,
        catalog: str,
        for_writing: bool,
        disks_of: Collection[str] = (),
        root: str = "",
        in_datastore: bool = False,
    ) -> Place:
        """Return the place that a directory is; for writing, an empty one becomes a place. Raise the error for one that
        is foreign, that others could change, or that lies where none may be, before anything is written.
        catalog: whose machines are backed up there
        disks_of: directories of the machines' disks
        root: nebula_root
        in_datastore: it is meant to lie in a datastore of that root"""
        asked = f"{_ASKED} {directory}"
        require_absolute(directory, asked)
        directory = os.path.normpath(directory)
        _refuse_links(directory, asked)
        refuse_exchangeable(directory)
        _refuse_writable_by_group(directory, asked)
        _refuse_nested(directory, asked, root, in_datastore)
        _refuse_unmounted(directory, asked)
        mark = os.path.join(directory, MARK)
        if not os.path.lexists(mark):
            if not for_writing:
                raise NotFound(
                    asked, f"there is no {MARK} in it", "Name the directory in which backups of machines are"
                )
            _make_place(directory, asked)
        uuid = _uuid_of(mark)
        if for_writing:
            datastore_layout.require_space(directory, LEAST, asked)
        return cls(directory, uuid, catalog, for_writing, tuple(_warnings(directory, disks_of)))

    def machines(self) -> list[tuple[int, str]]:
        """Return (vm_id, catalog) of all machines of which there is a directory."""
        with explained(self.directory):
            found = [_MACHINE.fullmatch(name) for name in os.listdir(self.directory)]
        return sorted((int(match[1]), match[2]) for match in found if match)

    @contextlib.contextmanager
    def machine(self, vm_id: int, catalog: str = "", key: str = "") -> Iterator[MachineDirectory]:
        """Yield a machine's directory, held against other runs. What a killed run left in it is finished, or removed.
        key: the user's. With it, manifests are compared with their seals, and written ones get one."""
        catalog = catalog or self.catalog
        name = f"{vm_id}-{catalog}"
        if not _MACHINE.fullmatch(name):
            raise InvalidValue(f"backups of machine {vm_id}", f"{catalog[:80]!r} is no UUID of a catalog", "Name it")
        self._require_there()
        directory = os.path.join(self.directory, name)
        if not self.for_writing and not os.path.isdir(directory):
            raise NotFound(
                f"backups of machine {vm_id}", f"there are none in {self.directory}", "Name another directory"
            )
        if os.path.islink(directory):
            raise ForeignObject(f"directory {directory}", "it is a link", "See who put it there; remove it")
        if self.for_writing:
            make_directory(directory, 0o700)
        refuse_exchangeable(directory)
        if not self.for_writing and backup_merging.is_pending(directory):
            self._finish_merged(directory, vm_id, catalog, key)
        with _held(directory, self.for_writing):
            found = MachineDirectory(directory, vm_id, catalog, self.uuid, key, self.for_writing)
            found.settle()
            yield found

    def _finish_merged(self, directory: str, vm_id: int, catalog: str, key: str) -> None:
        """Do what is left of a merge whose files are all merged: until then nothing there can be read. Where the file
        system is only read, whoever reads is told."""
        with contextlib.suppress(StorageFailed, OSError), _held(directory, for_writing=True):
            journal = backup_merging.read(directory, vm_id, catalog)
            if journal is not None and journal.merged:
                MachineDirectory(directory, vm_id, catalog, self.uuid, key).finish_merging()

    def _require_there(self) -> None:
        """Raise WrongState where the directory is another one by now: what was mounted may be gone, and what is written
        to the directory below it nobody finds again."""
        asked = f"{_ASKED} {self.directory}"
        _refuse_unmounted(self.directory, asked)
        mark = os.path.join(self.directory, MARK)
        if not os.path.lexists(mark) or _uuid_of(mark) != self.uuid:
            raise WrongState(
                asked,
                "it is not the one any more with which this run began: what was mounted there may be gone",
                "See that it is there, and mounted; then run again",
            )

    @classmethod
    def look(cls, directory: str, catalog: str, root: str = "", in_datastore: bool = False) -> None:
        """Raise the error that open() raises for writing, and write nothing. A directory that is missing could be
        made."""
        try:
            cls.open(directory, catalog, for_writing=False, root=root, in_datastore=in_datastore)
        except NotFound:
            _refuse_foreign(os.path.normpath(directory), f"{_ASKED} {directory}")
        datastore_layout.require_space(_first_that_is(os.path.normpath(directory)), LEAST, f"{_ASKED} {directory}")


class MachineDirectory:
    """Is the directory of one machine in a place, while this run holds it.
    unreadable: why backups of it are not among backups(), which fills it; and why those that expired before could not
    be merged.
    by_others: those of which unreadable says only that this key has not sealed them, by id, each with that error.
    warnings: a sentence each."""

    def __init__(
        self, directory: str, vm_id: int, catalog: str, place_uuid: str, key: str = "", for_writing: bool = True
    ) -> None:
        self.directory, self.vm_id, self.catalog = directory, vm_id, catalog
        self.place_uuid, self.key, self.for_writing = place_uuid, key, for_writing
        self.unreadable: list[NebulaError] = []
        self.by_others: dict[str, tuple[MachineBackup, NebulaError]] = {}
        self.warnings: list[str] = []
        self._merging: dict[str, MachineBackup] = {}
        self._written: set[str] = set()
        self._unfinished: list[NebulaError] = []
        self._read: dict[str, tuple[tuple[int, ...], MachineBackup | NebulaError, NebulaError | None]] = {}

    def settle(self) -> None:
        """Finish what a killed run had begun, and remove what it had not."""
        if not self.for_writing:
            journal = backup_merging.read(self.directory, self.vm_id, self.catalog)
            if journal is not None and journal.merged:
                raise StorageFailed(
                    f"directory {self.directory}",
                    "a run was killed while it merged backups there",
                    "Run again where it can be written: that finishes it",
                )
            if journal is not None:
                if self.key:
                    backup_merging.refuse_broken_seals(self.directory, journal, self.key, self.place_uuid)
                self._set_merging(journal)
            return
        self._remove(lambda name: bool(_UNFINISHED.fullmatch(name)))
        try:
            self.finish_merging()
        except NebulaError as error:
            journal = backup_merging.read(self.directory, self.vm_id, self.catalog)
            if journal is None or journal.merged:
                raise
            # The place is full, or the key is another one: what can be read then, can be backed up again.
            self._set_merging(journal)
            self._unfinished = [error]
        with explained(self.directory):
            names = set(os.listdir(self.directory))
        # What has no manifest is no backup, unless others rest on it: then somebody lost the manifest.
        left = {own[1] for own in map(_OWN.fullmatch, names) if own is not None and own[1] + MANIFEST not in names}
        left -= self._named(names) if left else set()
        self._remove(lambda name: _OWN.fullmatch(name) is not None and name.split(".")[0] in left)

    def _set_merging(self, journal: backup_merging.Journal) -> None:
        """Take note of what is being merged: it is whole only with those that rest on it."""
        self._merging, self._written = {each.id: each for each in journal.expired}, journal.written

    def _named(self, names: Collection[str]) -> set[str]:
        """Return the ids of all backups of which a manifest speaks, also one that says what none of ours does."""
        found = set(self._merging)
        for name in names:
            if name.endswith(MANIFEST) and not name.startswith("."):
                try:
                    text = read_limited(self._join(name), backup_manifests.LONGEST, follow=False).decode(
                        errors="replace"
                    )
                except NebulaError:
                    # It may speak of any.
                    return {each.split(".")[0] for each in names}
                found.update(re.findall(ID, text))
        return found

    def finish_merging(self, compared: bool = False) -> None:
        """Finish what a killed run had begun to merge, as backup_merging.finish() does."""
        backup_merging.finish(
            self.directory, self.vm_id, self.catalog, self._sign, self.key, self.place_uuid, compared=compared
        )

    def _remove(self, is_meant: Callable[[str], bool]) -> None:
        with explained(self.directory):
            found = [name for name in os.listdir(self.directory) if is_meant(name)]
            for name in found:
                path = self._join(name)
                if os.path.isdir(path) and not os.path.islink(path):
                    self.warnings.append(f"directory {path} is called as a file of backups, and was left as it is")
                else:
                    remove_file(path)
            if found:
                sync_directory(self.directory)

    def backups(self) -> list[MachineBackup]:
        """Return all backups that are whole as far as can be seen without reading them, the oldest first."""
        known, errors = self._manifests()
        errors = [*self._unfinished, *errors]
        # Files that are being merged have other sizes by now.
        whole = [each for each in known.values() if each.id not in self._merging]
        missing = {each.id: backup_manifests.missing_file(self.directory, each) for each in whole}
        found = []
        for manifest in whole:
            try:
                lineage = backup_manifests.lineage(manifest, {**known, **self._merging})
                for each in lineage:
                    _refuse_missing(manifest, each, missing.get(each.id))
                found.append(manifest)
            except NebulaError as error:
                errors.append(error)
        self.unreadable = errors
        return backup_manifests.in_order(found, int(clock.time()) + AHEAD)

    def _manifests(self) -> tuple[dict[str, MachineBackup], list[NebulaError]]:
        """Return what all manifests say, and why others can't be read. Each is read once, while it stays as it is."""
        known, errors, by_others, total = {}, [], {}, 0
        with explained(self.directory):
            names = [name for name in os.listdir(self.directory) if name.endswith(MANIFEST) and name[0] != "."]
        for name in sorted(names):
            path = self._join(name)
            with explained(path):
                status = os.lstat(path)
            total += min(status.st_size, backup_manifests.LONGEST)
            if len(names) > MOST_MANIFESTS or total > _LARGEST_MANIFESTS:
                raise CatalogError(
                    f"directory {self.directory}",
                    f"{len(names)} manifests are in it: more than {MOST_MANIFESTS}, or {_LARGEST_MANIFESTS} bytes",
                    "Move what is none of its backups elsewhere, or back up to another directory",
                )
            state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if name not in self._read or self._read[name][0] != state:
                self._read[name] = (state, *self._manifest(path))
            _state, found, broken = self._read[name]
            if isinstance(found, NebulaError):
                errors.append(found)
            elif broken is not None:
                errors.append(broken)
                by_others[found.id] = (found, broken)
            else:
                known[found.id] = found
        self.by_others = by_others
        return known, errors

    def _manifest(self, path: str) -> tuple[MachineBackup | NebulaError, NebulaError | None]:
        """Return what a manifest says, or why it can't be read; and why that is not believed."""
        try:
            manifest = backup_manifests.read(path, self.vm_id, self.catalog)
        except NebulaError as error:
            return error, None
        try:
            if self.key:
                backup_manifests.refuse_broken_seal(manifest, self.key, self.place_uuid, path)
        except NebulaError as error:
            return manifest, error
        return manifest, None

    def notes(self) -> list[str]:
        """Return what there is to be said of unreadable, a sentence each; of those that others have sealed, one."""
        broken = [error for _manifest, error in self.by_others.values()]
        found = [str(error) for error in self.unreadable if not any(error is each for each in broken)]
        if broken:
            found.append(
                f"{len(broken)} of the backups in {self.directory} are under another key, or were altered: they stay "
                f"as they are, and neither expire nor are merged. The first one: {broken[0]}"
            )
        return found

    def latest(self) -> MachineBackup | None:
        """Return the one that was made last, also where it is not sealed: then none may rest on it under a key."""
        return next(reversed(self.backups()), None)

    def get(self, id: str) -> MachineBackup:
        """Return the backup of that id. Raise the error for one that is missing or can't be restored."""
        asked = f"backup {id[:80]} of machine {self.vm_id}"
        for each in self.backups():
            if each.id == id:
                self.refuse_unsealed(each)
                return each
        for error in self.unreadable:
            if id in error.asked or id in error.found:
                raise error
        raise NotFound(asked, f"there is none in {self.directory}", "Name another backup")

    def refuse_unsealed(self, backup: MachineBackup) -> None:
        """Raise ImageRefused where there is a key, and the backup is not sealed by it. Such are listed: they lie before
        the first one under a key, which rests on none of them."""
        if self.key:
            backup_manifests.refuse_unsealed(backup, f"backup {backup.id} of machine {self.vm_id}")

    def new_id(self, time: int | None = None) -> str:
        """Return an id that no backup has. time: seconds since 1970; now, if it is not given."""
        moment = clock.gmtime(clock.time() if time is None else time)
        return clock.strftime("%Y%m%dT%H%M%SZ-", moment) + secrets.token_hex(3)

    def path(self, name: str) -> str:
        """Return the whole path of a file of a backup."""
        if not _NAME.fullmatch(name):
            raise InvalidValue(f"file {name[:80]!r} of a backup", "no file of a backup has such a name")
        return self._join(name)

    def _join(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def lineage(self, backup: MachineBackup) -> list[MachineBackup]:
        """Return the backup and all on which it rests, the newest first."""
        known, _errors = self._manifests()
        return backup_manifests.lineage(backup, {**known, **self._merging, backup.id: backup})

    def chain(self, backup: MachineBackup, disk_id: int) -> list[ChainFile]:
        """Return the files that together hold a disk of the backup, the newest first."""
        lineage = self.lineage(backup)
        found = backup_by_hand.disk_chain(self.directory, lineage, disk_id)
        # What is being written to has no checksum.
        found = [replace(each, sha256="") if os.path.basename(each.path) in self._written else each for each in found]
        if not found:
            has = ", ".join(str(disk.disk_id) for disk in backup.disks) or "none"
            raise NotFound(f"backup {backup.id}: disk {disk_id}", f"it has {has}", "Name another disk")
        return found

    def write(self, manifest: MachineBackup) -> MachineBackup:
        """Write the manifest of a backup whose files are all there, which makes it one. Return it as it was written:
        with the commands that restore it by hand, and sealed where there is a key."""
        known = {**self._manifests()[0], **self._merging}
        written = self._sign(manifest, known)
        path = self._join(manifest.id + MANIFEST)
        if missing := backup_manifests.missing_file(self.directory, written):
            raise missing
        write_atomically(path, backup_manifests.text_of(written), mode=0o600)
        try:
            # Whoever reads it refuses what is beyond its bounds; so does who writes it.
            backup_manifests.lineage(backup_manifests.read(path, self.vm_id, self.catalog), known)
        except BaseException:
            remove_file(path, sync=True)
            raise
        return written

    def _sign(self, manifest: MachineBackup, known: Mapping[str, MachineBackup]) -> MachineBackup:
        """Return the manifest with what follows from the rest of it."""
        lineage = backup_manifests.lineage(manifest, {**known, manifest.id: manifest})
        manifest = replace(manifest, by_hand=backup_by_hand.commands(lineage), seal="")
        return backup_manifests.sealed(manifest, self.key, self.place_uuid) if self.key else manifest

    def discard(self, id: str) -> None:
        """Remove what was stored of a backup that failed."""
        if not (self.directory and re.fullmatch(ID, id)):
            raise InvalidValue(f"backup {id[:80]!r}", "no backup has such an id")
        remove_file(self._join(id + MANIFEST), sync=True)
        self._remove(lambda name: name.startswith((f"{id}.", f".{id}.")))

    def prune(self, keep: Mapping[str, int]) -> backup_retention.Expiry:
        """Delete or merge what these rules do not keep, and return what was done. Nothing is done where a backup can't
        be read: what that rests on is not known."""
        backups = self.backups()
        asked = f"backups of machine {self.vm_id} in {self.directory}"
        broken = [error for _manifest, error in self.by_others.values()]
        for error in self.unreadable:
            if not any(error is each for each in broken):
                raise CatalogError(
                    f"{asked}: those that expire", f"one can't be read ({error})",
                    "Bring back what is missing of it, or remove its files; until then all are kept",
                )  # fmt: skip
        for each in backups:
            if each.time > clock.time() + AHEAD:
                day = clock.strftime("%Y-%m-%d", clock.gmtime(each.time))
                raise CatalogError(
                    f"{asked}: those that expire",
                    f"{each.id} has a time that is yet to come ({day}): by it, others would expire too early",
                    "Set the clock if it is wrong now; if it was then, make a full backup (nebula_machine_backup_full) "
                    "and remove the files of that backup and of those that rest on it; until then all are kept",
                )
        kept = backup_retention.kept(backups, keep) | self._with_others_on_them(backups)
        others = [manifest for manifest, _error in self.by_others.values()]
        found = backup_retention.expiry([*backups, *others], kept)
        found = replace(found, merges=tuple(each for each in found.merges if self._may_merge(each, backups)))
        for id in found.removed:
            self.discard(id)
        for merge in found.merges:
            known = {each.id: each for each in self.backups()}
            backup_merging.begin(self.directory, merge, known, self.key, self.place_uuid)
            self.finish_merging(compared=True)
        return found

    def _with_others_on_them(self, backups: Sequence[MachineBackup]) -> set[str]:
        """Return the ids of what others have sealed, and of all on which that rests: nobody here can sign it anew."""
        parents = {each.id: each.parent for each in backups}
        parents.update({id: manifest.parent for id, (manifest, _error) in self.by_others.items()})
        found: set[str] = set()
        for each in self.by_others:
            id = each
            while id in parents and id not in found:
                found.add(id)
                id = parents[id]
        return found

    def _may_merge(self, merge: backup_retention.Merge, backups: Sequence[MachineBackup]) -> bool:
        """Return whether this run can sign what is to be merged, and what rests on it. Say so where it can't."""
        known = {each.id: each for each in backups}
        merged = {*merge.expired, merge.into}
        sealed = [each for each in backups if each.seal]
        touched = [each for each in sealed if merged & {other.id for other in backup_manifests.lineage(each, known)}]
        if not touched or (self.key and backup_manifests.same_key(touched, self.key, self.place_uuid)):
            return True
        self.warnings.append(
            f"{', '.join(merge.expired)} of machine {self.vm_id} expired, and can't be merged without the key that "
            f"sealed {touched[0].id} (nebula_machine_backup_key): it stays until a run has that"
        )
        return False

    def room(self, needed: int, what: str) -> None:
        """Raise NoSpace unless so many bytes fit."""
        datastore_layout.require_space(self.directory, needed, what)


def _refuse_missing(manifest: MachineBackup, each: MachineBackup, missing: NebulaError | None) -> None:
    """Raise CatalogError where a file of a backup on which this one rests, or of itself, is not there."""
    if missing is not None and each is not manifest:
        raise CatalogError(
            f"backup {manifest.id}", f"it rests on {each.id}: {missing.asked}: {missing.found}", missing.remedy
        )
    if missing is not None:
        raise missing


# -- what a place may be -----------------------------------------------------------------------------------------------


def _refuse_links(directory: str, asked: str) -> None:
    """Raise InvalidValue where a link is on the way, or something else than a directory."""
    for place in _and_parents(directory):
        with contextlib.suppress(FileNotFoundError):
            mode = os.lstat(place).st_mode
            if stat.S_ISLNK(mode):
                raise InvalidValue(
                    asked, f"{place} is a link, to {os.path.realpath(place)}", "Name the directory by its own path"
                )
            if not stat.S_ISDIR(mode):
                raise InvalidValue(asked, f"{place} is no directory", "Name a directory")


def _and_parents(directory: str) -> Iterator[str]:
    """Yield each directory of a path, the highest first."""
    parts = directory.split("/")
    for count in range(2, len(parts) + 1):
        yield "/".join(parts[:count])


def _refuse_writable_by_group(directory: str, asked: str) -> None:
    for place in _and_parents(directory):
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(place)
            sticky = bool(found.st_mode & stat.S_ISVTX) and place != directory
            if found.st_mode & stat.S_IWGRP and found.st_gid != 0 and not sticky:
                raise InvalidValue(
                    asked,
                    f"group {found.st_gid} may write to {place}, and could put other files in the place of ours",
                    f"Choose a place that only root can change, or: chmod g-w {place}",
                )


def _refuse_unmounted(directory: str, asked: str) -> None:
    """Raise WrongState where a file system is to be mounted that is not: backups would fill the one below it."""
    if point := mounts.missing_mount(directory):
        raise WrongState(
            asked,
            f"{point} is not mounted, and {mounts.FSTAB} has a file system for it",
            f"Mount it (mount {point}), or take it out of {mounts.FSTAB}; then run again",
        )


def _refuse_nested(directory: str, asked: str, root: str, in_datastore: bool) -> None:
    for place in [os.path.dirname(directory), *_parents_of(os.path.dirname(directory))]:
        if os.path.lexists(os.path.join(place, MARK)):
            raise InvalidValue(
                asked, f"it is inside {place}, which is a directory of backups itself", "Name that, or one beside it"
            )
    own = os.path.realpath(root) if root else ""
    inside = restricted_directories.root_of(directory) or restricted_directories.is_below(
        directory, [own] if own else []
    )
    if inside and not (in_datastore and _is_in_datastore(directory, own)):
        raise InvalidValue(
            asked,
            f"it is inside {inside}, which is the nebula_root of a front-end or a node",
            "Name a directory outside of it, best on another file system, or choose a datastore",
        )


def _parents_of(place: str) -> Iterator[str]:
    while place != "/":
        place = os.path.dirname(place)
        yield place


def _is_in_datastore(directory: str, root: str) -> bool:
    """Return whether it is a directory of an image datastore, where no image can be."""
    match = re.fullmatch(r"datastores/[1-9][0-9]*/([a-z_-]+)", os.path.relpath(directory, root)) if root else None
    return match is not None


def _refuse_foreign(directory: str, asked: str) -> None:
    """Raise ForeignObject for a directory without a mark that is not empty."""
    if os.path.isdir(directory):
        with explained(directory):
            names = [name for name in os.listdir(directory) if name not in _NOBODYS]
        # A run that was killed while it wrote the mark left this.
        names = [name for name in names if not (name.startswith(f".{MARK}.") and name.endswith(UNFINISHED))]
        if names and not os.path.lexists(os.path.join(directory, MARK)):
            raise ForeignObject(
                asked,
                f"it holds {', '.join(sorted(names)[:3])}, and no {MARK}: it is somebody else's",
                "Name an empty directory, or one that does not exist",
            )


def _make_place(directory: str, asked: str) -> None:
    """Make a directory that is missing or empty a place."""
    _refuse_foreign(directory, asked)
    datastore_layout.require_space(_first_that_is(directory), LEAST, asked)
    make_directory(directory, 0o700)
    with lock(os.path.join(directory, LOCK), LOCK_SECONDS, is_closed=True):
        for name in os.listdir(directory):
            if name.startswith(f".{MARK}.") and name.endswith(UNFINISHED):
                remove_file(os.path.join(directory, name))
        mark = os.path.join(directory, MARK)
        if not os.path.lexists(mark):
            write_atomically(mark, json.dumps({"format": FORMAT, "uuid": str(uuids.uuid4())}) + "\n", mode=0o600)


def _first_that_is(directory: str) -> str:
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def _uuid_of(mark: str) -> str:
    asked = f"{_ASKED}: its mark {mark}"
    try:
        found = json_value(read_limited(mark, _LONGEST_MARK, follow=False).decode())
        if found["format"] != FORMAT:
            raise CatalogError(asked, f"its format is {str(found['format'])[:20]}", "Use the version that wrote it")
        if set(found) != {"format", "uuid"} or not _UUID.fullmatch(found["uuid"]):
            raise ValueError("it names no UUID")
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(asked, f"it can't be read: {error}", "Bring it back from a copy") from error
    return str(found["uuid"])


def _warnings(directory: str, disks_of: Collection[str]) -> Iterator[str]:
    device = os.stat(directory).st_dev
    for place in disks_of:
        if os.path.isdir(place) and os.stat(place).st_dev == device:
            yield (
                f"{_ASKED} {directory} is on the same file system as the machines' disks in {os.path.dirname(place)}: "
                "what destroys one destroys the other"
            )
            return


@contextlib.contextmanager
def _held(directory: str, for_writing: bool) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            path = os.path.join(directory, LOCK)
            held.enter_context(lock(path, LOCK_SECONDS, shared=not for_writing, is_closed=True))
        except StorageFailed:
            # On a file system that is only read, nobody writes.
            if for_writing:
                raise
        if for_writing:
            adopt(directory, 0o700)
        yield
