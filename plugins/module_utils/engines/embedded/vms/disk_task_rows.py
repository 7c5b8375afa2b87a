# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what is done with the disks of machines, saved as images, and with their snapshots. The machine's node
carries each task out once, and what became of it is recorded here."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable

from ....dataclass import replace
from ....errors import Conflict, InvalidValue, NebulaError, NotFound, Unsupported, WrongState
from ....host.files import remove_file
from ....model import disk_snapshots, hypervisor_rules, system_snapshots
from ....model.dataclass_json import from_plain, to_plain
from ....model.disk import SHARED_DIRECTORY, TAR, Disk
from ....model.disk_snapshots import Snapshot, Tree
from ....model.disk_targets import prefix_of
from ....model.image import Image
from ....model.image_operations import Return, Save, returning_host
from ....model.object_ids import id_of
from ....model.object_names import check_name
from ....model.plan import (
    AGENT,
    CRASH,
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    SYSTEM,
    SYSTEM_CREATE,
    SYSTEM_DELETE,
    SYSTEM_REVERT,
    DiskTask,
    TaskOutcome,
    VmOutcome,
)
from ....model.saved_disks import holds_saved_disk, is_being_saved, origin_of
from ....model.states import ImageState, ImageType, LcmState, vm_state_name
from ....model.system_snapshots import SystemSnapshot
from ....model.vm import Vm
from ..images.image_rows import image_of
from ..images.image_verbs import Images
from ..store import Store, compact
from .vm_rows import orders_of

# What a machine does meanwhile, by what is done and the state it is in.
WAYS = {
    (SAVE_AS, "RUNNING"): LcmState.HOTPLUG_SAVEAS,
    (SAVE_AS, "POWEROFF"): LcmState.HOTPLUG_SAVEAS_POWEROFF,
    (SAVE_AS, "SUSPENDED"): LcmState.HOTPLUG_SAVEAS_SUSPENDED,
    (CREATE, "RUNNING"): LcmState.DISK_SNAPSHOT,
    (CREATE, "POWEROFF"): LcmState.DISK_SNAPSHOT_POWEROFF,
    (REVERT, "POWEROFF"): LcmState.DISK_SNAPSHOT_REVERT_POWEROFF,
    (DELETE, "RUNNING"): LcmState.DISK_SNAPSHOT_DELETE,
    (DELETE, "POWEROFF"): LcmState.DISK_SNAPSHOT_DELETE_POWEROFF,
    **{(kind, "RUNNING"): LcmState.HOTPLUG_SNAPSHOT for kind in SYSTEM},
    (SYSTEM_CREATE, "POWEROFF"): LcmState.DISK_SNAPSHOT_POWEROFF,
    (SYSTEM_REVERT, "POWEROFF"): LcmState.DISK_SNAPSHOT_REVERT_POWEROFF,
    (SYSTEM_DELETE, "POWEROFF"): LcmState.DISK_SNAPSHOT_DELETE_POWEROFF,
}
# Failed, maybe before it ran for the first time.
_NOT_STARTED = ("PROLOG_FAILURE", "BOOT_FAILURE")
_ENDED = "its machine ended before the disk was saved"
UNEXPLAINED = "it failed, and its host does not say why"


