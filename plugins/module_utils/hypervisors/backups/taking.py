# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets at the disks of another host's machines from the front-end, as if they were its own: each has a socket here that
leads to where its host shows it."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ...dataclass import dataclass, replace
from ...errors import NebulaError, OtherHostFailed
from ...host.sandbox import USER
from ...model import given_backup
from ...model.dataclass_json import to_plain
from ...model.disk import TAR
from ...model.given_backup import AskedBackup, GivenBackup
from ...model.machine_backup import BackupPassage, MachineToBackUp
from ...storage.backup_files import NbdSource
from ...storage.root_backups import ReadableRoot
from ..moves import file_streams
from ..moves.passage import DISKS, OF_BACKUPS, Caller, Channel, Identity, not_met, tunnels
from . import conversation

# Seconds between two tries to meet a host that another one may have to make room for.
_STEP = 0.2
# Seconds after which a disk is given up of which nothing comes any more.
STANDSTILL_SECONDS = 900.0


class Activity:
    """Knows whether anything of a run goes on: a host may be one of many, and begin only when another one is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work = 0
        self._since = time.monotonic()

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
                self._since = time.monotonic()

    def idle_seconds(self) -> float:
        """Return for how long nothing has gone on."""
        with self._lock:
            return 0.0 if self._at_work else time.monotonic() - self._since


@dataclass(frozen=True)
class TakenBackup:
    """Is a machine of another host whose disks can be read now, by sockets of this host."""

    given: GivenBackup
    sources: Mapping[int, NbdSource]
    channel: Channel
    host: str

    def fetch(self, name: str, fd: int) -> None:
        """Write one of given.files to a new file that is open."""
        self.channel.send(**{conversation.FILE: name})
        header = self.channel.receive(conversation.ANSWER_SECONDS)
        file_streams.receive_open(self.channel, header, fd, self.given.files[name], conversation.limit())

    @property
    def roots(self) -> Mapping[int, ReadableRoot]:
        """Return the roots of containers, by disk id; each is read once."""
        return {
            disk.disk_id: ReadableRoot(disk.holds, functools.partial(self._receive_root, disk.disk_id))
            for disk in self.given.disks
            if disk.format == TAR
        }

    def _receive_root(self, disk_id: int, fd: int, seconds: float) -> int:
        """Write the archive of a root to a pipe. Return of how much it has no place for."""
        limit, channel = time.monotonic() + seconds, self.channel
        channel.send(**{conversation.ROOT: disk_id})
        while True:
            message = conversation.message(channel, conversation.LENGTH, self.host)
            length, left_out = message[conversation.LENGTH], message.get(conversation.LEFT_OUT, 0)
            if not _is_number(length, conversation.LONGEST_PIECE) or not _is_number(left_out, 1 << 62):
                raise channel.broken("it sends no archive")
            if not length:
                return int(left_out)
            for block in channel.receive_bytes(length, limit - time.monotonic()):
                view = memoryview(block)
                while view:
                    view = view[os.write(fd, view) :]

    def end_reading(self) -> None:
        """Say that all was read. Raise the host's error where it is not of one moment."""
        self.channel.send(**{conversation.READ: True})
        conversation.answer(self.channel, conversation.READ, self.host)

    def keep(self) -> None:
        """Say that the backup is whole, and on its disk."""
        self.channel.send(**{conversation.KEPT: True})
        conversation.answer(self.channel, conversation.DONE, self.host)


def _is_number(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _refuse_as_host(channel: Channel, host: str, error: NebulaError) -> None:
    """Raise the host's own error, where it knows why its machine could not be stored."""
    try:
        channel.send(**{conversation.WHY: True})
        conversation.message(channel, conversation.DONE, host, conversation.WHY_SECONDS)
    except OtherHostFailed:
        # It has said so, or is gone.
        return
    except NebulaError as found:
        raise found from error


class Taking:
    """Is the front-end's side of a run of backups of one other host."""

    def __init__(self, passage: BackupPassage, activity: Activity) -> None:
        self._passage, self._activity = passage, activity
        self._identity = Identity(passage.own_certificate, passage.key)
        self._talk: Channel | None = None

    def meet(self) -> None:
        """Wait for the host, as long as anything else of this run goes on, and for the time of a meeting after that.
        Raise OtherHostFailed if it does not come."""
        passage = self._passage
        asked = f"backups of machines of host {passage.peer}"
        caller = self._caller(passage.token, asked)
        while self._talk is None:
            try:
                self._talk = caller.meet(0.0)
            except NebulaError as error:
                if self._activity.idle_seconds() > passage.meeting:
                    found = error.found.partition(" within ")[0]
                    raise not_met(asked, found, passage.meeting, OF_BACKUPS) from error
                time.sleep(_STEP)

    def close(self) -> None:
        """Let the host go: no further machine of its is asked for."""
        if self._talk is not None:
            with contextlib.suppress(NebulaError):
                self._talk.send(**{conversation.OVER: True})
            self._talk.close()

    @contextlib.contextmanager
    def begin(self, machine: MachineToBackUp, checkpoint: str, since: str) -> Iterator[TakenBackup]:
        """Have the machine's disks readable here for as long as the block lasts.
        checkpoint: the name of what its host keeps for the next backup. since: that of the last one, "" for none."""
        vm, passage = machine.vm, self._passage
        asked = f"backup of virtual machine {vm.name}"
        channel = self._caller(conversation.token_of(passage.token, vm.vm_id), asked).meet(passage.meeting)
        with contextlib.closing(channel), self._activity.going_on():
            channel.send(**{conversation.BEGIN: to_plain(AskedBackup(checkpoint, since))})
            plain = conversation.answer(channel, conversation.GIVEN, passage.peer)
            given = given_backup.read(plain, vm, asked)
            with contextlib.ExitStack() as held:
                directory = held.enter_context(tempfile.TemporaryDirectory(prefix="nebula-backup-"))
                # Who reads has no rights but to the sockets.
                os.chmod(directory, 0o711)
                sources = {
                    disk.disk_id: held.enter_context(self._socket(directory, machine, disk, asked))
                    for disk in given.disks
                    if disk.format != TAR
                }
                if not given.incremental:
                    sources = {disk_id: replace(each, bitmap="") for disk_id, each in sources.items()}
                try:
                    yield TakenBackup(given, sources, channel, passage.peer)
                except NebulaError as error:
                    _refuse_as_host(channel, passage.peer, error)
                    raise

    @contextlib.contextmanager
    def _socket(
        self, directory: str, machine: MachineToBackUp, disk: given_backup.GivenDisk, asked: str
    ) -> Iterator[NbdSource]:
        token = conversation.token_of(self._passage.token, machine.vm.vm_id, disk.disk_id)
        path = os.path.join(directory, f"disk.{disk.disk_id}")
        with tunnels({DISKS: path}, self._caller(token, asked), USER, STANDSTILL_SECONDS):
            yield NbdSource(path, disk.export, disk.size, disk.bitmap)

    def _caller(self, token: str, asked: str) -> Caller:
        passage = self._passage
        return Caller(self._identity, token, passage.address, passage.port, passage.certificate, asked, OF_BACKUPS)
