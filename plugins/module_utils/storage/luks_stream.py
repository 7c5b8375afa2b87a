# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what comes as a stream into a LUKS container, and reads it back as one, so that what is in it is on no disk
in the clear. QEMU's own program opens the container, in a sandbox, and is spoken to in NBD's protocol; so nobody needs
a device, or a right, of the kernel."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from ..errors import ChecksumMismatch, CommandFailed, ImageRefused, InvalidValue, StorageFailed, TimedOut
from ..host import command, files, sandbox
from . import qemu_img

PROGRAM = "qemu-nbd"
MIB = 1024 * 1024
# Bytes of a request, and how many are on their way at once.
CHUNK, DEPTH = MIB, 4
SECTOR = 512
# Seconds in which an answer has to come: opening one takes seconds of a processor.
PATIENCE = 120.0
# What the program may take of memory, and of a processor, by which a header that asks for too much ends.
MEMORY, CPU = 1024 * MIB, qemu_img.LONG_CPU
# QEMU measures the processor's speed by a clock that may stand still meanwhile.
_TRIES, _NO_TIME = 20, "CPU usage"
_GREETING, _OPTION, _ANSWER = b"NBDMAGICIHAVEOPT", 0x49484156454F5054, 0x3E889045565A9
_REQUEST, _REPLY = 0x25609513, 0x67446698
_GO, _ACKNOWLEDGED, _INFORMATION, _EXPORT = 7, 1, 3, 0
_FIXED_NO_ZEROES = 3
_READ, _WRITE, _END, _FLUSH = 0, 1, 2, 3
_LONGEST_ANSWER = 4096
_KEY_WRONG = ("Invalid password", "No keys", "Unable to unlock", "cannot unlock")
# The program finds a socket that it is given as its third stream, and takes it for its own by its number, which in the
# sandbox is 1. It comes as the output: not all shells have numbers beyond 9.
_SCRIPT = 'exec 3<&1 >/dev/null; export LISTEN_FDS=1 LISTEN_PID="${1:-$$}"; shift; exec "$@"'


def write(path: str, blocks: Iterable[bytes], key: str, most: int, what: str) -> int:
    """Make a container at `path`, which is not there, of a key, with all of the blocks in it. Return their bytes. Fill
    the last sector up with zeroes. Raise what the blocks raise.
    most: bytes that may come. what: the words that errors begin with."""
    most += -most % MIB
    begin = _create(path, most, key, what)
    with _connected(path, key, sandbox.WRITE, what) as device:
        size = device.write_all(blocks, most, what)
    with files.explained(path), files.opened(path, os.O_RDWR | os.O_NOFOLLOW) as fd:
        os.ftruncate(fd, begin + size + -size % SECTOR)
        os.fsync(fd)
    return size


def read(path: str, key: str, what: str) -> Generator[bytes, None, None]:
    """Yield all that is in a container. Raise InvalidValue for another key than it has, ImageRefused for a file that is
    none. what: the words that errors begin with."""
    with files.explained(path):
        found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidValue(what, f"{path} is not a regular file", "See who put it there")
    # It is closed with the generator.
    with _connected(path, key, sandbox.READ, what) as device:  # pylint: disable=contextmanager-generator-missing-cleanup
        yield from device.read_all()


def _create(path: str, size: int, key: str, what: str) -> int:
    """Make an empty container. Return where in it what it holds begins."""
    options = ("-q", "-f", "luks", "-o", "key-secret=key,iter-time=200", path, str(size))
    for left in range(_TRIES, 0, -1):
        done = qemu_img.run_trusted("create", *options, key=key)
        if done.returncode == 0:
            break
        files.remove_file(path)
        if left == 1 or _NO_TIME not in done.stderr:
            error = command.failure_of(done)
            raise type(error)(f"{what}: {error.asked}", error.found, error.remedy)
    with files.explained(path):
        os.chmod(path, 0o600)
        return os.stat(path).st_size - size


@contextlib.contextmanager
def _connected(path: str, key: str, use: str, what: str) -> Iterator[_Device]:
    path = os.path.realpath(path)
    node = f"driver=luks,key-secret=key,file.driver=file,file.filename={path.replace(',', ',,')}"
    words = [PROGRAM, *qemu_img.KEY, "--image-opts", node, "--export-name", "stream"]
    words += ["--read-only"] if use == sandbox.READ else ["--cache=writeback", "--discard=ignore"]
    with tempfile.TemporaryDirectory() as place, contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(f"{place}/nbd")
        listening.listen(1)
        connection = socket.socket(socket.AF_UNIX)
        around = sandbox.words_around(PROGRAM, {path: use}, memory=MEMORY, cpu=CPU)
        # pylint: disable-next=contextmanager-generator-missing-cleanup
        with contextlib.closing(connection), around as own:
            before = ["sh", "-c", _SCRIPT, "nbd", "1" if own else "", *own]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": listening, "stderr": subprocess.PIPE}
            with command.start(words, before=before, **pipes) as process:
                # While it has the only other end, it can't be waited for once it has ended.
                connection.connect(f"{place}/nbd")
                listening.close()
                if process.stdin is not None:
                    with contextlib.suppress(BrokenPipeError), process.stdin:
                        process.stdin.write(key.encode())
                connection.settimeout(PATIENCE)
                try:
                    device = _Device(connection, path)
                    yield device
                    device.end()
                except socket.timeout as error:
                    raise TimedOut(what, f"{PROGRAM} gave no answer within {PATIENCE:g} s") from error
                except ConnectionError as error:
                    raise _explained_end(process, words, what) from error


