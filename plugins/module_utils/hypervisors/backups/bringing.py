# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings what a backup on the front-end holds to the host of its machine: the key and the files of the backup stay
here, and the host says when it is ready for which part."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

from ...errors import InvalidValue, NebulaError, OtherHostFailed
from ...host.sandbox import USER
from ...model.machine_backup import TAR, BackupPassage, MachineBackup
from ...model.machine_restore import MachineToRestore
from ...storage import backup_files, backup_search, restored_disks, root_backups
from ...storage.backup_files import NbdSource
from ...storage.backup_place import MachineDirectory
from ...storage.disk_exports import EXPORT
from ...storage.restored_disks import DiskOfBackup
from ..moves.passage import DISKS, OF_RESTORES, Caller, Channel, Identity, tunnels
from . import conversation


def bring(request: MachineToRestore, passage: BackupPassage, root: str, check_mode: bool = False) -> None:
    """Bring what is asked for, and wait until it is in its place. Raise the error of what stands against it, here or at
    the machine's host; nothing was changed there then. In check mode only look at what there is."""
    asked = f"virtual machine {request.vm.name}: restoring its disks"
    place = backup_search.open_place(request.directory, request.catalog, root)
    with place.machine(request.vm.vm_id, request.catalog, request.key) as held:
        bringing = _Bringing(request, passage, held, held.get(request.backup), asked)
        if not check_mode:
            bringing.carry_out()


class _Bringing:
    """Brings one backup."""

    def __init__(
        self,
        request: MachineToRestore,
        passage: BackupPassage,
        held: MachineDirectory,
        backup: MachineBackup,
        asked: str,
    ) -> None:
        self._request, self._passage, self._held, self._backup = request, passage, held, backup
        self._asked = asked
        self._identity = Identity(passage.own_certificate, passage.key)

    def carry_out(self) -> None:
        channel = self._caller(self._passage.token).meet(self._passage.meeting)
        with contextlib.closing(channel):
            channel.send(**{conversation.BEGIN: self._backup.id})
            while True:
                message = channel.receive(conversation.STORING_SECONDS)
                if conversation.DONE in message:
                    return
                if conversation.REFUSED in message:
                    # Raises what the host says.
                    conversation.read(message, conversation.DONE, channel, self._passage.peer)
                try:
                    self._answer(channel, message)
                except NebulaError as error:
                    with contextlib.suppress(OtherHostFailed):
                        conversation.refuse(channel, error)
                    raise

    def _answer(self, channel: Channel, message: dict[str, Any]) -> None:
        disk_id, what = message.get(conversation.DISK), message.get(conversation.FILE)
        if disk_id is not None:
            self._write(self._disk(disk_id))
            channel.send(**{conversation.WHOLE: disk_id})
        elif what is not None:
            conversation.send_pieces(channel, [self._content(what)])
        elif conversation.ROOT in message:
            found, held = self._disk(message[conversation.ROOT]), self._held
            with root_backups.archive_of(held.directory, found.disk.file, found.what, held.key) as blocks:
                conversation.send_pieces(channel, blocks)
        else:
            raise channel.broken("it asks for what nobody has")

    def _disk(self, disk_id: Any) -> DiskOfBackup:
        """Return a disk that the host may have."""
        ids = [each.disk_id for each in self._backup.disks]
        if isinstance(disk_id, bool) or disk_id not in (ids if self._request.disks is None else self._request.disks):
            raise InvalidValue(self._asked, "its host asks for a disk that is not to be restored", "See that host")
        return restored_disks.disk_of(self._held, self._backup, int(disk_id))

    def _content(self, what: Any) -> bytes:
        if not isinstance(what, str) or what not in self._backup.files or self._request.disks is not None:
            raise InvalidValue(self._asked, "its host asks for what is not to be restored", "See that host")
        return restored_disks.content_of(self._held, self._backup, what, self._backup.files[what].size)

    def _write(self, found: DiskOfBackup) -> None:
        if found.disk.stored == TAR:
            raise InvalidValue(self._asked, "its host takes a root file system for a disk", "See that host")
        token = conversation.token_of(self._passage.token, self._request.vm.vm_id, found.disk.disk_id)
        with tempfile.TemporaryDirectory(prefix="nebula-backup-") as directory:
            # Who writes has no rights but to the socket.
            os.chmod(directory, 0o711)
            path = os.path.join(directory, "disk")
            with tunnels({DISKS: path}, self._caller(token), USER):
                target = NbdSource(path, EXPORT, found.disk.size)
                backup_files.write_disk(found.chain, target, self._held.key, found.disk.size, found.what)

    def _caller(self, token: str) -> Caller:
        passage = self._passage
        return Caller(
            self._identity,
            token,
            passage.address,
            passage.port,
            passage.certificate,
            self._asked,
            OF_RESTORES,
        )
