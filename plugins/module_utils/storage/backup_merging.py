# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merges backups of a machine that expire into the one that rests on them. Wherever that is ended, the backups that are
listed hold what they held, and it is finished from its journal.

The files are merged into that of the oldest: what is written to it, the newer ones hold as well, so with them on it
nothing changes. Then it gets the name of the newest, on which others may rest."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Callable

from ..dataclass import dataclass, replace
from ..errors import CatalogError, InvalidValue, NebulaError
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
    merged: the manifests as they are to be, once all files are merged; empty before."""

    expired: tuple[MachineBackup, ...]
    into: MachineBackup
    resting: tuple[MachineBackup, ...] = ()
    merged: tuple[MachineBackup, ...] = ()
    format: int = FORMAT


def is_pending(directory: str) -> bool:
    return os.path.lexists(os.path.join(directory, JOURNAL))


def begin(directory: str, merge: Merge, known: Mapping[str, MachineBackup]) -> None:
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
    needed = 0
    for disk in journal.into.disks:
        newest_first = _files(journal, disk)
        for each in newest_first if len(newest_first) > 1 else ():
            chain_file = _chain_file(directory, each)
            backup_files.refuse_headers([chain_file], what)
            backup_files.refuse_altered([chain_file], what)
        needed += sum(each.file.size for each in newest_first[:-1])
    datastore_layout.require_space(directory, needed, what)
    _write(directory, journal)


def _write(directory: str, journal: Journal) -> None:
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


def finish(directory: str, vm_id: int, catalog: str, sign: Sign, key: str, place_uuid: str) -> None:
    """Merge what a journal says, from wherever a run was ended.
    sign: completes a manifest, from those on which it rests"""
    journal = read(directory, vm_id, catalog)
    if journal is None:
        return
    if key:
        # Signed anew is only what was signed.
        for each in (*journal.expired, journal.into, *journal.resting, *journal.merged):
            backup_manifests.refuse_broken_seal(each, key, place_uuid, os.path.join(directory, JOURNAL))
    for each in journal.expired:
        remove_file(os.path.join(directory, each.id + MANIFEST))
    with explained(directory):
        sync_directory(directory)
    if not journal.merged:
        sealed = [each for each in (*journal.expired, journal.into, *journal.resting) if each.seal]
        if sealed and not key:
            raise InvalidValue(
                f"backup {sealed[-1].id} in {directory}",
                "a run was killed while it merged it, and it is sealed by a key, and none was given",
                "Give the key under which it was made (nebula_machine_backup_key): that finishes it",
            )
        disks = tuple(_merged(directory, journal, disk, key) for disk in journal.into.disks)
        parent = journal.expired[0].parent
        into = replace(
            journal.into, kind=INCREMENTAL if parent else FULL, parent=parent, disks=disks,
            compressed=journal.into.compressed,
        )  # fmt: skip
        known = {each.id: each for each in _others(directory, vm_id, catalog)}
        merged = []
        for each in (into, *journal.resting):
            merged.append(sign(each, known))
            known[each.id] = merged[-1]
        journal = replace(journal, merged=tuple(merged))
        _write(directory, journal)
    _apply(directory, journal)


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


def _merged(directory: str, journal: Journal, disk: BackedUpDisk, key: str) -> BackedUpDisk:
    """Merge the files of a disk, and return the disk as it is then."""
    newest_first = _files(journal, disk)
    if len(newest_first) == 1:
        return disk
    what = f"backup {journal.into.id}: disk {disk.disk_id}"
    oldest = newest_first[-1]
    target = os.path.join(directory, oldest.file.name)
    size = oldest.size
    for each in reversed(newest_first[:-1]):
        newer = os.path.join(directory, each.file.name)
        # Of the oldest, size and sum are others by now.
        grown = replace(_chain_file(directory, oldest), sha256="")
        backup_files.refuse_headers([_chain_file(directory, each), grown], what)
        encrypted = key if disk.stored == LUKS else ""
        backup_files.merge_file(target, newer, disk.stored, (size, each.size), journal.into.compressed, encrypted, what)
        size = each.size
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
            if name.startswith(ids):
                remove_file(os.path.join(directory, name))
        sync_directory(directory)
        remove_file(os.path.join(directory, JOURNAL), sync=True)
