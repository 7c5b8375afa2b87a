# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connects two hosts by TLS: those of a move, and a host with the front-end that has its machines' backups. One of them
opens a door for one run, and each takes part under a certificate of that run alone, which the other one was given with
its plan: nobody else gets any further than that."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ...dataclass import dataclass
from ...errors import HypervisorError, NebulaError, OtherHostFailed, TimedOut
from ...model.dataclass_json import json_value

# What a connection is for: the two hosts' own words and files, libvirt's calls, and what QEMU sends.
TALK, CONTROL, MEMORY, DISKS = "talk", "control", "memory", "disks"
CHANNELS = (TALK, CONTROL, MEMORY, DISKS)
LARGEST_LINE = 4 << 20
BLOCK = 256 * 1024
# Seconds in which the other host takes a word, or says one: it may be about its disks, or shut a guest down.
WORD_SECONDS = 600.0
# Bytes that wait for the slower side of a tunnel.
_MOST_WAITING = 4 * BLOCK
# Seconds after which a host counts as lost whose kernel answers nothing.
LOST_SECONDS = 20
# The same where it takes nothing that is sent: a disk of its may be busy for some time.
_STALLED_SECONDS = 90
# Seconds for a stranger to show who it is, and how many may be about it at once.
HANDSHAKE_SECONDS = 20.0
_MOST_STRANGERS = 16
_STEP = 0.2
# Seconds between two tries to meet the other host, which may begin somewhat later.
_MEETING_STEP = 0.05
# How often a connection is tried that libvirt or QEMU has begun.
_TRIES = 5
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME: the certificate is one plan's, and the hosts' clocks may differ.
_NO_CHECK_TIME = 0x200000


@dataclass(frozen=True)
class Words:
    """Says how errors call what the two hosts do.
    caller: who comes to the door, with what it did not do. called: whose door it is, as one that was not met.
    coming: how errors begin of who has come.
    remedy: where they do not meet."""

    caller: str
    called: str
    coming: str
    remedy: str


OF_MOVES = Words(
    "the host that the machine comes from did not come",
    "the host that it moves to was not met",
    "a machine that comes from another host",
    "Both hosts of a move work in the same task: see what the other one says, and that nebula_move_address and "
    "nebula_move_port of the target are reached from the other host. Then run again",
)
OF_BACKUPS = Words(
    "the front-end did not come",
    "the host of the machine was not met",
    "a machine that the front-end backs up",
    "Front-end and host work in the same task: see what the other one says, and that nebula_move_address and "
    "nebula_move_port of the host are reached from the front-end. Then run again",
)
OF_RESTORES = Words(
    OF_BACKUPS.caller, OF_BACKUPS.called, "a backup that the front-end brings back to a machine", OF_BACKUPS.remedy
)

Inspect = Callable[[bytes], bytes]
"""What of a block goes on; raises NebulaError for what must not."""


class Stream(Protocol):
    """What bytes are sent to and received from."""

    def fileno(self) -> int: ...

    def recv(self, size: int) -> bytes: ...

    def send(self, data: bytes) -> int: ...

    def setblocking(self, blocking: bool) -> None: ...

    def close(self) -> None: ...


