# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the front-end bring what a backup holds to the host of its machine: into a new disk, which is shown for writing
as long as that takes, and changes places with nothing before all of it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from ...dataclass import dataclass
from ...errors import Conflict, InvalidValue, NebulaError, OtherHostFailed, StorageFailed
from ...model.dataclass_json import to_plain
from ...model.disk import DiskFiles
from ...model.machine_backup import BackupPassage, MachineBackup
from ...model.machine_restore import MachineRestored, MachineToRestore
from ...storage import disk_creation, disk_exports, qcow2_header, qemu_img, restored_disks
from ...storage.datastore_layout import free_space, require_space
from ...storage.restored_disks import DiskOfBackup
from ...storage.root_backups import LONGEST, Unpack
from ..moves.passage import DISKS, OF_RESTORES, Channel, Door, Identity, Meeting
from . import conversation
from .giving import tunnel_to


@dataclass(frozen=True)
class Foreseen:
    """Is a backup of which nobody brings anything, as its request describes it: for a look at what would be done."""

    request: MachineToRestore

    @property
    def backup(self) -> MachineBackup:
        if self.request.brought is None:
            raise InvalidValue("option request", "it says nothing of the backup", "Give what state: planned returned")
        return self.request.brought

    def disk(self, disk_id: int) -> DiskOfBackup:
        return DiskOfBackup(self.backup, next(each for each in self.backup.disks if each.disk_id == disk_id), ())

    def require_room(self, disks: Sequence[tuple[str, DiskOfBackup]], what: str) -> None:
        by_place: dict[str, list[DiskOfBackup]] = {}
        for path, found in disks:
            by_place.setdefault(os.path.dirname(path), []).append(found)
        for place, several in by_place.items():
            needed = sum(restored_disks.most_of(each.disk) for each in several)
            if needed > free_space(place):
                needed = min(needed, sum(self.request.room.get(str(each.disk.disk_id), 0) for each in several))
            require_space(place, needed, what)

    def make(self, found: DiskOfBackup, path: str, format: str, disk_key: str) -> None:
        raise AssertionError("nothing is made where nobody brings anything")

    def make_root(self, found: DiskOfBackup, unpack: Unpack) -> list[str]:
        raise AssertionError("nothing is made where nobody brings anything")

    def content(self, what: str, most: int) -> bytes:
        self._length_of(what, most)
        return b""

    def _length_of(self, what: str, most: int) -> int:
        size = self.backup.files[what].size
        if size > most:
            asked = f"backup {self.backup.id} of {self.backup.name}: {what}"
            raise Conflict(asked, f"it has {size} bytes, and the machine's has {most} at most")
        return size


@dataclass(frozen=True)
class Brought(Foreseen):
    """Is a backup that the front-end brings.
    meetings: of the door, by their tokens."""

    channel: Channel
    meetings: dict[str, Meeting]
    passage: BackupPassage

    def make(self, found: DiskOfBackup, path: str, format: str, disk_key: str) -> None:
        disk_id, size = found.disk.disk_id, found.disk.size
        new = DiskFiles(path, format)
        disk_creation.create_empty(path, format, size, key=disk_key)
        token = conversation.token_of(self.passage.token, self.request.vm.vm_id, disk_id)
        name = f"{self.request.vm.vm_id}-{self.request.catalog}"
        with disk_exports.filled(name, new, found.what, disk_key) as shown:
            meeting = Meeting(self.passage.certificate, OF_RESTORES)
            meeting.tunnels = {DISKS: tunnel_to(shown)}
            self.meetings[token] = meeting
            try:
                self.channel.send(**{conversation.DISK: disk_id})
                whole = self._answer(conversation.WHOLE)
            finally:
                del self.meetings[token]
            if whole != disk_id:
                raise self.channel.broken("it has brought another disk than it was asked for")
        _check(new, size, found.what, disk_key)

    def make_root(self, found: DiskOfBackup, unpack: Unpack) -> list[str]:
        self.channel.send(**{conversation.ROOT: found.disk.disk_id})
        return unpack(conversation.pieces(self.channel, self.passage.peer, LONGEST), LONGEST)

    def content(self, what: str, most: int) -> bytes:
        size = self._length_of(what, most)
        self.channel.send(**{conversation.FILE: what})
        content = bytearray()
        for block in conversation.pieces(self.channel, self.passage.peer, conversation.ANSWER_SECONDS):
            content += block
            if len(content) > size:
                break
        if len(content) != size:
            raise self.channel.broken(f"it sends {what} with another size than it has")
        return bytes(content)

    def _answer(self, word: str) -> Any:
        return conversation.answer(self.channel, word, self.passage.peer, conversation.STORING_SECONDS)


def _check(new: DiskFiles, size: int, what: str, key: str) -> None:
    """Raise StorageFailed for a new disk that is not as it was made, or that has not got all that it was given."""
    qcow2_header.refuse_unexpected(new, what, encrypted=bool(key))
    if key:
        qcow2_header.refuse_plain(new.path, what)
    found = disk_creation.virtual_size(new.path, new.format)
    if found != size:
        raise StorageFailed(what, f"the new disk has {found} bytes, and was to have {size}")
    if new.format == "raw":
        return
    done = qemu_img.run(
        "check", "-q", disk=new, what=what, key=key, closed=bool(key), timeout=qemu_img.LONG_TIMEOUT, check=False
    )
    # Also where clusters are used that no table knows: these are what was written, and is not found any more.
    if done.returncode != 0:
        raise StorageFailed(what, "the tables of the new disk are not whole", "See the host's storage, then run again")


def receive(
    request: MachineToRestore, passage: BackupPassage, restore: Callable[[Brought], MachineRestored]
) -> MachineRestored:
    """Wait for the front-end, have it bring what is restored, and say what became of it. Raise OtherHostFailed if it
    does not come, or is lost. restore: does the work."""
    asked = f"virtual machine {request.vm.name}: restoring its disks"
    meeting = Meeting(passage.certificate, OF_RESTORES)
    meetings = {passage.token: meeting}
    identity = Identity(passage.own_certificate, passage.key)
    door = Door(passage.port, identity, meetings, passage.meeting)
    try:
        channel = meeting.wait(passage.meeting, asked)
        channel.call(asked)
        try:
            conversation.answer(channel, conversation.BEGIN, passage.peer)
            done = restore(Brought(request, channel, meetings, passage))
        except NebulaError as error:
            with contextlib.suppress(OtherHostFailed):
                conversation.refuse(channel, error)
            raise
        # Everything is in its place, whether or not the front-end hears of it.
        with contextlib.suppress(OtherHostFailed):
            channel.send(**{conversation.DONE: to_plain(done)})
        return done
    finally:
        meeting.close()
        door.close()
