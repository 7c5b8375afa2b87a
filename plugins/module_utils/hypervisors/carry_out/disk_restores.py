# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores disks of a machine that is off, in their places, from a backup that its host has. All is looked at before
anything is touched; then the machine has all of the old disks or all of the new ones, whenever a run is killed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType

from ...dataclass import dataclass, replace
from ...errors import (
    Conflict,
    ForeignObject,
    InUse,
    InvalidValue,
    NotFound,
    StalePlan,
    TimedOut,
    Unsupported,
    WrongState,
)
from ...host.files import explained, lock, read_limited
from ...model import system_snapshots
from ...model.disk import DIRECTORY, SHARED_DIRECTORY, TAR, Disk, DiskFiles
from ...model.installation_marks import MARK
from ...model.machine_backup import NVRAM, TPM, BackedUpDisk, MachineBackup
from ...model.machine_backup import TAR as STORED_TAR
from ...model.machine_restore import MachineRestored, MachineToRestore
from ...model.transfer import OWN_PREFIX, name_of
from ...model.vm import Vm
from ...storage import backup_search, disk_creation, disk_swap, machine_disks, restored_disks, transfer_methods
from ...storage.backup_place import MachineDirectory
from ...storage.datastore_layout import vm_directory
from ...storage.node_image_files import CACHE
from ...storage.restored_disks import DiskOfBackup, OfDirectory, Origin
from ...storage.root_backups import Unpack
from ..base import Driver, Mark, StateElsewhere
from ..machine_record import CHECKPOINT, Record, read_record, write_record
from ..moves import node_moves
from . import root_transfers
from .fence import LOCK_SECONDS, REMEDY_LOCKED
from .root_transfers import Root

MIB = 1024 * 1024
# Why the next backup is a full one.
RESTORED = "it was restored"
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class NewDisk:
    """Describes a disk that is to be restored.
    of_backup: what holds it.
    size: bytes that it has to have at least.
    root: of a container, which it is; else None.
    key: under which it is encrypted; "" if it is not."""

    disk: Disk
    files: DiskFiles
    of_backup: DiskOfBackup
    size: int
    root: Root | None = None
    key: str = field(default="", repr=False)


def restore(
    request: MachineToRestore,
    driver: Driver,
    root: str,
    check_mode: bool = False,
    origin: Origin | None = None,
    passphrases: Mapping[str, str] = NONE,
) -> MachineRestored:
    """Return what was restored, or in check mode would be. Raise NebulaError, before anything is touched, for what
    stands against it.
    origin: of the backup; None for a directory of this host.
    passphrases: of encrypted disks, by the UUIDs of their secrets, which nobody can read back from a hypervisor"""
    vm = request.vm
    asked = f"virtual machine {vm.name}: restoring its disks"
    directory = vm_directory(root, vm.vm_id)
    with contextlib.ExitStack() as holding:
        place = backup_search.open_place(request.directory, request.catalog, root) if origin is None else None
        holding.enter_context(_held(directory, asked))
        held = holding.enter_context(place.machine(vm.vm_id, request.catalog, request.key)) if place else None
        mark = Mark(request.catalog, vm.vm_id, vm.uuid, request.generation)
        record = _require_ours(request, directory, asked)
        if not check_mode:
            settle(vm, mark, directory, driver)
        _require_off(request, root, directory, driver, mark, asked)
        origin = origin or OfDirectory(*_chosen(request, held))
        backup = origin.backup
        backup_search.require_uuid(backup, vm.uuid, vm.name)
        new, warnings = _new_disks(request, root, directory, record, origin, driver, passphrases, asked)
        files, state = _further_files(request, origin, driver, directory, warnings)
        _require_no_snapshots(new, vm, asked)
        origin.require_room([(each.files.path, each.of_backup) for each in new], asked)
        done = MachineRestored(
            vm.vm_id,
            vm.name,
            backup.id,
            tuple(each.disk.disk_id for each in new),
            tuple(sorted([*([NVRAM] if files else []), *([TPM] if state is not None else [])])),
            tuple(warnings),
        )
        if check_mode:
            return done
        driver.let_go(mark)
        paths = (*(each.files.path for each in new if each.root is None), *files)
        roots = tuple(each.root.path for each in new if each.root is not None)

        def require_off() -> None:
            # Nobody of ours has started it: it may have taken hours, and somebody may have, by hand.
            _require_off(request, root, directory, driver, mark, asked)

        swap = disk_swap.swapping(
            directory, paths, state is not None, _state_putter(vm, driver), roots, before=require_off
        )
        with swap as places:
            for each in new:
                if each.root is None:
                    _make(each, places[each.files.path], origin, asked)
                else:
                    warnings += _make_root(each, each.root, origin, vm, driver)
            for path, content in files.items():
                _write(places[path], content, path)
            if state is not None:
                _write(disk_swap.state_path(directory), state, "")
            # Before the new disks are there: whoever backs it up next must not think that it knows them.
            write_record(directory, replace(record, unchained=RESTORED, unchained_at=int(time.time())))
        return replace(done, warnings=tuple(warnings))


