# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of `xl migrate` over a real passage on the loopback. In place of xl is a program that speaks as xl of Xen
4.17 does (tools/xl/xl_migrate.c); the real one moves machines in tests/integration/test_xen_migration.py."""

from __future__ import annotations

import json
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from move_pairs import ASKED, PATIENCE, TOKEN, Beside, caller, door, key_pair, wait_until

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NebulaError,
    OtherHostFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Departure
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import MEMORY, Meeting
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import xl, xl_migration

OWN = "name = 'one-1'\nmemory  = '160'\n"
# What each of both does in place of its part is in a file beside the program: it is nobody's argument.
XL = f"""#!{sys.executable}
import json, os, struct, subprocess, sys
place = os.path.dirname(__file__)
order = json.load(open(os.path.join(place, "order")))
BANNER, READY = b"xl migration receiver ready, send binary domain data.\\n", b"domain received, ready to unpause\\0"
GO, REPORT = b"domain is yours, you are cleared to unpause\\0", b"my copy unpause results are as follows\\0"
def read(file, size):
    found = b""
    while len(found) < size:
        block = file.read(size - len(found))
        if not block:
            sys.exit("the other end is gone")
        found += block
    return found
def write(file, data):
    file.write(data)
    file.flush()
def note(word):
    with open(os.path.join(place, "notes"), "a") as file:
        file.write(word + "\\n")
