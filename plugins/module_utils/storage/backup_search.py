# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds backups of machines in a directory that may come from anywhere, and what each disk of one rests on. Nothing of
it is believed before it was looked at: names, sizes and which file rests on which; links are not followed."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection

from ..dataclass import dataclass, replace
from ..errors import Ambiguous, ChecksumMismatch, ForeignObject, InvalidValue, NebulaError, NotFound
from ..host.files import explained, opened, read_limited, require_absolute
from ..model.dataclass_json import json_value
from ..model.machine_backup import LUKS, BackedUpDisk, MachineBackup, StoredFile
from . import backup_manifests

MARK = "nebula-machine-backups.json"
LATEST = "latest"
_LONGEST_MARK = 4096
# Backups of one machine that are looked at.
_MOST_BACKUPS = 4096
_OF_MACHINE = re.compile(r"(0|[1-9]\d{0,8})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = re.compile(backup_manifests.ID)
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):?(\d\d)(?::?(\d\d))?Z?)?", re.ASCII)
_BLOCK = 1 << 20
_ALTERED = "Somebody has altered it: take another backup, or bring the files back from a copy of the directory"


@dataclass(frozen=True)
class Found:
    """Holds a backup and where it is. place: the directory of its machine's backups."""

    place: str
    backup: MachineBackup

    def path(self, name: str) -> str:
        return os.path.join(self.place, name)


