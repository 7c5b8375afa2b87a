# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ends of a move in one process: certificates as a front-end makes them, ports of the loopback, and connections
between a door and a caller."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import (
    Caller,
    Channel,
    Door,
    Identity,
    Meeting,
)

TOKEN = "5b0c7d0e9d6a42f1b1a4000000000001"
ASKED = "virtual machine web-1: move"
# In which whatever is waited for has happened, on the slowest machine.
PATIENCE = 30.0


_MAKING = threading.Lock()


def key_pair(name: str) -> tuple[str, str]:
    """Certificate and key of a host: the same ones for a name all the time, as they take a moment to make."""
    with _MAKING:
        return _made(name)


@functools.lru_cache(maxsize=8)
def _made(name: str) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as place:
        key, certificate = Path(place, "key"), Path(place, "certificate")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return certificate.read_text(encoding="ascii"), key.read_text(encoding="ascii")


def identity(name: str) -> Identity:
    return Identity(*key_pair(name))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str = "it") -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"{what} did not happen"
        time.sleep(0.005)


@contextlib.contextmanager
def door(meetings: dict[str, Meeting], name: str = "target") -> Iterator[int]:
    """A door of the target. Yield its port."""
    port = free_port()
    opened = Door(port, identity(name), meetings, 0.0)
    try:
        yield port
    finally:
        opened.close()


def caller(port: int, name: str = "source", peer: str = "target", token: str = TOKEN) -> Caller:
    return Caller(identity(name), token, "127.0.0.1", port, key_pair(peer)[0], ASKED)


@contextlib.contextmanager
def channels() -> Iterator[tuple[Channel, Channel]]:
    """A connection between two hosts: the end of the source, and that of the target."""
    meeting = Meeting(key_pair("source")[0])
    with door({TOKEN: meeting}) as port:
        left = caller(port).meet(PATIENCE)
        right = meeting.wait(PATIENCE, ASKED)
    try:
        yield left, right
    finally:
        left.close()
        right.close()


def bare_pair() -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Two ends of TLS, with nothing of ours around them."""
    one, other = socket.socketpair()
    server = identity("target").context(True, [key_pair("source")[0]])
    client = identity("source").context(False, [key_pair("target")[0]])
    made: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: made.append(server.wrap_socket(other, server_side=True)))
    thread.start()
    left = client.wrap_socket(one)
    thread.join()
    return left, made[0]


class Beside:
    """What another thread does meanwhile. Its result, or its error, comes with result()."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._found: object = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._found = what()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self) -> object:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it does not end"
        if self._error is not None:
            raise self._error
        return self._found


@contextlib.contextmanager
def trickle(channel: Channel, size: int) -> Iterator[None]:
    """Have the end of a connection take so many bytes now and then, and no more."""
    ended = threading.Event()

    def take() -> None:
        while not ended.wait(0.05):
            with contextlib.suppress(OSError):
                if size:
                    channel.stream.recv(size)

    taking = Beside(take)
    channel.stream.settimeout(0.05)
    try:
        yield
    finally:
        ended.set()
        taking.result()
