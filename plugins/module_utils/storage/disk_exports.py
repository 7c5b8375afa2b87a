# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the disks of a machine that is off to who backs them up, or fills new ones: each on a UNIX socket, by a
qemu-nbd in a sandbox, which ends with this process. Whatever has made the machine, its disks are files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from ..errors import CommandFailed, NebulaError
from ..host import command, sandbox
from ..host.files import closing_fd, explained
from ..host.sandbox import NEW, READ
from ..model.disk import DiskFiles
from . import disk_creation, qcow2_header, qemu_img
from .backup_files import NbdSource

# For nobody but root: what is shown there is what guests keep to themselves.
PLACE = "/run/nebula-provision-exports"
PROGRAM = "qemu-nbd"
# What each disk is called there.
EXPORT = "disk"
_WAITING = 16
_LONGEST_ERROR = 64 * 1024
# Seconds in which the program writes down what it has in memory, once nobody writes any more.
_CLOSING_SECONDS = 600.0
# It takes the socket on which it is to listen as the third descriptor, and no word says which.
_BEGIN = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@" 3<&0 </dev/null'


@contextlib.contextmanager
def shown(
    name: str, files: Mapping[int, DiskFiles], bitmap: str = "", what: str = "", shared: bool = False
) -> Iterator[Mapping[int, NbdSource]]:
    """Show disks for a block of code. Return where each can be read, by disk id.
    name: of the machine, which no two runs work on at once: what a killed one left is removed
    bitmap: which lists what was written since the backup before, in the file of each disk; "" for none
    what: how errors call the machine
    shared: what runs the machine has them open, and writes nothing now"""
    with _place(name) as directory, contextlib.ExitStack() as held:
        sources = {}
        running = []
        for disk_id, disk in files.items():
            path = os.path.join(directory, f"disk.{disk_id}")
            asked = f"{what}: disk {disk_id}" if what else f"disk {disk.path}"
            running.append((asked, *held.enter_context(_shown(disk, path, bitmap, asked, shared))))
            size = disk_creation.virtual_size(disk.path, disk.format)
            sources[disk_id] = NbdSource(path, EXPORT, size, bitmap)
        try:
            yield sources
        except NebulaError as error:
            for asked, process, log in running:
                _explain(asked, process, log, error)
            raise


@contextlib.contextmanager
def filled(name: str, disk: DiskFiles, what: str, key: str = "") -> Iterator[str]:
    """Show a new, empty disk that stands alone, for one connection that writes to it, in a block of code. Yield the
    path of the socket. At the end of the block whoever writes has to be done; then all of it is in the file.
    name: of the machine, as shown() takes it. what: how errors call the disk. key: of one that is encrypted"""
    qcow2_header.refuse_unexpected(disk, what, encrypted=bool(key))
    with _place(name) as directory, contextlib.ExitStack() as held:
        path = os.path.join(directory, "new")
        # Without --persistent, it ends in order with its one connection.
        words = [PROGRAM, "--shared=1", "--cache=writeback", f"--export-name={EXPORT}"]
        # _BEGIN has another use for low numbers.
        secrets = [held.enter_context(closing_fd(_higher(held.enter_context(qemu_img.in_memory(key)))))] if key else []
        words += [f"--object=secret,id=key,file=/proc/self/fd/{fd}" for fd in secrets]
        words.append(qemu_img.block_node(disk, key))
        with _serving(words, {os.path.realpath(disk.path): NEW}, path, secrets) as (process, log):
            try:
                yield path
            except NebulaError as error:
                _explain(what, process, log, error)
                raise
            try:
                ends = process.wait(_CLOSING_SECONDS)
            except subprocess.TimeoutExpired:
                raise CommandFailed(what, f"{PROGRAM} does not end, although nobody writes to it any more") from None
            if ends != 0:
                raise _ended(what, log)


def _higher(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


@contextlib.contextmanager
def _place(name: str) -> Iterator[str]:
    """Yield a directory for sockets, which is new and root's alone."""
    directory = os.path.join(PLACE, name)
    command.find(PROGRAM)
    with explained(directory):
        os.makedirs(PLACE, 0o700, exist_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        os.mkdir(directory, 0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _shown(
    disk: DiskFiles, path: str, bitmap: str, what: str, shared: bool
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Show one disk for a block of code. Yield its program, and what it writes its errors to."""
    qcow2_header.refuse_unexpected(disk, what)
    words = [PROGRAM, "--read-only", "--persistent", "--shared=0", f"--export-name={EXPORT}"]
    words += [f"--bitmap={bitmap}"] if bitmap else []
    words.append(qemu_img.block_node(disk, shared=shared))
    files = {os.path.realpath(each): READ for each in (disk.path, *(path for path, _format in disk.backing))}
    with _serving(words, files, path) as running:
        yield running


@contextlib.contextmanager
def _serving(
    words: list[str], files: Mapping[str, str], path: str, secrets: Sequence[int] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the program for a block of code, listening on a socket at the path. Yield it, and what it writes its errors
    to. secrets: open files that it finds below /proc/self/fd"""
    with contextlib.ExitStack() as held:
        log = held.enter_context(closing_fd(os.memfd_create("errors", os.MFD_CLOEXEC)))
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listening:
            with explained(path):
                listening.bind(path)
                # Whoever reads has no rights but to the socket, in a directory that is closed to all others.
                os.chmod(path, 0o666)
                listening.listen(_WAITING)
            process = held.enter_context(
                sandbox.started(
                    ["sh", "-c", _BEGIN, "sh", *words],
                    files,
                    memory=qemu_img.MEMORY,
                    cpu=qemu_img.LONG_CPU,
                    descriptors=secrets,
                    stdin=listening,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                )
            )
        # Only the program has it now: where that has ended, nobody waits for an answer.
        yield process, log


def _explain(what: str, process: subprocess.Popen[bytes], log: int, error: NebulaError) -> None:
    """Raise CommandFailed if the program has ended, which is why a disk could not be read."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.2)
    if process.poll() not in (None, 0):
        raise _ended(what, log) from error


def _ended(what: str, log: int) -> CommandFailed:
    text = os.pread(log, _LONGEST_ERROR, 0).decode("utf-8", "replace")
    return CommandFailed(
        what,
        f"{PROGRAM} ended: {command.last_lines(text)}",
        "See that nothing else has its file open, and that there is room, then run again",
    )


def fingerprint(files: Mapping[int, DiskFiles]) -> dict[str, str]:
    """Return what is the same, by disk id, as long as nobody writes to the disk: which file it is, how long it is, and
    when it was last written to. Of a drive of the host nothing tells that: then there is none at all."""
    if any(disk.block for disk in files.values()):
        return {}
    found = {}
    for disk_id, disk in files.items():
        with explained(disk.path):
            status = os.stat(disk.path)
        found[str(disk_id)] = f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    return found
