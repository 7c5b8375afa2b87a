# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the one door to disks that a stranger, a guest, or a QEMU which its guest took over could have written.

Headers are read (qcow2_header.py) before QEMU's own programs read them. Then the format of each file and all that
lies below it are named (`json:`), so that no header is followed, and the program runs in a sandbox that has these
files and no network."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..dataclass import replace
from ..host import command, sandbox
from ..host.sandbox import NEW, READ, WRITE
from ..model.disk import DiskFiles
from . import qcow2_header

MIB = 1024 * 1024
PROGRAM = "qemu-img"
IO_PROGRAM = "qemu-io"
# A small image can make qemu-img take all memory and time (a header that claims a huge table).
MEMORY = 2048 * MIB
CPU = 600
TIMEOUT = 60.0
LONG_TIMEOUT = 3600.0
# Compression and encryption of a large disk take more than what a header should be able to cost.
LONG_CPU = 4 * 3600
# Bytes a second: what reads all of a disk, and is slower, has come to a stop.
SLOWEST = 2 * MIB
# Where programs that were given a key find it: arguments and files are seen by others.
KEY = ("--object", "secret,id=key,file=/dev/stdin")
_NOT_FLUSHED = "Failed to flush"
LUKS = "encrypt.format=luks,encrypt.key-secret=key"


def block_node(files: DiskFiles, key: str = "", open_below: bool = True, shared: bool = False) -> str:
    """Return the disk as QEMU is told of it. What a header says of what is below it is not read, nor looked for.
    shared: it is only read, also where another QEMU has it open to write to it."""
    node = _node([(files.path, files.format), *(files.backing if open_below else ())])
    if key:
        node["encrypt"] = {"key-secret": "key"}
    if shared:
        node["force-share"] = True
    return "json:" + json.dumps(node)


def _is_unnamed(path: str) -> bool:
    """Return whether it is a file that this process has made and given no name, as answers of an installation are:
    what nobody else could write, and no sandbox can be given."""
    return path.startswith(f"/proc/{os.getpid()}/fd/") and not os.path.exists(os.path.realpath(path))


def _real_path(path: str) -> str:
    return path if _is_unnamed(path) else os.path.realpath(path)


def _node(files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    (path, format_), below = files[0], files[1:]
    node: dict[str, Any] = {"driver": format_, "file": {"driver": "file", "filename": _real_path(path)}}
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
    named: bool = True,
    timeout: float = TIMEOUT,
    cpu: int = CPU,
    check: bool = True,
) -> command.Completed:
    """Run qemu-img, with the disk's name after its arguments, then `after`, then `new`.
    use: what it does with the disk
    new: a file that it makes
    what: how errors call the disk
    key: the key of what is encrypted: the disk where it is closed, else what is made
    closed: whether the disk is encrypted (only a look at it needs no key)
    open_below, write_below: whether what is below the disk is opened, and written to
    named: whether its header has to name what is below"""
    if named:
        qcow2_header.refuse_unexpected(disk, what, encrypted=closed)
    else:
        qcow2_header.refuse_data_file(disk.path, disk.format, what or f"disk {disk.path}")
    words = [verb, *(KEY if key else ()), *arguments, block_node(disk, key if closed else "", open_below), *after]
    files = {_real_path(path): WRITE if write_below else READ for path, _format in disk.backing if open_below}
    files[_real_path(disk.path)] = use
    if new:
        new = os.path.join(os.path.realpath(os.path.dirname(new)), os.path.basename(new))
        words.append(new)
        files[new] = NEW
    program = [PROGRAM, *words]
    if _is_unnamed(disk.path):
        done = command.run(program, timeout=timeout, memory=MEMORY, cpu=cpu, check=check, input=key or None)
    else:
        done = sandbox.run(program, files, timeout=timeout, memory=MEMORY, cpu=cpu, check=check, input=key or None)
    return _flushed(done, check)


def _flushed(done: command.Completed, check: bool) -> command.Completed:
    """Return how a program ended; as one that failed where it could not write its tables when it closed a file, which
    QEMU only prints. Raise its error then if that is checked."""
    if done.returncode == 0 and _NOT_FLUSHED in done.stderr:
        done = replace(done, returncode=1)
        if check:
            raise command.failure_of(done)
    return done


def run_on_node(
    verb: str, *arguments: str, path: str, node: Mapping[str, object], new: str = "", long: bool = False
) -> command.Completed:
    """Run qemu-img with a file whose format, and where in it the disk lies, `node` says, as blockdev-add takes it.
    new, long: a file that it makes, and whether it reads all of the disk"""
    words = [PROGRAM, verb, *arguments, "json:" + json.dumps(node)]
    files = {os.path.realpath(path): READ}
    if new:
        words.append(new)
        files[new] = NEW
    done = sandbox.run(
        words, files, timeout=LONG_TIMEOUT if long else TIMEOUT, memory=MEMORY, cpu=LONG_CPU if long else CPU
    )
    return _flushed(done, check=True)


def run_program(
    program: str,
    *words: str,
    files: Mapping[str, str],
    keys: Mapping[str, str] | None = None,
    input: str | None = None,
    size: int = 0,
    most: int = command.OUTPUT_LIMIT,
    check: bool = True,
    more: Sequence[int] = (),
) -> command.Completed:
    """Run qemu-img or qemu-io with nodes (`json:`) that name each file, its format, and all that lies below it. What it
    makes is whole only when it has ended; it ends with this process, however that ends.
    files: whole paths without links, with what is done with each, as sandbox.run() takes them
    keys: by what nodes call them
    input: commands for qemu-io
    size: bytes that it reads and writes, from which follows how long it may take
    most: bytes that it may print
    more: open files that it finds below /proc/self/fd"""
    verb, rest = ([], words) if program == IO_PROGRAM else ([words[0]], words[1:])
    with contextlib.ExitStack() as held:
        descriptors = {name: held.enter_context(in_memory(key)) for name, key in (keys or {}).items() if key}
        for name, fd in descriptors.items():
            verb += ["--object", f"secret,id={name},file=/proc/self/fd/{fd}"]
        done = sandbox.run(
            [program, *verb, *rest],
            files,
            timeout=LONG_TIMEOUT + size / SLOWEST,
            memory=MEMORY,
            cpu=LONG_CPU + size // SLOWEST,
            # Only what has an input has /proc, where it finds these files.
            input="" if (descriptors or more) and input is None else input,
            check=check,
            most=most,
            descriptors=(*descriptors.values(), *more),
            end_with_us=True,
        )
    return _flushed(done, check)


@contextlib.contextmanager
def in_memory(key: str) -> Iterator[int]:
    """Yield an open file that holds the key, and has no name."""
    fd = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(fd, key.encode())
        yield fd
    finally:
        os.close(fd)


def create_over(disk: DiskFiles, path: str, what: str) -> None:
    """Make a qcow2 at `path` that holds only what differs from the disk; this is opened, so that its faults show."""
    run("create", "-q", "-f", "qcow2", "-F", disk.format, "-b", disk=disk, new=path, what=what)


def run_trusted(
    verb: str, *arguments: str, key: str = "", cpu: int = CPU, timeout: float = TIMEOUT
) -> command.Completed:
    """Run qemu-img where it opens no disk but one that it makes, or one that an administrator trusts."""
    words = [PROGRAM, verb, *(KEY if key else ()), *arguments]
    done = command.run(words, timeout=timeout, memory=MEMORY, cpu=cpu, check=False, input=key or None)
    return _flushed(done, check=False)
