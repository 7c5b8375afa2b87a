# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the memory that a plan may take of its node: what others have taken meanwhile is not given twice."""

from __future__ import annotations

import threading

from ...errors import NebulaError, NoCapacity
from ...model.plan import Plan, PlannedVm
from ...model.vm import Vm
from ...storage.datastore_layout import vm_directory
from ..base import Driver
from ..machine_record import read_record
from .wait_for_place import PlaceQueue


class Room:
    """Counts what is left for the machines that this plan starts, in MiB. Several threads call its methods at once.
    accelerator: what machines run on here; what they take beside their memory depends on it."""

    def __init__(self, plan: Plan, driver: Driver, root: str, accelerator: str) -> None:
        self._plan = plan
        self._driver = driver
        self._root = root
        self._accelerator = accelerator
        self._taking = threading.Lock()
        # MiB that machines hold which run here as this begins, where room is counted.
        self._occupied: dict[int, int] = {}
        # Machines that are made anew, or started anew: they have ended before they take room again.
        self._anew = {planned.vm.vm_id for planned in plan.vms if self._ends_before(planned)}
        # None: others hold no more than when the plan was decided.
        self._left = self._count_what_is_left()
        self.successors = PlaceQueue(plan, self._cost)

    def take(self, vm: Vm) -> bool:
        """Take what the machine needs. Return whether room is counted; raise NoCapacity if there is too little."""
        if self._left is None:
            return False
        cost = self._cost(vm)
        with self._taking:
            # What it holds itself until it has ended.
            own = self._occupied.get(vm.vm_id, 0) if vm.vm_id in self._anew else 0
            if self._left + own < cost:
                raise NoCapacity(
                    f"virtual machine {vm.name}: {vm.ordinary_memory} MiB + {cost - vm.ordinary_memory} MiB overhead",
                    f"host {self._plan.host} has {max(0, self._left + own)} MiB left of {self._plan.memory}: machines "
                    "that are not this catalog's were started since this was decided",
                    "End those machines, or give this one another host or less memory, then run again",
                )
            self._left -= max(0, cost - own)
            # What it has more than it is to have is free once it has ended.
            self._occupied[vm.vm_id] = max(0, own - cost)
        return True

    def give_back(self, vm_id: int) -> None:
        """Count as free what a machine held that has ended by now, without what was taken for it since."""
        with self._taking:
            if self._left is not None:
                self._left += self._occupied.pop(vm_id, 0)

    def _count_what_is_left(self) -> int | None:
        """Return the MiB left; None if others hold no more than when the plan was decided, or the plan does not count.
        Otherwise QEMU would start all the same, and the host kill a machine later."""
        if not self._plan.memory:
            return None
        survey = self._driver.survey(self._plan.catalog)
        if survey.foreign_memory <= self._plan.foreign_memory:
            return None
        paged = self._driver.on_huge_pages(self._plan.catalog)
        ordinary = {vm.vm_id: 0 if vm.vm_id in paged else vm.memory for vm in survey.vms if vm.memory}
        self._occupied = {vm_id: memory + self._overhead(memory, None) for vm_id, memory in ordinary.items()}
        return self._plan.memory - survey.foreign_memory - sum(self._occupied.values())

    def _ends_before(self, planned: PlannedVm) -> bool:
        """Return whether the machine is still to be made anew, or to be rebooted by an end and a start."""
        if planned.operation != "recreate" and not (planned.operation == "reboot" and planned.waits):
            return False
        try:
            record = read_record(vm_directory(self._root, planned.vm.vm_id))
        except NebulaError:
            return False
        return record is None or planned.is_due(record.operated)

    def _cost(self, vm: Vm) -> int:
        """Return the MiB that the machine comes to at most."""
        vcpus = vm.most_vcpus if vm.growth is not None else vm.vcpu
        # Huge pages are set aside already.
        return vm.ordinary_memory + self._overhead(vm.ordinary_memory, vcpus)

    def _overhead(self, memory: int, vcpu: int | None) -> int:
        return self._driver.overhead(self._accelerator).of(memory, vcpu)
