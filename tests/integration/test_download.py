# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from a real web server on loopback."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest
import web_server

from ansible_collections.nebula.provision.plugins.module_utils.errors import DownloadFailed, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import download
from ansible_collections.nebula.provision.plugins.module_utils.host.download import Download

CONTENT = os.urandom(3_000_000)
END = "Content-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def site(no_proxy):
    with web_server.serve() as served:
        served.files["/image"] = CONTENT
        yield served


def fetch(url, **options) -> bytes:
    return b"".join(Download(url, pause=lambda seconds: None, **options).blocks())


def test_a_file(site):
    loading = Download(site.url + "/image")
    loading.open()
    assert loading.size == len(CONTENT)
    blocks = list(loading.blocks())
    assert b"".join(blocks) == CONTENT
    assert max(map(len, blocks)) <= download.CHUNK


@pytest.mark.parametrize("how", ["chunked", "no length"])
def test_a_file_of_unknown_size(site, how):
    site.chunked, site.lengths = how == "chunked", how == "chunked"
    loading = Download(site.url + "/image")
    loading.open()
    assert loading.size is None
    assert b"".join(loading.blocks()) == CONTENT


def test_a_broken_connection_goes_on_where_it_broke(site):
    site.breaks = [1_000_000, 500_000]
    assert fetch(site.url + "/image") == CONTENT
    assert [headers.get("Range") for _path, headers in site.requests] == [None, "bytes=1000000-", "bytes=1500000-"]
    assert all("If-Range" in headers for _path, headers in site.requests[1:])


def test_a_server_without_ranges_sends_it_all_again(site):
    site.ranges, site.breaks = False, [1_000_000]
    assert fetch(site.url + "/image") == CONTENT


def test_a_file_that_changes_meanwhile(site):
    site.breaks = [1_000_000]
    loading = Download(site.url + "/image", pause=lambda s: site.files.update({"/image": CONTENT[::-1]}))
    with pytest.raises(DownloadFailed, match="changed on the server"):
        list(loading.blocks())


def test_a_connection_that_always_breaks(site):
    site.breaks = [1_000_000] + [0] * 20
    with pytest.raises(DownloadFailed, match="ended after 1000000 bytes of 3000000"):
        fetch(site.url + "/image", retries=2)
    assert len(site.requests) == 3


def test_a_stalled_connection(site):
    site.stall_after = 1000
    began = time.monotonic()
    with pytest.raises(DownloadFailed, match=r"no byte came for 0\.3 s after 1000 bytes"):
        fetch(site.url + "/image", stall=0.3, retries=0)
    assert time.monotonic() - began < 5


def test_passing_errors_are_tried_again(site):
    site.statuses["/image"] = [503, 500, 429]
    assert fetch(site.url + "/image") == CONTENT


@pytest.mark.parametrize(("status", "text"), [(404, "404 Not Found. Check the URL"), (401, "user and password")])
def test_lasting_errors_are_told_at_once(site, status, text):
    site.statuses["/image"] = [status, 200]
    with pytest.raises(DownloadFailed, match=text):
        fetch(site.url + "/image")
    assert len(site.requests) == 1


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(DownloadFailed, match="Connection refused"):
            fetch(f"http://127.0.0.1:{port}/x", retries=1)


def test_credentials_are_sent_and_never_shown(site):
    site.credentials = "us er:p@ss"
    url = site.url.replace("//", "//us%20er:p%40ss@") + "/image?signature=abc"
    assert fetch(url) == CONTENT
    assert "@" not in Download(url).shown
    assert "abc" not in Download(url).shown
    site.credentials = "other:secret"
    with pytest.raises(DownloadFailed) as caught:
        fetch(url)
    assert not [word for word in ("p@ss", "p%40ss", "abc", "us er") if word in str(caught.value)]


def test_redirects_are_followed(site):
    site.redirects = {"/a": "/b", "/b": site.url + "/image"}
    site.breaks = [1_000_000]
    assert fetch(site.url + "/a") == CONTENT


def test_redirects_do_not_carry_credentials_elsewhere(site):
    with web_server.serve() as other:
        other.files["/image"] = CONTENT
        site.redirects["/a"] = other.url + "/image"
        assert fetch(site.url.replace("//", "//user:secret@") + "/a") == CONTENT
        assert "Authorization" in site.requests[0][1]
        assert "Authorization" not in other.requests[0][1]


def test_redirects_do_not_carry_what_a_proxy_was_told(site, monkeypatch):
    """The proxy itself sends on, to a server that is reached without it."""
    with web_server.serve() as other:
        other.files["/image"] = CONTENT
        site.redirects["http://files.invalid/a"] = other.url + "/image"
        monkeypatch.setenv("http_proxy", site.url.replace("//", "//me:secret@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert fetch("http://user:word@files.invalid/a") == CONTENT
    assert {"Authorization", "Proxy-Authorization"} <= {name.title() for name in site.requests[0][1]}
    assert not [name for name in other.requests[0][1] if re.search("auth|cookie", name, re.IGNORECASE)]


def test_an_address_that_a_server_sends_on_to_is_not_shown(site):
    site.redirects["/a"] = "http://me:WORD@127.0.0.1:WORD/x?WORD"
    with pytest.raises(DownloadFailed, match="an address that can't be read") as caught:
        fetch(site.url + "/a")
    assert "WORD" not in str(caught.value)


def test_a_file_that_was_asked_for_by_https_does_not_come_by_http(site, tmp_path):
    with secure(tmp_path, f"HTTP/1.1 302 Found\r\nLocation: {site.url}/image\r\n{END}", 2) as url:
        with pytest.raises(DownloadFailed, match=r"from https to http.*Give the file's own https URL"):
            fetch(url, validate_certs=False)
        assert site.requests == []
        loading = Download(url, validate_certs=False, to_http="")
        assert b"".join(loading.blocks()) == CONTENT and len(loading.warnings) == 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_to_other_schemes_are_refused(site, target):
    site.redirects["/a"] = target
    with pytest.raises(DownloadFailed, match="Only http and https"):
        fetch(site.url + "/a")


def test_endless_redirects(site):
    site.redirects["/a"] = "/a"
    with pytest.raises(DownloadFailed):
        fetch(site.url + "/a")
    assert len(site.requests) < 20


@pytest.mark.parametrize("url", ["ftp://x/y", "file:///etc/passwd", "http://", "/path"])
def test_what_is_no_http_url(url):
    with pytest.raises(InvalidValue):
        Download(url)


def test_spaces_and_accents_in_the_path(site):
    site.files["/my%20im%C3%A4ge"] = CONTENT
    assert fetch(site.url + "/my imäge") == CONTENT
    assert fetch(site.url + "/my%20im%C3%A4ge") == CONTENT


@contextlib.contextmanager
def secure(tmp_path, sends, times):
    """A server with a certificate of its own that gives the same answer so often."""
    key, certificate = tmp_path / "key", tmp_path / "cert"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def answer():
            for _attempt in range(times):
                raw, _address = listener.accept()
                try:
                    with context.wrap_socket(raw, server_side=True) as connection:
                        connection.recv(4096)
                        connection.sendall(sends.encode())
                except OSError:
                    raw.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/x"
        thread.join()


def test_certificates(tmp_path):
    with secure(tmp_path, f"HTTP/1.1 200 OK\r\n{END.replace('0', '2')}ok", 2) as url:
        with pytest.raises(DownloadFailed, match=r"certificate is not valid.*validate_certs: false"):
            fetch(url)
        assert fetch(url, validate_certs=False) == b"ok"
