# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the front-end what it reads of this host's machines: it comes to this host's door, and asks for one machine
after the other."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from ...errors import HypervisorError, NebulaError, OtherHostFailed
from ...host.files import explained, opened
from ...model.dataclass_json import to_plain
from ...model.given_backup import AskedBackup, GivenBackup, read_asked
from ...model.machine_backup import BackupPassage, BackupRequest, MachineToBackUp
from ...storage import root_backups
from ...storage.backup_files import NbdSource
from ...storage.root_backups import Pack, ReadableRoot
from ..moves import file_streams
from ..moves.passage import DISKS, OF_BACKUPS, Channel, Door, Identity, Meeting, relay
from . import conversation


class Readable(Protocol):
    """Is a machine whose disks can be read now.
    given: what is said of it. sources: where each of its disks is read. files: paths of what else it has, by name.
    roots: of containers, by disk id."""

    @property
    def given(self) -> GivenBackup: ...

    @property
    def sources(self) -> Mapping[int, NbdSource]: ...

    @property
    def files(self) -> Mapping[str, str]: ...

    @property
    def roots(self) -> Mapping[int, ReadableRoot]: ...

    def end_reading(self) -> None:
        """Take note that all was read. Raise InUse or TimedOut where it is not of one moment."""

    def keep(self) -> None:
        """Take note that the backup is whole: the next one may go on from it."""

    def leave_open(self) -> None:
        """Take note that nobody here knows whether the backup is whole."""


Begin = Callable[[MachineToBackUp, str, str], AbstractContextManager[Readable]]
"""Makes a machine readable for as long as the block lasts. Given are the machine, the new checkpoint's name, and that
of the one to go on from, "" for none."""


class _Given(Meeting):
    """Is where the front-end comes to for one machine. It is served by the thread in which it came."""

    def __init__(self, certificate: str, serve: Callable[[Channel], None]) -> None:
        super().__init__(certificate, OF_BACKUPS)
        self._serve = serve

    def enter(self, channel: Channel) -> None:
        self._serve(channel)


