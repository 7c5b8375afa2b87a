# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A front-end that brings a backup to a host, with TLS over the loopback: what the host may have, and what not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_backups import MadeBackups, altered
from move_pairs import Beside, door, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    HypervisorError,
    InvalidValue,
    NotFound,
    OtherHostFailed,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups import conversation
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.bringing import bring
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import (
    OF_RESTORES,
    Channel,
    Meeting,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupPassage, MachineBackup
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
MIB = 1 << 20
VM = Vm(7, "u-7", "web-7", "memory", 1.0, 64)


class Frontend:
    def __init__(self, tmp_path: Path) -> None:
        self.places = MadeBackups(tmp_path / "backups")
        self.made: MachineBackup = self.places.full(7, CATALOG, {0: b"n" * MIB}, "raw", {"nvram": b"variables"})
        self.root = str(tmp_path / "root")

    def request(self, port: int = 0, **changes: object) -> MachineToRestore:
        (ours, our_key), (theirs, _key) = key_pair("source"), key_pair("target")
        passage = BackupPassage("7d0c", False, "node1", "127.0.0.1", port or free_port(), theirs, ours, our_key, 20)
        base = MachineToRestore(CATALOG, VM, 3, str(self.places.directory), self.made.id, passage=passage)
        return replace(base, **changes)

    def bring(self, request: MachineToRestore, check_mode: bool = False) -> None:
        assert request.passage is not None
        bring(request, request.passage, self.root, check_mode)


@pytest.fixture
def frontend(tmp_path: Path) -> Frontend:
    return Frontend(tmp_path)


class Host:
    """A host that the front-end has come to."""

    def __init__(self, frontend: Frontend, port: int, meeting: Meeting, **changes: object) -> None:
        self.work = Beside(lambda: frontend.bring(frontend.request(port, **changes)))
        self.channel: Channel = meeting.wait(20, "x")
        assert self.channel.receive(20) == {"begin": frontend.made.id}


def test_it_gives_what_is_asked_for_until_all_is_done(frontend: Frontend) -> None:
    meeting = Meeting(key_pair("source")[0], OF_RESTORES)
    with door({"7d0c": meeting}) as port:
        host = Host(frontend, port, meeting)
        host.channel.send(file="nvram")
        assert b"".join(conversation.pieces(host.channel, "front", 20)) == b"variables"
        host.channel.send(done={})
        host.work.result()


@pytest.mark.parametrize(
    ("asks", "disks"),
    [
        ({"file": "nvram"}, (0,)),
        ({"file": "../x"}, None),
        ({"file": 7}, None),
        ({"disk": 0}, (1,)),
        ({"disk": 9}, None),
        ({"disk": False}, None),
        ({"disk": [0]}, None),
        ({"root": "0"}, None),
    ],
)
def test_it_gives_nothing_else(frontend: Frontend, asks: dict[str, object], disks: tuple[int, ...] | None) -> None:
    meeting = Meeting(key_pair("source")[0], OF_RESTORES)
    with door({"7d0c": meeting}) as port:
        host = Host(frontend, port, meeting, disks=disks)
        host.channel.send(**asks)
        assert "is not to be restored" in json.dumps(host.channel.receive(20)["refused"])
        with pytest.raises(InvalidValue):
            host.work.result()


def test_what_was_altered_is_told_to_both(frontend: Frontend) -> None:
    meeting = Meeting(key_pair("source")[0], OF_RESTORES)
    path = frontend.places.place(frontend.made) / frontend.made.files["nvram"].name
    with door({"7d0c": meeting}) as port, altered(path, 3):
        host = Host(frontend, port, meeting)
        host.channel.send(file="nvram")
        assert "SHA-256" in host.channel.receive(20)["refused"]["asked"]
        with pytest.raises(ChecksumMismatch):
            host.work.result()


def test_what_the_host_says_is_told(frontend: Frontend) -> None:
    meeting = Meeting(key_pair("source")[0], OF_RESTORES)
    with door({"7d0c": meeting}) as port:
        host = Host(frontend, port, meeting)
        conversation.refuse(host.channel, NotFound("machine web-7", "there is none"))
        with pytest.raises(HypervisorError, match="there is none"):
            host.work.result()
    meeting = Meeting(key_pair("source")[0], OF_RESTORES)
    with door({"7d0c": meeting}) as port:
        host = Host(frontend, port, meeting)
        host.channel.send(hello=1)
        with pytest.raises(OtherHostFailed, match="it asks for what nobody has"):
            host.work.result()


def test_what_is_foreseen_needs_no_host(frontend: Frontend) -> None:
    frontend.bring(frontend.request(), check_mode=True)
    with pytest.raises(NotFound):
        frontend.bring(frontend.request(backup="20250101T000000Z-000000"), check_mode=True)
