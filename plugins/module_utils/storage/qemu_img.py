# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to disks that a stranger, a guest, or a QEMU which its guest took over could have written.

Headers are read here before QEMU's own programs read them. Then the format of each file and all that lies below it are
named (`json:`), so that no header is followed, and the program runs in a sandbox that has these files and no network.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

from ..errors import ImageRefused
from ..host import command, sandbox
from ..host.files import explained, reader
from ..host.sandbox import NEW, READ, WRITE
from ..model.disk import DiskFiles

MIB = 1024 * 1024
PROGRAM = "qemu-img"
# A small image can make qemu-img take all memory and time (a header that claims a huge table).
MEMORY = 2048 * MIB
CPU = 600
TIMEOUT = 60.0
LONG_TIMEOUT = 3600.0
# Compression and encryption of a large disk take more than what a header should be able to cost.
LONG_CPU = 4 * 3600
# Where programs that were given a key find it: arguments and files are seen by others.
KEY = ("--object", "secret,id=key,file=/dev/stdin")
LUKS = "encrypt.format=luks,encrypt.key-secret=key"

MAGIC = b"QFI\xfb"
DATA_FILE = 1 << 2
CORRUPT = 1 << 1
CRYPT_LUKS = 2
# Beyond the header's own fields: type and length of each extension, then as many bytes, up to a multiple of eight.
_BACKING_FORMAT = 0xE2792ACA
_LONGEST_HEADER = 64 * 1024
# Dirty, corrupt, a data file, another compression, extended entries of its tables: QEMU knows no others.
KNOWN_FEATURES = 0b11111
_LONGEST_NAME = 1023
_TAMPERED = "It was tampered with: make the machine anew, or bring the disk back from a backup"


# -- headers ---------------------------------------------------------------------------------------------------------


def open_binary(path: str) -> BinaryIO:
    # O_NONBLOCK: a named pipe would wait for its writer; it has no use here and fails on seek().
    return reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


class Header:
    """What the header of a qcow2 file says. crypt: 0 where it is not encrypted."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        head = file.read(104)
        self.whole = len(head) >= 72 and head[:4] == MAGIC
        head = head.ljust(104, b"\0")
        self.version, self._offset, self._length = struct.unpack(">IQI", head[4:20])
        self.size: int = struct.unpack(">Q", head[24:32])[0]
        self.crypt: int = struct.unpack(">I", head[32:36])[0]
        self.incompatible: int = struct.unpack(">Q", head[72:80])[0] if self.version >= 3 else 0
        self.has_backing = bool(self._offset)
        self.backing_format = _extension(file, head, self.version, _BACKING_FORMAT) if self._offset else ""
        self.backing = ""
        if self._offset and self._offset < file.seek(0, os.SEEK_END):
            file.seek(self._offset)
            self.backing = file.read(min(self._length, _LONGEST_NAME)).decode("utf-8", "replace")


def _extension(file: BinaryIO, head: bytes, version: int, wanted: int) -> str:
    place = struct.unpack(">I", head[100:104])[0] if version >= 3 else 72
    while place < _LONGEST_HEADER:
        file.seek(place)
        kind, length = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
        if kind == wanted:
            return file.read(min(length, _LONGEST_NAME)).decode("utf-8", "replace")
        if not kind:
            break
        place += 8 + (length + 7) // 8 * 8
    return ""


def refuse_data_file(path: str, format: str, what: str) -> None:
    """ImageRefused where a disk of ours, whatever it rests on, says that its content is in another file. For programs
    that can't be told what a disk rests on: nothing but that is in the header that they read."""
    if format == "qcow2":
        with explained(path), open_binary(path) as file:
            header = Header(file)
        header.has_backing = False
        _refuse(header, path, "", what, encrypted=True)


def refuse_strange(files: DiskFiles, what: str = "", encrypted: bool = False) -> None:
    """ImageRefused where a file of the chain says that it is something else than what the catalog knows: its content is
    in another file, it rests on another one, it is encrypted and should not be, or it has a feature without a name."""
    chain = [(files.path, files.format), *files.backing]
    for (path, format_), below in zip(chain, [*(path for path, _format in files.backing), ""]):
        if format_ == "qcow2":
            with explained(path), open_binary(path) as file:
                _refuse(Header(file), path, below, what or f"disk {files.path}", encrypted)


