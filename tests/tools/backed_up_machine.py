# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's disks for tests of backups, without a machine: QEMU's own programs write to them, keep their bitmaps, and
show them as a running QEMU does."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    CRASH_CONSISTENT,
    FULL,
    INCREMENTAL,
    LUKS,
    QCOW2,
    BackedUpDisk,
    MachineBackup,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files, backup_secrets
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_files import NbdSource
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import MachineDirectory

MIB = 1 << 20
CATALOG = "0b7f8a52-6e0f-4a5c-9a43-3c41d7a1c0de"
VM = 7
# 2026-01-01, a Thursday.
BEGAN = 1767225600
DAY = 86400


class Machine:
    """Has disks, and remembers what was in them at each backup."""

    def __init__(self, place: Path, disks: int = 1, size: int = 4 * MIB) -> None:
        self.place, self.size, self.count = place, size, disks
        self.held: dict[str, list[bytes]] = {}
        self._taken = 0
        place.mkdir(exist_ok=True)
        for number in range(disks):
            qemu("qemu-img", "create", "-q", "-f", "qcow2", self.disk(number), str(size))

    def disk(self, number: int) -> str:
        return str(self.place / f"live.{number}")

    def write(self, *commands: str, disk: int = 0) -> None:
        """Have qemu-io write: write -P 1 0 64k."""
        words = [word for command in commands for word in ("-c", command)]
        qemu("qemu-io", "-f", "qcow2", *words, self.disk(disk))

    def grow(self, size: int) -> None:
        self.size = size
        for number in range(self.count):
            qemu("qemu-img", "resize", "-q", "-f", "qcow2", self.disk(number), str(size))

    def content(self, number: int = 0) -> bytes:
        raw = self.place / "raw"
        qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.disk(number), str(raw))
        return raw.read_bytes()

    @contextlib.contextmanager
    def exported(self, number: int = 0, bitmap: str = "") -> Iterator[NbdSource]:
        socket, pid = self.place / f"{number}.sock", self.place / f"{number}.pid"
        more = ["-B", bitmap] if bitmap else []
        words = ["qemu-nbd", "--fork", "-r", "--persistent", "--shared=8", "-x", "disk", "-f", "qcow2", *more]
        qemu(*words, "-k", str(socket), f"--pid-file={pid}", self.disk(number))
        process = int(pid.read_text())
        try:
            yield NbdSource(str(socket), "disk", self.size, bitmap)
        finally:
            # In it may have been the reason to end it.
            end(process, socket)
            pid.unlink(missing_ok=True)

    def end_exports(self) -> None:
        """End those of a process that did not get to it."""
        for pid in self.place.glob("*.pid"):
            with contextlib.suppress(FileNotFoundError):
                end(int(pid.read_text()), pid.with_suffix(".sock"))
            pid.unlink(missing_ok=True)

    def back_up(
        self, directory: MachineDirectory, full: bool = False, compress: bool = False, parent: str = "", day: int = -1
    ) -> MachineBackup:
        """Back up all disks, as a driver and a run do together.
        parent: which backup it rests on; the latest otherwise. day: on which day of the year it is made."""
        latest = None if full else directory.get(parent) if parent else directory.latest()
        self._taken += 1
        time = BEGAN + DAY * (day if day >= 0 else self._taken)
        id, key = directory.new_id(time), directory.key
        disks = []
        for number in range(self.count):
            before = next((each for each in latest.disks if each.disk_id == number), None) if latest else None
            bitmap = f"b-{latest.id}" if latest and before else ""
            name = f"{id}.disk.{number}.{'luks' if key else 'qcow2'}"
            below = before.file.name if before else ""
            with self.exported(number, bitmap) as source:
                stored = backup_files.store_disk(directory.directory, name, source, self.size, compress, key, below)
            qemu("qemu-img", "bitmap", "--add", "-f", "qcow2", self.disk(number), f"b-{id}")
            disks.append(
                BackedUpDisk(number, f"vd{'abc'[number]}", "qcow2", self.size, stored, LUKS if key else QCOW2, below)
            )
        secrets = {"PASSWORD": "geheim"}
        secrets_file = None
        if key:
            secrets_file = backup_secrets.store_secrets(directory.directory, f"{id}.secrets.luks", secrets, key)
        manifest = MachineBackup(
            id=id, catalog=directory.catalog, vm_id=directory.vm_id, uuid="", name="web", host="node1",
            hypervisor="kvm", time=time, kind=INCREMENTAL if latest else FULL, state="RUNNING",
            consistency=CRASH_CONSISTENT, way="read",
            disks=tuple(disks), parent=latest.id if latest else "", secrets=("PASSWORD",), secrets_file=secrets_file,
            compressed=compress, encrypted=bool(key),
        )  # fmt: skip
        self.held[id] = [self.content(number) for number in range(self.count)]
        return directory.write(manifest)


def qemu(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def end(process: int, socket: Path) -> None:
    """End a qemu-nbd with all of its threads, the last of which lets its disk go."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(process)
        try:
            for _try in range(40):
                # One that has only just begun to listen may forget that it was told to end.
                signal.pidfd_send_signal(fd, signal.SIGTERM)
                if select.select([fd], [], [], 0.5)[0]:
                    break
            else:
                raise AssertionError(f"qemu-nbd {process} does not end")
        finally:
            os.close(fd)
    socket.unlink(missing_ok=True)


def restored(directory: MachineDirectory, id: str, number: int, place: Path) -> bytes:
    """What a backup's disk holds."""
    backup, new = directory.get(id), place / "restored"
    disk = next(each for each in backup.disks if each.disk_id == number)
    chain = directory.chain(backup, number)
    backup_files.restore_disk(chain, str(new), "raw", directory.key, disk.size)
    content = new.read_bytes()
    new.unlink()
    return content
