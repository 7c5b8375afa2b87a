# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads backups of a machine from beginning to end, and says of each what is missing, damaged or altered."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..dataclass import dataclass
from ..errors import ImageRefused, InvalidValue, NebulaError
from ..model.given_backup import LARGEST_FILE
from ..model.machine_backup import LUKS, TAR, MachineBackup
from . import backup_by_hand, backup_files, backup_manifests, backup_secrets
from .backup_place import MachineDirectory

# Errors of one backup that are listed.
_MOST = 20


@dataclass(frozen=True)
class Verified:
    """Says what was found of one backup.
    id: "" where not even that can be read.
    faults: a sentence each; none if it can be restored.
    read: bytes of its own files."""

    id: str
    name: str = ""
    time: int = 0
    faults: tuple[str, ...] = ()
    read: int = 0


def verify(directory: MachineDirectory) -> list[Verified]:
    """Return what was found of each backup of the machine, the oldest first; then of what can't be read as one. Each
    file is read once: a fault in it is one of all backups that rest on it."""
    backups = directory.backups()
    found, own = [], {backup.id: list(_own_faults(directory, backup)) for backup in backups}
    for backup in backups:
        faults = [text for each in directory.lineage(backup) for text in own.get(each.id, ())]
        faults = list(dict.fromkeys([*faults, *_faults_of_chain(directory, backup)]))[:_MOST]
        read = sum(file.size for file in backup_manifests.files_of(backup))
        found.append(Verified(backup.id, backup.name, backup.time, tuple(faults), read))
    return [*found, *(Verified("", faults=(str(error),)) for error in directory.unreadable)]


def _own_faults(directory: MachineDirectory, backup: MachineBackup) -> Iterator[str]:
    """Yield what is wrong with the files of this backup, whatever they rest on."""
    what = f"backup {backup.id}"
    try:
        directory.refuse_unsealed(backup)
    except NebulaError as error:
        yield str(error)
    for file in backup_manifests.files_of(backup):
        try:
            backup_files.refuse_altered_file(directory.path(file.name), file.size, file.sha256, what)
        except NebulaError as error:
            yield str(error)
    for disk in backup.disks:
        if disk.stored == TAR or (disk.stored == LUKS and not directory.key):
            continue
        path = directory.path(disk.file.name)
        file = disk.file
        chain_file = backup_files.ChainFile(path, disk.stored, file.size, file.sha256, disk.below, disk.size)
        try:
            backup_files.refuse_headers([chain_file], what)
            backup_files.check_file(chain_file, directory.key, what)
        except NebulaError as error:
            yield str(error)


def _faults_of_chain(directory: MachineDirectory, backup: MachineBackup) -> Iterator[str]:
    """Yield why disks can't be opened with all that they rest on, and what else is stored not be read; and whether its
    commands are somebody's: they are for root."""
    try:
        if backup.by_hand and not backup_by_hand.are_of(backup.by_hand, directory.lineage(backup)):
            yield f"backup {backup.id}: by_hand in its manifest is not what follows from it: type none of it"
    except NebulaError as error:
        yield str(error)
    for disk in backup.disks:
        if disk.stored == TAR or (disk.stored == LUKS and not directory.key):
            continue
        what = f"backup {backup.id}: disk {disk.disk_id}"
        try:
            chain = directory.chain(backup, disk.disk_id)
            backup_files.refuse_headers(chain, what)
            backup_files.require_size(chain, directory.key, disk.size, what)
        except NebulaError as error:
            yield str(error)
    for name, file in backup.files.items() if directory.key else ():
        what = f"backup {backup.id}: {name}"
        try:
            backup_secrets.content_of(directory.path(file.name), file, directory.key, LARGEST_FILE, what)
        except NebulaError as error:
            yield str(error)
    if backup.secrets_file and directory.key:
        what = f"backup {backup.id}: its secrets"
        try:
            names = backup_secrets.read_secrets(directory.directory, backup.secrets_file.name, directory.key, what)
            if set(names) != set(backup.secrets):
                raise ImageRefused(what, "they are others than its manifest names", "Use another backup")
        except NebulaError as error:
            yield str(error)


def require_key(directory: MachineDirectory, backup: MachineBackup) -> None:
    """Raise InvalidValue where a backup needs a key, and none was given."""
    if (backup.encrypted or backup.secrets_file) and not directory.key:
        raise InvalidValue(
            f"backup {backup.id} in {os.path.basename(directory.directory)}",
            "it is stored under a key, and none was given",
            "Give the key under which it was made (nebula_machine_backup_key)",
        )
