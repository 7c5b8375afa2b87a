# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells whether a driver can do what a plan asks for, by the plan alone."""

from __future__ import annotations

from ...errors import Unsupported
from ...model.disk import TAR
from ...model.move import LIVE
from ...model.network_drivers import OVN, SWITCHED
from ...model.plan import ADOPT, CREATE, DELETE, SAVE_AS, SYSTEM, PlannedVm
from ..base import Driver

# What is asked of a driver while the machine runs.
_LIVE = {SAVE_AS: "copy_disk", CREATE: "snapshot_disk", DELETE: "delete_disk_snapshot"}


def check_supported(planned: PlannedVm, driver: Driver) -> None:
    """Raise Unsupported if the machine is another hypervisor's, or this one can't do what the plan asks for."""
    asked = f"virtual machine {planned.vm.name}"
    if planned.operation == ADOPT:
        raise Unsupported(asked, "this plan is for comparing it only", "Run playbook nebula.provision.site")
    if planned.vm.hypervisor != driver.name:
        raise Unsupported(
            f"{asked} for hypervisor {planned.vm.hypervisor}",
            f"this node runs {driver.name}",
            "Set nebula_hypervisor of this host to what it runs, then run again",
        )
    if planned.move is not None and planned.move.way == LIVE and "depart" not in driver.capabilities:
        raise driver.lacks("depart", f"{asked}: move")
    if planned.move is not None and not _brings_all_disks(planned, driver):
        raise Unsupported(f"{asked}: move", f"hypervisor {driver.name} keeps its disks, and they stay on this host")
    for nic in planned.vm.nics if planned.wanted == "RUNNING" else ():
        of = nic.network_values.get("VN_MAD", "")
        whose = "OVN" if of == OVN else "Open vSwitch"
        if of in SWITCHED and of not in driver.switches:
            raise Unsupported(
                f"{asked}, NIC {nic.nic_id}: network {nic.network}",
                f"it is one of {whose}, to which hypervisor {driver.name} attaches no machines",
                "Use a network with another vn_mad, or a host with KVM",
            )
    for operation in sorted(_operations_needed(planned) - driver.capabilities):
        raise driver.lacks(operation, f"{asked}: {operation}")


def _brings_all_disks(planned: PlannedVm, driver: Driver) -> bool:
    # Swap that the hypervisor itself makes is a number in the definition.
    made = {disk.disk_id for disk in planned.vm.disks if disk.by_hypervisor and disk.type != "SWAP"}
    return made <= set(driver.own_roots(planned.vm, ""))


def _operations_needed(planned: PlannedVm) -> set[str]:
    """Return the operations of Driver.OPTIONAL that the plan may need, before the machine is looked at."""
    found = {planned.operation} & Driver.OPTIONAL
    if planned.wanted == "SUSPENDED":
        found |= {"suspend", "resume"}
    if planned.wanted == "RUNNING":
        # Of the root of a container each task says itself what it needs.
        roots = {disk.disk_id for disk in planned.vm.disks if disk.format == TAR}
        found |= {_LIVE[task.kind] for task in planned.tasks if task.kind in _LIVE and task.disk_id not in roots}
    if any(task.kind in SYSTEM for task in planned.tasks):
        # Who has none of machines that run has none at all.
        found.add("snapshot_machine")
    if planned.wanted in ("POWEROFF", "DONE") and not planned.hard:
        found.add("shutdown")
    return found