class DiskTasks:
    def __init__(self, store: Store, images: Images, now: Callable[[], int]) -> None:
        self.store = store
        self.images = images
        self.now = now

    # -- deciding ---------------------------------------------------------------------------------------------------
    def save_as(self, row: sqlite3.Row, disk_id: int, image: Image, consistency: str) -> DiskTask | None:
        """Return what is to be done so that the image holds what the disk does; None if it does, or is about to."""
        asked = f"VM {row['name']} (id {row['id']}): save_as of disk {disk_id}"
        disk = self._disk(row, disk_id, asked)
        self._refuse_directory(disk, asked)
        if disk.type == "CDROM":
            raise InvalidValue(asked, "it is a CDROM", f"Image {disk.image} is what there is of it")
        origin = origin_of(row["uuid"], disk_id)
        found = self._image("name", image.name)
        if found is not None and found.origin != origin:
            raise Conflict(
                f"{asked} as image {image.name}", f"there is an image of that name (id {found.id})", "Choose another"
            )
        if found is not None and found.state == ImageState.DELETE:
            raise Conflict(f"{asked} as image {image.name}", "it is being removed", "Wait for that, or choose another")
        pending = {task.image_id for task in self.pending(row)}
        if found is not None and returning_host(found.operation):
            return None
        if found is not None and (found.id in pending or holds_saved_disk(found, origin)):
            return None
        if found is not None and found.operation != Save(origin) and _holds_content(found):
            why = f" ({found.error})" if found.error else ""
            raise WrongState(
                f"{asked} as image {image.name}",
                f"that is in state {found.state.name}{why}, and may hold what was saved before",
                "Take it as it is (nebula_image with state: enabled), or remove it (state: absent) to save anew",
            )
        if self._is_made_anew(row):
            raise Conflict(
                asked,
                "the machine is to be made anew, which was decided before: what the disk holds goes with that",
                "Let that be done first; then the new disk can be saved",
            )
        state = self.state_then(row)
        if state == "SUSPENDED" and consistency != CRASH:
            raise WrongState(
                asked,
                "the machine is SUSPENDED: what it has not written yet is in its memory",
                "Let it run or power it off first, or set consistency: crash",
            )
        if disk.luks_secret and state == "RUNNING":
            raise Unsupported(
                asked, "the disk is encrypted, and what a running machine's is copied to would not be", "Power it off"
            )
        format_ = disk.format if disk.save else disk.driver
        source = self._image("id", disk.image_id)
        default = source.type if source is not None else ImageType.DATABLOCK
        facts: dict[str, Any] = {
            "type": image.type if image.type in (ImageType.OS, ImageType.DATABLOCK) else default,
            "description": image.description,
            "format": format_,
            "size": disk.size,
            "firmware": source.firmware if source is not None else "",
            "bus": source.bus if source is not None else "",
            # It does not get the target of the disk's image: beside that image, both would want it.
            "dev_prefix": (source.dev_prefix or prefix_of(source.target)) if source is not None else "",
            "luks_secret": disk.luks_secret,
            # Nobody else stores anything there meanwhile.
            "operation": Save(origin),
        }
        if found is None:
            locked = Image(None, image.name, state=ImageState.LOCKED, origin=origin, **facts)
            found = self.images.allocate(locked)
        else:
            found = self.images.update(id_of(found), state=ImageState.LOCKED, error="", **facts)
        return DiskTask(
            SAVE_AS,
            self._token(row),
            disk_id,
            consistency=consistency or AGENT,
            image_id=found.id,
            image=found.name,
            target=found.source,
            format=format_,
        )

    def snapshot(
        self, row: sqlite3.Row, disk_id: int, name: str, wanted: str, consistency: str = ""
    ) -> DiskTask | None:
        """Return what is to be done so that the disk has the snapshot (present), has none of that name (absent), or
        holds what it held then (reverted); None if that is so, or on its way."""
        check_name("snapshot", name)
        asked = f"VM {row['name']} (id {row['id']}): snapshot {name} of disk {disk_id}"
        disk = self._disk(row, disk_id, asked)
        tree = self._snapshots_then(row, disk)
        found = disk_snapshots.find(tree, name)
        if (wanted == "absent" and found is None) or (wanted == "present" and found is not None):
            return None
        if wanted == "reverted" and found is not None and self._reverts_to(row, disk_id) == found.id:
            return None
        if wanted == "reverted" and found is None:
            there = ", ".join(each.name for each in tree) or "none"
            raise NotFound(f"{asked}: revert", f"there is none of that name; there are: {there}", "Name one of these")
        self._refuse_directory(disk, asked)
        self._refuse_without_snapshots(disk, asked)
        state = self.state_then(row)
        if state == "SUSPENDED":
            raise WrongState(
                asked, "the machine is SUSPENDED: its memory belongs to the disk as it is", "Let it run or power it off"
            )
        if wanted == "reverted" and state == "RUNNING":
            raise WrongState(f"{asked}: revert", "the machine runs", "Power it off first (state: poweroff)")
        kind = {"present": CREATE, "absent": DELETE, "reverted": REVERT}[wanted]
        # A task that was given up may have left one of this id in the file, which the next is not to be taken for.
        number, mark = disk_snapshots.next_id(tree), secrets.token_hex(6)
        if found is not None:
            number, mark = found.id, found.mark
            if wanted == "absent":
                try:
                    disk_snapshots.refuse_deletion(tree, found)
                except NebulaError as error:
                    error.asked = f"{asked}: delete"
                    raise
        return DiskTask(kind, self._token(row), disk_id, consistency, snapshot_id=number, name=name, mark=mark)

    def system_snapshot(self, row: sqlite3.Row, name: str, wanted: str) -> DiskTask | None:
        """Return what is to be done so that the machine has the snapshot (present), has none of that name (absent), or
        is what it was then (reverted); None if that is so, or on its way."""
        check_name("snapshot", name)
        asked = f"VM {row['name']} (id {row['id']}): system snapshot {name}"
        vm = from_plain(Vm, json.loads(row["body"]))
        there = self._system_snapshots_then(row, vm)
        found = system_snapshots.find(there, name)
        if (wanted == "absent" and found is None) or (wanted == "present" and found is not None):
            return None
        if wanted == "reverted" and found is None:
            names = ", ".join(each.name for each in there) or "none"
            raise NotFound(f"{asked}: revert", f"there is none of that name; there are: {names}", "Name one of these")
        if wanted == "reverted" and found is not None and self._goes_back_to(row) == found.id:
            return None
        if not hypervisor_rules.rules_of(vm.hypervisor).system_snapshots:
            raise Unsupported(
                asked,
                f"machines of hypervisor {vm.hypervisor} have no snapshots of all their disks and their memory",
                "Take it out of the list; disk_snapshots and save_as are there for disks",
            )
        if self._is_made_anew(row):
            raise Conflict(asked, "the machine is to be made anew, which was decided before", "Let that be done first")
        state = self.state_then(row)
        if state == "SUSPENDED":
            raise WrongState(
                asked, "the machine is SUSPENDED: its memory is in a file", "Let it run or power it off first"
            )
        memory = state == "RUNNING" if found is None else found.memory
        if wanted == "present":
            system_snapshots.refuse_without(vm, memory, asked)
            if memory and row["waits"] != "{}":
                raise WrongState(
                    asked,
                    "the machine runs with other values than it is to have, and its memory could not go back to these",
                    "Start it anew first (restart: rolling)",
                )
        if wanted == "reverted" and found is not None:
            self._refuse_to_go_back(row, vm, found, f"{asked}: revert")
        kind = {"present": SYSTEM_CREATE, "absent": SYSTEM_DELETE, "reverted": SYSTEM_REVERT}[wanted]
        # As with those of disks: one of this id may be left in the files.
        number, mark = system_snapshots.next_id(there), secrets.token_hex(6)
        if found is not None:
            number, mark = found.id, found.mark
        return DiskTask(kind, self._token(row), 0, snapshot_id=number, name=name, mark=mark, memory=memory)

    def _refuse_to_go_back(self, row: sqlite3.Row, vm: Vm, snapshot: SystemSnapshot, asked: str) -> None:
        if snapshot.memory and row["wanted"] != "RUNNING":
            raise WrongState(
                asked, "it holds the memory of the machine, which runs after that", "Say state: running in its item"
            )
        if not snapshot.memory and self.state_then(row) == "RUNNING":
            raise WrongState(
                asked,
                "the machine runs, and was off when it was made, so that it holds no memory",
                "Power it off first (state: poweroff)",
            )
        system_snapshots.refuse_changed(snapshot, vm, asked)

    def state_then(self, row: sqlite3.Row) -> str:
        """Return the state in which a machine will be when its tasks are carried out."""
        found = self.found_state(row)
        if row["wanted"] == "POWEROFF" or found not in ("RUNNING", "SUSPENDED"):
            return "POWEROFF"
        return "SUSPENDED" if row["wanted"] == "SUSPENDED" else "RUNNING"

    def found_state(self, row: sqlite3.Row) -> str:
        """Return the state in which a machine was when it was last recorded."""
        return orders_of(row).found or vm_state_name(row["state"], row["lcm_state"])

    def refuse_tasked(self, row: sqlite3.Row, gone: Collection[int]) -> None:
        """Raise WrongState for a disk that is to go, and to be saved before. Its other tasks go with it."""
        self._refuse_held(row, gone)
        for task in self.pending(row):
            if task.disk_id in gone and task.kind == SAVE_AS:
                raise WrongState(
                    f"VM {row['name']} (id {row['id']}): take away disk {task.disk_id}",
                    f"it is to be saved as image {task.image}, which was decided before and is not done",
                    "Run again when that is done or has failed",
                )

    def _refuse_held(self, row: sqlite3.Row, gone: Collection[int]) -> None:
        """Raise WrongState for a disk that is to go, and that snapshots of the machine hold."""
        vm = from_plain(Vm, json.loads(row["body"]))
        vm = replace(vm, system_snapshots=self._system_snapshots_then(row, vm))
        for disk_id in sorted(gone):
            names = system_snapshots.holding(vm, disk_id)
            if names:
                raise WrongState(
                    f"VM {row['name']} (id {row['id']}): take away disk {disk_id}",
                    f"system snapshots hold it: {', '.join(names)}",
                    "Delete these first (system_snapshots with state: absent)",
                )

    def pending(self, row: sqlite3.Row) -> tuple[DiskTask, ...]:
        """Return the tasks that are decided and not recorded yet."""
        return orders_of(row).tasks

    def _is_made_anew(self, row: sqlite3.Row) -> bool:
        """Return whether it is decided and not done that a machine that may have written to its disks is made anew."""
        # If its host failed to make it anew, the next decision has that done.
        if not orders_of(row).recreates:
            return False
        ran = "SELECT 1 FROM history WHERE vm_id = ? AND state IN ('RUNNING', 'POWEROFF', 'SUSPENDED')"
        return self.found_state(row) not in _NOT_STARTED or self.store.row(ran, row["id"]) is not None

    def _image(self, column: str, value: int | str | None) -> Image | None:
        rows = self.store.rows(f"SELECT images.*, 0 AS vms FROM images WHERE {column} = ?", value)
        return image_of(rows[0]) if rows else None

    def _token(self, row: sqlite3.Row) -> str:
        return f"{row['generation'] + 1}.{len(self.pending(row))}"

    def _snapshots_then(self, row: sqlite3.Row, disk: Disk) -> Tree:
        """Return the disk's snapshots once all is done that is decided."""
        tree = disk.snapshots
        for task in self.pending(row):
            if task.disk_id == disk.disk_id and task.kind in (CREATE, REVERT, DELETE):
                tree = self._after(tree, task, disk.size)
        return tree

    def _reverts_to(self, row: sqlite3.Row, disk_id: int) -> int | None:
        """Return the snapshot of the last revert that is decided; None without one. Nothing deletes it after that: it
        is active then, or has children."""
        ids = [task.snapshot_id for task in self.pending(row) if (task.kind, task.disk_id) == (REVERT, disk_id)]
        return ids[-1] if ids else None

    def _system_snapshots_then(self, row: sqlite3.Row, vm: Vm) -> tuple[SystemSnapshot, ...]:
        """Return the machine's snapshots once all is done that is decided."""
        for task in self.pending(row):
            if task.kind in SYSTEM:
                vm = self._with_system_snapshot(vm, task)
        return vm.system_snapshots

    def _goes_back_to(self, row: sqlite3.Row) -> int | None:
        """Return the snapshot to which the machine goes back as the last thing that is decided about these."""
        tasks = [task for task in self.pending(row) if task.kind in SYSTEM]
        return tasks[-1].snapshot_id if tasks and tasks[-1].kind == SYSTEM_REVERT else None

    def _with_system_snapshot(self, vm: Vm, task: DiskTask) -> Vm:
        """Return the machine as it is once the task is done."""
        known = vm.system_snapshots
        if task.kind == SYSTEM_DELETE:
            return replace(vm, system_snapshots=system_snapshots.without(known, task.snapshot_id))
        if task.kind == SYSTEM_REVERT:
            return vm
        new = SystemSnapshot(
            task.snapshot_id,
            task.name,
            memory=task.memory,
            date=self.now(),
            mark=task.mark,
            disks=tuple(disk.disk_id for disk in system_snapshots.held_disks(vm)),
            definition=system_snapshots.definition_of(vm),
        )
        return replace(vm, system_snapshots=(*known, new))

    def _after(self, tree: Tree, task: DiskTask, size: int) -> Tree:
        if task.kind == CREATE:
            new = Snapshot(task.snapshot_id, task.name, date=self.now(), size=size, mark=task.mark)
            return disk_snapshots.with_snapshot(tree, new)
        change = disk_snapshots.without_snapshot if task.kind == DELETE else disk_snapshots.with_active
        return change(tree, task.snapshot_id)

    def _disk(self, row: sqlite3.Row, disk_id: int, asked: str) -> Disk:
        disks = from_plain(Vm, json.loads(row["body"])).disks
        for disk in disks:
            if disk.disk_id == disk_id:
                return disk
        raise NotFound(asked, f"the machine has {len(disks)} disks", "They count from 0, in the order of the template")

    @staticmethod
    def _refuse_directory(disk: Disk, asked: str) -> None:
        if disk.type == SHARED_DIRECTORY:
            raise Unsupported(
                asked, f"it is directory {disk.source} of the host, and no disk", "Copy what is in it on the host"
            )

    def _refuse_without_snapshots(self, disk: Disk, asked: str) -> None:
        if disk.type == "CDROM" or disk.readonly:
            raise InvalidValue(asked, "nothing is ever written to it", "Name a disk that is written to")
        if disk.luks_secret:
            raise Unsupported(
                asked, "it is encrypted, and no host could revert it without its secret", "Use save_as while it is off"
            )
        if (disk.format if disk.save else disk.driver) != "qcow2":
            remedy = (
                "Convert the image while no machine uses it: nebula_image with format: qcow2"
                if disk.save
                else "Make the machine anew with DRIVER = qcow2 in this DISK (FORMAT = qcow2 where it has no image)"
            )
            raise Unsupported(asked, "it is a raw disk, which has no place for them", remedy)

    # -- remembering ------------------------------------------------------------------------------------------------
    def record(self, row: sqlite3.Row, outcome: VmOutcome, back: Return | None = None) -> None:
        """Take over what became of the machine's tasks; those of which nothing is heard failed with the machine. back:
        the operation by which what it saved comes back; None if that is where it belongs."""
        reported = {each.token: each for each in outcome.tasks}
        for task in self.pending(row):
            error = outcome.error or {"asked": "disk", "found": "its node does not say what became of it"}
            self._record(row, task, reported.get(task.token) or TaskOutcome(task.token, error=error), back)

    def _record(self, row: sqlite3.Row, task: DiskTask, outcome: TaskOutcome, back: Return | None) -> None:
        if task.kind == SAVE_AS:
            if back is not None and outcome.error is None:
                outcome = self._checked_against_catalog(row, task, outcome, back.host)
            self._record_image(task, outcome, origin_of(row["uuid"], task.disk_id), back)
        elif outcome.error is None and task.kind in SYSTEM:
            body = self.store.rows("SELECT body FROM vms WHERE id = ?", row["id"])[0]["body"]
            text = compact(to_plain(self._with_system_snapshot(from_plain(Vm, json.loads(body)), task)))
            self.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (text, row["id"]))
        elif outcome.error is None:
            self._record_tree(row["id"], task)

    def _checked_against_catalog(
        self, row: sqlite3.Row, task: DiskTask, outcome: TaskOutcome, host: str
    ) -> TaskOutcome:
        """Return what a host says that it saved of a disk; an error where that is not the disk that the catalog knows.
        What is believed here limits the file that comes from there."""
        disks = from_plain(Vm, json.loads(row["body"])).disks
        disk = next((each for each in disks if each.disk_id == task.disk_id), None)
        # The root of a container is as large as its files are, and its archive is made of them.
        if disk is None or ((disk.format == TAR or disk.by_hypervisor) and outcome.format == TAR):
            return outcome
        if outcome.size <= disk.size and outcome.format == task.format:
            return outcome
        error = {
            "asked": f"disk {task.disk_id} on host {host}",
            "found": f"it says that it has {outcome.size} MiB as {outcome.format or 'nothing'}, and the catalog has "
            f"{disk.size} MiB as {task.format}; nothing of it was sent",
            "remedy": f"If somebody made it larger there: set SIZE = {outcome.size} for this disk, then run again. If "
            "nobody did: find out who else has power over that host before what it has is used",
        }
        return TaskOutcome(task.token, error=error)

    def _record_image(self, task: DiskTask, outcome: TaskOutcome, origin: str, back: Return | None) -> None:
        image = self._image("id", task.image_id)
        if image is None or image.source != task.target:
            # The image was removed meanwhile, and its file came after that.
            remove_file(task.target)
        elif not is_being_saved(image, origin):
            # By now it is being stored from something else, or was.
            return
        elif outcome.error is None:
            facts: dict[str, Any] = {"size": outcome.size, "format": outcome.format, "error": "", "operation": None}
            state = ImageState.READY
            if back is not None:
                facts["operation"], state = back, ImageState.LOCKED
            self.images.update(id_of(image), state=state, **facts)
        else:
            self.images.update(id_of(image), state=ImageState.ERROR, error=text_of(outcome.error), operation=None)

    def _record_tree(self, vm_id: int, task: DiskTask) -> None:
        body = self.store.rows("SELECT body FROM vms WHERE id = ?", vm_id)[0]["body"]
        vm = from_plain(Vm, json.loads(body))
        disks = []
        for disk in vm.disks:
            if disk.disk_id != task.disk_id:
                disks.append(disk)
                continue
            tree = self._after(disk.snapshots, task, disk.size)
            disks.append(replace(disk, snapshots=tree))
            if disk.save and disk.image_id is not None:
                # The file is the image's, and goes on to the next machine with all that it holds.
                held = disk_snapshots.text_of(tree)
                self.store.db.execute("UPDATE images SET snapshots = ? WHERE id = ?", (held, disk.image_id))
        text = compact(to_plain(replace(vm, disks=tuple(disks))))
        self.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (text, vm_id))

    def abandon(self, tasks: Sequence[DiskTask]) -> None:
        """Give up these tasks: their machine has ended, or is to."""
        for task in tasks:
            image = self._image("id", task.image_id) if task.kind == SAVE_AS else None
            if image is not None and is_being_saved(image, image.origin):
                self.images.update(id_of(image), state=ImageState.ERROR, error=_ENDED, operation=None)


def _holds_content(image: Image) -> bool:
    """Return whether the image was whole once: a save that fails leaves no file, and what came later is noted."""
    noted = image.generation or image.sha256 or image.checksums or image.snapshots
    return bool(noted) or os.path.lexists(image.source)


def text_of(error: Mapping[str, str] | None) -> str:
    """Return an error in one sentence or two; "" only if there is none."""
    if error is None:
        return ""
    asked, found, remedy = (error.get(part, "") for part in ("asked", "found", "remedy"))
    return str(NebulaError(asked, found.strip() or UNEXPLAINED, remedy)).removeprefix(": ")
