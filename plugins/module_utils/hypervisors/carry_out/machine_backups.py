# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores the backup of a machine in a directory of backups; what fails is told of that machine, and never keeps others
from going on. Where its disks are read is another matter: on this host, or on the machine's own."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ...dataclass import replace
from ...errors import HypervisorError, NebulaError, OtherHostFailed
from ...host.files import explain
from ...model.disk import TAR
from ...model.given_backup import GivenBackup, GivenDisk
from ...model.machine_backup import (
    FRONTEND,
    FULL,
    INCREMENTAL,
    LUKS,
    QCOW2,
    TPM,
    BackedUpDisk,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
    StoredFile,
)
from ...model.machine_backup import TAR as STORED_TAR
from ...storage import backup_files, backup_secrets, root_backups
from ...storage.backup_files import NOTHING, SMALLEST, NbdSource
from ...storage.backup_manifests import CONTAINER
from ...storage.backup_place import AHEAD, MachineDirectory, Place
from ...storage.datastore_layout import vm_directory
from ...storage.root_backups import ReadableRoot

MIB = 1 << 20
# Of what a disk holds, what is to be free for a compressed copy at the beginning.
_COMPRESSED = 4
# Of the place's uuid, what the names of its checkpoints have.
_DIGITS = 8


class Readable(Protocol):
    """Is a machine whose disks can be read now.
    given: what is said of it. sources: where each of its disks is read. roots: those of containers, by disk id."""

    @property
    def given(self) -> GivenBackup: ...

    @property
    def sources(self) -> Mapping[int, NbdSource]: ...

    @property
    def roots(self) -> Mapping[int, ReadableRoot]: ...

    def fetch(self, name: str, fd: int) -> None:
        """Write one of given.files to a new file that is open."""

    def end_reading(self) -> None:
        """Take note that all was read. Raise InUse or TimedOut where it is not of one moment."""

    def keep(self) -> None:
        """Take note that the backup is whole: the next one may go on from it."""


Begin = Callable[[MachineToBackUp, str, str], AbstractContextManager[Readable]]
"""Makes a machine readable for as long as the block lasts. Given are the machine, the new checkpoint's name, and that
of the one to go on from, "" for none."""


def open_place(request: BackupRequest, root: str) -> Place:
    """Return the directory of backups. Raise the error of one in which none may be."""
    disks_of = [vm_directory(root, machine.vm.vm_id) for machine in request.machines]
    return Place.open(
        request.directory,
        request.catalog,
        for_writing=True,
        disks_of=disks_of,
        root=root,
        in_datastore=request.at == FRONTEND,
    )


def back_up(request: BackupRequest, place: Place, begin: Begin, machine: MachineToBackUp) -> dict[str, Any]:
    """Return what became of one machine, whatever goes wrong with it; it never raises."""
    began = time.monotonic()
    outcome: dict[str, Any] = {
        "vm_id": machine.vm.vm_id, "name": machine.vm.name, "host": machine.host,
        "id": "", "kind": "", "reason": "", "consistency": "", "size": 0, "stored": 0,
        "warnings": list(place.warnings), "error": "",
    }  # fmt: skip
    try:
        with place.machine(machine.vm.vm_id, request.catalog, request.key) as directory:
            storing = _Storing(request, place, directory, machine)
            manifest = storing.carry_out(begin)
            outcome["warnings"] += [*storing.warnings, *directory.warnings]
            outcome["warnings"] += directory.notes()
        files = [*(disk.file for disk in manifest.disks), *manifest.files.values()]
        outcome.update(
            id=manifest.id,
            kind=manifest.kind,
            reason=manifest.reason,
            consistency=manifest.consistency,
            size=sum(disk.size for disk in manifest.disks),
            stored=sum(file.size for file in files),
        )
    except NebulaError as error:
        outcome["error"] = str(error)
    except OSError as error:
        outcome["error"] = str(explain(error, str(error.filename or request.directory)))
    except Exception as error:
        outcome["error"] = str(
            HypervisorError(
                f"backup of virtual machine {machine.vm.name}",
                f"{type(error).__name__}: {error}",
                "This should not happen: report it",
            )
        )
    outcome["seconds"] = round(time.monotonic() - began, 3)
    return outcome