def _chosen(request: MachineToRestore, held: MachineDirectory | None) -> tuple[MachineDirectory, MachineBackup]:
    if held is None:
        raise ValueError("a backup that nobody brings is in a directory of this host")
    return held, backup_search.chosen(held, request.backup)


def settle(vm: Vm, mark: Mark, directory: str, driver: Driver) -> bool:
    """Finish what a killed run has begun to restore of the machine. The lock of its directory is held. Raise WrongState
    where files of disks are to change places, and the machine runs: somebody has started it by hand."""
    if disk_swap.is_exchanging(directory) and driver.state(mark) not in (None, "POWEROFF"):
        raise WrongState(
            f"virtual machine {vm.name}: restoring its disks",
            "a run was killed while the new disks took the places of the old ones, and the machine was started since",
            "Power it off by the tools of its hypervisor, then run again: what it has written since is lost",
        )
    return disk_swap.is_unfinished(directory) and disk_swap.finish(directory, _state_putter(vm, driver))


# -- whether it may be done ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held(directory: str, asked: str) -> Iterator[None]:
    if not os.path.isdir(directory) or os.path.islink(directory):
        raise NotFound(
            asked,
            f"this host has no directory {directory}",
            "Bring the machine up first (playbook nebula.provision.site), or restore it as a new one "
            "(nebula_machine_restore_as)",
        )
    held = contextlib.ExitStack()
    try:
        held.enter_context(lock(directory + "/", LOCK_SECONDS))
    except TimedOut as error:
        error.remedy = REMEDY_LOCKED
        raise
    with held:
        yield


def _require_ours(request: MachineToRestore, directory: str, asked: str) -> Record:
    record = read_record(directory)
    if record is None or (record.catalog, record.vm_id, record.uuid) != (
        request.catalog,
        request.vm.vm_id,
        request.vm.uuid,
    ):
        raise ForeignObject(asked, f"directory {directory} is not this machine's", "It will not be touched")
    if record.generation > request.generation:
        raise StalePlan(asked, "this host has acted on a newer decision of the catalog", "Run again")
    if record.generation < request.generation:
        raise StalePlan(
            asked,
            "something about the machine is decided that its host has not done yet",
            "Run playbook nebula.provision.site first",
        )
    return record


def _require_off(request: MachineToRestore, root: str, directory: str, driver: Driver, mark: Mark, asked: str) -> None:
    state = driver.state(mark)
    if state not in (None, "POWEROFF"):
        raise WrongState(
            asked, f"it is {state}", "Power it off first: playbook nebula.provision.machine with -e do=stop"
        )
    if os.path.lexists(os.path.join(directory, CHECKPOINT)):
        raise WrongState(
            asked,
            "it is SUSPENDED, and what is in its memory belongs to the disks that it has",
            "Start it and power it off first",
        )
    record = read_record(directory)
    if node_moves.read(root, request.vm.vm_id) is not None or (record is not None and record.coming):
        raise InUse(asked, "it moves to another host", "Let the move end: run playbook nebula.provision.site")
    if MARK in request.vm.attributes:
        raise InUse(asked, "a system is being installed on it", "Wait for the installation to end")


# -- what is to be done ----------------------------------------------------------------------------------------------


