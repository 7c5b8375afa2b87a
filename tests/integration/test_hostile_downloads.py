# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers on loopback that never end, never start, or say what is not so: refused in bounded time and memory."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import resource
import time

import pytest
from raw_disks import BOOT
from web_server import answering

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    DownloadFailed,
    ImageRefused,
    NebulaError,
)
from ansible_collections.nebula.provision.plugins.module_utils.host.download import WINDOW, Download
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.storage import final_names, importer
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import Checksum
from ansible_collections.nebula.provision.plugins.module_utils.storage.importer import Request

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
# A server that is too slow for STALL is not too slow for ten times that.
STALL = 0.3
# Seconds by the clock, of a machine that does much else.
LONG = 60

pytestmark = pytest.mark.usefixtures("no_proxy")


@contextlib.contextmanager
def in_bounds(memory: int = 32 * MIB):
    """The peak of this process must not grow by more."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert time.monotonic() - began < LONG
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < memory


def fetch(url: str, **options) -> bytes:
    options = {"stall": STALL, "retries": 1, **options}
    return b"".join(Download(url, pause=lambda seconds: None, **options).blocks())


def again_and_again(connection, data: bytes, pause: float = 0.0) -> None:
    """Until the other side hangs up."""
    while True:
        connection.sendall(data)
        if pause:
            time.sleep(pause)


def slowly(start: bytes, piece: bytes):
    def answer(connection, _head):
        connection.sendall(start)
        again_and_again(connection, piece, STALL / 4)

    return answer


def fast(start: bytes, piece: bytes):
    def answer(connection, _head):
        connection.sendall(start)
        again_and_again(connection, piece)

    return answer


SLOW = {
    "a body": slowly(OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "a body without a length": slowly(OK + b"\r\n", b"x"),
    "chunks": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "the size of a chunk": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "a status": slowly(b"HTTP/1.1 200 ", b"O"),
    "headers": slowly(OK, b"A: b\r\n"),
    "one header": slowly(OK + b"A: ", b"b"),
    "a redirect": slowly(b"HTTP/1.1 302 Found\r\nLocation: ", b"/"),
    "provisional answers": slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trailers": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"A: b\r\n"),
}


@pytest.mark.parametrize("what", SLOW)
def test_what_comes_slowly(what):
    """Never so slowly that it stalls."""
    with (
        answering(SLOW[what]) as (url, _heads),
        in_bounds(),
        pytest.raises(DownloadFailed, match=r"bytes of it came in \d+ s, the limit is 16 KB a second.*min_speed"),
    ):
        fetch(url + "/image")


@pytest.mark.parametrize("what", ["provisional answers", "trailers"])
def test_what_never_ends_and_is_not_the_file(what):
    endless = {
        "provisional answers": fast(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        "trailers": fast(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"A: b\r\n" * 1000),
    }
    with answering(endless[what]) as (url, _heads), in_bounds(), pytest.raises(DownloadFailed, match="min_speed"):
        fetch(url + "/image")


def test_a_byte_for_each_connection():
    """It makes progress each time: only the row of failures ends it."""

    def answer(connection, head):
        start = int(head.partition("bytes=")[2].partition("-")[0] or 0)
        status = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-999/1000\r\n" % start if start else OK
        connection.sendall(status + b"Content-Length: %d\r\n\r\nx" % (1000 - start))

    with answering(answer) as (url, heads), pytest.raises(DownloadFailed, match="ended after 5 bytes of 1000"):
        fetch(url + "/image", retries=4)
    assert len(heads) == 5


def test_all_again_for_each_mib():
    """It makes progress, and fast, but what it sends grows with the square of that."""
    sent = []

    def answer(connection, _head):
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % (64 * MIB))
        sent.append(len(sent) + 1)
        for _mib in sent:
            connection.sendall(bytes(MIB))
        connection.sendall(b"x" * 1000)

    with answering(answer) as (url, _heads), pytest.raises(DownloadFailed, match="the connection ended after"):
        fetch(url + "/image")
    assert len(sent) < 10


def test_all_again_from_a_server_that_brings_twice_as_much_each_time():
    size = 24 * MIB
    ends = [2 * MIB, 5 * MIB, 12 * MIB, size]

    def answer(connection, _head):
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % size + bytes(ends.pop(0)))

    with answering(answer) as (url, _heads):
        assert len(fetch(url + "/image")) == size


def test_a_slow_server_that_is_wanted():
    def answer(connection, _head):
        connection.sendall(OK + b"Content-Length: 40\r\n\r\n")
        for _byte in range(40):
            connection.sendall(b"x")
            time.sleep(STALL / 3)

    with answering(answer) as (url, _heads):
        with pytest.raises(DownloadFailed, match="min_speed"):
            fetch(url + "/image")
        assert fetch(url + "/image", min_speed=0) == b"x" * 40
        assert fetch(url + "/image", min_speed=1) == b"x" * 40


def test_the_time_of_writing_is_not_the_servers():
    """A full pipe or a slow disk: nothing is asked of the server meanwhile."""

    def answer(connection, _head):
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % (4 * MIB) + bytes(4 * MIB))

    with answering(answer) as (url, _heads):
        blocks = Download(url + "/image", stall=STALL, retries=0, min_speed=MIB).blocks()
        taken = len(next(blocks))
        # Longer than that over which the speed is measured.
        time.sleep((WINDOW + 1) * STALL)
        taken += sum(map(len, blocks))
    assert taken == 4 * MIB


HEADERS = {
    "100000 headers": fast(OK + b"A: b\r\n" * 100_000, b"A: b\r\n" * 1000),
    "an endless header": fast(OK + b"A: ", b"b" * 65536),
    "an endless status": fast(b"HTTP/1.1 200 ", b"O" * 65536),
    "no HTTP at all": fast(b"", b"\x00\xff\x1b[2J" * 1000),
    "an endless size of a chunk": fast(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    "sizes of chunks that are none": fast(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"zzz\r\n"),
    "less than a chunk": fast(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"-5\r\n\r\n"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_what_is_no_answer(what, tmp_path):
    with answering(HEADERS[what]) as (url, _heads), in_bounds(), pytest.raises(NebulaError) as caught:
        store(tmp_path, url + "/image", max_size=16 * MIB)
    assert isinstance(caught.value, (DownloadFailed, ImageRefused))
    assert len(str(caught.value)) < 6000 and str(caught.value).isprintable()
    assert os.listdir(tmp_path) == []


def test_a_chunk_below_zero_is_refused_at_once():
    """Nothing of what follows is taken for the file, however much comes."""
    with answering(HEADERS["less than a chunk"]) as (url, heads), pytest.raises(DownloadFailed, match="below zero"):
        fetch(url + "/image", retries=3)
    assert len(heads) == 1


def test_a_chunk_below_zero_where_a_file_is_sent_all_again():
    def answer(connection, head):
        first = OK + b"Transfer-Encoding: chunked\r\n\r\n"
        if "bytes=" in head:
            connection.sendall(first)
            again_and_again(connection, b"-5\r\n\r\n")
        connection.sendall(first + b"5\r\nabcde\r\n")

    with answering(answer) as (url, heads), pytest.raises(DownloadFailed, match="below zero"):
        fetch(url + "/image", retries=3)
    assert len(heads) == 2


REDIRECTS = {
    "one with an endless body": fast(b"HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n", bytes(MIB)),
    "a port beyond all": fast(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999999/\r\n\r\n", b""),
    "a port that is none": fast(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:x/\r\n\r\n", b""),
    "half an address": fast(b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", b""),
    "a label too long": fast(b"HTTP/1.1 302 Found\r\nLocation: http://" + b"\xe4" * 300 + b"/\r\n\r\n", b""),
    "no host": fast(b"HTTP/1.1 302 Found\r\nLocation: http:///x\r\n\r\n", b""),
    "control characters": fast(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\x01\x7f \x1b[2J\r\n\r\n", b""),
    "no location": fast(b"HTTP/1.1 302 Found\r\n\r\n", b""),
    "another scheme": fast(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", b""),
}


@pytest.mark.parametrize("what", REDIRECTS)
def test_redirects(what):
    with answering(REDIRECTS[what]) as (url, _heads), in_bounds(), pytest.raises(DownloadFailed) as caught:
        fetch(url + "/image")
    assert "/etc/passwd" not in str(caught.value) and str(caught.value).isprintable()


def test_a_redirect_to_a_port_that_stalls():
    with (
        answering(lambda connection, head: connection.recv(1)) as (stalls, heads),
        answering(fast(f"HTTP/1.1 302 Found\r\nLocation: {stalls}/x?sig=s3cret\r\n\r\n".encode(), b"x")) as (
            url,
            _heads,
        ),
        in_bounds(),
        pytest.raises(DownloadFailed, match=r"no byte came for 0\.3 s") as caught,
    ):
        fetch(url + "/image")
    assert len(heads) == 2 and "s3cret" not in str(caught.value)


def store(directory, source, **options):
    destination = str(directory / "image")
    with final_names.locked_destination(destination, 0):
        return importer.store(Request("image demo", source, stall=STALL, **options), destination)


@pytest.fixture
def no_pause(monkeypatch):
    """Only the one between attempts."""
    original = Download.__init__
    monkeypatch.setattr(
        Download, "__init__", lambda self, url, **options: original(self, url, pause=lambda seconds: None, **options)
    )


ENDLESS = {
    "a body": (OK + b"\r\n", BOOT + os.urandom(MIB - 512)),
    "zeroes": (OK + b"\r\n", bytes(MIB)),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % MIB + os.urandom(MIB) + b"\r\n"),
    "padding behind gz": (OK + b"\r\n" + gzip.compress(b"x" * 1000), bytes(MIB)),
    "empty members of gz": (OK + b"\r\n", gzip.compress(b"") * 50_000),
    "frames of zst to skip": (
        OK + b"\r\n\x28\xb5\x2f\xfd\x20\x01\x09\0\0x", b"\x50\x2a\x4d\x18\0\0\x10\0" + bytes(MIB)
    ),
    "a bomb by Content-Encoding": (OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(bytes(64 * MIB))),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDLESS)
def test_bodies_without_end(what, tmp_path):
    with (
        answering(fast(*ENDLESS[what])) as (url, _heads),
        in_bounds(64 * MIB),
        pytest.raises(ImageRefused, match=r"the limit is 24 MiB.*nebula_image_max_size"),
    ):
        store(tmp_path, url + "/image", max_size=24 * MIB)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("length", [25 * MIB, 1 << 62, 10**30])
def test_a_length_beyond_the_limit_is_refused_at_once(length, tmp_path):
    with (
        answering(fast(OK + b"Content-Length: %d\r\n\r\n" % length, bytes(1000))) as (url, heads),
        pytest.raises(NebulaError, match="the limit is 24 MiB"),
    ):
        store(tmp_path, url + "/image", max_size=24 * MIB)
    assert len(heads) == 1 and os.listdir(tmp_path) == []


@pytest.mark.parametrize("length", [b"-5", b"+70000", b"1_000", b"0x10", b"12, 13", b"\xb2", b"1" * 5000])
def test_lengths_that_are_none(length, tmp_path):
    """Refused, or taken for unknown."""

    def answer(connection, _head):
        connection.sendall(OK + b"Content-Length: " + length + b"\r\nConnection: close\r\n\r\n" + b"x" * 65536)

    with answering(answer) as (url, _heads):
        try:
            stored = store(tmp_path, url + "/image", max_size=24 * MIB)
        except (DownloadFailed, ImageRefused):
            assert os.listdir(tmp_path) == []
        else:
            assert stored.bytes == 65536


def test_a_length_longer_than_the_body(tmp_path, no_pause):
    def answer(connection, head):
        start = int(head.partition("bytes=")[2].partition("-")[0] or 0)
        status = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-1999/2000\r\n" % start if start else OK
        connection.sendall(status + b"Content-Length: %d\r\n\r\n" % (2000 - start) + b"x" * (1000 - start))

    with answering(answer) as (url, heads), pytest.raises(DownloadFailed, match="ended after 1000 bytes of 2000"):
        store(tmp_path, url + "/image")
    assert len(heads) == 5 and os.listdir(tmp_path) == []


def test_a_part_that_nobody_asked_for(tmp_path):
    def answer(connection, _head):
        start = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 512-1023/2048\r\nContent-Length: 512\r\n\r\n"
        connection.sendall(start + bytes(512))

    with (
        answering(answer) as (url, _heads),
        pytest.raises(DownloadFailed, match="a part where the whole was asked for"),
    ):
        store(tmp_path, url + "/image")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("attack", ["slow", "endless"])
def test_an_image_ends_in_error(attack, tmp_path, no_pause):
    """LOCKED while it is fetched, then ERROR with the reason; the next run stores it from a better server."""
    answers = {"slow": SLOW["a body"], "endless": fast(*ENDLESS["a body"])}
    content = BOOT + os.urandom(MIB - 512)

    def good(connection, _head):
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % MIB + content)

    def apply(url):
        engine = EmbeddedEngine(str(tmp_path), create=True)
        try:
            settings = image_list_decision.Settings(stall=STALL, max_size=24)
            return image_list_decision.apply(engine, [{"name": "demo", "path": url + "/image"}], settings)[0][0]
        finally:
            engine.close()

    with answering(answers[attack]) as (url, _heads):
        done = apply(url)
    assert done.after["state"] == "ERROR" and str(done.error) == done.after["error"]
    assert os.listdir(tmp_path / "datastores" / "1") == []
    with answering(good) as (url, _heads):
        done = apply(url)
    assert (done.after["state"], done.error) == ("READY", None)
    assert [p.read_bytes() for p in (tmp_path / "datastores" / "1").iterdir()] == [content]


# -- packed on the way -------------------------------------------------------------------------------------------------
DISK = BOOT + bytes(64 * 1024)


def whole(body: bytes, *headers: bytes):
    head = OK + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body)
    return lambda connection, _head: connection.sendall(head + body)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "identity, gzip", "identity", "aws-chunked", "none"])
@pytest.mark.parametrize("name", ["/disk.raw", "/disk.raw.gz"])
def test_a_disk_that_a_server_packs_is_unpacked(coding, name, tmp_path):
    with answering(whole(gzip.compress(DISK), b"Content-Encoding: " + coding.encode())) as (url, _heads):
        assert store(tmp_path, url + name).bytes == len(DISK)


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "compress"])
def test_what_a_server_packs_in_another_way_is_refused(coding, tmp_path):
    with (
        answering(whole(DISK, b"Content-Encoding: " + coding.encode())) as (url, _heads),
        pytest.raises(DownloadFailed, match=rf"on the way \(Content-Encoding: {coding}\), which nobody asked for"),
    ):
        store(tmp_path, url + "/disk.raw")


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "deflate, chunked"])
@pytest.mark.parametrize("disk", [True, False])
def test_what_is_packed_between_two_servers_is_refused(coding, disk, tmp_path):
    with (
        answering(whole(gzip.compress(DISK), b"Transfer-Encoding: " + coding.encode())) as (url, _heads),
        pytest.raises(DownloadFailed, match=rf"on the way \(Transfer-Encoding: {coding}\)"),
    ):
        store(tmp_path, url + "/disk.raw", disk=disk)


def test_a_file_that_is_packed_itself_is_not_packed_on_the_way(tmp_path):
    initrd = gzip.compress(b"070701")
    words = b"Content-Encoding: gzip"

    def answer(connection, head):
        if head.startswith("GET /latest "):
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /initrd.gz\r\nContent-Length: 0\r\n\r\n")
        else:
            own = b'Content-Disposition: attachment; filename="initrd.gz"'
            whole(initrd, words, *([own] if head.startswith("GET /own ") else []))(connection, head)

    for name in ("/initrd.gz", "/latest", "/own", "/download?file=initrd.gz"):
        with answering(answer) as (url, _heads):
            assert store(tmp_path, url + name, disk=False).bytes == len(initrd)
    with answering(answer) as (url, _heads), pytest.raises(DownloadFailed, match="Content-Encoding: gzip"):
        store(tmp_path, url + "/initrd", disk=False)


@pytest.mark.parametrize("form", ["of what it is on the server", "of something else"])
def test_a_checksum_beside_a_file_that_is_packed_on_the_way(form, tmp_path):
    digest = hashlib.sha256(lzma.compress(DISK)).hexdigest() if "server" in form else "0" * 64
    packed = gzip.compress(lzma.compress(DISK))
    with (
        answering(whole(packed, b"Content-Encoding: gzip")) as (url, _heads),
        pytest.raises(ChecksumMismatch, match="packed it on the way") as caught,
    ):
        store(tmp_path, url + "/disk.raw.xz", checksum=Checksum.parse(f"sha256:{digest}", "x"))
    assert ("that of what is in it, unpacked" in str(caught.value)) == ("server" in form)


def test_what_is_packed_twice_is_told_with_its_cause(tmp_path):
    body = gzip.compress(lzma.compress(DISK))
    for header, cause in ((b"Content-Encoding: gzip", True), (b"A: b", False)):
        with (
            answering(whole(body, header)) as (url, _heads),
            pytest.raises(ImageRefused, match="compressed by xz") as caught,
        ):
            store(tmp_path, url + "/disk.raw.xz")
        assert ("The server packed it on the way (Content-Encoding: gzip)" in str(caught.value)) == cause


def test_a_page_in_place_of_a_file_with_a_checksum_is_named(tmp_path):
    page = b"<html><title>Sign in</title></html>"
    with (
        answering(whole(page, b"Content-Type: text/html")) as (url, _heads),
        pytest.raises(ChecksumMismatch, match="it is a page of HTML, with the title 'Sign in'"),
    ):
        store(tmp_path, url + "/disk.raw", checksum=Checksum.parse("sha256:" + "0" * 64, "x"))