class Channel:
    """Is one connection to the other host. asked: how its errors begin."""

    def __init__(self, stream: ssl.SSLSocket, asked: str) -> None:
        self.stream = stream
        self._asked = asked
        self._buffer = bytearray()
        self._limit: float | None = None

    def call(self, asked: str) -> None:
        """Have errors begin so from now on."""
        self._asked = asked

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()

    def end(self) -> None:
        """End the connection for both: who waits for it in another thread learns so."""
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)

    def broken(self, why: object) -> OtherHostFailed:
        return OtherHostFailed(
            self._asked, f"the connection to the other host is lost: {why}", "See that host, then run again"
        )

    def send(self, **message: Any) -> None:
        """Send a message, as send_bytes() does; its values are what JSON can carry."""
        self.send_bytes(json.dumps(message).encode() + b"\n")

    @contextlib.contextmanager
    def until(self, limit: float) -> Iterator[None]:
        """Have all that is sent in this block end at the limit, by TimedOut.
        limit: by the monotonic clock."""
        before, self._limit = self._limit, limit
        try:
            yield
        finally:
            self._limit = before

    def send_bytes(self, data: bytes | memoryview) -> None:
        """Send the bytes. Raise OtherHostFailed for a connection that is lost, and if the other host has not taken them
        within WORD_SECONDS; TimedOut at the limit of until(). The connection is closed then: what came next would be
        taken for the rest of what is under way."""
        limit = time.monotonic() + WORD_SECONDS if self._limit is None else self._limit
        rest = memoryview(data)
        try:
            while rest:
                # It sends one record of TLS at the most.
                self.stream.settimeout(_left(limit))
                rest = rest[self.stream.send(rest) :]
        except socket.timeout as error:
            self.close()
            raise self._late("took nothing more") if self._limit is None else too_late() from error
        except OSError as error:
            raise self.broken(error) from error
        finally:
            with contextlib.suppress(OSError):
                self.stream.settimeout(None)

    def receive(self, seconds: float) -> dict[str, Any]:
        """Return the next message. Raise OtherHostFailed if it is not there within so many seconds, for a connection
        that is lost, and for what is no message."""
        limit = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if len(self._buffer) > LARGEST_LINE:
                raise self.broken("it sends what is no message")
            self._buffer += self._more(limit - time.monotonic())
        line, _end, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        try:
            found = json_value(line.decode())
        except (ValueError, NebulaError) as error:
            raise self.broken(f"it sends what is no message ({error})") from error
        if not isinstance(found, dict):
            raise self.broken("it sends what is no message")
        return found

    def receive_bytes(self, size: int, seconds: float) -> Iterator[bytes]:
        """Yield the next bytes, so many altogether. Raise OtherHostFailed if they are not there within so many seconds,
        and for a connection that is lost."""
        limit = time.monotonic() + seconds
        while size:
            if not self._buffer:
                self._buffer += self._more(limit - time.monotonic())
            block = bytes(self._buffer[: min(size, BLOCK)])
            del self._buffer[: len(block)]
            size -= len(block)
            yield block

    def is_closed(self) -> bool:
        """Return whether the other host has closed its end, or has said something where it is to say nothing now."""
        if self._buffer or self.stream.fileno() < 0 or self.stream.pending():
            return True
        try:
            if not select.select([self.stream], [], [], 0)[0]:
                return False
            self.stream.settimeout(_STEP)
            block = self.stream.recv(BLOCK)
        except ssl.SSLWantReadError:
            return False
        except socket.timeout:
            return False
        except OSError:
            return True
        finally:
            with contextlib.suppress(OSError):
                self.stream.settimeout(None)
        self._buffer += block
        return True

    def early(self) -> bytes:
        """Return what has come behind the last message, which is not of this class any more."""
        found = bytes(self._buffer)
        self._buffer.clear()
        return found

    def _more(self, seconds: float) -> bytes:
        try:
            self.stream.settimeout(_left(time.monotonic() + seconds))
            block = self.stream.recv(BLOCK)
        except socket.timeout as error:
            raise self._late("said nothing") from error
        except OSError as error:
            raise self.broken(error) from error
        finally:
            with contextlib.suppress(OSError):
                self.stream.settimeout(None)
        if not block:
            raise self.broken("it has closed it")
        return block

    def _late(self, what: str) -> OtherHostFailed:
        return OtherHostFailed(self._asked, f"the other host {what} in time", "See that host, then run again")


def _left(limit: float) -> float:
    """Return the seconds that are left; raise the error of a socket's timeout if there are none."""
    left = limit - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def too_late() -> TimedOut:
    """Return the error for files that take longer than the move may."""
    return TimedOut("a machine that moves", "its files were not there in time", "Raise nebula_move_timeout")


def refuse_late(limit: float) -> float:
    """Return the seconds that are left; raise TimedOut if there are none.
    limit: by the monotonic clock."""
    left = limit - time.monotonic()
    if left <= 0:
        raise too_late()
    return left