@dataclass(frozen=True)
class BackupsFound:
    """Holds the backups of one machine, oldest first. unreadable: what of them can't be used, and why."""

    place: str
    backups: tuple[MachineBackup, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.backups[-1].name if self.backups else ""

    @property
    def catalog(self) -> str:
        return os.path.basename(self.place).partition("-")[2]


def all_of(directory: str) -> list[BackupsFound]:
    """Return the backups of all machines in a directory. Raise ForeignObject where it is none of backups."""
    asked = f"nebula_machine_backup_directory {directory!r}"
    require_absolute(directory, asked)
    if not os.path.isdir(directory):
        raise NotFound(asked, "there is no such directory on this host", "Name that in which the backups are")
    if not os.path.lexists(os.path.join(directory, MARK)):
        raise ForeignObject(asked, f"there is no {MARK} in it, so it holds no backups of machines", "Name another one")
    with explained(directory):
        names = sorted(os.listdir(directory))
    return [of_machine(os.path.join(directory, name)) for name in names if _OF_MACHINE.fullmatch(name)]


def of_machine(place: str) -> BackupsFound:
    """Return the backups in the directory of one machine."""
    named = _OF_MACHINE.fullmatch(os.path.basename(place))
    if named is None:
        raise InvalidValue(f"directory {place}", "it is not called as that of a machine's backups is", _ALTERED)
    whose = (int(named[1]), named[2])
    found: list[MachineBackup] = []
    unreadable = []
    with explained(place):
        if stat.S_ISLNK(os.lstat(place).st_mode):
            raise ForeignObject(f"directory {place}", "it is a symbolic link", "Name the directory itself")
        names = sorted(name for name in os.listdir(place) if name.endswith(".json") and _ID.fullmatch(name[:-5]))
    for name in names[-_MOST_BACKUPS:]:
        try:
            found.append(backup_manifests.read(os.path.join(place, name), *whose))
        except NebulaError as error:
            unreadable.append(str(error))
    found.sort(key=lambda backup: (backup.time, backup.id))
    return BackupsFound(place, tuple(found), tuple(unreadable))


def uuid_of(directory: str) -> str:
    """Return by which UUID a directory of backups is known: what is sealed there, is so for it alone."""
    path = os.path.join(directory, MARK)
    try:
        mark = json_value(read_limited(path, _LONGEST_MARK, follow=False).decode())
        uuid = mark["uuid"]
    except (ValueError, TypeError, KeyError, NebulaError):
        uuid = None
    if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
        raise ForeignObject(f"file {path}", "it is no mark of a directory of backups", "Bring it back from a copy")
    return uuid


# -- which one is meant ----------------------------------------------------------------------------------------------


def machine_of(directory: str, name: str, catalog: str = "") -> BackupsFound:
    """Return the backups of the machine of this name; by the name of their directory where several were called so.
    catalog: whose machine is meant where other catalogs had one of the name as well."""
    found = all_of(directory)
    exact = [each for each in found if os.path.basename(each.place) == name]
    same = exact or [each for each in found if each.name == name]
    own = [each for each in same if catalog and each.catalog == catalog]
    if len(own or same) > 1:
        names = ", ".join(os.path.basename(each.place) for each in own or same)
        raise Ambiguous(
            f"backups of machine {name} in {directory}", f"machines {names} were called so", "Give one of these as vm"
        )
    if not same:
        known = sorted({each.name for each in found if each.name})
        shown = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
        raise NotFound(
            f"backups of machine {name} in {directory}",
            f"there are none of it; there are of {shown}" if known else "there are none",
            "See -e nebula_machine_restore=list",
        )
    return (own or same)[0]


def chosen(found: BackupsFound, wanted: str) -> Found:
    """Return the backup that is meant. wanted: its id, LATEST, or a time: then the last one made until then (UTC)."""
    asked = f"backup {wanted} of machine {found.name or os.path.basename(found.place)}"
    named = [backup for backup in found.backups if backup.id == wanted]
    if named:
        return Found(found.place, named[0])
    if not found.backups:
        why = f": {found.unreadable[0]}" if found.unreadable else ""
        raise NotFound(asked, f"none of it can be used{why}", "Name another directory")
    if wanted in ("", LATEST):
        return Found(found.place, found.backups[-1])
    broken = [text for text in found.unreadable if wanted in text]
    if broken:
        raise ForeignObject(asked, broken[0], "Take another one")
    moment = _moment(wanted)
    if moment is None:
        raise NotFound(
            asked,
            "there is none of that id",
            f"There are {', '.join(backup.id for backup in found.backups[-8:])}; latest, or a time as "
            "2026-11-30T04:00:00Z, will do as well",
        )
    before = [backup for backup in found.backups if backup.time <= moment]
    if not before:
        raise NotFound(asked, f"the oldest one is {found.backups[0].id}", "Take that one")
    return Found(found.place, before[-1])


def _moment(text: str) -> int | None:
    """Return the last second that is meant; None for what is no time."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        return None
    year, month, day, hour, minute, second = (int(each) if each is not None else None for each in parts.groups())
    try:
        last = (23 if hour is None else hour, 59 if minute is None else minute, 59 if second is None else second)
        when = datetime.datetime(year or 0, month or 0, day or 0, *last, tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    return int(when.timestamp())


# -- what a disk is made of ------------------------------------------------------------------------------------------


def check(found: Found, others: BackupsFound, key: str, ids: Collection[int]) -> None:
    """Raise an error where the backup, or what it rests on, was altered, lacks something, or needs another key. ids: of
    the disks in question."""
    backup = found.backup
    asked = f"backup {backup.id} of {backup.name}"
    uuid = ""
    for each in _lineage(found, others):
        wanted = [disk for disk in each.disks if disk.disk_id in ids]
        if not key and (each.encrypted or any(disk.stored == LUKS for disk in wanted)):
            raise InvalidValue(
                asked, "it is encrypted", "Give the key that it was made with: nebula_machine_backup_key"
            )
        if key and each.seal:
            uuid = uuid or uuid_of(os.path.dirname(found.place))
            backup_manifests.refuse_broken_seal(each, key, uuid, found.path(each.id + backup_manifests.MANIFEST))
        problem = backup_manifests.missing_file(found.place, replace(each, disks=tuple(wanted)))
        if problem is not None:
            raise problem


def chain_of(found: Found, others: BackupsFound, disk_id: int) -> list[BackedUpDisk]:
    """Return what holds the disk: the backup's own file first, then what it rests on, nearest first."""
    chain: list[BackedUpDisk] = []
    for backup in _lineage(found, others):
        disk = next((each for each in backup.disks if each.disk_id == disk_id), None)
        if disk is None:
            raise NotFound(
                f"backup {found.backup.id} of {found.backup.name}: disk {disk_id}",
                "it does not hold it",
                "Take another backup",
            )
        chain.append(disk)
        if not disk.below:
            break
    return chain


def _lineage(found: Found, others: BackupsFound) -> list[MachineBackup]:
    return backup_manifests.lineage(found.backup, {backup.id: backup for backup in others.backups})


def read_file(found: Found, file: StoredFile, most: int, what: str) -> bytes:
    """Return a small file of the backup, which holds what it did when it was made."""
    asked = f"backup {found.backup.id} of {found.backup.name}: {what}"
    if file.size > most:
        raise ForeignObject(asked, f"it has {file.size} bytes, and {most} at most", _ALTERED)
    content = read_limited(found.path(file.name), most, follow=False)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise _altered(asked, file)
    return content


def compare(found: Found, file: StoredFile, asked: str, is_given_up: Callable[[], bool] = lambda: False) -> None:
    """Read a file of a backup, and raise ChecksumMismatch where it is not what it was."""
    digest = hashlib.sha256()
    path = found.path(file.name)
    with explained(path), opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC) as fd:
        while block := os.read(fd, _BLOCK):
            digest.update(block)
            if is_given_up():
                return
    if digest.hexdigest() != file.sha256:
        raise _altered(asked, file)


def _altered(asked: str, file: StoredFile) -> ChecksumMismatch:
    return ChecksumMismatch(asked, f"file {file.name} is not what it was when it was made", _ALTERED)
