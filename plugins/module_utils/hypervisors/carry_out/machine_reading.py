# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the disks of one of this host's machines readable for a backup: nobody else works on the machine meanwhile, all
of its disks are as they were at one moment, and nothing of that stays."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field

from ...dataclass import dataclass, replace
from ...errors import (
    ForeignObject,
    InUse,
    InvalidValue,
    NotFound,
    StalePlan,
    TimedOut,
    Unsupported,
    WrongState,
)
from ...host.files import explained, lock, opened, remove_file
from ...model.disk import DIRECTORY, SHARED_DIRECTORY, TAR, Disk, DiskFiles
from ...model.given_backup import GivenBackup, GivenDisk
from ...model.installation_marks import MARK
from ...model.machine_backup import NVRAM, OFF, TPM, BackupRequest, MachineToBackUp
from ...model.move import OVER
from ...model.transfer import OWN_PREFIX, name_of
from ...model.vm import Vm
from ...storage import disk_bitmaps, disk_exports, disk_swap, machine_disks, node_image_files
from ...storage.backup_files import NbdSource
from ...storage.datastore_layout import vm_directory
from ...storage.root_backups import ReadableRoot
from ...storage.transfer_methods import path_of_shared
from ..base import BackUp, Driver, Mark, RunningBackup
from ..machine_record import CHECKPOINT, PARTIAL, Record, is_left_behind, read_record, write_record
from ..moves import node_moves
from . import fence, root_transfers
from .root_transfers import Root

_AS_OFF = "read from the files of the machine, which was off"
_ROOTS = "the root of a container is always stored whole"
_TPM_LEFT_OUT = "the state of its TPM: it is a secret, and is kept under a key alone (nebula_machine_backup_key)"
_AS_RUNNING = "read by libvirt's backup (pull mode) while the machine ran"
# Of "nebula-<8 digits>-<id>": what the names of all checkpoints of one place begin with.
_PREFIX = len("nebula-00000000-")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ReadableMachine:
    """Is a machine of this host whose disks can be read now.
    given: what is said of it. sources: where each of its disks is read. files: paths of what else it has, by name.
    roots: of containers, by disk id. note: keeps on this host that the backup is whole."""

    given: GivenBackup
    sources: Mapping[int, NbdSource]
    files: Mapping[str, str]
    running: RunningBackup | None = None
    roots: Mapping[int, ReadableRoot] = field(default_factory=dict)
    note: Callable[[], None] = lambda: None

    def fetch(self, name: str, fd: int) -> None:
        """Write one of given.files to a new file that is open."""
        path = self.files[name]
        with explained(path), opened(path, os.O_RDONLY | os.O_CLOEXEC) as source:
            content = b"".join(iter(functools.partial(os.read, source, _CHUNK), b""))
        with os.fdopen(fd, "wb", closefd=False) as target:
            target.write(content)

    def end_reading(self) -> None:
        """Take note that all was read. Raise InUse or TimedOut where it is not of one moment."""
        if self.running is not None:
            self.running.end_reading()

    def keep(self) -> None:
        """Take note that the backup is whole: the next one may go on from it."""
        if self.running is not None:
            self.running.keep()
        self.note()

    def leave_open(self) -> None:
        """Take note that nobody here knows whether the backup is whole."""
        if self.running is not None:
            self.running.leave_open()


