# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds backups of machines in a directory that may come from anywhere, and what each disk of one rests on. Nothing of
it is believed before it was looked at: names, sizes and which file rests on which; links are not followed."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..dataclass import dataclass
from ..errors import Ambiguous, ChecksumMismatch, ForeignObject, InvalidValue, NebulaError, NotFound
from ..host.files import explained, opened, read_limited, require_absolute
from ..model.dataclass_json import from_plain, json_value
from ..model.machine_backup import FORMAT, FULL, INCREMENTAL, LUKS, QCOW2, TAR, BackedUpDisk, MachineBackup, StoredFile
from ..model.object_names import check_name

MARK = "nebula-machine-backups.json"
LATEST = "latest"
# Bytes of a manifest, backups of one machine, and files on which one rests.
LARGEST = 1 << 22
_MOST_BACKUPS = 4096
_MOST_BELOW = 512
# Bytes that a disk has at most: more than any file system of ours holds in one file.
_MOST_SIZE = 1 << 52
_OF_MACHINE = re.compile(r"(0|[1-9]\d{0,8})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}", re.ASCII)
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):?(\d\d)(?::?(\d\d))?Z?)?", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIXES = {QCOW2: "qcow2", LUKS: "luks"}
_WHAT = re.compile(r"[a-z]{1,16}")
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
    if not _OF_MACHINE.fullmatch(os.path.basename(place)):
        raise InvalidValue(f"directory {place}", "it is not called as that of a machine's backups is", _ALTERED)
    found: list[MachineBackup] = []
    unreadable = []
    with explained(place):
        if stat.S_ISLNK(os.lstat(place).st_mode):
            raise ForeignObject(f"directory {place}", "it is a symbolic link", "Name the directory itself")
        names = sorted(name for name in os.listdir(place) if name.endswith(".json") and _ID.fullmatch(name[:-5]))
    for name in names[-_MOST_BACKUPS:]:
        try:
            found.append(_read(place, name[:-5]))
        except NebulaError as error:
            unreadable.append(str(error))
    found.sort(key=lambda backup: (backup.time, backup.id))
    return BackupsFound(place, tuple(found), tuple(unreadable))


def _read(place: str, id: str) -> MachineBackup:
    path = os.path.join(place, f"{id}.json")
    asked = f"backup {id} in {place}"
    try:
        text = read_limited(path, LARGEST, follow=False).decode()
        backup = from_plain(MachineBackup, json_value(text))
    except (ValueError, NebulaError) as error:
        raise ForeignObject(asked, f"its manifest can't be read: {error}", _ALTERED) from error
    fault = _fault(place, id, backup)
    if fault:
        raise ForeignObject(asked, fault, _ALTERED)
    return backup


def _fault(place: str, id: str, backup: MachineBackup) -> str:
    """Return what of a manifest can't be true, "" for nothing."""
    named = _OF_MACHINE.fullmatch(os.path.basename(place))
    whose = (int(named[1]), named[2]) if named else None
    if backup.format != FORMAT:
        return f"its manifest is of format {backup.format}, and this version knows {FORMAT}"
    if backup.id != id or (backup.vm_id, backup.catalog) != whose:
        return "its manifest is of another backup"
    try:
        check_name("VM", backup.name)
    except NebulaError as error:
        return str(error)
    if backup.kind not in (FULL, INCREMENTAL) or (backup.kind == INCREMENTAL) != bool(backup.parent):
        return "its manifest contradicts itself: kind and parent"
    if backup.parent and not _ID.fullmatch(backup.parent):
        return "its manifest names a parent that no backup is called"
    if not 0 <= backup.time < 1 << 40:
        return "its manifest says an impossible time"
    if len({disk.disk_id for disk in backup.disks}) != len(backup.disks):
        return "its manifest has a disk twice"
    for disk in backup.disks:
        fault = _fault_of_disk(backup, disk)
        if fault:
            return f"disk {disk.disk_id}: {fault}"
    for what, file in backup.files.items():
        if not _WHAT.fullmatch(what) or file.name != f"{id}.{what}" or _fault_of_file(file):
            return f"file {what[:40]!r}: its manifest says what can't be"
    if backup.secrets_file and (backup.secrets_file.name != f"{id}.secrets.luks" or _fault_of_file(backup.secrets_file)):
        return "secrets: its manifest says what can't be"
    return ""


