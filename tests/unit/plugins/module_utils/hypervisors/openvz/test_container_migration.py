# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a container's live move, each over a real passage on the loopback, with the test in the place of the
other host. vzctl is a stand-in (tests/tools/vzctl_stand_in.py); both ends together are tried between two nodes by
tests/integration/test_openvz_moves.py."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from move_pairs import ASKED, PATIENCE, TOKEN, Beside, caller, door, key_pair, wait_until
from openvz_host import CTID, MARK, Host

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NebulaError,
    OtherHostFailed,
    TimedOut,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Departure
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import file_streams
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import (
    MEMORY,
    Channel,
    Meeting,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import (
    container_migration,
    moving_marks,
    vzctl,
)

LIMIT = 60


class Hosts:
    """A host, and the passage between it and another one. roots: what stood still, by vzctl, when roots were sent."""

    def __init__(self, host: Host, meeting: Meeting, port: int) -> None:
        self.host = host
        self.meeting = meeting
        self.port = port
        self.roots: list[tuple[bool, bool]] = []
        self.took: list[bytes] = []

    @property
    def dump(self) -> Path:
        return self.host.directory / container_migration.DUMP

    def depart(self, able: str = "31", limit: int = LIMIT) -> None:
        def send_roots() -> None:
            self.roots.append((self.host.held.exists(), self.dump.exists()))

        departure = Departure(TOKEN, able, (), caller(self.port), limit, lambda: False, send_roots)
        container_migration.depart(CTID, str(self.host.directory), departure, ASKED)

    def takes(self, place: Path, **answer: Any) -> None:
        """Have the other host take a dump in, and answer so."""

        def take(channel: Channel) -> None:
            header = channel.receive(PATIENCE)
            file_streams.receive(channel, header, str(place / "came"), 1 << 20, LIMIT + 1e9)
            self.took.append((place / "came").read_bytes())
            (place / "came").unlink()
            if answer:
                channel.send(**answer)
            channel.close()

        self.meeting.tunnels = {MEMORY: take}

    def receiver(self, check: Callable[[], None] = lambda: None) -> container_migration.DumpReceiver:
        receiver = container_migration.DumpReceiver(CTID, str(self.host.directory), check, ASKED)
        self.meeting.tunnels = receiver.tunnels()
        return receiver

    def send(self, place: Path, content: bytes, name: str = container_migration.DUMP) -> dict[str, Any]:
        """What the host says to a dump from another one."""
        (place / "sent").write_bytes(content)
        channel = caller(self.port).connect(MEMORY)
        try:
            file_streams.send(channel, name, str(place / "sent"), LIMIT + 1e9)
            return channel.receive(PATIENCE)
        finally:
            channel.close()


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    host = Host(tmp_path, monkeypatch)
    host.set("VZ_STAND_IN_KERNEL", "vz")
    host.run()
    meeting = Meeting(key_pair("source")[0])
    with door({TOKEN: meeting}) as port:
        yield Hosts(host, meeting, port)


@pytest.fixture
def off(hosts: Hosts) -> Hosts:
    """The container is one that comes here."""
    hosts.host.driver.cancel(MARK)
    return hosts


def dump_of(began: str, ctid: int = CTID) -> bytes:
    return f"dump of {ctid}\n{began}\n".encode()


# -- the old host ------------------------------------------------------------------------------------------------------
def test_it_stands_still_and_its_roots_go_once_its_dump_is_written(hosts: Hosts, tmp_path: Path) -> None:
    began = hosts.host.state.read_text(encoding="ascii").strip()
    hosts.takes(tmp_path, ready=True)
    hosts.depart()
    assert hosts.roots == [(True, True)] and hosts.took == [dump_of(began)]
    assert hosts.host.held.exists() and vzctl.status(CTID).running
    assert moving_marks.read(CTID) == moving_marks.LEAVING and not hosts.dump.exists()


@pytest.mark.parametrize(
    "answer, kind, words",
    [
        ({"refused": {"found": "its kernel lacks it", "remedy": "x"}}, OtherHostFailed, "its kernel lacks it"),
        ({"refused": "x"}, OtherHostFailed, "something else"),
        ({"ready": 1}, OtherHostFailed, "something else"),
        ({}, OtherHostFailed, "closed"),
    ],
)
def test_it_has_not_gone_unless_the_other_host_says_so(
    hosts: Hosts, tmp_path: Path, answer: dict[str, Any], kind: type[NebulaError], words: str
) -> None:
    hosts.takes(tmp_path, **answer)
    with pytest.raises(kind, match=words):
        hosts.depart()
    assert moving_marks.read(CTID) == moving_marks.LEAVING
    container_migration.go_on(CTID, "chkpnt", ASKED)
    assert not hosts.host.held.exists() and moving_marks.read(CTID) == ""


def test_it_is_given_up_in_time(hosts: Hosts) -> None:
    ending = threading.Event()
    hosts.meeting.tunnels = {MEMORY: lambda _channel: bool(ending.wait(PATIENCE))}
    with pytest.raises((TimedOut, OtherHostFailed), match="in time"):
        hosts.depart(limit=1)
    ending.set()


@pytest.mark.parametrize("able, kind", [("7", Unsupported), ("-1", ForeignObject), ("31 --kill", ForeignObject)])
def test_it_does_not_even_stand_still_for_a_host_it_cannot_go_to(
    hosts: Hosts, able: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        hosts.depart(able)
    assert not hosts.host.held.exists() and moving_marks.read(CTID) == ""


def test_a_vzctl_of_a_killed_run_is_waited_for(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.host.set("VZ_STAND_IN_PAUSES", "suspend:before")
    process = subprocess.Popen(["vzctl", "chkpnt", str(CTID), "--suspend"], stdout=subprocess.DEVNULL)
    pause = hosts.host.state.with_suffix(".pause")
    wait_until(pause.exists)
    if os.geteuid() == 0:
        monkeypatch.setattr(container_migration, "ENDING_SECONDS", 0.1)
        with pytest.raises(TimedOut, match=rf"process {process.pid} \(vzctl\) still works on container {CTID}"):
            container_migration.wait_for_vzctl(CTID, ASKED)
    # Another container's is none of its business.
    container_migration.wait_for_vzctl(CTID + 1, ASKED)
    monkeypatch.setattr(container_migration, "ENDING_SECONDS", PATIENCE)
    waiting = Beside(lambda: container_migration.wait_for_vzctl(CTID, ASKED))
    pause.unlink()
    process.wait(PATIENCE)
    waiting.result()


# -- the new host ------------------------------------------------------------------------------------------------------
def test_it_stands_still_here_with_what_it_was(off: Hosts, tmp_path: Path) -> None:
    modes: list[int] = []
    receiver = off.receiver(lambda: modes.append(stat.S_IMODE(off.dump.stat().st_mode)))
    assert off.send(tmp_path, dump_of("1234.5")) == {"ready": True}
    assert receiver.close() is None
    assert off.host.state.read_text(encoding="ascii") == "1234.5\n" and off.host.held.exists()
    assert moving_marks.read(CTID) == moving_marks.COMING and off.host.driver.has_arrived(MARK)
    assert modes == [0o600] and not off.dump.exists()


@pytest.mark.parametrize(
    "environment, words",
    [({"VZ_STAND_IN_FAILS": "undump:17"}, "could not be restored"), ({"VZ_STAND_IN_LIES": "1"}, "it is not there")],
)
def test_one_that_cannot_be_restored_is_refused(
    off: Hosts, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    for name, value in environment.items():
        off.host.set(name, value)
    receiver = off.receiver()
    answer = off.send(tmp_path, dump_of("1234.5"))
    error = receiver.close()
    assert isinstance(error, HypervisorError) and words in error.found and "move: cold" in error.remedy
    assert words in answer["refused"]["found"]
    assert not off.dump.exists() and not off.host.driver.has_arrived(MARK)


def test_a_root_that_leads_elsewhere_is_not_restored_in(off: Hosts, tmp_path: Path) -> None:
    def refuse() -> None:
        raise HypervisorError(ASKED, "its /dev is a link")

    receiver = off.receiver(refuse)
    assert "its /dev is a link" in off.send(tmp_path, dump_of("1234.5"))["refused"]["found"]
    assert receiver.close() is not None and not off.host.state.exists() and moving_marks.read(CTID) == ""


def test_what_is_no_dump_is_refused(off: Hosts, tmp_path: Path) -> None:
    receiver = off.receiver()
    # What it says to that may be lost: it ends the connection while the other host still sends.
    with contextlib.suppress(OtherHostFailed):
        assert off.send(tmp_path, b"disk", name="disk.0")["refused"]["kind"] == "ForeignObject"
    assert isinstance(receiver.close(), ForeignObject) and not off.dump.exists()


def test_one_that_is_larger_than_the_room_is_refused(
    off: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_migration, "free_space", lambda _directory: 8)
    receiver = off.receiver()
    # It may be lost, as above.
    with contextlib.suppress(OtherHostFailed):
        assert "another size" in off.send(tmp_path, dump_of("1234.5"))["refused"]["found"]
    error = receiver.close()
    assert error is not None and "another size" in error.found and not off.dump.exists()


def test_nothing_gets_through_once_it_is_closed(off: Hosts) -> None:
    receiver = off.receiver()
    channel = caller(off.port).connect(MEMORY)
    channel.send(file=container_migration.DUMP, size=1 << 20)
    wait_until(off.dump.exists)
    # In the midst of it.
    assert isinstance(receiver.close(), OtherHostFailed)
    channel.close()
    assert not off.dump.exists()
    late = caller(off.port).connect(MEMORY)
    with pytest.raises(OtherHostFailed):
        late.receive(PATIENCE)
    late.close()


def test_it_is_closed_where_nothing_came(off: Hosts) -> None:
    assert off.receiver().close() is None


# -- both --------------------------------------------------------------------------------------------------------------
def test_a_host_without_the_program_says_which(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert container_migration.version(ASKED) == container_migration.processor(ASKED) == "31"
    container_migration.require_version("31", ASKED)
    monkeypatch.setattr(container_migration, "CHECKER", "vzcptcheck-of-nobody")
    with pytest.raises(NebulaError, match="vzcptcheck-of-nobody"):
        container_migration.version(ASKED)


def test_steps_in_a_wrong_order_are_refused(hosts: Hosts) -> None:
    """What the stand-in refuses, as vzctl's source does: else a test of an order would show nothing."""

    def code(*words: str) -> int:
        return subprocess.run(["vzctl", words[0], str(CTID), *words[1:]], capture_output=True, check=False).returncode

    assert [code("chkpnt", step) for step in ("--resume", "--kill")] == [16, 16]
    assert code("chkpnt", "--dump", "--dumpfile", str(hosts.dump)) == 16
    assert code("restore", "--undump", "--dumpfile", str(hosts.dump)) == 32
    assert code("chkpnt", "--suspend") == 0
    assert code("chkpnt", "--suspend") == code("chkpnt", "--dump") == 16
    assert code("restore", "--resume") == 17 and code("stop", "--fast") == 33
    assert code("chkpnt", "--dump", "--kill", "--dumpfile", str(hosts.dump)) == 20
    assert code("chkpnt", "--dump", "--dumpfile", str(hosts.dump)) == 0
    assert code("chkpnt", "--kill") == 0 and code("chkpnt", "--resume") == 31
    assert code("umount") == 0 and code("restore", "--undump") == 17
    assert code("restore", "--undump", "--dumpfile", str(hosts.dump)) == 0
    assert code("chkpnt", "--resume") == 16 and code("restore", "--resume") == 0
    assert code("restore", "--kill") == 17