if sys.argv[1] == "migrate":
    assert sys.argv[2:6] == ["-p", "-s", "", "one-1"], sys.argv
    if order.get("refuses"):
        sys.exit(order["refuses"])
    other = subprocess.Popen(["sh", "-c", sys.argv[6]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    assert read(other.stdout, len(BANNER)) == BANNER
    content = json.dumps(order["json"]).encode()
    head = struct.pack("=32sIIII", b"Xen saved domain, xl format\\n \\0 \\r", 0x01020304, 3, 0, len(content) + 4)
    write(other.stdin, bytes.fromhex(order.get("head", "")) or head + struct.pack("=I", len(content)) + content)
    note("sends")
    for _each in range(order["blocks"]):
        write(other.stdin, os.urandom(1 << 20))
    note("sent")
    assert read(other.stdout, len(READY)) == READY
    note("gives")
    write(other.stdin, GO)
    assert read(other.stdout, len(REPORT)) == REPORT
    code = read(other.stdout, 1)
    note("gone" if code == b"\\0" else "stays")
    sys.exit(code[0])
assert sys.argv[1:] == ["migrate-receive", "-p"], sys.argv
if order.get("broken"):
    sys.exit(order["broken"])
write(sys.stdout.buffer, BANNER)
words, order_of_bytes, flags, others, length = struct.unpack("=32sIIII", read(sys.stdin.buffer, 48))
content = read(sys.stdin.buffer, length)
assert flags == 2 and struct.unpack("=I", content[:4]) == (length - 4,)
note("definition " + content[4:].rstrip(b"\\0").decode().split("\\n")[0])
read(sys.stdin.buffer, order["blocks"] << 20)
if order.get("holds"):
    note("holds")
    read(sys.stdin.buffer, 1)
write(sys.stdout.buffer, READY)
assert read(sys.stdin.buffer, len(GO)) == GO
note("arrived")
write(sys.stdout.buffer, REPORT + bytes([order.get("code", 0)]))
sys.exit(order.get("code", 0))
"""


class Hosts:
    """The old host, and the new one behind its door."""

    def __init__(self, place: Path, meeting: Meeting, port: int) -> None:
        self.place = place
        self.meeting = meeting
        self.port = port
        self.tool = str(place / "xl")
        Path(self.tool).write_text(XL, encoding="utf-8")
        Path(self.tool).chmod(0o755)
        self.order: dict[str, Any] = {"json": {"name": "evil"}, "blocks": 4}
        self.given: list[list[str]] = []
        self.lost = threading.Event()
        self.refuses_to_note: NebulaError | None = None

    def notes(self) -> list[str]:
        with_notes = self.place / "notes"
        return with_notes.read_text(encoding="utf-8").splitlines() if with_notes.exists() else []

    def note_as_given(self) -> None:
        if self.refuses_to_note is not None:
            raise self.refuses_to_note
        self.given.append(self.notes())

    def receiver(self) -> xl_migration.XlReceiver:
        (self.place / "order").write_text(json.dumps(self.order), encoding="utf-8")
        receiver = xl_migration.XlReceiver(self.tool, OWN, ASKED)
        self.meeting.tunnels = receiver.tunnels()
        return receiver

    def depart(self, limit: int = 60) -> None:
        departure = Departure(TOKEN, "", (), caller(self.port), limit, self.lost.is_set)
        xl_migration.depart(self.tool, "one-1", departure, self.note_as_given, ASKED)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    meeting = Meeting(key_pair("source")[0])
    with door({TOKEN: meeting}) as port:
        yield Hosts(tmp_path, meeting, port)


def test_a_machine_moves(hosts: Hosts) -> None:
    receiver = hosts.receiver()
    hosts.depart()
    assert receiver.close() is None
    notes = hosts.notes()
    # What the old host says of it is not what it comes with.
    assert "definition name = 'one-1'" in notes and "evil" not in " ".join(notes)
    # It was noted before the other host learned of it.
    assert hosts.given == [[*notes[: notes.index("gives") + 1]]] and "arrived" not in hosts.given[0]
    assert notes[-1] == "gone"


def test_what_comes_in_pieces_is_the_same(tmp_path: Path) -> None:
    head = xl_migration.OwnHeader(OWN, ASKED)
    content = b'{"name": "evil"}'
    sent = struct.pack("=32sIIII", xl.SAVED, 0x01020304, 3, 7, len(content) + 4) + struct.pack("=I", len(content))
    sent += content + b"memory"
    found = b"".join(head.inspect(sent[number : number + 1]) for number in range(len(sent)))
    own = OWN.encode() + b"\0"
    assert found[:48] == struct.pack("=32sIIII", xl.SAVED, 0x01020304, 2, 0, len(own) + 4)
    assert found[48:] == struct.pack("=I", len(own)) + own + b"memory"
    assert head.inspect(b"more") == b"more"


@pytest.mark.parametrize(
    "values",
    [
        (b"LinuxGuestRecord", 0x01020304, 3, 0, 4),
        (xl.SAVED, 0x04030201, 3, 0, 4),
        (xl.SAVED, 0x01020304, 1, 0, 4),
        (xl.SAVED, 0x01020304, 7, 0, 4),
        (xl.SAVED, 0x01020304, 3, 0, (1 << 20) + 1),
    ],
)
def test_what_no_xl_of_today_begins_with_goes_no_further(hosts: Hosts, values: tuple[Any, ...]) -> None:
    hosts.order["head"] = struct.pack("=32sIIII", *values).hex()
    receiver = hosts.receiver()
    with pytest.raises(HypervisorError):
        hosts.depart()
    error = receiver.close()
    assert isinstance(error, ForeignObject) and "no xl of today begins with" in error.found
    assert hosts.given == [] and not [note for note in hosts.notes() if note.startswith("definition")]


@pytest.mark.parametrize("end", ["refuses", "broken"])
def test_the_words_of_either_xl_are_the_error(hosts: Hosts, end: str) -> None:
    hosts.order[end] = "xc: error: Could not enable logdirty mode (95 = Operation not supported): Internal error"
    receiver = hosts.receiver()
    with pytest.raises(HypervisorError) as caught:
        hosts.depart()
    error = receiver.close() if end == "broken" else caught.value
    assert error is not None and "Could not enable logdirty mode" in error.found
    assert error.remedy.endswith("move it cold (move: cold)")
    assert hosts.given == []


def test_one_that_can_not_be_started_there_is_not_gone(hosts: Hosts) -> None:
    hosts.order["code"] = 1
    receiver = hosts.receiver()
    with pytest.raises(HypervisorError):
        hosts.depart()
    assert isinstance(receiver.close(), HypervisorError)
    assert hosts.notes()[-1] == "stays" and len(hosts.given) == 1


def test_what_can_not_be_noted_is_not_given(hosts: Hosts) -> None:
    hosts.refuses_to_note = HypervisorError("a", "the disk is full")
    receiver = hosts.receiver()
    with pytest.raises(HypervisorError, match="the disk is full"):
        hosts.depart()
    assert isinstance(receiver.close(), HypervisorError)
    assert "arrived" not in hosts.notes()


@pytest.mark.parametrize("why", ["limit", "lost"])
def test_one_that_takes_too_long_is_given_up(hosts: Hosts, why: str) -> None:
    hosts.order["holds"] = True
    receiver = hosts.receiver()
    leaving = Beside(lambda: hosts.depart(limit=1 if why == "limit" else 600))
    wait_until(lambda: "holds" in hosts.notes())
    if why == "lost":
        hosts.lost.set()
    kind = TimedOut if why == "limit" else OtherHostFailed
    with pytest.raises(kind, match="not done within 1 s" if why == "limit" else "not there any more"):
        leaving.result()
    assert isinstance(receiver.close(), HypervisorError)
    assert hosts.given == []


def test_a_receiver_that_is_closed_ends_what_comes(hosts: Hosts) -> None:
    hosts.order["holds"] = True
    receiver = hosts.receiver()
    leaving = Beside(hosts.depart)
    wait_until(lambda: "holds" in hosts.notes())
    assert isinstance(receiver.close(), HypervisorError)
    with pytest.raises(HypervisorError):
        leaving.result()
    assert hosts.given == []


def test_only_one_machine_comes_and_none_once_it_is_closed(hosts: Hosts) -> None:
    hosts.order["holds"] = True
    receiver = hosts.receiver()
    leaving = Beside(hosts.depart)
    wait_until(lambda: "holds" in hosts.notes())
    with pytest.raises(HypervisorError, match="closed"):
        caller(hosts.port).connect(MEMORY).receive(PATIENCE)
    receiver.close()
    with pytest.raises(HypervisorError):
        leaving.result()
    unused = hosts.receiver()
    assert unused.close() is None
    with pytest.raises(HypervisorError):
        hosts.depart()


def test_no_door_is_an_error_before_anything_is_begun(hosts: Hosts) -> None:
    departure = Departure(TOKEN, "", (), caller(1), 60, lambda: False)
    with pytest.raises(OtherHostFailed, match="is not reached"):
        xl_migration.depart(hosts.tool, "one-1", departure, hosts.note_as_given, ASKED)
    assert hosts.notes() == []


def test_the_xl_of_a_killed_run_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [b"/usr/sbin/xl", b"migrate", b"-p", b"-s", b"", b"one-1", b"exec python3"]
    at_work = [argv, [b"xl", b"create", b"one-1"], [b"xl", b"migrate", b"one-11"]]
    looked: list[int] = []

    def of_root(wanted: Any) -> list[tuple[int, list[bytes]]]:
        looked.append(1)
        if len(looked) > 2:
            at_work.remove(argv) if argv in at_work else None
        return [(number, words) for number, words in enumerate(at_work, 100) if wanted(words)]

    monkeypatch.setattr(xl_migration.processes, "of_root", of_root)
    xl_migration.wait_for_tool("one-1", ASKED)
    assert len(looked) == 3
    at_work.append(argv)
    looked.clear()
    monkeypatch.setattr(xl_migration, "ENDING_SECONDS", 0.0)
    with pytest.raises(TimedOut, match=r"process 102 \(xl migrate\) still tries .*kill 102"):
        xl_migration.wait_for_tool("one-1", ASKED)


def test_words_in_a_guests_memory_give_nothing_away() -> None:
    given: list[int] = []
    watch = xl_migration._Watch(lambda: given.append(1))
    memory = xl_migration.GIVEN + b"\0"
    assert watch.inspect(memory) == memory and watch.inspect(memory) == memory
    banner = b"xl migration receiver ready, send binary domain data.\n"
    assert watch.answers(banner) == banner
    assert watch.inspect(memory) == memory and given == []
    assert watch.answers(xl_migration.READY[:9]) + watch.answers(xl_migration.READY[9:]) == xl_migration.READY
    assert watch.inspect(memory[:5]) == b"" and given == []
    assert watch.inspect(memory[5:]) == memory and given == [1]
    assert watch.inspect(b"more") == b"more" and given == [1]


def test_what_is_said_in_place_of_giving_goes_no_further() -> None:
    watch = xl_migration._Watch(lambda: None)
    watch.answers(xl_migration.READY)
    with pytest.raises(OSError, match="something else"):
        watch.inspect(b"memory " + xl_migration.GIVEN)
