# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries roots of containers from host to host, where disks are files that go as they are: a root goes as an archive,
with the owners that the machine sees, and comes as a tree of its own, whatever it showed before."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import Any

from ...model.container_user_ids import id_range
from ...model.disk import DiskFiles
from ...storage import machine_disks, roots
from ..moves import tree_streams
from ..moves.passage import Channel
from .job import Job


def own(job: Job) -> dict[int, DiskFiles]:
    """Return the machine's roots that are its own, by the number of the disk."""
    return machine_disks.own_roots(job.vm, job.directory, job.common.transfer.find)


def described(job: Job, found: Mapping[int, DiskFiles]) -> list[dict[str, Any]]:
    """Return what the other host has to know of them before they come."""
    return [
        {"id": number, "size": 0, "length": 0, "bytes": roots.size(file.path, _what(job, number))}
        for number, file in sorted(found.items())
    ]


def send(job: Job, channel: Channel, number: int, file: DiskFiles, limit: float) -> None:
    """Send a root of the machine, which is off. limit: by the monotonic clock."""

    sent: list[roots.Saved] = []

    def pack(fd: int, seconds: float) -> None:
        sent.append(roots.pack(file.path, fd, id_range(job.vm.vm_id), _what(job, number), seconds))

    tree_streams.send(channel, os.path.basename(file.path), pack, limit)
    left_out = sum(each.left_out for each in sent)
    if left_out:
        job.log("DIM", "I", f"{left_out} sockets, device nodes and attributes of disk {number} do not come along")


def receive(job: Job, channel: Channel, number: int, file: DiskFiles, limit: float) -> None:
    """Take in a root of the machine. When this returns, it is on the disk. limit: by the monotonic clock."""
    what = _what(job, number)

    def unpack(blocks: Generator[bytes, None, None], seconds: float) -> None:
        done = roots.take_in(blocks, file.path, id_range(job.vm.vm_id), what, seconds)
        for warning in done.warnings(what):
            job.log("DIM", "W", warning)

    tree_streams.receive(channel, os.path.basename(file.path), unpack, limit)


def let_go(found: Mapping[int, DiskFiles]) -> None:
    """Have nothing here hold roots that another host uses from now on."""
    for file in found.values():
        roots.unmount(file.path)


def _what(job: Job, number: int) -> str:
    return f"disk {number} of virtual machine {job.vm.name}"
