# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs which disks, NICs and addresses a machine got or lost, and what else of it was changed."""

from __future__ import annotations

from ...dataclass import replace
from ...model.disk import Disk
from ...model.nic import Alias, Nic
from ...model.vm import Vm
from .job import Job


def log_devices(job: Job, new: bool, at_once: bool) -> None:
    """Log what differs from what the machine had, and remember what it has.
    new: it is made just now.
    at_once: it has the devices by now, and not only when it is started the next time."""
    before, has = job.record.devices, {**_figures(job.vm), **devices_of(job.vm)}
    if before == has:
        return
    job.record = replace(job.record, devices=has)
    if new:
        return
    later = "" if at_once else ". The machine has it so when it is started the next time"
    if not before:
        # An earlier release has not remembered what it had.
        shown = "; ".join(f"{name}: {what}" for name, what in devices_of(job.vm).items())
        job.log("VMM", "I", f"The machine has {shown or 'neither disks nor NICs'}{later}")
        return
    for name in (*before, *(each for each in has if each not in before)):
        if before.get(name) != has.get(name):
            # Of everything else a machine that runs gets only what it can have at once.
            when = later if name.startswith(("Disk ", "NIC ")) else ""
            job.log("VMM", "I", f"{name} {_what_happened(before.get(name), has.get(name))}{when}")


def _what_happened(before: str | None, now: str | None) -> str:
    if now is None:
        return f"was detached: {before}"
    return f"was attached: {now}" if before is None else f"was changed: {now}, before {before}"


def _figures(vm: Vm) -> dict[str, str]:
    """Return what a machine has only one of: name, CPU, VCPU and memory."""
    vcpu = f"{vm.vcpu}" if vm.vcpu is not None else "that of its hypervisor"
    return {"Name": vm.name, "CPU": f"{vm.cpu:g}", "VCPU": vcpu, "Memory": f"{vm.memory} MiB"}


def devices_of(vm: Vm) -> dict[str, str]:
    """Return what there is to tell of each disk, NIC and alias but the context, by the name that it keeps."""
    found = {f"Disk {disk.disk_id}": _disk(disk) for disk in vm.disks}
    found.update({f"NIC {nic.nic_id}": _nic(nic) for nic in vm.nics})
    return {**found, **{f"Alias {each.nic_id} of NIC {each.parent_id}": _nic(each) for each in vm.aliases}}


def _disk(disk: Disk) -> str:
    content = f"image {disk.image}" if disk.image else disk.type
    return ", ".join(filter(None, (disk.target, content, f"{disk.size} MiB" if disk.size else "")))


def _nic(nic: Nic | Alias) -> str:
    return ", ".join(filter(None, (f"network {nic.network}", nic.ip, nic.ip6, nic.mac)))