def _explained_end(process: subprocess.Popen[bytes], words: list[str], what: str) -> Exception:
    """Return why the program has ended that should go on."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    if process.returncode is None:
        process.kill()
    text = process.stderr.read(command.ERROR_LIMIT) if process.stderr is not None else b""
    error = (text or b"").decode("utf-8", "replace")
    lines = command.last_lines(error, 3)
    if any(each.lower() in error.lower() for each in _KEY_WRONG):
        return InvalidValue(what, "it was encrypted with another key", "Give the key with which it was made")
    if "not in LUKS format" in error or "LUKS" in error:
        return ImageRefused(what, f"it is no whole LUKS container: {lines}", "Take another backup")
    done = command.Completed(tuple(words), process.returncode or -1, "", error, 0.0)
    found = command.failure_of(done)
    if isinstance(found, CommandFailed):
        return StorageFailed(what, f"{PROGRAM} ended in the middle: {lines or 'it says nothing'}", "Run again")
    return type(found)(what, found.found, found.remedy)


class _Device:
    """Is what the program shows. size: its bytes."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self._connection, self._path = connection, path
        self._handle = 0
        if self._take(16) != _GREETING:
            raise ConnectionError("it speaks no NBD")
        self._take(2)
        name = b"stream"
        asked = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        connection.sendall(struct.pack(">IQII", _FIXED_NO_ZEROES, _OPTION, _GO, len(asked)) + asked)
        self.size = 0
        while True:
            magic, _option, kind, length = struct.unpack(">QIII", self._take(20))
            if magic != _ANSWER or length > _LONGEST_ANSWER:
                raise ConnectionError("it speaks another NBD")
            body = self._take(length)
            if kind == _INFORMATION and len(body) >= 10 and body[:2] == struct.pack(">H", _EXPORT):
                self.size = struct.unpack(">Q", body[2:10])[0]
            elif kind == _ACKNOWLEDGED:
                return
            elif kind & 1 << 31:
                raise ConnectionError("it does not show the device")

    def write_all(self, blocks: Iterable[bytes], most: int, what: str) -> int:
        """Write the blocks from the beginning on, have them on the disk, and return how many bytes they have."""
        at = under_way = 0
        held = bytearray()

        def send(piece: bytes) -> None:
            nonlocal at, under_way
            if at + len(piece) > most:
                raise ChecksumMismatch(what, f"it is larger than the {most // MIB} MiB that it could be", "Run again")
            self._ask(_WRITE, at, len(piece), piece)
            at += len(piece)
            under_way += 1
            if under_way >= DEPTH:
                self._reply()
                under_way -= 1

        for block in blocks:
            held += block
            while len(held) >= CHUNK:
                send(bytes(held[:CHUNK]))
                del held[:CHUNK]
        size = at + len(held)
        if held:
            send(bytes(held) + bytes(-len(held) % SECTOR))
        for _each in range(under_way):
            self._reply()
        self._ask(_FLUSH, 0, 0)
        self._reply()
        return size

    def read_all(self) -> Generator[bytes, None, None]:
        """Yield all of it, in chunks."""
        asked: list[tuple[int, int]] = []
        came: dict[int, bytes] = {}
        at = 0
        while at < self.size or asked:
            while at < self.size and len(asked) < DEPTH:
                length = min(CHUNK, self.size - at)
                asked.append((self._ask(_READ, at, length), length))
                at += length
            wanted, _length = asked[0]
            while wanted not in came:
                handle = self._reply()
                if handle not in dict(asked):
                    raise ConnectionError("it answers what nobody has asked")
                came[handle] = self._take(dict(asked)[handle])
            asked.pop(0)
            yield came.pop(wanted)

    def end(self) -> None:
        self._ask(_END, 0, 0)

    def _ask(self, kind: int, offset: int, length: int, data: bytes = b"") -> int:
        self._handle += 1
        self._connection.sendall(struct.pack(">IHHQQI", _REQUEST, 0, kind, self._handle, offset, length))
        if data:
            self._connection.sendall(data)
        return self._handle

    def _reply(self) -> int:
        """Return the request that was carried out."""
        magic, error, handle = struct.unpack(">IIQ", self._take(16))
        if magic != _REPLY:
            raise ConnectionError("it speaks another NBD")
        if error:
            raise files.explain(OSError(error, os.strerror(error)), self._path)
        return int(handle)

    def _take(self, length: int) -> bytes:
        found = bytearray(length)
        view = memoryview(found)
        while view:
            got = self._connection.recv_into(view)
            if not got:
                raise ConnectionResetError("it has ended")
            view = view[got:]
        return bytes(found)
