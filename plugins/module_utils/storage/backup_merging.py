# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merges backups of a machine that expire into the one that rests on them. Wherever that is ended, the backups that are
listed hold what they held, and it is finished from its journal.

The files are merged into that of the oldest: what is written to it, the newer ones hold as well, so with them on it
nothing changes. Then it gets the name of the newest, on which others may rest."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping
from typing import Any, Callable

from ..dataclass import dataclass, replace
from ..errors import CatalogError, ImageRefused, InvalidValue, NebulaError
from ..host.files import explained, read_limited, remove_file, sync_directory, write_atomically
from ..model.backup_retention import Merge
from ..model.dataclass_json import from_plain, json_value, to_plain
from ..model.machine_backup import FULL, INCREMENTAL, LUKS, BackedUpDisk, MachineBackup, StoredFile
from . import backup_files, backup_manifests, datastore_layout
from .backup_manifests import MANIFEST

JOURNAL = ".merging.json"
FORMAT = 1
_LONGEST = 64 << 20
Sign = Callable[[MachineBackup, Mapping[str, MachineBackup]], MachineBackup]


@dataclass(frozen=True)
class Journal:
    """Says what is being merged.
    expired: the backups that are no more, the oldest first. into: the one that rests on the last of them, as it was.
    resting: those that rest on it, the oldest first, as they were.
    merged: the manifests as they are to be, once all files are merged; empty before.
    writing: what it merges into may have been written to, and has no checksum any more.
    seal: HMAC of all the rest with the user's key, where one of the backups has a seal."""

    expired: tuple[MachineBackup, ...]
    into: MachineBackup
    resting: tuple[MachineBackup, ...] = ()
    merged: tuple[MachineBackup, ...] = ()
    format: int = FORMAT
    writing: bool = False
    seal: str = ""

    @property
    def merging(self) -> tuple[MachineBackup, ...]:
        """Return all backups of which it speaks, as they were."""
        return (*self.expired, self.into, *self.resting)

    @property
    def written(self) -> set[str]:
        """Return the names of the files that may be others by now than their manifests say."""
        chains = [_files(self, disk) for disk in self.into.disks] if self.writing else []
        return {chain[-1].file.name for chain in chains if len(chain) > 1}


def is_pending(directory: str) -> bool:
    return os.path.lexists(os.path.join(directory, JOURNAL))


def begin(directory: str, merge: Merge, known: Mapping[str, MachineBackup], key: str, place_uuid: str) -> None:
    """Write down what is to be merged. From then on, what expires is no backup any more. Raise ChecksumMismatch before
    where a file is not what it was: merged, it would get a new checksum.
    known: all backups, by id"""
    resting = [
        each
        for each in sorted(known.values(), key=lambda each: len(backup_manifests.lineage(each, known)))
        if each.id != merge.into and merge.into in {other.id for other in backup_manifests.lineage(each, known)}
    ]
    journal = Journal(tuple(known[id] for id in merge.expired), known[merge.into], tuple(resting))
    what = f"backup {merge.into}: merging into it those that expire"
    _compare(directory, journal, what)
    needed = sum(each.file.size for disk in journal.into.disks for each in _files(journal, disk)[:-1])
    datastore_layout.require_space(directory, needed, what)
    _write(directory, journal, key, place_uuid)


def _compare(directory: str, journal: Journal, what: str) -> None:
    """Raise ChecksumMismatch where a file that is merged is not what it was. The one into which they are merged can be
    compared until something may have been written to it."""
    for disk in journal.into.disks:
        newest_first = _files(journal, disk)
        compared = newest_first if not journal.writing else newest_first[:-1]
        for each in compared if len(newest_first) > 1 else ():
            chain_file = _chain_file(directory, each)
            backup_files.refuse_headers([chain_file], what)
            backup_files.refuse_altered([chain_file], what)


def _seal_of(journal: Journal, key: str, place_uuid: str) -> str:
    plain: dict[str, Any] = to_plain(replace(journal, seal=""))
    return backup_manifests.seal_of(plain, key, place_uuid)


