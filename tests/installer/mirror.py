# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The package archive that this machine is set up with, for an installer that has no network but its host's loopback.

A server on a Unix socket hands out what apt's own program fetches, and keeps the packages; in a network namespace where
nothing else can be reached, a relay on loopback leads to that socket."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ansible_collections.nebula.provision.tests.integration.guests.cache import directory
from ansible_collections.nebula.provision.tests.integration.guests.sources import codename

APT_HELPER = "/usr/lib/apt/apt-helper"
FETCH_LIMIT = 600


def archive() -> str:
    """The URI that apt has the distribution's packages from."""
    template = ["--format", "$(REPO_URI)"]
    told = subprocess.run(
        ["apt-get", "indextargets", *template, "Created-By: Packages", "Origin: Debian", f"Codename: {codename()}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.split()[0].rstrip("/")


def path_of(uri: str) -> str:
    return urlsplit(uri).path


class Mirror:
    """Files of one archive by their path on the server. own: further ones, of this project. requests: how often which
    was asked for."""

    def __init__(self, uri: str, place: Path) -> None:
        self.uri = uri
        self.place = place
        self.own: dict[str, Path] = {}
        self.requests: dict[str, int] = {}
        self.fetched = 0
        self._locks: dict[str, threading.Lock] = {}
        self._fresh: dict[str, Path | None] = {}
        self._lock = threading.Lock()

    def file(self, asked: str) -> Path | None:
        """A file of the archive, or None where it has no such file."""
        path = unquote(urlsplit(asked).path)
        if path in self.own:
            return self.own[path]
        prefix = path_of(self.uri) + "/"
        parts = Path(path.removeprefix(prefix)).parts
        if not path.startswith(prefix) or not parts or ".." in parts or parts[0] not in ("dists", "pool"):
            return None
        with self._lock:
            self.requests[path] = self.requests.get(path, 0) + 1
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            if path not in self._fresh:
                self._fresh[path] = self._fetch(Path(*parts))
            return self._fresh[path]

    def _fetch(self, name: Path) -> Path | None:
        target = self.place / name
        # A package's name says its version; an index is what it is today.
        if name.parts[0] == "pool" and target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.part")
        scratch.unlink(missing_ok=True)
        argv = [APT_HELPER, "-q", "-o", "APT::Sandbox::User=root", "download-file", f"{self.uri}/{name}", str(scratch)]
        run = subprocess.run(argv, check=False, capture_output=True, timeout=FETCH_LIMIT)
        self.fetched += 1
        if run.returncode != 0 or not scratch.exists():
            return None
        scratch.rename(target)
        return target


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirror: Mirror

    def do_GET(self) -> None:
        self._answer(content=True)

    def do_HEAD(self) -> None:
        self._answer(content=False)

    def _answer(self, content: bool) -> None:
        found = self.mirror.file(self.path)
        if found is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(found.stat().st_size))
        self.send_header("Last-Modified", self.date_time_string(found.stat().st_mtime))
        self.end_headers()
        if content:
            with found.open("rb") as source, contextlib.suppress(ConnectionError):
                shutil.copyfileobj(source, self.wfile)

    def log_message(self, *arguments: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def serving(path: Path) -> Iterator[Mirror]:
    """The archive on a Unix socket. What was fetched stays in the cache."""
    mirror = Mirror(archive(), directory() / "archive")

    class Bound(Handler):
        pass

    Bound.mirror = mirror
    with Server(str(path), Bound) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def relayed(path: Path) -> Iterator[int]:
    """A port on this namespace's loopback that leads to the socket."""

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = listener.accept()
                threading.Thread(target=converse, args=(client,), daemon=True).start()

    def converse(client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(path))
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