def _refuse(header: Header, path: str, below: str, what: str, encrypted: bool) -> None:
    found = ""
    if not header.whole or header.version not in (2, 3):
        found = "it is no qcow2 file, as the catalog says"
    elif header.incompatible & DATA_FILE:
        found = "it says that its content is in another file"
    elif header.incompatible & ~KNOWN_FEATURES:
        found = f"it says that it has features which nobody knows ({header.incompatible:#x})"
    elif header.crypt and not (encrypted and header.crypt == CRYPT_LUKS):
        found = "it says that it is encrypted, and the catalog does not"
    elif header.has_backing and not _is_meant(header.backing, below):
        rests = f"rests on {below}" if below else "rests on nothing"
        found = f"it says that it rests on {header.backing!r}, and by the catalog it {rests}"
    if found:
        raise ImageRefused(what, f"{path}: {found}", _TAMPERED)


def _is_meant(backing: str, below: str) -> bool:
    """Whether what a header calls the file below is that one, wherever its datastore or cache was mounted then."""
    if not below:
        return False
    if backing.startswith("json:"):
        try:
            named = json.loads(backing[len("json:") :])
            backing = str(named["file"]["filename"]) if named["file"]["driver"] == "file" else ""
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
    meant = {os.path.basename(below), os.path.basename(os.path.realpath(below))}
    return backing.startswith("/") and os.path.basename(backing) in meant


# -- running it ------------------------------------------------------------------------------------------------------


def named(files: DiskFiles, key: str = "", open_below: bool = True) -> str:
    """The disk as QEMU is told of it. What a header says of what is below it is not read, nor looked for."""
    node = _node([(files.path, files.format), *(files.backing if open_below else ())])
    if key:
        node["encrypt"] = {"key-secret": "key"}
    return "json:" + json.dumps(node)


def _is_unnamed(path: str) -> bool:
    """Whether it is a file that this process has made and given no name, as answers of an installation are: what nobody
    else could write, and no sandbox can be given."""
    return path.startswith(f"/proc/{os.getpid()}/fd/") and not os.path.exists(os.path.realpath(path))


def _whole(path: str) -> str:
    return path if _is_unnamed(path) else os.path.realpath(path)


def _node(files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    (path, format_), below = files[0], files[1:]
    node: dict[str, Any] = {"driver": format_, "file": {"driver": "file", "filename": _whole(path)}}
    if format_ == "qcow2":
        node["backing"] = _node(below) if below else None
    return node


def run(
    verb: str,
    *arguments: str,
    disk: DiskFiles,
    use: str = READ,
    after: Sequence[str] = (),
    new: str = "",
    what: str = "",
    key: str = "",
    closed: bool = False,
    open_below: bool = True,
    write_below: bool = False,
    timeout: float = TIMEOUT,
    cpu: int = CPU,
    check: bool = True,
) -> command.Completed:
    """qemu-img, with the disk's name after its arguments, then `after`, then `new`.

    use: what it does with the disk. new: a file that it makes. what: how errors call the disk. key: of what is
    encrypted, the disk where that is closed (which only a look at it needs no key for), else what is made.
    open_below, write_below: whether what is below the disk is opened, and written to.
    """
    refuse_strange(disk, what, encrypted=closed)
    words = [verb, *(KEY if key else ()), *arguments, named(disk, key if closed else "", open_below), *after]
    files = {_whole(path): WRITE if write_below else READ for path, _format in disk.backing if open_below}
    files[_whole(disk.path)] = use
    if new:
        new = os.path.join(os.path.realpath(os.path.dirname(new)), os.path.basename(new))
        words.append(new)
        files[new] = NEW
    program = [PROGRAM, *words]
    if _is_unnamed(disk.path):
        return command.run(program, timeout=timeout, memory=MEMORY, cpu=cpu, check=check, input=key or None)
    return sandbox.run(program, files, timeout=timeout, memory=MEMORY, cpu=cpu, check=check, input=key or None)


def create_over(disk: DiskFiles, path: str, what: str) -> None:
    """A qcow2 at `path` that holds only what differs from the disk, which is opened: what can't be is seen here."""
    run("create", "-q", "-f", "qcow2", "-F", disk.format, "-b", disk=disk, new=path, what=what)


def plain(verb: str, *arguments: str, key: str = "", cpu: int = CPU, timeout: float = TIMEOUT) -> command.Completed:
    """qemu-img where it opens no disk but one that it makes, or what an administrator has said to be trusted."""
    words = [PROGRAM, verb, *(KEY if key else ()), *arguments]
    return command.run(words, timeout=timeout, memory=MEMORY, cpu=cpu, check=False, input=key or None)