class Giving:
    """Serves the front-end in one run of backups."""

    def __init__(self, request: BackupRequest, passage: BackupPassage, begin: Begin) -> None:
        self._passage, self._begin = passage, begin
        self._machines = {machine.vm.vm_id: machine for machine in request.machines}
        self._meetings: dict[str, Meeting] = {passage.token: Meeting(passage.certificate, OF_BACKUPS)}
        for machine in request.machines:
            token = conversation.token_of(passage.token, machine.vm.vm_id)
            self._meetings[token] = _Given(passage.certificate, self._serving(machine))
        self._changed = threading.Condition()
        self._open: set[Channel] = set()
        self._over = False
        self._errors: dict[int, NebulaError] = {}

    def serve(self) -> dict[int, NebulaError]:
        """Serve until the front-end says that it is over. Return what went wrong, by machine. Raise OtherHostFailed if
        the front-end does not come, or is lost."""
        passage, asked = self._passage, f"backups of machines by front-end {self._passage.peer}"
        identity = Identity(passage.own_certificate, passage.key)
        door = Door(passage.port, identity, self._meetings, passage.meeting)
        run = self._meetings[passage.token]
        try:
            talk = run.wait(passage.meeting, asked)
            talk.call(asked)
            if conversation.OVER not in talk.receive(conversation.STORING_SECONDS):
                raise talk.broken("it says something else than that it is over")
        finally:
            self._end()
            run.close()
            door.close()
        return self._errors

    def _end(self) -> None:
        """End all that is still open, and wait until each has cleared away what it began."""
        with self._changed:
            self._over = True
            for channel in self._open:
                channel.end()
            self._changed.wait_for(lambda: not self._open)

    def _serving(self, machine: MachineToBackUp) -> Callable[[Channel], None]:
        def serve(channel: Channel) -> None:
            with self._changed:
                if self._over:
                    channel.close()
                    return
                self._open.add(channel)
            try:
                self._converse(machine, channel)
            except NebulaError as error:
                with self._changed:
                    self._errors[machine.vm.vm_id] = error
            finally:
                channel.close()
                with self._changed:
                    self._open.discard(channel)
                    self._changed.notify_all()

        return serve

    def _converse(self, machine: MachineToBackUp, channel: Channel) -> None:
        channel.call(f"backup of virtual machine {machine.vm.name}")
        name = f"backup of virtual machine {machine.vm.name}"
        asked = read_asked(conversation.answer(channel, conversation.BEGIN, self._passage.peer), name)
        not_stored = HypervisorError(name, f"front-end {self._passage.peer} could not store it", "See what it says")
        try:
            self._give(machine, asked, channel, not_stored)
        except NebulaError as error:
            # What was begun has ended by now, and may say why.
            if error is not_stored:
                channel.send(**{conversation.DONE: True})
            elif error.__cause__ is not_stored:
                conversation.refuse(channel, error)
            raise

    def _give(
        self, machine: MachineToBackUp, asked: AskedBackup, channel: Channel, not_stored: HypervisorError
    ) -> None:
        with contextlib.ExitStack() as held:
            try:
                readable = held.enter_context(self._begin(machine, asked.checkpoint, asked.since))
                held.enter_context(self._shown(machine.vm.vm_id, readable.sources))
            except NebulaError as error:
                conversation.refuse(channel, error)
                raise
            channel.send(**{conversation.GIVEN: to_plain(readable.given)})
            try:
                self._wait(channel, readable, not_stored)
                readable.keep()
            except OtherHostFailed:
                # It may be whole, and the word that says so may be lost.
                readable.leave_open()
                raise
            except NebulaError as error:
                if error is not not_stored:
                    conversation.refuse(channel, error)
                raise
            channel.send(**{conversation.DONE: True})

    def _wait(self, channel: Channel, readable: Readable, not_stored: HypervisorError) -> None:
        """Wait until the backup is whole, and send what is asked for meanwhile. Raise not_stored if it is not."""
        while True:
            message = channel.receive(conversation.STORING_SECONDS)
            if message.get(conversation.KEPT) is True:
                return
            if message.get(conversation.WHY) is True:
                raise not_stored
            if message.get(conversation.READ) is True:
                readable.end_reading()
                channel.send(**{conversation.READ: True})
                continue
            number = message.get(conversation.ROOT)
            if isinstance(number, int) and number in readable.roots:
                _send_root(channel, readable.roots[number].pack, f"disk {number}")
                continue
            name = message.get(conversation.FILE)
            path = readable.files.get(name) if isinstance(name, str) else None
            if path is None or not isinstance(name, str):
                raise channel.broken("it asks for what is not there")
            # It may be one that is open already, by its name below /proc.
            with explained(path), opened(path, os.O_RDONLY | os.O_CLOEXEC) as fd:
                file_streams.send_open(channel, name, fd, conversation.limit(), readable.given.files[name])

    @contextlib.contextmanager
    def _shown(self, vm_id: int, sources: Mapping[int, NbdSource]) -> Iterator[None]:
        """Lead connections for the machine's disks to where these are read, for as long as the block lasts."""
        shown: dict[str, Meeting] = {}
        for disk_id, source in sources.items():
            meeting = Meeting(self._passage.certificate, OF_BACKUPS)
            meeting.tunnels = {DISKS: tunnel_to(source.path)}
            shown[conversation.token_of(self._passage.token, vm_id, disk_id)] = meeting
        self._meetings.update(shown)
        try:
            yield
        finally:
            for token in shown:
                del self._meetings[token]


def _send_root(channel: Channel, pack: Pack, what: str) -> None:
    with root_backups.packing(pack, what) as under_way:
        for block in under_way.blocks():
            channel.send(**{conversation.LENGTH: len(block)})
            channel.send_bytes(block)
        channel.send(**{conversation.LENGTH: 0, conversation.LEFT_OUT: under_way.left_out})


def tunnel_to(path: str) -> Callable[[Channel], None]:
    """Return what leads a connection to a socket of this host."""

    def carry(channel: Channel) -> None:
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            local.connect(path)
        except OSError:
            # Whoever reads learns by the end of the connection.
            local.close()
            channel.close()
            return
        relay(local, channel.stream, early=(b"", channel.early()))

    return carry