@contextlib.contextmanager
def readable(
    request: BackupRequest, driver: Driver, root: str, machine: MachineToBackUp, checkpoint: str, since: str
) -> Iterator[ReadableMachine]:
    """Have the machine readable for a block of code.
    checkpoint: the name of what is kept here for the next backup. since: that of the last one, "" for none."""
    vm, asked = machine.vm, f"backup of virtual machine {machine.vm.name}"
    directory = vm_directory(root, vm.vm_id)
    mark = Mark(request.catalog, vm.vm_id, vm.uuid, machine.generation)
    _refuse_other_hypervisor(vm, driver, asked)
    with _held(directory, asked):
        record = _checked_record(request, machine, root, directory, asked)
        for name in filter(is_left_behind, os.listdir(directory)):
            # The lock is held: nobody is writing them any more.
            remove_file(os.path.join(directory, name))
        driver.settle_standing_still(mark, directory)
        if disk_swap.is_unfinished(directory):
            # What few machines need takes its time to import.
            from . import disk_restores

            disk_restores.settle(vm, mark, directory, driver)
            record = _checked_record(request, machine, root, directory, asked)
        driver.end_left_backup(mark, os.path.dirname(os.path.dirname(directory)))
        state = _state_of(driver, mark, directory, asked)
        _check_encryption(vm, state, request.is_encrypted, asked)
        own = root_transfers.of_machine(_localized(vm, root), directory, driver, lambda disk: _find(disk, root))
        disks, left_out = _chosen(vm, own, asked)
        files = machine_disks.locate(_localized(vm, root), directory, lambda disk: _find(disk, root))
        files.update({disk_id: DiskFiles(each.path, DIRECTORY) for disk_id, each in own.items()})
        chosen = [(disk, files[disk.disk_id]) for disk in disks]
        prefix = checkpoint[:_PREFIX]
        since, reason = _continued(record, prefix, since)
        order = BackUp(
            checkpoint=checkpoint,
            since=since,
            prefix=prefix,
            consistency="" if request.consistency == "auto" else request.consistency,
            directory=directory,
            datastores=os.path.dirname(os.path.dirname(directory)),
            full=request.full,
            stand_still=request.stand_still,
        )
        with contextlib.ExitStack() as held:
            further = held.enter_context(_further_files(driver, vm, directory, request.is_encrypted, left_out))
            if state == "RUNNING":
                machine_now = held.enter_context(_running(driver, mark, vm, chosen, own, order, asked))
            else:
                machine_now = held.enter_context(_off(driver, mark, vm, chosen, own, order, asked))
            given = replace(
                machine_now.given,
                reason=reason or machine_now.given.reason,
                left_out=tuple(left_out),
                files={name: os.path.getsize(path) for name, path in further.items()},
            )
            note = functools.partial(_note_new_chain, record, prefix, directory)
            yield replace(machine_now, given=given, files=further, note=note)


# -- whether it may be -------------------------------------------------------------------------------------------------


def _refuse_other_hypervisor(vm: Vm, driver: Driver, asked: str) -> None:
    if vm.hypervisor != driver.name:
        raise Unsupported(
            f"{asked} for hypervisor {vm.hypervisor}",
            f"this host runs {driver.name}",
            "Set nebula_hypervisor of this host to what it runs, then run again",
        )


@contextlib.contextmanager
def _held(directory: str, asked: str) -> Iterator[None]:
    """Hold the lock of the machine's directory, as those who act on the machine do."""
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        raise NotFound(
            f"{asked}: directory {directory}", "this host has none", "Run the virtual machines' playbook first"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        raise ForeignObject(
            f"{asked}: directory {directory}", "it is no directory of root's", "Move it away: it will not be touched"
        )
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(directory + "/", fence.LOCK_SECONDS))
        except TimedOut as error:
            raise InUse(asked, f"another run works on this machine ({error.found})", fence.REMEDY_LOCKED) from error
        yield


def _checked_record(request: BackupRequest, machine: MachineToBackUp, root: str, directory: str, asked: str) -> Record:
    """Return what this host has noted of the machine. Raise the error where that is another machine, or generation, or
    one of which no backup can be made."""
    record, vm = read_record(directory), machine.vm
    found = (record.catalog, record.vm_id, record.uuid) if record is not None else None
    if record is None or found != (request.catalog, vm.vm_id, vm.uuid):
        raise ForeignObject(
            f"{asked}: directory {directory}",
            "it has no mark of this machine",
            "Move it away if it is not needed: it will not be touched",
        )
    if MARK in vm.attributes:
        raise WrongState(asked, "it is being installed", "Wait until that is done, then run again")
    move = node_moves.read(root, vm.vm_id)
    if record.coming or (move is not None and move.stage not in OVER):
        raise WrongState(asked, "it is being moved", "Let the move come to its end (playbook site), then run again")
    if record.generation != machine.generation:
        raise StalePlan(
            f"{asked}: generation {machine.generation}",
            f"this host has acted on generation {record.generation}",
            "Run the virtual machines' playbook first, if something of the machine is unfinished; then run again",
        )
    return record


def _state_of(driver: Driver, mark: Mark, directory: str, asked: str) -> str:
    state = driver.state(mark)
    saved = [name for name in (CHECKPOINT, PARTIAL) if os.path.lexists(os.path.join(directory, name))]
    if state == "SUSPENDED" or (saved and state != "RUNNING"):
        raise WrongState(
            asked,
            "it is SUSPENDED: a part of what its disks are to hold is in its saved memory",
            "Let it run, or power it off, then run again",
        )
    if state is None:
        raise NotFound(asked, "its hypervisor does not know it", "Run the virtual machines' playbook first")
    if state not in ("RUNNING", "POWEROFF"):
        raise WrongState(asked, f"its state is {state}", "Let it run, or power it off, then run again")
    return state


