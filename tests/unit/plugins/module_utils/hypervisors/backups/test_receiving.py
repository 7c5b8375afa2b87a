# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host to which a front-end brings a backup, with TLS over the loopback: what it believes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_backups import MadeBackups
from move_pairs import Beside, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    HypervisorError,
    InvalidValue,
    NoSpace,
    OtherHostFailed,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups import conversation, receiving
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.receiving import (
    Brought,
    Foreseen,
    receive,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import (
    OF_RESTORES,
    Caller,
    Channel,
    Identity,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupPassage
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import (
    MachineRestored,
    MachineToRestore,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
MIB = 1 << 20
VM = Vm(7, "u-7", "web-7", "memory", 1.0, 64, disks=(Disk(0, "vda", type="FS", driver="raw", size=1),))
DONE = MachineRestored(7, "web-7", "b")


@pytest.fixture
def request_(tmp_path: Path) -> MachineToRestore:
    places = MadeBackups(tmp_path / "backups")
    made = places.full(7, CATALOG, {0: b"n" * MIB}, "raw", {"nvram": b"variables"})
    (ours, _key), (theirs, their_key) = key_pair("source"), key_pair("target")
    passage = BackupPassage("7d0c", True, "front", "", free_port(), ours, theirs, their_key, 20)
    return MachineToRestore(CATALOG, VM, 3, "", made.id, passage=passage, brought=made, room={"0": 4096})


def comes(request: MachineToRestore, restore: Callable[[Brought], MachineRestored]) -> tuple[Channel, Beside]:
    """A front-end that has come, and the host beside it."""
    passage = request.passage
    assert passage is not None
    host = Beside(lambda: receive(request, passage, restore))
    own, key = key_pair("source")
    caller = Caller(
        Identity(own, key), passage.token, "127.0.0.1", passage.port, passage.own_certificate, "x", OF_RESTORES
    )
    channel = caller.meet(20)
    channel.send(begin="b")
    return channel, host


def test_what_else_it_has_comes_in_pieces(request_: MachineToRestore) -> None:
    contents = []

    def restore(origin: Brought) -> MachineRestored:
        contents.append(origin.content("nvram", 64))
        return DONE

    channel, host = comes(request_, restore)
    assert channel.receive(20) == {"file": "nvram"}
    conversation.send_pieces(channel, [b"varia", b"bles"])
    assert channel.receive(20)["done"]["backup"] == "b"
    assert (host.result(), contents) == (DONE, [b"variables"])


@pytest.mark.parametrize("sent", [b"short", b"longer than it is"])
def test_what_has_another_size_is_refused(request_: MachineToRestore, sent: bytes) -> None:
    channel, host = comes(request_, lambda origin: (origin.content("nvram", 64), DONE)[1])
    channel.receive(20)
    conversation.send_pieces(channel, [sent])
    assert "another size" in channel.receive(20)["refused"]["found"]
    with pytest.raises(OtherHostFailed, match="another size"):
        host.result()


def test_a_root_is_unpacked_as_it_comes(request_: MachineToRestore) -> None:
    blocks = []

    def restore(origin: Brought) -> MachineRestored:
        warnings = origin.make_root(origin.disk(0), lambda coming, _seconds: (blocks.extend(coming), ["w"])[1])
        return MachineRestored(7, "web-7", "b", warnings=tuple(warnings))

    channel, host = comes(request_, restore)
    assert channel.receive(20) == {"root": 0}
    conversation.send_pieces(channel, [b"a" * (3 * MIB), b"b"])
    assert channel.receive(20)["done"]["warnings"] == ["w"]
    assert host.result().warnings == ("w",)
    assert b"".join(blocks) == b"a" * (3 * MIB) + b"b"


def test_each_learns_why_the_other_one_can_not(request_: MachineToRestore) -> None:
    def restore(_origin: Brought) -> MachineRestored:
        raise Conflict("web-7", "it is RUNNING")

    channel, host = comes(request_, restore)
    assert channel.receive(20)["refused"]["found"] == "it is RUNNING"
    with pytest.raises(Conflict):
        host.result()
    channel, host = comes(request_, lambda origin: (origin.content("nvram", 64), DONE)[1])
    channel.receive(20)
    conversation.refuse(channel, Conflict("disk 0", "it was altered"))
    with pytest.raises(HypervisorError, match="it was altered"):
        host.result()


def test_a_front_end_that_is_lost_ends_it(request_: MachineToRestore) -> None:
    channel, host = comes(request_, lambda origin: (origin.content("nvram", 64), DONE)[1])
    channel.receive(20)
    channel.end()
    channel.close()
    with pytest.raises(OtherHostFailed):
        host.result()


def test_what_is_foreseen_is_looked_at(request_: MachineToRestore, monkeypatch: pytest.MonkeyPatch) -> None:
    foreseen = Foreseen(request_)
    assert foreseen.content("nvram", 9) == b""
    with pytest.raises(Conflict, match="9 bytes"):
        foreseen.content("nvram", 8)
    disks = [("/tmp/x", foreseen.disk(0))]
    foreseen.require_room(disks, "x")

    def free(_place: str) -> int:
        return 2048

    def full(_place: str, needed: int, what: str) -> None:
        raise NoSpace(what, str(needed))

    monkeypatch.setattr(receiving, "free_space", free)
    monkeypatch.setattr(receiving, "require_space", full)
    with pytest.raises(NoSpace, match="4096"):
        foreseen.require_room(disks, "x")
    with pytest.raises(InvalidValue, match="says nothing of the backup"):
        _ = Foreseen(MachineToRestore(CATALOG, VM, 3, "", "b")).backup
    with pytest.raises(AssertionError):
        foreseen.make(foreseen.disk(0), "/x", "raw", "")
