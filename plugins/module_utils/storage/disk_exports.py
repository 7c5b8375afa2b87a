# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the disks of a machine that is off to who backs them up: each on a UNIX socket, for reading only, by a qemu-nbd
in a sandbox, which ends with this process. Whatever has made the machine, its disks are files."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping

from ..errors import CommandFailed, NebulaError
from ..host import command, sandbox
from ..host.files import closing_fd, explained
from ..host.sandbox import READ
from ..model.disk import DiskFiles
from . import disk_creation, qcow2_header, qemu_img
from .backup_files import NbdSource

# For nobody but root: what is shown there is what guests keep to themselves.
PLACE = "/run/nebula-provision-exports"
PROGRAM = "qemu-nbd"
_WAITING = 16
_LONGEST_ERROR = 64 * 1024
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
    directory = os.path.join(PLACE, name)
    command.find(PROGRAM)
    with explained(directory):
        os.makedirs(PLACE, 0o700, exist_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        os.mkdir(directory, 0o700)
    try:
        with contextlib.ExitStack() as held:
            sources = {}
            running = []
            for disk_id, disk in files.items():
                path = os.path.join(directory, f"disk.{disk_id}")
                asked = f"{what}: disk {disk_id}" if what else f"disk {disk.path}"
                running.append((asked, *held.enter_context(_shown(disk, path, bitmap, asked, shared))))
                size = disk_creation.virtual_size(disk.path, disk.format)
                sources[disk_id] = NbdSource(path, "disk", size, bitmap)
            try:
                yield sources
            except NebulaError as error:
                for asked, process, log in running:
                    _explain(asked, process, log, error)
                raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _shown(
    disk: DiskFiles, path: str, bitmap: str, what: str, shared: bool
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Show one disk for a block of code. Yield its program, and what it writes its errors to."""
    qcow2_header.refuse_unexpected(disk, what)
    words = [PROGRAM, "--read-only", "--persistent", "--shared=0", "--export-name=disk"]
    words += [f"--bitmap={bitmap}"] if bitmap else []
    words.append(qemu_img.block_node(disk, shared=shared))
    files = {os.path.realpath(each): READ for each in (disk.path, *(path for path, _format in disk.backing))}
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
    if process.poll() is not None:
        text = os.pread(log, _LONGEST_ERROR, 0).decode("utf-8", "replace")
        raise CommandFailed(
            what,
            f"{PROGRAM} ended: {command.last_lines(text)}",
            "See that nothing else has its file open, then run again",
        ) from error


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
