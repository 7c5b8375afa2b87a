# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the disks of machines that come from other hosts, before anything of them is here: how large they may be, and
that there is room for all of them together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Mapping

from ...errors import Conflict, NebulaError, NoSpace, Unsupported
from ...host import untrusted_trees
from ...model.disk import DiskFiles
from ...model.vm import Vm
from ...storage.datastore_layout import RESERVE, free_space
from ...storage.disk_creation import virtual_size
from ...storage.machine_disks import MIB, Find

# What tables of a qcow2 take at most beside what they are of, as a part of it, and at least.
_TABLES = 256
_LEAST_TABLES = 16 * MIB


class ArrivingRoom:
    """Counts the bytes of the disks that come to this host by one plan, so that no two machines get the same ones.
    Several threads call its methods at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Bytes of all that is to come, by the machine's directory.
        self._coming: dict[str, int] = {}

    def take(self, directory: str, needed: int, name: str) -> None:
        """Hold these bytes. Raise NoSpace unless they are free beside those of machines that still come. name: the
        machine's."""
        with self._lock:
            free = free_space(directory)
            others = sum(self._coming.values())
            if needed > free - others:
                # Only then: there may be many files in roots.
                others = sum(max(0, size - _written(place)) for place, size in self._coming.items())
            free = max(0, free - others)
            if needed > free:
                awaited = f", {others / MIB:.1f} MiB for other machines that come" if others else ""
                raise NoSpace(
                    f"disks of virtual machine {name}: {needed / MIB:.1f} MiB in {directory}",
                    f"{free / MIB:.1f} MiB are free, besides {RESERVE // MIB} MiB that are kept so{awaited}",
                    "Make room on its file system, or move it to another host",
                )
            self._coming[directory] = needed

    def give_back(self, directory: str) -> None:
        """Hold nothing more for a machine that is here, or does not come."""
        with self._lock:
            self._coming.pop(directory, None)


def _written(directory: str) -> int:
    """Return the bytes that all in a directory takes by now."""
    with contextlib.suppress(NebulaError):
        return untrusted_trees.bytes_on_disk(directory)
    return 0


def refuse_larger(vm: Vm, sizes: Mapping[int, int], find: Find, asked: str) -> None:
    """Raise Conflict for a disk that is larger by its old host's word than by this host's plan, or than its image.
    sizes: bytes that the guest sees, by disk id."""
    for disk in vm.disks:
        has = sizes.get(disk.disk_id, 0)
        known = disk.size or disk.source
        most = disk.size * MIB if disk.size else virtual_size(find(disk), disk.format) if disk.source else 0
        if known and has > most:
            raise Conflict(
                asked,
                f"its disk {disk.disk_id} has {has / MIB:.1f} MiB on its host, and {most / MIB:.1f} by its plan",
                f"If that is so, give the DISK SIZE = {-(-has // MIB)} in its template first; otherwise find out who "
                "has power over that host",
            )


def refuse_longer(vm: Vm, files: Mapping[int, DiskFiles], offered: Mapping[int, Mapping[str, int]], asked: str) -> None:
    """Raise Conflict for a disk whose file is longer by its old host's word than one of its size can be."""
    for number, file in files.items():
        length, most = offered[number]["length"], _most(vm, number, file, offered)
        if length > most:
            raise Conflict(
                asked,
                f"the file of its disk {number} has {length / MIB:.1f} MiB on its host; one of a disk of "
                f"{offered[number]['size'] / MIB:.1f} MiB has {most / MIB:.1f} at most",
                "If that is so, snapshots that are gone have left it so: save the disk as an image, and make the "
                "machine of that; otherwise find out who has power over that host",
            )


def needed_room(vm: Vm, files: Mapping[int, DiskFiles], offered: Mapping[int, Mapping[str, int]]) -> int:
    """Return the bytes that all of this takes here by its old host's word, but no more of a file than it can have: what
    it takes there is also a matter of the file system there. files: those that are known; the others are roots."""
    return sum(
        min(each["bytes"], _most(vm, number, files[number], offered)) if number in files else each["bytes"]
        for number, each in offered.items()
    )


def _most(vm: Vm, number: int, file: DiskFiles, offered: Mapping[int, Mapping[str, int]]) -> int:
    """Return the bytes that the file of a disk has at most, with the snapshots in it, and as much again as one that is
    gone has left there."""
    size = offered[number]["size"]
    whole = size + _tables(size)
    if file.format == "raw":
        return whole
    of_machine = sum(number in snapshot.disks for snapshot in vm.system_snapshots)
    return whole * (2 + of_machine + sum(len(disk.snapshots) for disk in vm.disks if disk.disk_id == number))


def _tables(size: int) -> int:
    return max(size // _TABLES, _LEAST_TABLES)


def refuse_encrypted_copies(vm: Vm, copied: Collection[int], asked: str) -> None:
    """Raise Unsupported for an encrypted disk that would be copied while the machine runs: its new file would have to
    be encrypted anew, and nobody but libvirt has the passphrase. copied: ids of disks."""
    for disk in vm.disks:
        if disk.luks_secret and disk.disk_id in copied:
            raise Unsupported(
                asked,
                f"its disk {disk.disk_id} is encrypted, and such a disk is copied only while its machine is off",
                "Move it cold (move: cold), or keep it on a datastore that both hosts see",
            )


def longest_file(file: DiskFiles, size: int, length: int) -> int:
    """Return the bytes that a disk's file may have once the machine is off: until then its guest writes to it.
    size: that its guest sees. length: of its file while the machine still runs."""
    return size if file.format == "raw" else length + size + _tables(size)
