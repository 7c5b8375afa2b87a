# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries roots of containers from host to host, where disks are files that go as they are: a root goes as an archive,
with the owners that the machine sees, and comes as a tree of its own, whatever it showed before. One that the
hypervisor itself makes, its driver packs and unpacks."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import Any

from ...model.container_user_ids import id_range
from ...model.disk import DIRECTORY, DiskFiles
from ...storage import machine_disks, roots
from ..moves import tree_streams
from ..moves.passage import Channel
from .job import Job


def own(job: Job) -> dict[int, DiskFiles]:
    """Return the machine's roots that are its own, by the number of the disk."""
    made = job.common.driver.own_roots(job.vm, job.directory)
    return {**_unpacked(job), **{number: DiskFiles(path, DIRECTORY) for number, path in made.items()}}


def _unpacked(job: Job) -> dict[int, DiskFiles]:
    """Return those that are unpacked for the users of this machine (storage/roots.py)."""
    return machine_disks.own_roots(job.vm, job.directory, job.common.transfer.find)


def require_users(job: Job) -> None:
    """Raise Conflict where another container of this host has the users that the machine's roots belong to."""
    if _unpacked(job):
        machine_disks.require_users(job.vm, job.directory)


def described(job: Job, found: Mapping[int, DiskFiles]) -> list[dict[str, Any]]:
    """Return what the other host has to know of them before they come."""
    unpacked = _unpacked(job)

    def size(number: int, path: str) -> int:
        measure = roots.size if number in unpacked else job.common.driver.root_size
        return measure(path, _what(job, number))

    return [
        {"id": number, "size": 0, "length": 0, "bytes": size(number, file.path)}
        for number, file in sorted(found.items())
    ]


def send(job: Job, channel: Channel, number: int, file: DiskFiles, limit: float) -> None:
    """Send a root of the machine, which is off. limit: by the monotonic clock."""
    what, unpacked = _what(job, number), number in _unpacked(job)
    sent: list[int] = []

    def pack(fd: int, seconds: float) -> None:
        if unpacked:
            sent.append(roots.pack(file.path, fd, id_range(job.vm.vm_id), what, seconds).left_out)
        else:
            sent.append(job.common.driver.pack_root(job.mark, file.path, fd, what, seconds))

    tree_streams.send(channel, os.path.basename(file.path), pack, limit)
    if any(sent):
        kinds = "sockets, device nodes and attributes" if unpacked else "sockets and attributes"
        job.log("DIM", "I", f"{sum(sent)} {kinds} of disk {number} do not come along")


def receive(job: Job, channel: Channel, number: int, file: DiskFiles, limit: float) -> None:
    """Take in a root of the machine. When this returns, it is on the disk. limit: by the monotonic clock."""
    what, unpacked = _what(job, number), number in _unpacked(job)

    def unpack(blocks: Generator[bytes, None, None], seconds: float) -> None:
        if unpacked:
            warnings = roots.take_in(blocks, file.path, id_range(job.vm.vm_id), what, seconds).warnings(what)
        else:
            warnings = job.common.driver.take_root(file.path, blocks, what, seconds)
        for warning in warnings:
            job.log("DIM", "W", warning)

    tree_streams.receive(channel, os.path.basename(file.path), unpack, limit)


def let_go(job: Job) -> None:
    """Have nothing here hold roots that another host uses from now on."""
    for file in _unpacked(job).values():
        roots.unmount(file.path)


def _what(job: Job, number: int) -> str:
    return f"disk {number} of virtual machine {job.vm.name}"