def _new_disks(
    request: MachineToRestore,
    root: str,
    directory: str,
    record: Record,
    origin: Origin,
    driver: Driver,
    passphrases: Mapping[str, str],
    asked: str,
) -> tuple[list[NewDisk], list[str]]:
    """Return the disks that are to be restored, and warnings. Raise an error where machine and backup do not fit."""
    vm, backup = request.vm, origin.backup
    files = machine_disks.locate(vm, directory, lambda disk: _source(root, record, disk))
    roots = root_transfers.of_machine(vm, directory, driver, lambda disk: _source(root, record, disk))
    there = {disk.disk_id: disk for disk in vm.disks if _has_content(disk)}
    held = {disk.disk_id: disk for disk in backup.disks}
    wanted = _wanted(request, there, held, asked)
    new, warnings = [], []
    for disk_id in wanted:
        disk, of_backup = there[disk_id], held[disk_id]
        what = f"virtual machine {vm.name}: disk {disk_id}"
        if disk_id in roots:
            _require_root(roots[disk_id], of_backup, what)
            place = DiskFiles(roots[disk_id].path, DIRECTORY)
            new.append(NewDisk(disk, place, origin.disk(disk_id), 0, roots[disk_id]))
            continue
        _require_disk(disk, files[disk_id], of_backup, what)
        key = _key_of(disk, files[disk_id], passphrases, what)
        whole = origin.disk(disk_id)
        # One that is encrypted is as large as its image was, and not rounded up.
        now = disk.size * MIB if not key else 0
        if os.path.lexists(files[disk_id].path):
            now = max(now, disk_creation.virtual_size(files[disk_id].path, files[disk_id].format))
        if of_backup.size > now:
            raise Conflict(
                what,
                f"it has {now / MIB:g} MiB, and had {of_backup.size / MIB:g} when the backup was made",
                "Set its size in the list to that at least and run playbook nebula.provision.site, or restore it as an "
                "image (nebula_machine_restore_image)",
            )
        if of_backup.size < now:
            warnings.append(
                f"{what} had {of_backup.size / MIB:g} MiB when the backup was made; it stays as large as it is, "
                f"{now / MIB:g} MiB, and what is behind is empty"
            )
        if of_backup.image and disk.image != of_backup.image:
            warnings.append(f"{what} was of image {of_backup.image}, and is of {disk.image or 'none'} by now")
        new.append(NewDisk(disk, files[disk_id], whole, now, key=key))
    return new, warnings


def _has_content(disk: Disk) -> bool:
    """Return whether backups hold the disk: not what is never written to, nor what is swap."""
    return not disk.readonly and disk.type not in ("CDROM", SHARED_DIRECTORY, "SWAP")


def _wanted(
    request: MachineToRestore, there: Mapping[int, Disk], held: Mapping[int, BackedUpDisk], asked: str
) -> list[int]:
    if request.disks is not None:
        for disk_id in request.disks:
            if disk_id not in there or disk_id not in held:
                where = "the backup does not hold it" if disk_id in there else "the machine has none of that number"
                raise NotFound(f"{asked}: disk {disk_id}", where, f"Both have {_listed(set(there) & set(held))}")
        return sorted(set(request.disks))
    gone, come = set(held) - set(there), set(there) - set(held)
    if gone or come:
        parts = [f"{_listed(gone)} of the backup, which the machine does not have"] if gone else []
        parts += [f"{_listed(come)} of the machine, which the backup does not hold"] if come else []
        raise Conflict(
            asked,
            f"its disks are others than those of the backup: {'; '.join(parts)}",
            f"Name those that are meant: nebula_machine_restore_disks: {sorted(set(there) & set(held))}",
        )
    return sorted(there)


def _listed(ids: set[int]) -> str:
    return ("disk " if len(ids) == 1 else "disks ") + (", ".join(map(str, sorted(ids))) or "none")


def _require_root(root: Root, of_backup: BackedUpDisk, what: str) -> None:
    if of_backup.stored != STORED_TAR:
        raise Conflict(
            what,
            "it is the root file system of a container, and the backup holds a disk",
            "Restore it as an image (nebula_machine_restore_image)",
        )
    if not os.path.isdir(root.path) or os.path.islink(root.path):
        raise NotFound(
            what,
            f"there is no directory {root.path}",
            "Have the machine brought up by playbook nebula.provision.site first, and power it off",
        )


def _require_disk(disk: Disk, files: DiskFiles, of_backup: BackedUpDisk, what: str) -> None:
    if disk.format == TAR or disk.by_hypervisor or files.format == DIRECTORY or of_backup.stored == STORED_TAR:
        raise Unsupported(
            what,
            "it is the root file system of a container, which here is none of the machine's own",
            "Restore it as an image (nebula_machine_restore_image), and make the machine anew of that (recreate: true)",
        )
    if files.block or not os.path.lexists(files.path):
        raise NotFound(
            what,
            f"there is no file {files.path}" if not files.block else "it is a drive of this host",
            "Have the machine brought up by playbook nebula.provision.site first, and power it off",
        )