def _time_after(latest: MachineBackup | None) -> int:
    """Return the time of a new backup: the clock's, or where the one before is of a later one, the second after that.
    By its time it must not be the older one, which expires first. A clock that was wrong by more than AHEAD is not
    followed."""
    now = int(time.time())
    return latest.time + 1 if latest is not None and now <= latest.time <= now + AHEAD else now


class _Storing:
    """Stores one machine."""

    def __init__(
        self, request: BackupRequest, place: Place, directory: MachineDirectory, machine: MachineToBackUp
    ) -> None:
        self._request = request
        self._directory = directory
        self._machine = machine
        self._latest = directory.latest()
        self._id = directory.new_id()
        self.warnings: list[str] = []
        prefix = f"nebula-{place.uuid[:_DIGITS]}-"
        self._checkpoint = f"{prefix}{self._id}"
        self._since, self._base, self._no_base = self._found_base(prefix)

    def _found_base(self, prefix: str) -> tuple[str, MachineBackup | None, str]:
        """Return the checkpoint to go on from, the backup with which it was made, and why there is none. That need not
        be the latest: of a machine that is off several go on from one checkpoint, and each holds what was written since
        then."""
        since = self._latest.checkpoint if self._latest is not None else ""
        if not since.startswith(prefix):
            return "", None, ""
        id = since[len(prefix) :]
        for backup in self._directory.backups():
            if backup.id == id:
                return since, backup, ""
        return "", None, f"backup {id}, from which it would go on, is not there any more or can't be read"

    def carry_out(self, begin: Begin) -> MachineBackup:
        """Return the manifest. On an error there is nothing of the backup."""
        since = self._since
        manifest = None
        try:
            with begin(self._machine, self._checkpoint, since) as readable:
                stored = self._stored(readable)
                # Before anything says that there is a backup: whoever ends us then leaves none that may not be one.
                readable.end_reading()
                written = self._directory.write(stored)
                try:
                    readable.keep()
                except OtherHostFailed as error:
                    # Its host has what the next one goes on from, and did not get to say so.
                    self.warnings.append(str(error))
                manifest = written
        except NebulaError as error:
            if manifest is None:
                raise
            # It is whole; only the end was not as it should be.
            self.warnings.append(str(error))
        finally:
            if manifest is None:
                self._directory.discard(self._id)
        return manifest

    def _stored(self, readable: Readable) -> MachineBackup:
        given, request = readable.given, self._request
        parent, reason, unchanged = self._chosen_parent(given)
        self._require_room(given, parent is None)
        disks = tuple(
            self._stored_root(disk, readable.roots[disk.disk_id])
            if disk.format == TAR
            else self._stored_disk(disk, readable.sources[disk.disk_id], parent, unchanged)
            for disk in given.disks
        )
        # Where a host gives a secret in spite of that, it is kept nowhere.
        kept = [name for name in given.files if request.key or name != TPM]
        files = {name: self._stored_file(readable, name) for name in kept}
        machine, secrets = self._machine, None
        if request.key and machine.secrets:
            name = f"{self._id}.secrets.luks"
            secrets = backup_secrets.store_secrets(
                self._directory.directory, name, machine.secrets, request.key, self._asked("secrets")
            )
        return MachineBackup(
            id=self._id,
            catalog=request.catalog,
            vm_id=machine.vm.vm_id,
            uuid=machine.vm.uuid,
            name=machine.vm.name,
            host=machine.host,
            hypervisor=machine.vm.hypervisor,
            time=_time_after(self._latest),
            kind=FULL if parent is None else INCREMENTAL,
            state=given.state,
            consistency=given.consistency,
            way=given.way,
            disks=disks,
            owner=machine.owner,
            parent="" if parent is None else parent.id,
            reason=reason,
            checkpoint=given.checkpoint,
            unchanged=given.unchanged,
            left_out=given.left_out,
            files=files,
            template=machine.template,
            secrets=tuple(sorted(machine.secrets)),
            secrets_file=secrets,
            compressed=request.compress,
            encrypted=bool(request.key),
        )

    def _chosen_parent(self, given: GivenBackup) -> tuple[MachineBackup | None, str, bool]:
        """Return the backup on which this one rests, why it is a full one, and whether nothing was written since."""
        latest = self._latest
        reason = self._why_full(given, latest)
        if not reason and latest is not None and given.unchanged and dict(given.unchanged) == dict(latest.unchanged):
            return latest, "", True
        if not reason and self._base is None:
            reason = self._no_base or given.reason or "the backup before has no checkpoint to go on from"
        reason = reason or self._why_full(given, self._base)
        if not reason and given.incremental:
            return self._base, "", False
        return None, reason or given.reason, False

    def _why_full(self, given: GivenBackup, latest: MachineBackup | None) -> str:
        """Return why this backup is a full one, as far as that follows from one before, "" if it need not be; also
        where there is none, which needs no reason."""
        request = self._request
        others = [manifest for manifest, _error in self._directory.by_others.values()]
        if any(latest is None or each.time > latest.time for each in others):
            return "the backups before it are under another key"
        if latest is None:
            if self._directory.unreadable:
                return "no backup before it can be read"
            return "it is the first one"
        if request.full:
            return "a full one was asked for"
        if latest.uuid != self._machine.vm.uuid:
            return "the backup before is of another machine that had this id"
        if latest.encrypted != bool(request.key):
            return f"the backup before is {'' if latest.encrypted else 'not '}encrypted"
        before = {disk.disk_id: disk for disk in latest.disks}
        now = {disk.disk_id: disk for disk in given.disks}
        if before.keys() != now.keys() or any(disk.format != now[number].format for number, disk in before.items()):
            return "the machine has other disks than in the backup before"
        if any(disk.size > now[number].size for number, disk in before.items()):
            return "a disk is smaller than in the backup before"
        return ""

    def _require_room(self, given: GivenBackup, full: bool) -> None:
        held = sum(min(disk.holds, disk.size or disk.holds) for disk in given.disks) if full else 0
        needed = (held // _COMPRESSED if self._request.compress else held) + SMALLEST * len(given.disks)
        needed += sum(size + (SMALLEST if self._request.key else 0) for size in given.files.values())
        self._directory.room(needed, self._asked())

    def _stored_disk(
        self, disk: GivenDisk, source: NbdSource, parent: MachineBackup | None, unchanged: bool
    ) -> BackedUpDisk:
        request, stored = self._request, LUKS if self._request.key else QCOW2
        name = f"{self._id}.disk.{disk.disk_id}.{stored}"
        below = ""
        if parent is not None:
            below = next(each.file.name for each in parent.disks if each.disk_id == disk.disk_id)
        bitmap = "" if parent is None else NOTHING if unchanged else source.bitmap
        file = backup_files.store_disk(
            self._directory.directory,
            name,
            replace(source, bitmap=bitmap),
            disk.size,
            compress=request.compress,
            key=request.key,
            below=below,
            rate=request.rate * MIB,
            what=self._asked(f"disk {disk.disk_id}"),
        )
        encrypted = any(each.disk_id == disk.disk_id and each.luks_secret for each in self._machine.vm.disks)
        return BackedUpDisk(
            disk.disk_id, disk.target, disk.format, disk.size, file, stored, below, disk.image, luks=encrypted
        )

    def _stored_root(self, disk: GivenDisk, root: ReadableRoot) -> BackedUpDisk:
        request, what = self._request, self._asked(f"disk {disk.disk_id}")
        name = root_backups.file_name(f"{self._id}.root.{disk.disk_id}", request.compress, request.key)
        stored = root_backups.store_root(
            self._directory.directory,
            name,
            root.pack,
            root.size,
            what,
            compress=request.compress,
            key=request.key,
            rate=request.rate * MIB,
        )
        self.warnings += root.left_out(stored, what)
        return BackedUpDisk(disk.disk_id, disk.target, TAR, 0, stored.file, STORED_TAR, "", disk.image)

    def _stored_file(self, readable: Readable, name: str) -> StoredFile:
        directory, key = self._directory.directory, self._request.key
        whole = f"{self._id}.{name}{CONTAINER if key else ''}"
        fetch = functools.partial(readable.fetch, name)
        return backup_secrets.store_file(directory, whole, fetch, key, self._asked(name))

    def _asked(self, what: str = "") -> str:
        return f"backup of virtual machine {self._machine.vm.name}" + (f": {what}" if what else "")