def _check_encryption(vm: Vm, state: str, has_key: bool, asked: str) -> None:
    encrypted = [disk.disk_id for disk in vm.disks if disk.luks_secret]
    if encrypted and not has_key:
        raise InvalidValue(
            f"{asked}: disk {encrypted[0]}",
            "it is encrypted, and its backup would not be",
            "Give a key for backups (nebula_machine_backup_key)",
        )
    if encrypted and state != "RUNNING":
        raise Unsupported(
            f"{asked}: disk {encrypted[0]}",
            "it is encrypted, and only its hypervisor can open it, which it does while the machine runs",
            "Back it up while it runs",
        )


def _chosen(vm: Vm, own: Collection[int], asked: str) -> tuple[list[Disk], list[str]]:
    """Return the disks that are in the backup, and a sentence for each that is not. own: those that are roots."""
    disks, left_out = [], []
    for disk in vm.disks:
        name = f"disk {disk.disk_id} ({disk.target})" if disk.target else f"disk {disk.disk_id}"
        of = f" of image {disk.image}" if disk.image else ""
        if disk.type == "CDROM":
            left_out.append(f"{name}: it is a CD-ROM{of}")
        elif disk.type == SHARED_DIRECTORY:
            left_out.append(f"{name}: it is a directory of the host")
        elif disk.readonly:
            left_out.append(f"{name}: it is only read{of}")
        elif (disk.format == TAR or disk.by_hypervisor) and disk.disk_id not in own:
            left_out.append(f"{name}: its hypervisor makes it anew")
        else:
            disks.append(disk)
    if vm.context is not None:
        left_out.append(f"disk {vm.context.disk_id} ({vm.context.target}): it is the context, and is made anew")
    if not disks:
        raise Unsupported(asked, f"it has no disk of its own: {'; '.join(left_out) or 'none at all'}")
    return disks, left_out


def _localized(vm: Vm, root: str) -> Vm:
    """Return the machine with the paths that its images have on this host, where this host has copies of its own."""
    return replace(vm, disks=tuple(replace(disk, source=_source(disk, root)) for disk in vm.disks))


def _source(disk: Disk, root: str) -> str:
    if not disk.source or disk.type == SHARED_DIRECTORY or os.path.exists(disk.source):
        return disk.source
    name = name_of(disk.image_uuid, disk.generation)
    for each in (name, OWN_PREFIX + name):
        path = os.path.join(root, node_image_files.CACHE, each)
        if os.path.exists(path):
            return path
    return disk.source


def _find(disk: Disk, root: str) -> str:
    cache = os.path.join(root, node_image_files.CACHE)
    return disk.source if os.path.dirname(disk.source) == cache else path_of_shared(disk)


def _continued(record: Record, prefix: str, since: str) -> tuple[str, str]:
    """Return the checkpoint to go on from, and why there is none where one was asked for. No clocks are compared: that
    of the front-end may be another."""
    if since and record.unchained and record.chained.get(prefix) != record.unchained_at:
        return "", record.unchained
    return since, ""


def _note_new_chain(record: Record, prefix: str, directory: str) -> None:
    """Note that this place has a backup that was made since the chain of its backups was ended."""
    at = record.unchained_at
    if record.unchained and record.chained.get(prefix) != at:
        # What others have is of an end before this one.
        chained = {each: number for each, number in record.chained.items() if number == at}
        write_record(directory, replace(record, chained={**chained, prefix: at}))


# -- its disks ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(
    driver: Driver,
    mark: Mark,
    vm: Vm,
    chosen: Sequence[tuple[Disk, DiskFiles]],
    own: Mapping[int, Root],
    order: BackUp,
    asked: str,
) -> Iterator[ReadableMachine]:
    if "back_up" not in driver.capabilities:
        raise Unsupported(
            asked, f"it runs, and hypervisor {driver.name} can't show its disks meanwhile", "Power it off first"
        )
    with driver.back_up(mark, chosen, order) as running:
        roots = _readable_roots(driver, mark, vm, own, running.roots, asked)
        disks = tuple(
            _given_root(disk, roots[disk.disk_id])
            if disk.disk_id in roots
            else _given_disk(disk, files, running.sources[disk.disk_id], running.incremental)
            for disk, files in chosen
        )
        given = GivenBackup(
            state="RUNNING",
            consistency=running.consistency,
            way=running.way or _AS_RUNNING,
            disks=disks,
            incremental=running.incremental,
            reason=running.reason,
            checkpoint=running.checkpoint,
        )
        yield ReadableMachine(given, running.sources, {}, running, roots)