def _key_of(disk: Disk, files: DiskFiles, passphrases: Mapping[str, str], what: str) -> str:
    """Return the passphrase of a disk, "" of one that is not encrypted."""
    if not disk.luks_secret:
        return ""
    if files.format != "qcow2":
        raise Unsupported(
            what,
            f"it is encrypted, and of format {files.format}",
            "Restore it as an image (nebula_machine_restore_image), and make the machine anew of that",
        )
    key = passphrases.get(disk.luks_secret, "")
    if not key:
        raise InvalidValue(
            what,
            f"it is encrypted under secret {disk.luks_secret}, which nobody can read back from its hypervisor",
            "Have nebula_luks_secrets of its host name it with its passphrase, then run again",
        )
    restored_disks.require_key(files, key, what)
    return key


def _source(root: str, record: Record, disk: Disk) -> str:
    """Return the file on this host that the machine's disk is made of."""
    name = name_of(disk.image_uuid, disk.generation)
    for local in (OWN_PREFIX + name, name):
        if local in record.images:
            return os.path.join(root, CACHE, local)
    return transfer_methods.path_of_shared(disk)


def _require_no_snapshots(new: Sequence[NewDisk], vm: Vm, asked: str) -> None:
    for each in new:
        of_machine = system_snapshots.holding(vm, each.disk.disk_id)
        if of_machine:
            raise Conflict(
                f"{asked}: disk {each.disk.disk_id}",
                f"system snapshots of the machine hold it ({', '.join(of_machine)}), and a disk of a backup has none",
                "Delete them first (system_snapshots with state: absent), or restore it as an image",
            )
        names = [snapshot.name or snapshot.tag for snapshot in each.disk.snapshots]
        if names:
            raise Conflict(
                f"{asked}: disk {each.disk.disk_id}",
                f"it has snapshots ({', '.join(names)}), which a disk of a backup does not have",
                "Delete them first (disk_snapshots with state: absent), or restore it as an image",
            )


def _further_files(
    request: MachineToRestore,
    origin: Origin,
    driver: Driver,
    directory: str,
    warnings: list[str],
) -> tuple[dict[str, bytes], bytes | None]:
    """Return what else of the machine's is in the backup: files by their paths, and the state that is kept elsewhere.
    A single disk is restored alone."""
    files: dict[str, bytes] = {}
    state: bytes | None = None
    if request.disks is not None:
        return files, state
    vm, backup = request.vm, origin.backup
    own = driver.state_files(vm)
    if NVRAM in backup.files and own:
        name, most = next(iter(own.items()))
        files[os.path.join(directory, name)] = origin.content(NVRAM, most)
    elif NVRAM in backup.files or own:
        warnings.append(f"virtual machine {vm.name}: its variables of UEFI stay as they are: {_only(bool(own))}")
    elsewhere = driver.state_elsewhere(vm)
    if TPM in backup.files and elsewhere is not None:
        state = origin.content(TPM, elsewhere.most)
    elif TPM in backup.files or elsewhere is not None:
        warnings.append(
            f"virtual machine {vm.name}: the state of its TPM stays as it is: {_only(elsewhere is not None)}"
        )
    return files, state


def _only(machine: bool) -> str:
    return "the backup holds none" if machine else "the machine has none by now"


# -- doing it --------------------------------------------------------------------------------------------------------


def _make(new: NewDisk, path: str, origin: Origin, asked: str) -> None:
    origin.make(new.of_backup, path, new.files.format, new.key)
    disk_creation.resize(path, new.files.format, new.size, new.key)
    restored_disks.rest_upon(path, new.files, f"{asked}: disk {new.disk.disk_id}")
    restored_disks.give_to_hypervisor(path, new.files.path)


def _make_root(new: NewDisk, root: Root, origin: Origin, vm: Vm, driver: Driver) -> list[str]:
    def bring(unpack: Unpack) -> list[str]:
        return origin.make_root(new.of_backup, unpack)

    return root_transfers.take(root, vm, driver, bring, new.of_backup.what)


def _write(path: str, content: bytes, before: str) -> None:
    with explained(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    if before and os.path.lexists(before):
        status = os.lstat(before)
        os.chown(path, status.st_uid, status.st_gid)
        os.chmod(path, status.st_mode & 0o777)


def _state_putter(vm: Vm, driver: Driver) -> disk_swap.PutState:
    def put(path: str) -> None:
        elsewhere: StateElsewhere | None = driver.state_elsewhere(vm)
        if elsewhere is None:
            return
        content = read_limited(path, elsewhere.most, follow=False)
        elsewhere.forget()
        with elsewhere.writing() as fd, os.fdopen(fd, "wb", closefd=False) as file:
            file.write(content)

    return put