def refuse_broken_seals(directory: str, journal: Journal, key: str, place_uuid: str) -> None:
    """Raise the error where the key did not seal what is to be signed anew with it, or to be read by it."""
    path = os.path.join(directory, JOURNAL)
    for each in journal.merging:
        backup_manifests.refuse_broken_seal(each, key, place_uuid, path)
    if _is_sealed(journal) and not hmac.compare_digest(journal.seal, _seal_of(journal, key, place_uuid)):
        raise ImageRefused(
            f"journal {path}",
            "its seal is not by this key: the key is another one, or the journal was altered",
            "Give the key under which the backups were made (nebula_machine_backup_key); if it is, see who can write "
            "there, and use other backups",
        )


def _is_sealed(journal: Journal) -> bool:
    return any(each.seal for each in journal.merging)


def _write(directory: str, journal: Journal, key: str, place_uuid: str) -> None:
    if key and _is_sealed(journal):
        journal = replace(journal, seal=_seal_of(journal, key, place_uuid))
    write_atomically(os.path.join(directory, JOURNAL), json.dumps(to_plain(journal)) + "\n", mode=0o600)


def read(directory: str, vm_id: int, catalog: str) -> Journal | None:
    """Return what is being merged, None if nothing is."""
    path = os.path.join(directory, JOURNAL)
    if not is_pending(directory):
        return None
    try:
        journal = from_plain(Journal, json_value(read_limited(path, _LONGEST, follow=False).decode()))
        found = "" if journal.format == FORMAT else f"its format is {journal.format}"
        for each in (*journal.expired, journal.into, *journal.resting, *journal.merged):
            found = found or backup_manifests.fault(each, vm_id, catalog)
        found = found or _fault(journal)
    except (ValueError, InvalidValue) as error:
        found = error.found if isinstance(error, NebulaError) else str(error)
    if found:
        raise CatalogError(
            f"journal {path}", f"it can't be read: {found}", "It was altered or damaged: bring it back from a copy"
        )
    return journal


def _fault(journal: Journal) -> str:
    """Return what is wrong with a journal as a whole."""
    parents = [each.parent for each in (*journal.expired[1:], journal.into)]
    if not journal.expired or parents != [each.id for each in journal.expired]:
        return "what it merges does not rest on one another"
    ids = [journal.into.id, *(each.id for each in journal.resting)]
    if len({*ids, *parents}) != len(ids) + len(parents):
        return "it names a backup twice"
    if journal.merged and [each.id for each in journal.merged] != ids:
        return "it merges others than it names"
    return ""


def finish(
    directory: str, vm_id: int, catalog: str, sign: Sign, key: str, place_uuid: str, compared: bool = False
) -> None:
    """Merge what a journal says, from wherever a run was ended. Raise the error, before anything is changed, where that
    can't be done.

    What a killed run had begun to write to has no checksum until it is merged. Then its tables are looked at, and for
    its content whoever could write to the directory in between is trusted; all other files are compared.
    sign: completes a manifest, from those on which it rests
    compared: this run compared the files when it wrote the journal"""
    journal = read(directory, vm_id, catalog)
    if journal is None:
        return
    if not journal.merged:
        if _is_sealed(journal) and not key:
            raise InvalidValue(
                f"backup {journal.into.id} in {directory}",
                "a run was killed while it merged it, and it is sealed by a key, and none was given",
                "Give the key under which it was made (nebula_machine_backup_key): that finishes it",
            )
        if key:
            # Signed anew is only what was signed.
            refuse_broken_seals(directory, journal, key, place_uuid)
        if not compared:
            _compare(directory, journal, f"backup {journal.into.id}: merging into it those that expired")
    # Those that are merged already have seals of their own, or none.
    for each in journal.expired:
        remove_file(os.path.join(directory, each.id + MANIFEST))
    with explained(directory):
        sync_directory(directory)
    if not journal.merged:
        again = journal.writing
        known = {each.id: each for each in _others(directory, vm_id, catalog)}
        since = _made_since(journal, known, key, place_uuid)
        journal = replace(journal, writing=True, resting=(*journal.resting, *since))
        _write(directory, journal, key, place_uuid)
        disks = tuple(_merged(directory, journal, disk, key, again) for disk in journal.into.disks)
        parent = journal.expired[0].parent
        into = replace(
            journal.into, kind=INCREMENTAL if parent else FULL, parent=parent, disks=disks,
            compressed=journal.into.compressed,
        )  # fmt: skip
        merged = []
        for each in (into, *journal.resting):
            completed = sign(each, known)
            # What no key had sealed may be of anybody who wrote the journal.
            merged.append(completed if each.seal else replace(completed, seal=""))
            known[each.id] = merged[-1]
        journal = replace(journal, merged=tuple(merged))
        _write(directory, journal, key, place_uuid)
    _apply(directory, journal)