@contextlib.contextmanager
def _off(
    driver: Driver,
    mark: Mark,
    vm: Vm,
    chosen: Sequence[tuple[Disk, DiskFiles]],
    own: Mapping[int, Root],
    order: BackUp,
    asked: str,
) -> Iterator[ReadableMachine]:
    files = {disk.disk_id: file for disk, file in chosen if disk.disk_id not in own}
    driver.let_go(mark)
    paths = {disk.disk_id: file.path for disk, file in chosen if disk.disk_id in own}
    roots = _readable_roots(driver, mark, vm, own, paths, asked)
    known = bool(order.since and files and not roots) and all(
        disk_bitmaps.bitmaps(file, asked).get(order.since, False) for file in files.values()
    )
    tracked = known and not order.full
    if not known:
        # What nobody goes on from is not kept up any longer.
        driver.forget_checkpoints(mark, files, order.prefix)
    # Of a root nothing tells whether it is as it was.
    before = {} if roots else disk_exports.fingerprint(files)
    reason = ""
    if roots:
        reason = _ROOTS
    elif order.since and not known:
        reason = (
            "what was written since the backup before is not known any more, as after the end of a QEMU that was "
            "killed, or a disk that was exchanged or reverted"
        )
    elif not known:
        reason = "the machine is off, and nothing has kept track of what was written since the backup before"
    name = f"{mark.vm_id}-{mark.catalog}"
    with disk_exports.shown(name, files, order.since if tracked else "", asked) as sources:
        disks = tuple(
            _given_root(disk, roots[disk.disk_id])
            if disk.disk_id in roots
            else _given_disk(disk, file, sources[disk.disk_id], tracked)
            for disk, file in chosen
        )
        given = GivenBackup(
            state="POWEROFF",
            consistency=OFF,
            way=_AS_OFF,
            disks=disks,
            incremental=tracked,
            reason=reason,
            unchanged=before,
            checkpoint=order.since if known else "",
        )
        yield ReadableMachine(given, sources, {}, roots=roots)


def _readable_roots(
    driver: Driver, mark: Mark, vm: Vm, own: Mapping[int, Root], paths: Mapping[int, str], asked: str
) -> dict[int, ReadableRoot]:
    """Return the machine's roots. paths: where each is read."""
    return {
        disk_id: root_transfers.readable(own[disk_id], vm, mark, driver, path, f"{asked}: disk {disk_id}")
        for disk_id, path in paths.items()
    }


def _given_root(disk: Disk, root: ReadableRoot) -> GivenDisk:
    return GivenDisk(disk.disk_id, disk.target, TAR, 0, image=disk.image, holds=root.size)


def _given_disk(disk: Disk, files: DiskFiles, source: NbdSource, incremental: bool) -> GivenDisk:
    return GivenDisk(
        disk_id=disk.disk_id,
        target=disk.target,
        format=files.format,
        size=source.size,
        export=source.export,
        bitmap=source.bitmap if incremental else "",
        image=disk.image,
        holds=_held_by(files),
    )


def _held_by(files: DiskFiles) -> int:
    """Return the bytes that a disk's files take."""
    found = 0
    for path in (files.path, *(path for path, _format in files.backing)):
        with contextlib.suppress(OSError):
            found += os.stat(path).st_blocks * 512
    return found


@contextlib.contextmanager
def _further_files(
    driver: Driver, vm: Vm, directory: str, has_key: bool, left_out: list[str]
) -> Iterator[Mapping[str, str]]:
    """Yield paths of what else has changed in the machine, by what it is: variables of UEFI, the state of a TPM.
    left_out: gets a sentence for what is a secret, where there is no key"""
    found = {}
    for name in driver.state_files(vm):
        path = os.path.join(directory, name)
        if os.path.isfile(path) and not os.path.islink(path):
            found[NVRAM] = path
    if vm.tpm is not None and not has_key:
        left_out.append(_TPM_LEFT_OUT)
        yield found
        return
    elsewhere = driver.state_elsewhere(vm)
    if elsewhere is None:
        yield found
        return
    with elsewhere.reading() as fd:
        if fd is not None:
            found[TPM] = f"/proc/self/fd/{fd}"
        yield found