def _fault_of_disk(backup: MachineBackup, disk: BackedUpDisk) -> str:
    if not 0 <= disk.disk_id < 1 << 20 or not 0 <= disk.size <= _MOST_SIZE:
        return "its manifest says an impossible number"
    if not re.fullmatch(r"[a-z]{0,8}", disk.target):
        return "its manifest says an impossible target"
    if disk.stored == TAR:
        expected, formats = f"{backup.id}.root.{disk.disk_id}.tar.zst", (TAR, "directory")
    elif disk.stored in _SUFFIXES:
        expected, formats = f"{backup.id}.disk.{disk.disk_id}.{_SUFFIXES[disk.stored]}", ("qcow2", "raw")
    else:
        return "its manifest says a form that no disk is stored in"
    if disk.file.name != expected or disk.format not in formats:
        return f"its manifest names file {disk.file.name[:80]!r} of format {disk.format[:20]!r}"
    if disk.below and (
        not backup.parent
        or disk.stored == TAR
        or not re.fullmatch(rf"{re.escape(backup.parent)}\.disk\.{disk.disk_id}\.(qcow2|luks)", disk.below)
    ):
        return "its manifest says that it rests on what can't be"
    return _fault_of_file(disk.file)


def _fault_of_file(file: StoredFile) -> str:
    if not 0 <= file.size <= _MOST_SIZE or not _SHA256.fullmatch(file.sha256):
        return "its manifest says an impossible size or checksum"
    return ""


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


def chain_of(found: Found, others: Sequence[MachineBackup], disk_id: int) -> list[BackedUpDisk]:
    """Return what holds the disk: the backup's own file first, then what it rests on, nearest first. Raise NotFound
    where a part is missing, and ForeignObject where the parts don't fit together. others: of the same machine."""
    by_id: Mapping[str, MachineBackup] = {backup.id: backup for backup in others}
    backup = found.backup
    asked = f"backup {backup.id} of {backup.name}: disk {disk_id}"
    chain: list[BackedUpDisk] = []
    while True:
        disk = next((each for each in backup.disks if each.disk_id == disk_id), None)
        if disk is None:
            raise NotFound(asked, f"backup {backup.id} does not hold it", _LACKING)
        if chain and (disk.file.name != chain[-1].below or disk.format != chain[-1].format):
            raise ForeignObject(asked, f"it rests on {chain[-1].below}, which backup {backup.id} does not have", _ALTERED)
        chain.append(disk)
        if not disk.below:
            break
        if len(chain) >= _MOST_BELOW or backup.parent not in by_id or by_id[backup.parent].time > backup.time:
            raise NotFound(asked, f"backup {backup.parent}, on which it rests, is not there or can't be used", _LACKING)
        backup = by_id[backup.parent]
    for part in chain:
        _require_file(found.path(part.file.name), part.file, asked)
    return chain


_LACKING = "Bring it back from a copy of the directory, or take an older backup"


def _require_file(path: str, file: StoredFile, asked: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        raise NotFound(asked, f"file {file.name} is missing", _LACKING) from None
    if not stat.S_ISREG(status.st_mode):
        raise ForeignObject(asked, f"{file.name} is no plain file", _ALTERED)
    if status.st_size != file.size:
        raise ChecksumMismatch(asked, f"file {file.name} has {status.st_size} bytes, and had {file.size}", _ALTERED)


def require_files(found: Found) -> None:
    """Raise an error for what the backup holds beside disks and is missing or altered in its size."""
    for what, file in found.backup.files.items():
        _require_file(found.path(file.name), file, f"backup {found.backup.id} of {found.backup.name}: {what}")


def read_file(found: Found, file: StoredFile, most: int, what: str) -> bytes:
    """Return a small file of the backup, which holds what it did when it was made."""
    asked = f"backup {found.backup.id} of {found.backup.name}: {what}"
    _require_file(found.path(file.name), file, asked)
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
        for block in _blocks(fd):
            digest.update(block)
            if is_given_up():
                return
    if digest.hexdigest() != file.sha256:
        raise _altered(asked, file)


def _altered(asked: str, file: StoredFile) -> ChecksumMismatch:
    return ChecksumMismatch(asked, f"file {file.name} is not what it was when it was made", _ALTERED)


def _blocks(fd: int) -> Iterator[bytes]:
    with contextlib.suppress(AttributeError, OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while True:
        block = os.read(fd, _BLOCK)
        if not block:
            return
        yield block