def _made_since(journal: Journal, known: Mapping[str, MachineBackup], key: str, place_uuid: str) -> list[MachineBackup]:
    """Return the backups that rest on those of the journal, and were made while it could not be finished, the oldest
    first."""
    everyone = {**known, **{each.id: each for each in journal.merging}}
    found: list[tuple[int, MachineBackup]] = []
    for each in known.values():
        try:
            ids = [other.id for other in backup_manifests.lineage(each, everyone)]
            if key:
                backup_manifests.refuse_broken_seal(each, key, place_uuid, each.id)
        except NebulaError:
            # It is told of where backups are listed.
            continue
        if journal.into.id in ids and each.id not in {other.id for other in journal.merging}:
            found.append((len(ids), each))
    return [each for _length, each in sorted(found, key=lambda pair: (pair[0], pair[1].id))]


def _others(directory: str, vm_id: int, catalog: str) -> list[MachineBackup]:
    found = []
    with explained(directory):
        names = [name for name in os.listdir(directory) if name.endswith(MANIFEST) and not name.startswith(".")]
    for name in names:
        try:
            found.append(backup_manifests.read(os.path.join(directory, name), vm_id, catalog))
        except NebulaError:
            # It is told of where backups are listed.
            continue
    return found


def _files(journal: Journal, disk: BackedUpDisk) -> list[BackedUpDisk]:
    """Return the disk as each of the backups has it whose files are merged, the newest first."""
    found = [disk]
    for backup in reversed(journal.expired):
        below = next((each for each in backup.disks if each.file.name == found[-1].below), None)
        if below is None:
            break
        found.append(below)
    return found


def _merged(directory: str, journal: Journal, disk: BackedUpDisk, key: str, again: bool) -> BackedUpDisk:
    """Merge the files of a disk, and return the disk as it is then. again: a killed run may have begun to write."""
    newest_first = _files(journal, disk)
    if len(newest_first) == 1:
        return disk
    what = f"backup {journal.into.id}: disk {disk.disk_id}"
    oldest = newest_first[-1]
    target = os.path.join(directory, oldest.file.name)
    size = oldest.size
    # Of the oldest, size and sum are others by now.
    grown = replace(_chain_file(directory, oldest), sha256="")
    encrypted = key if disk.stored == LUKS else ""
    if again:
        backup_files.check_file(grown, encrypted, what)
    for each in reversed(newest_first[:-1]):
        newer = os.path.join(directory, each.file.name)
        backup_files.refuse_headers([_chain_file(directory, each), grown], what)
        backup_files.merge_file(target, newer, disk.stored, (size, each.size), journal.into.compressed, encrypted, what)
        size = each.size
    backup_files.check_file(grown, encrypted, what)
    length, sha256 = backup_files.settled_digest(target)
    return replace(disk, below=oldest.below, file=StoredFile(disk.file.name, length, sha256))


def _chain_file(directory: str, disk: BackedUpDisk) -> backup_files.ChainFile:
    path, file = os.path.join(directory, disk.file.name), disk.file
    return backup_files.ChainFile(path, disk.stored, file.size, file.sha256, disk.below, disk.size)


def _apply(directory: str, journal: Journal) -> None:
    with explained(directory):
        for disk in journal.into.disks:
            newest_first = _files(journal, disk)
            oldest = os.path.join(directory, newest_first[-1].file.name)
            # It is gone where that was done before.
            if len(newest_first) > 1 and os.path.lexists(oldest):
                os.rename(oldest, os.path.join(directory, disk.file.name))
        sync_directory(directory)
        for manifest in journal.merged:
            path = os.path.join(directory, manifest.id + MANIFEST)
            write_atomically(path, backup_manifests.text_of(manifest), mode=0o600)
        ids = tuple(f"{each.id}." for each in journal.expired)
        for name in os.listdir(directory):
            if name.startswith(ids) and not os.path.isdir(os.path.join(directory, name)):
                remove_file(os.path.join(directory, name))
        sync_directory(directory)
        remove_file(os.path.join(directory, JOURNAL), sync=True)
