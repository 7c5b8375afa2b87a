# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which disks and NICs a machine got or lost, for its log."""

from __future__ import annotations

from dataclasses import replace

from ...model.disk import Disk
from ...model.nic import Nic
from ...model.vm import Vm
from .job import Job


def tell(job: Job, new: bool, at_once: bool) -> None:
    """Log what differs from what the machine had, and remember what it has. new: it is made just now. at_once: it has
    them by now, and not only when it is started the next time."""
    before, has = job.record.devices, devices_of(job.vm)
    if before == has:
        return
    job.record = replace(job.record, devices=has)
    if new:
        return
    later = "" if at_once else ". The machine has it so when it is started the next time"
    if not before:
        # An earlier release has not remembered what it had.
        shown = "; ".join(f"{name}: {what}" for name, what in has.items())
        job.log("VMM", "I", f"The machine has {shown or 'neither disks nor NICs'}{later}")
        return
    for name, what in before.items():
        if name not in has:
            job.log("VMM", "I", f"{name} was detached: {what}{later}")
    for name, what in has.items():
        if name not in before:
            job.log("VMM", "I", f"{name} was attached: {what}{later}")
        elif before[name] != what:
            job.log("VMM", "I", f"{name} was changed: {what}, before {before[name]}{later}")


def devices_of(vm: Vm) -> dict[str, str]:
    """Return what there is to be told of each disk and NIC, by the name that it keeps. The context is no such disk."""
    found = {f"Disk {disk.disk_id}": _disk(disk) for disk in vm.disks}
    return {**found, **{f"NIC {nic.nic_id}": _nic(nic) for nic in vm.nics}}


def _disk(disk: Disk) -> str:
    content = f"image {disk.image}" if disk.image else disk.type
    return ", ".join(filter(None, (disk.target, content, f"{disk.size} MiB" if disk.size else "")))


def _nic(nic: Nic) -> str:
    return ", ".join(filter(None, (f"network {nic.network}", nic.ip, nic.ip6, nic.mac)))
