# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS over the loopback, with certificates as a front-end makes them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from move_pairs import (
    ASKED,
    PATIENCE,
    TOKEN,
    Beside,
    bare_pair,
    caller,
    channels,
    door,
    free_port,
    identity,
    key_pair,
    trickle,
    wait_until,
)

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NebulaError,
    OtherHostFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import passage
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import (
    BLOCK,
    CONTROL,
    DISKS,
    LARGEST_LINE,
    MEMORY,
    TALK,
    Caller,
    Channel,
    Door,
    Meeting,
    relay,
    tunnels,
)

OWN = os.geteuid()
LARGE = os.urandom(3 * BLOCK + 12345)


@pytest.fixture
def meeting() -> Meeting:
    return Meeting(key_pair("source")[0])


@pytest.fixture
def port(meeting: Meeting) -> Iterator[int]:
    with door({TOKEN: meeting}) as found:
        yield found


@pytest.fixture
def both() -> Iterator[tuple[Channel, Channel]]:
    with channels() as pair:
        yield pair


def nobody_came(meeting: Meeting) -> bool:
    with pytest.raises(OtherHostFailed):
        meeting.wait(0.01, ASKED)
    return True


def ends(connection: socket.socket) -> bool:
    """Whether the door closes it, without a word."""
    connection.settimeout(PATIENCE)
    try:
        return connection.recv(1) == b""
    except (ConnectionResetError, ssl.SSLError):
        return True


# -- who is let in ----------------------------------------------------------------------------------------------------
def test_both_hosts_of_a_move_meet(meeting: Meeting, port: int) -> None:
    left = caller(port).meet(PATIENCE)
    right = meeting.wait(PATIENCE, ASKED)
    left.send(way="live", disks=[1, 2])
    assert right.receive(PATIENCE) == {"way": "live", "disks": [1, 2]}
    right.send(ready=True)
    right.send(name="zwölf")
    assert left.receive(PATIENCE) == {"ready": True}
    assert left.receive(PATIENCE) == {"name": "zwölf"}


@pytest.mark.parametrize(
    ("name", "token", "channel"),
    [
        ("stranger", TOKEN, TALK),
        ("other", TOKEN, TALK),
        ("source", "another", TALK),
        ("source", TOKEN, "monitor"),
        ("source", TOKEN, ""),
    ],
)
def test_nobody_else_is_let_in(name: str, token: str, channel: str) -> None:
    """The certificate of `other` is good for another move of the same door."""
    meeting, others = Meeting(key_pair("source")[0]), Meeting(key_pair("other")[0])
    tried: list[str] = []
    meeting.tunnels = {CONTROL: lambda _channel: tried.append(CONTROL)}
    with door({TOKEN: meeting, "others": others}) as port:
        with pytest.raises((OSError, HypervisorError)):
            caller(port, name, token=token).connect(channel)
        assert nobody_came(meeting) and nobody_came(others)
        # And the door stands open to those that it is for.
        caller(port, "other", token="others").connect(TALK)
        others.wait(PATIENCE, ASKED)
    assert tried == []


def test_what_waits_for_connections_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage, "_STEP", PATIENCE)
    places = {name: str(tmp_path / name) for name in (CONTROL, MEMORY)}
    with door({TOKEN: Meeting(key_pair("source")[0])}) as port, tunnels(places, caller(port), OWN):
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE / 2


def test_a_host_that_is_not_the_right_one_is_given_nothing() -> None:
    """The door of another host that has the address: what is sent to it would be in the wrong hands."""
    meeting = Meeting(key_pair("source")[0])
    with door({TOKEN: meeting}, name="other") as port:
        with pytest.raises(ssl.SSLError):
            caller(port).connect(TALK)
        assert nobody_came(meeting)


def test_a_certificate_that_the_right_host_has_signed_is_not_its_own(tmp_path: Path) -> None:
    """Certificates of `openssl req -x509` are authorities: whoever has one of the door's peers could sign another."""
    signed = signed_by("other", tmp_path)
    meeting, others = Meeting(key_pair("source")[0]), Meeting(key_pair("other")[0])
    with door({TOKEN: meeting, "others": others}) as port:
        for token in (TOKEN, "others"):
            calling = Caller(passage.Identity(*signed), token, "127.0.0.1", port, key_pair("target")[0], ASKED)
            with pytest.raises((OSError, HypervisorError)):
                calling.connect(TALK)
        assert nobody_came(meeting) and nobody_came(others)