def relay(
    left: Stream,
    right: Stream,
    inspect: Inspect = bytes,
    going: Callable[[], bool] = lambda: True,
    early: tuple[bytes, bytes] = (b"", b""),
    inspect_answers: Inspect = bytes,
) -> None:
    """Carry bytes between the two until one of them ends, or `going` says no more. Both are closed then.
    inspect, inspect_answers: for what comes from the left, and from the right.
    early: what has come from each already."""
    waiting = {id(left): bytearray(), id(right): bytearray()}
    ended = False
    try:
        waiting[id(right)] += inspect(early[0]) if early[0] else b""
        waiting[id(left)] += inspect_answers(early[1]) if early[1] else b""
        for each in (left, right):
            each.setblocking(False)
        while going():
            pairs = ((left, right, inspect), (right, left, inspect_answers))
            for source, target, check in pairs:
                room = waiting[id(target)]
                while not ended and len(room) < _MOST_WAITING:
                    block = _received(source)
                    if block is None:
                        break
                    if not block:
                        ended = True
                        break
                    room += check(block)
            moved = [_sent(each, waiting[id(each)]) for each in (left, right)]
            if ended and not any(waiting.values()):
                return
            if any(moved):
                continue
            reading = [s for s, t, _c in pairs if not ended and len(waiting[id(t)]) < _MOST_WAITING]
            writing = [each for each in (left, right) if waiting[id(each)]]
            select.select(reading, writing, [], _STEP)
    except OSError:
        # Whoever uses the connection learns of it by its end.
        return
    finally:
        for each in (left, right):
            with contextlib.suppress(OSError):
                each.close()


def _received(stream: Stream) -> bytes | None:
    """Return what has come; None for nothing now, and nothing at its end."""
    try:
        return stream.recv(BLOCK)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return b""


def _sent(stream: Stream, waiting: bytearray) -> bool:
    """Send what waits, as far as that is possible now. Return whether something went."""
    if not waiting:
        return False
    try:
        done = stream.send(bytes(waiting[:BLOCK]))
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    del waiting[:done]
    return bool(done)


class Identity:
    """Is how this host is known to the other one. certificate, key: PEM."""

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = certificate
        self._key = key

    def context(self, server: bool, peers: list[str]) -> ssl.SSLContext:
        """Return what TLS is spoken by, with no others than the peers (certificates as PEM)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= _NO_CHECK_TIME
        # The library takes its own pair from files only. This one goes with the process.
        with os.fdopen(os.memfd_create("pair.pem", os.MFD_CLOEXEC), "w") as file:
            file.write(self._certificate + self._key)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        context.load_verify_locations(cadata="\n".join(peers))
        return context


def _notice_its_end(connection: socket.socket) -> None:
    """Have the kernel notice when the other host is not there any more: one without power closes nothing."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, LOST_SECONDS // 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, LOST_SECONDS // 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_SECONDS * 1000)


def is_certified_as(stream: ssl.SSLSocket, certificate: str) -> bool:
    """Return whether the other end has shown this certificate (PEM), and no other."""
    return stream.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(certificate)


