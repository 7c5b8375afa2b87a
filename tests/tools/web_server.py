# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server on loopback with the habits, good and bad, of those that images come from."""

from __future__ import annotations

import base64
import contextlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Site:
    """What the server has and how it behaves. requests: (path, headers) of all that came."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    etag: bool = True
    lengths: bool = True
    chunked: bool = False
    credentials: str = ""
    # Break the connection after so many bytes of the body, once per entry.
    breaks: list[int] = field(default_factory=list)
    # Send so many bytes of the body and then nothing more, until the test releases it.
    stall_after: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def serve() -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            site.requests.append((self.path, dict(self.headers)))
            if site.credentials:
                wanted = "Basic " + base64.b64encode(site.credentials.encode()).decode()
                if self.headers.get("Authorization") != wanted:
                    return self.send_empty(401)
            if site.statuses.get(path):
                return self.send_empty(site.statuses[path].pop(0))
            if path in site.redirects:
                return self.send_empty(302, Location=site.redirects[path])
            if path not in site.files:
                return self.send_empty(404)
            return self.send_file(site.files[path])

        def send_empty(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send_file(self, content: bytes) -> None:
            start = 0
            wanted = self.headers.get("Range", "")
            if site.ranges and wanted:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            if site.etag:
                self.send_header("ETag", f'"{hash(content)}"')
            body = content[start:]
            if site.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif site.lengths:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if site.chunked:
                middle = len(body) // 2
                for part in (body[:middle], body[middle:], b""):
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                return
            if site.breaks:
                self.wfile.write(body[: site.breaks.pop(0)])
                self.close_connection = True
                return
            if site.stall_after is not None:
                self.wfile.write(body[: site.stall_after])
                self.wfile.flush()
                site.release.wait(60)
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address) -> None:
            # The client hangs up, as some tests want it to.
            pass

    server = Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield site
    finally:
        site.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket, str], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that keeps to no protocol: answer(connection, head of the request), once per connection; an OSError ends
    it. Yields its URL and the heads of all requests."""
    heads: list[str] = []
    open_ones: list[socket.socket] = []

    def converse(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                block = connection.recv(65536)
                if not block:
                    return
                head += block
            heads.append(head.decode("latin-1"))
            answer(connection, heads[-1])

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = listener.accept()
                open_ones.append(connection)
                threads.append(threading.Thread(target=converse, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=accept, daemon=True)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            threads[0].join()
            for connection in open_ones:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads[1:]:
                thread.join()