def signed_by(name: str, place: Path) -> tuple[str, str]:
    for kind, text in zip(("crt", "key"), key_pair(name)):
        (place / f"ca.{kind}").write_text(text, encoding="ascii")
    new = [
        "openssl",
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=source",
    ]
    subprocess.run([*new, "-keyout", "leaf.key", "-out", "leaf.csr"], cwd=place, check=True, capture_output=True)
    sign = ["openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
    subprocess.run([*sign, "-out", "leaf.crt"], cwd=place, check=True, capture_output=True)
    return (place / "leaf.crt").read_text(encoding="ascii"), (place / "leaf.key").read_text(encoding="ascii")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01" + bytes(200), b"\0" * 70000])
def test_what_is_no_tls_is_sent_away(meeting: Meeting, port: int, said: bytes) -> None:
    stranger = socket.create_connection(("127.0.0.1", port))
    with contextlib.suppress(OSError):
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
    with stranger:
        assert_sent_away(stranger)
    assert nobody_came(meeting)
    caller(port).meet(PATIENCE).close()


def assert_sent_away(stranger: socket.socket) -> None:
    """The answer may be an alert of TLS; then comes the end."""
    stranger.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionResetError):
        while stranger.recv(4096):
            pass


def test_a_certificate_is_needed(meeting: Meeting, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(PATIENCE)
        with pytest.raises((ssl.SSLError, ConnectionError, BrokenPipeError)):
            stream = context.wrap_socket(connection)
            stream.sendall(b'{"token": "' + TOKEN.encode() + b'", "channel": "talk"}\n')
            if stream.recv(1) == b"":
                raise ConnectionError
    assert nobody_came(meeting)


@pytest.mark.parametrize(
    "hello",
    [
        b"not json\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b"{}\n",
        b'"x"\n',
        b"null\n",
        b'{"token": ["a"], "channel": {}}\n',
        b"[" * 99999 + b"\n",
    ],
)
def test_a_known_host_that_says_something_else_is_sent_away(meeting: Meeting, port: int, hello: bytes) -> None:
    stream = as_source(port)
    stream.sendall(hello)
    assert ends(stream)
    assert nobody_came(meeting)


def as_source(port: int) -> ssl.SSLSocket:
    """The source's own certificate, and none of its manners."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(PATIENCE)
    return identity("source").context(False, [key_pair("target")[0]]).wrap_socket(connection)


def test_those_who_show_nothing_are_few_at_once_and_not_for_long(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage, "HANDSHAKE_SECONDS", 0.5)
    with door({TOKEN: meeting}) as port, contextlib.ExitStack() as held:
        strangers = [
            held.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _each in range(passage._MOST_STRANGERS)
        ]
        # The next one is not even asked who it is.
        late = held.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert ends(late)
        for stranger in strangers:
            assert ends(stranger)
        # One that comes again meets whom it looks for.
        caller(port).meet(PATIENCE)
        meeting.wait(PATIENCE, ASKED)


def test_who_comes_again_takes_the_place_of_its_earlier_connection(meeting: Meeting, port: int) -> None:
    first = caller(port).connect(TALK)
    meeting.wait(PATIENCE, ASKED)
    second = caller(port).connect(TALK)
    with pytest.raises(HypervisorError, match="closed"):
        first.receive(PATIENCE)
    second.send(here=1)
    assert meeting.wait(PATIENCE, ASKED).receive(PATIENCE) == {"here": 1}


def test_a_door_that_is_closed_lets_nobody_in() -> None:
    with door({TOKEN: Meeting(key_pair("source")[0])}) as port:
        pass
    with pytest.raises(OtherHostFailed, match=rf"127.0.0.1, port {port}.*nebula_move_address"):
        caller(port).meet(0.01)


def test_the_source_waits_for_the_door(meeting: Meeting) -> None:
    port = free_port()
    meets = Beside(lambda: caller(port).meet(PATIENCE))
    door_ = Door(port, identity("target"), {TOKEN: meeting}, 0.0)
    try:
        assert isinstance(meets.result(), Channel)
    finally:
        door_.close()


def test_a_door_waits_for_a_port_that_another_run_has(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    with door({TOKEN: meeting}) as port:
        with pytest.raises(HypervisorError, match="nebula_move_port"):
            Door(port, identity("target"), {TOKEN: meeting}, 0.0)
        waited = threading.Event()
        real = passage._socket

        def tried() -> socket.socket:
            waited.set()
            return real()

        monkeypatch.setattr(passage, "_socket", tried)
        opens = Beside(lambda: Door(port, identity("target"), {TOKEN: meeting}, PATIENCE))
        assert waited.wait(PATIENCE)
    opened = opens.result()
    assert isinstance(opened, Door)
    caller(port).meet(PATIENCE)
    opened.close()


def test_a_key_is_in_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed leaves none."""
    seen: list[tuple[str, int]] = []
    load = ssl.SSLContext.load_cert_chain

    def loading(self: ssl.SSLContext, path: str) -> None:
        seen.append((os.readlink(path), os.stat(path).st_nlink))
        load(self, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", loading)
    identity("source").context(False, [key_pair("target")[0]])
    ((place, names),) = seen
    assert place.startswith("/memfd:") and names == 0
    # Nor is it open still. Other threads of this process open and close what is theirs.
    still = []
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            still.append(os.readlink(f"/proc/self/fd/{each}"))
    assert still and place not in still


# -- what they say ----------------------------------------------------------------------------------------------------
def test_bytes_and_messages_follow_each_other(both: tuple[Channel, Channel]) -> None:
    left, right = both

    def send() -> None:
        left.send(length=len(LARGE))
        left.send_bytes(LARGE)
        left.send(end=True)

    sending = Beside(send)
    size = right.receive(PATIENCE)["length"]
    blocks = list(right.receive_bytes(size, PATIENCE))
    assert b"".join(blocks) == LARGE
    assert max(map(len, blocks)) <= BLOCK
    assert right.receive(PATIENCE) == {"end": True}
    sending.result()


def test_a_message_that_comes_in_pieces_is_one(both: tuple[Channel, Channel]) -> None:
    left, right = both
    receiving = Beside(lambda: right.receive(PATIENCE))
    for byte in json.dumps({"a": 1}).encode() + b"\n":
        left.send_bytes(bytes([byte]))
    assert receiving.result() == {"a": 1}


@pytest.mark.parametrize("line", [b"x\n", b"[1]\n", b"\xff\n", b'{"a": NaN}x\n', b"\n"])
def test_what_is_no_message_ends_the_connection(both: tuple[Channel, Channel], line: bytes) -> None:
    both[0].send_bytes(line)
    with pytest.raises(HypervisorError, match="no message"):
        both[1].receive(PATIENCE)


def test_a_line_has_an_end(both: tuple[Channel, Channel]) -> None:
    left, right = both

    def send() -> None:
        with contextlib.suppress(NebulaError):
            left.send_bytes(b"x" * (LARGEST_LINE + 2 * BLOCK))

    sending = Beside(send)
    with pytest.raises(HypervisorError, match="no message"):
        right.receive(PATIENCE)
    right.close()
    sending.result()


def test_a_long_message_comes(both: tuple[Channel, Channel]) -> None:
    text = "x" * (LARGEST_LINE - 100)
    sending = Beside(lambda: both[0].send(definition=text))
    assert both[1].receive(PATIENCE) == {"definition": text}
    sending.result()


def test_who_says_nothing_is_not_waited_for_for_ever(both: tuple[Channel, Channel]) -> None:
    with pytest.raises(OtherHostFailed, match="said nothing in time"):
        both[1].receive(0.01)
    with pytest.raises(OtherHostFailed):
        list(both[1].receive_bytes(1, 0.01))
    # And is heard if it says something later.
    both[0].send(late=True)
    assert both[1].receive(PATIENCE) == {"late": True}


def test_who_is_gone_is_noticed(both: tuple[Channel, Channel]) -> None:
    left, right = both
    left.send_bytes(b"hal")
    left.close()
    with pytest.raises(HypervisorError, match="the connection to the other host is lost"):
        right.receive(PATIENCE)

    def send() -> None:
        while True:
            right.send_bytes(LARGE)

    with pytest.raises(HypervisorError, match="the connection to the other host is lost"):
        send()


def test_bytes_that_end_too_early_are_an_error(both: tuple[Channel, Channel]) -> None:
    both[0].send_bytes(b"abc")
    both[0].close()
    with pytest.raises(HypervisorError):
        list(both[1].receive_bytes(4, PATIENCE))


def test_whether_the_other_host_is_there(both: tuple[Channel, Channel]) -> None:
    left, right = both
    assert not left.is_closed()
    right.close()
    wait_until(left.is_closed, "its end")


def test_a_host_that_speaks_out_of_turn_has_an_error(both: tuple[Channel, Channel]) -> None:
    """It refuses the machine, whatever it waited for: that is not lost."""
    left, right = both
    right.send(refused={})
    wait_until(left.is_closed, "its word")
    assert left.is_closed()
    assert left.receive(PATIENCE) == {"refused": {}}
    assert left.stream.gettimeout() is None


def test_what_comes_behind_the_last_message_is_the_tunnels(both: tuple[Channel, Channel]) -> None:
    left, right = both
    right.send_bytes(b'{"welcome": true}\nQEVM')
    assert left.receive(PATIENCE) == {"welcome": True}
    found = left.early()
    while len(found) < 4:
        found += left.stream.recv(BLOCK)
    assert (found, left.early()) == (b"QEVM", b"")


def test_a_message_has_its_time_however_slowly_it_comes(both: tuple[Channel, Channel]) -> None:
    left, right = both
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.02):
            left.send_bytes(b"x")

    trickling = Beside(trickle)
    with pytest.raises(OtherHostFailed):
        right.receive(0.3)
    ended.set()
    trickling.result()


def test_bytes_have_their_time_however_slowly_they_come(both: tuple[Channel, Channel]) -> None:
    left, right = both
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.02):
            left.send_bytes(b"x")

    sending, begun = Beside(send), time.monotonic()
    with pytest.raises(OtherHostFailed, match="in time"):
        list(right.receive_bytes(BLOCK, 0.3))
    assert time.monotonic() - begun < PATIENCE / 3
    ended.set()
    sending.result()


