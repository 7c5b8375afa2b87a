# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams in LUKS containers: what comes out is what went in, and what is none is told."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.storage import luks_stream

needs_qemu = pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="no qemu-nbd")
WHAT = "root of web"
MIB = 1 << 20


@needs_qemu
def test_there_and_back(tmp_path):
    path, data = str(tmp_path / "a,b.luks"), os.urandom(3 * MIB + 77)
    pieces = (data[at : at + 100_001] for at in range(0, len(data), 100_001))
    assert luks_stream.write(path, pieces, "a key", 1 << 40, WHAT) == len(data)
    # No more is on the disk than is in it, and nothing in the clear.
    assert 3 * MIB < os.stat(path).st_size < 6 * MIB and os.stat(path).st_mode & 0o777 == 0o600
    assert data[:64] not in (tmp_path / "a,b.luks").read_bytes()
    found = b"".join(luks_stream.read(path, "a key", WHAT))
    assert found == data + bytes(-len(data) % 512)
    with pytest.raises(InvalidValue, match="encrypted with another key"):
        list(luks_stream.read(path, "another", WHAT))
    # As anybody reads it without us.
    key = tmp_path / "key"
    key.write_text("a key", encoding="utf-8")
    node = f"driver=luks,key-secret=k,file.driver=file,file.filename={path.replace(',', ',,')}"
    words = ["qemu-img", "convert", "--object", f"secret,id=k,file={key}", "--image-opts", node, "-O", "raw"]
    subprocess.run([*words, str(tmp_path / "raw")], check=True)
    assert (tmp_path / "raw").read_bytes() == found


@needs_qemu
def test_what_is_no_container(tmp_path):
    (tmp_path / "file").write_bytes(bytes(MIB))
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(ImageRefused, match="no whole LUKS container"):
        list(luks_stream.read(str(tmp_path / "file"), "a key", WHAT))
    with pytest.raises(InvalidValue, match="not a regular file"):
        list(luks_stream.read(str(tmp_path / "link"), "a key", WHAT))


@needs_qemu
def test_what_goes_wrong_with_the_blocks_is_raised(tmp_path):
    def blocks():
        yield bytes(MIB)
        raise InvalidValue("the blocks", "no more")

    with pytest.raises(InvalidValue, match="no more"):
        luks_stream.write(str(tmp_path / "a"), blocks(), "a key", MIB, WHAT)
    with pytest.raises(NebulaError, match="larger than the 2 MiB"):
        luks_stream.write(str(tmp_path / "b"), (bytes(MIB) for _each in range(3)), "a key", 2 * MIB, WHAT)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-something-else",
        b"NBDMAGICIHAVEOPT\0\3" + b"x" * 20,
        b"NBDMAGICIHAVEOPT\0\3" + struct.pack(">QIII", 0x3E889045565A9, 7, 1 << 31 | 1, 0),
        b"NBDMAGICIHAVEOPT\0\3" + struct.pack(">QIII", 0x3E889045565A9, 7, 3, 1 << 30),
        b"NBDMAGIC",
    ],
)
def test_who_speaks_something_else(answer):
    mine, theirs = socket.socketpair()
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    with mine, theirs, pytest.raises(ConnectionError):
        luks_stream._Device(mine, "path")


def test_answers_in_another_order_and_an_error():
    mine, theirs = socket.socketpair()
    size = 2 * MIB + 512

    def serve() -> None:
        hello = b"NBDMAGICIHAVEOPT\0\3" + struct.pack(">QIIIHQH", 0x3E889045565A9, 7, 3, 12, 0, size, 0)
        theirs.sendall(hello + struct.pack(">QIII", 0x3E889045565A9, 7, 1, 0))
        stream = theirs.makefile("rb")
        stream.read(20 + 12)
        asked = [struct.unpack(">IHHQQI", stream.read(28)) for _each in range(3)]
        for _magic, _flags, _kind, handle, offset, length in reversed(asked):
            theirs.sendall(struct.pack(">IIQ", 0x67446698, 0, handle) + bytes([offset // MIB]) * length)
        handle = struct.unpack(">IHHQQI", stream.read(28))[3]
        theirs.sendall(struct.pack(">IIQ", 0x67446698, 28, handle))

    thread = threading.Thread(target=serve)
    thread.start()
    with mine, theirs:
        device = luks_stream._Device(mine, "/the/file")
        assert b"".join(device.read_all()) == b"\0" * MIB + b"\1" * MIB + b"\2" * 512
        device._ask(0, 0, 1)
        with pytest.raises(NebulaError, match="/the/file"):
            device._reply()
        thread.join()