class Meeting:
    """Is where the host of a door waits for the connections of one move, or of one backup.
    certificate: of who comes.
    words: of errors.
    tunnels: what is done with connections of the channels besides TALK, each in a thread of its own, once it is
    known. A connection that comes before is closed."""

    def __init__(self, certificate: str, words: Words = OF_MOVES) -> None:
        self.certificate = certificate
        self.words = words
        self.tunnels: Mapping[str, Callable[[Channel], None]] = {}
        self._changed = threading.Condition()
        self._talk: Channel | None = None
        self._has_come = False
        self._over = False

    def enter(self, channel: Channel) -> None:
        with self._changed:
            before, self._talk = (channel, self._talk) if self._over else (self._talk, channel)
            self._has_come = True
            self._changed.notify_all()
        if before is not None:
            before.close()

    def close(self) -> None:
        """End it: whoever has come, or comes now, learns at once that nobody waits."""
        with self._changed:
            self._over = True
        if self._talk is not None:
            self._talk.close()

    def has_come(self, seconds: float) -> bool:
        """Return whether the other host has come, so many seconds later at the latest."""
        with self._changed:
            return self._changed.wait_for(lambda: self._has_come, seconds)

    def wait(self, seconds: float, asked: str) -> Channel:
        """Return the connection by which the other host speaks. Raise OtherHostFailed if it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._talk is not None, seconds)
            if self._talk is None:
                raise not_met(asked, self.words.caller, seconds, self.words)
            return self._talk


def not_met(asked: str, found: str, seconds: float, words: Words = OF_MOVES) -> OtherHostFailed:
    return OtherHostFailed(asked, f"{found} within {seconds:g} s", words.remedy)


class _End:
    """Is what threads learn by that nothing more is waited for, also those that wait for a connection then."""

    def __init__(self) -> None:
        self._come = threading.Event()
        self._seen, self._closed = socket.socketpair()

    def bring(self) -> None:
        """Have it come. The end of a connection is readable from then on, for all that wait."""
        self._come.set()
        self._closed.close()

    def has_come(self) -> bool:
        return self._come.is_set()

    def wait(self, seconds: float) -> bool:
        """Return whether it has come, so many seconds later at the latest."""
        return self._come.wait(seconds)

    def accepted(self, listener: socket.socket) -> socket.socket | None:
        """Return the next connection, None if it is gone again or the end has come. The listener does not block."""
        select.select([listener, self._seen], [], [])
        if self.has_come():
            return None
        try:
            connection, _address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        connection.setblocking(True)
        return connection

    def close(self) -> None:
        """Give back what it holds, once nobody waits for it any more."""
        self.bring()
        self._seen.close()


class Door:
    """Is where other hosts come to, while a plan or a run of backups is carried out. port: on all addresses of this
    host. meetings: by their tokens; some may come and go meanwhile, of those certificates that there were before."""

    def __init__(self, port: int, identity: Identity, meetings: Mapping[str, Meeting], seconds: float) -> None:
        self._meetings = meetings
        self._context = identity.context(True, sorted({each.certificate for each in meetings.values()}))
        self._listener = _listen(port, seconds)
        self._strangers = threading.BoundedSemaphore(_MOST_STRANGERS)
        self._closing = _End()
        self._thread = threading.Thread(target=self._serve, name="door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.bring()
        self._thread.join()
        self._closing.close()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.setblocking(False)
        while not self._closing.has_come():
            try:
                connection = self._closing.accepted(self._listener)
            except OSError:
                # There is no room for it now.
                self._closing.wait(_STEP)
                continue
            if connection is None:
                continue
            if not self._strangers.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._admit, args=(connection,), name="caller", daemon=True).start()

    def _admit(self, connection: socket.socket) -> None:
        channel = meeting = None
        name = ""
        try:
            connection.settimeout(HANDSHAKE_SECONDS)
            _notice_its_end(connection)
            stream = self._context.wrap_socket(connection, server_side=True)
            channel = Channel(stream, OF_MOVES.coming)
            hello = channel.receive(HANDSHAKE_SECONDS)
            meeting = self._meetings.get(str(hello.get("token")))
            name = str(hello.get("channel"))
            if meeting is None or name not in CHANNELS or not is_certified_as(stream, meeting.certificate):
                meeting = None
                return
            channel.call(meeting.words.coming)
            channel.send(welcome=True)
        except (NebulaError, OSError, ValueError):
            meeting = None
        finally:
            self._strangers.release()
            if meeting is None:
                # Its place is the channel's, once there is one.
                connection.close()
                if channel is not None:
                    channel.close()
        if channel is None or meeting is None:
            return
        if name == TALK:
            meeting.enter(channel)
        else:
            meeting.tunnels.get(name, Channel.close)(channel)


def _listen(port: int, seconds: float) -> socket.socket:
    """Return what listens on the port. Another run may have it for a while: that is waited for."""
    limit = time.monotonic() + seconds
    while True:
        listener = _socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
            listener.listen(_MOST_STRANGERS)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > limit:
                raise HypervisorError(
                    f"port {port}, to which other hosts come with machines, and the front-end for backups",
                    f"this host can't listen there: {error.strerror}",
                    "Set nebula_move_port of this host to a free one",
                ) from error
            time.sleep(_STEP)


def _socket() -> socket.socket:
    with contextlib.suppress(OSError):
        both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return both
        both.close()
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


class Caller:
    """Connects to the door of another host: of a machine's target, or of the host that it is backed up on.
    address, port: of the door. certificate: of that host.
    asked: how errors begin. words: of errors."""

    def __init__(
        self,
        identity: Identity,
        token: str,
        address: str,
        port: int,
        certificate: str,
        asked: str,
        words: Words = OF_MOVES,
    ) -> None:
        self._context = identity.context(False, [certificate])
        self._certificate = certificate
        self._token = token
        self._place = (address, port)
        self._asked = asked
        self._words = words

    def connect(self, name: str) -> Channel:
        """Return a new connection. Raise OSError or HypervisorError if the door does not open."""
        connection = socket.create_connection(self._place, HANDSHAKE_SECONDS)
        try:
            _notice_its_end(connection)
            stream = self._context.wrap_socket(connection)
        except BaseException:
            connection.close()
            raise
        try:
            if not is_certified_as(stream, self._certificate):
                raise ssl.SSLError("it is not the host that it should be")
            channel = Channel(stream, self._asked)
            channel.send(token=self._token, channel=name)
            if channel.receive(HANDSHAKE_SECONDS).get("welcome") is not True:
                raise channel.broken("it does not know of this machine")
            stream.settimeout(None)
            return channel
        except BaseException:
            stream.close()
            raise

    def meet(self, seconds: float) -> Channel:
        """Return the connection by which both hosts speak; the other one may begin somewhat later. Raise
        OtherHostFailed if it does not come, or is not reached at all."""
        limit = time.monotonic() + seconds
        while True:
            try:
                return self.connect(TALK)
            except (OSError, NebulaError) as error:
                if time.monotonic() > limit:
                    host, port = self._place
                    found = f"{self._words.called} at {host}, port {port} ({error}),"
                    raise not_met(self._asked, found, seconds, self._words) from error
            time.sleep(_MEETING_STEP)


def _user_of(local: socket.socket) -> int:
    """Return the user whose process has connected."""
    found = local.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[1])


@contextlib.contextmanager
def tunnels(places: Mapping[str, str], caller: Caller, owner: int, standstill: float = 0.0) -> Iterator[None]:
    """Listen on UNIX sockets, and carry what connects there to the other host, until the end of the block.
    places: by channel the path of its socket.
    owner: the user besides root who may connect to it.
    standstill: seconds after which a connection is ended in which nothing comes either way; 0 for never."""
    ending = _End()
    listeners: list[tuple[str, socket.socket]] = []
    threads = list[threading.Thread]()

    def carry(local: socket.socket, name: str) -> None:
        for left in range(_TRIES, 0, -1):
            try:
                channel = caller.connect(name)
                break
            except (OSError, NebulaError):
                # Strangers may be at the door.
                if left == 1 or ending.wait(_STEP):
                    local.close()
                    return
        last = [time.monotonic()]

        def noted(block: bytes) -> bytes:
            last[0] = time.monotonic()
            return block

        def going() -> bool:
            stands_still = bool(standstill) and time.monotonic() - last[0] > standstill
            return not stands_still and not ending.has_come()

        relay(local, channel.stream, noted, going, (b"", channel.early()), noted)

    def serve(name: str, listener: socket.socket) -> None:
        listener.setblocking(False)
        while not ending.has_come():
            try:
                local = ending.accepted(listener)
            except OSError:
                return
            if local is None:
                continue
            if _user_of(local) not in (0, owner):
                local.close()
                continue
            thread = threading.Thread(target=carry, args=(local, name), name=f"tunnel {name}", daemon=True)
            threads.append(thread)
            thread.start()

    try:
        for name, path in places.items():
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listeners.append((name, listener))
            listener.bind(path)
            os.chmod(path, 0o600)
            os.chown(path, owner, -1)
            listener.listen()
        for name, listener in listeners:
            thread = threading.Thread(target=serve, args=(name, listener), name=f"tunnels {name}", daemon=True)
            threads.append(thread)
            thread.start()
        yield
    finally:
        ending.bring()
        for thread in list(threads):
            thread.join()
        ending.close()
        for _name, listener in listeners:
            listener.close()
        for path in places.values():
            with contextlib.suppress(OSError):
                os.unlink(path)