def test_nothing_is_read_once_the_time_is_over(both: tuple[Channel, Channel]) -> None:
    left, right = both
    left.send(here=1)
    wait_until(lambda: bool(select.select([right.stream], [], [], 0)[0]))
    with pytest.raises(OtherHostFailed, match="in time"):
        right.receive(0)
    assert right.receive(PATIENCE) == {"here": 1}


@pytest.mark.parametrize("size", [0, 1000])
def test_who_takes_hardly_anything_is_not_waited_for_for_ever(both: tuple[Channel, Channel], size: int) -> None:
    left, right = both

    def send() -> None:
        with left.until(time.monotonic() + 0.5):
            while True:
                left.send_bytes(LARGE)

    begun = time.monotonic()
    sending = Beside(send)
    with trickle(right, size), pytest.raises(TimedOut, match="nebula_move_timeout"):
        sending.result()
    assert time.monotonic() - begun < PATIENCE / 3
    # Half a record is under way: nothing else may follow it, and nobody waits for it.
    assert left.is_closed()
    for use in (lambda: left.send(stays=True), lambda: left.receive(PATIENCE)):
        with pytest.raises(OtherHostFailed, match="is lost"):
            use()


def test_a_word_that_is_not_taken_has_its_time(both: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage, "WORD_SECONDS", 0.3)

    def send() -> None:
        while True:
            both[0].send(definition="x" * (LARGEST_LINE // 2))

    sending = Beside(send)
    with pytest.raises(OtherHostFailed, match="in time"):
        sending.result()


def test_a_limit_is_over_with_its_block(both: tuple[Channel, Channel]) -> None:
    left, right = both
    with left.until(time.monotonic() + PATIENCE):
        left.send(a=1)
    left.send(b=1)
    assert [right.receive(PATIENCE), right.receive(PATIENCE)] == [{"a": 1}, {"b": 1}]
    assert left.stream.gettimeout() is None
    with pytest.raises(TimedOut), left.until(time.monotonic() - 1):
        left.send(late=True)


def test_a_meeting_that_is_over_keeps_nobody_waiting(meeting: Meeting, port: int) -> None:
    """Whoever has come, and whoever comes then."""
    early = caller(port).meet(PATIENCE)
    wait_until(lambda: meeting._talk is not None)
    meeting.close()
    for each in (early, caller(port).meet(PATIENCE)):
        with pytest.raises(HypervisorError, match="lost"):
            each.receive(PATIENCE)


def test_looking_whether_it_is_there_takes_no_time_from_what_follows(both: tuple[Channel, Channel]) -> None:
    """Tickets of TLS come, which are no word of the other host: a look takes them for nothing."""
    left, _right = both
    for _each in range(3):
        assert not left.is_closed()
        assert left.stream.gettimeout() is None


# -- tunnels ----------------------------------------------------------------------------------------------------------
class Relayed:
    """A relay at work between two TLS connections. near, far: its other ends."""

    def __init__(self, **options: object) -> None:
        self.near, left = bare_pair()
        self.far, right = bare_pair()
        self.working = Beside(lambda: relay(left, right, **options))  # type: ignore[arg-type]
        for each in (self.near, self.far):
            each.settimeout(PATIENCE)

    def end(self) -> None:
        self.near.close()
        self.far.close()
        self.working.result()


def received(stream: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        block = stream.recv(BLOCK)
        assert block, f"it ends after {len(found)} bytes"
        found += block
    return bytes(found)


def exchanged(stream: socket.socket, data: bytes) -> bytes:
    """Send the data, and take as much meanwhile, in one thread: a connection of TLS is not for two at once."""
    stream.setblocking(False)
    waiting, found = memoryview(data), bytearray()
    while waiting or len(found) < len(data):
        before = len(waiting), len(found)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            waiting = waiting[stream.send(waiting[:BLOCK]) :] if waiting else waiting
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            block = stream.recv(BLOCK)
            assert block, f"it ends after {len(found)} bytes"
            found += block
        if before == (len(waiting), len(found)):
            select.select([stream], [stream] if waiting else [], [], PATIENCE)
    return bytes(found)


def test_a_relay_carries_both_ways_at_once() -> None:
    relayed = Relayed()
    data = LARGE * 6
    both = [Beside(lambda each=each: exchanged(each, data)) for each in (relayed.near, relayed.far)]
    assert [each.result() == data for each in both] == [True, True]
    relayed.end()


def test_a_relay_keeps_little_of_what_nobody_takes() -> None:
    relayed = Relayed()
    relayed.near.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            relayed.near.sendall(LARGE)
            sent += len(LARGE)
            assert sent < 64 << 20
    relayed.end()


def test_what_was_sent_before_the_end_comes() -> None:
    relayed = Relayed()
    sending = Beside(lambda: (relayed.near.sendall(LARGE), relayed.near.unwrap()))
    assert received(relayed.far, len(LARGE)) == LARGE
    assert relayed.far.recv(1) == b""
    with contextlib.suppress(OSError):
        sending.result()
    relayed.end()


@pytest.mark.parametrize("end", ["near", "far"])
def test_a_relay_ends_with_either_end(end: str) -> None:
    relayed = Relayed()
    getattr(relayed, end).close()
    other = relayed.far if end == "near" else relayed.near
    assert ends(other)
    relayed.working.result()


def test_a_relay_ends_when_it_is_to() -> None:
    going = threading.Event()
    relayed = Relayed(going=lambda: not going.is_set())
    relayed.near.sendall(b"a")
    assert received(relayed.far, 1) == b"a"
    going.set()
    relayed.working.result()
    assert ends(relayed.near) and ends(relayed.far)


def test_what_comes_from_the_left_is_looked_at_and_nothing_else() -> None:
    relayed = Relayed(inspect=bytes.upper)
    relayed.near.sendall(b"abc")
    assert received(relayed.far, 3) == b"ABC"
    relayed.far.sendall(b"abc")
    assert received(relayed.near, 3) == b"abc"
    relayed.end()


def test_what_has_come_already_is_carried_first() -> None:
    relayed = Relayed(inspect=bytes.upper, early=(b"abc", b"def"))
    assert received(relayed.far, 3) == b"ABC"
    assert received(relayed.near, 3) == b"def"
    relayed.near.sendall(b"g")
    assert received(relayed.far, 1) == b"G"
    relayed.end()


def test_what_has_come_already_is_looked_at_too() -> None:
    def refuse(_block: bytes) -> bytes:
        raise ForeignObject("it", "it is evil")

    relayed = Relayed(inspect=refuse, early=(b"evil", b""))
    with pytest.raises(ForeignObject):
        relayed.working.result()
    assert ends(relayed.near) and ends(relayed.far)


def test_what_must_not_go_on_ends_a_relay_before_it_does() -> None:
    def refuse(block: bytes) -> bytes:
        if b"evil" in block:
            raise ForeignObject("it", "it is evil")
        return block

    relayed = Relayed(inspect=refuse)
    relayed.near.sendall(b"good")
    assert received(relayed.far, 4) == b"good"
    relayed.near.sendall(b"evil")
    with pytest.raises(ForeignObject):
        relayed.working.result()
    assert ends(relayed.near) and ends(relayed.far)


def connected(path: str) -> socket.socket:
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    local.settimeout(PATIENCE)
    local.connect(path)
    return local


def echo(channel: Channel) -> None:
    """What comes on a tunnel, in capitals."""
    with contextlib.suppress(OSError):
        while True:
            block = channel.stream.recv(BLOCK)
            if not block:
                break
            channel.stream.sendall(block.upper())
    channel.close()


def test_a_tunnel_carries_what_connects_to_its_socket(meeting: Meeting, port: int, tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in (CONTROL, MEMORY, DISKS)}
    meeting.tunnels = {
        CONTROL: echo,
        MEMORY: echo,
        # libvirt makes more than one of these at once.
        DISKS: echo,
    }
    with tunnels(places, caller(port), OWN):
        held = [connected(places[name]) for name in (CONTROL, MEMORY, DISKS, DISKS, DISKS)]
        for number, local in enumerate(held):
            local.sendall(b"abc%d" % number)
        assert [received(local, 4) for local in held] == [b"ABC%d" % number for number in range(5)]
    # They end with the block, and nothing is left that could be connected to.
    assert all(ends(local) for local in held)
    assert list(tmp_path.iterdir()) == []


def test_a_tunnel_that_the_other_host_does_not_expect_is_closed(meeting: Meeting, port: int, tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with tunnels({CONTROL: path}, caller(port), OWN):
        assert ends(connected(path))
        meeting.tunnels = {CONTROL: echo}
        local = connected(path)
        local.sendall(b"a")
        assert received(local, 1) == b"A"


def test_a_tunnel_is_for_root_and_its_owner_alone(
    meeting: Meeting, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control"
    meeting.tunnels = {CONTROL: echo}
    with tunnels({CONTROL: str(path)}, caller(port), OWN):
        found = path.stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o600, OWN)
        assert passage._user_of(connected(str(path))) == OWN
        monkeypatch.setattr(passage, "_user_of", lambda _local: OWN + 1)
        assert ends(connected(str(path)))


def test_a_tunnel_tries_again_where_the_door_is_full(meeting: Meeting, port: int, tmp_path: Path) -> None:
    meeting.tunnels = {CONTROL: echo}
    calling, tries = caller(port), []
    connect = calling.connect

    def full(name: str) -> Channel:
        tries.append(name)
        if len(tries) < 3:
            raise ConnectionResetError
        return connect(name)

    calling.connect = full  # type: ignore[method-assign]
    path = str(tmp_path / "control")
    with tunnels({CONTROL: path}, calling, OWN):
        local = connected(path)
        local.sendall(b"a")
        assert received(local, 1) == b"A"


def test_a_tunnel_to_a_host_that_is_not_there_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with tunnels({CONTROL: path}, caller(free_port()), OWN):
        assert ends(connected(path))


def test_a_tunnel_whose_place_is_taken_leaves_nothing(port: int, tmp_path: Path) -> None:
    places = {CONTROL: str(tmp_path / "control"), MEMORY: str(tmp_path / "away" / "memory")}
    with pytest.raises(FileNotFoundError), tunnels(places, caller(port), OWN):
        pass
    assert list(tmp_path.iterdir()) == []
