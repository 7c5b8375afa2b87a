# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes machines of a plan wait that start in the place of others of it: they start only when these are gone, and not
at all if these stay."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...errors import NoCapacity
from ...model.plan import Plan, PlannedVm
from ...model.vm import Vm

# CPU is counted in parts of one.
ROUNDING = 1e-6


class PlaceQueue:
    """Knows which machines of a plan wait for the place of others. Several threads call its methods at once. cost:
    returns the MiB that a machine takes of this node."""

    def __init__(self, plan: Plan, cost: Callable[[Vm], int]) -> None:
        self.plan = plan
        self._cost = cost
        self._memory, self._cpu = float(plan.lacking_memory), plan.lacking_cpu
        self._changed = threading.Condition()
        # The machines that are waited for, and those that were and kept what they hold.
        self._lacked = self._is_lacking()
        self._pending = {each.vm.vm_id for each in plan.vms if _gives_place(each)} if self._lacked else set()
        self._stayed: list[str] = []
        self._refused: set[int] | None = None

    def in_turn(self) -> list[PlannedVm]:
        """Return the plan's machines, first those that others wait for."""
        return sorted(self.plan.vms, key=lambda each: each.vm.vm_id not in self._pending)

    def done(self, planned: PlannedVm, successful: bool) -> None:
        """Tell waiting machines what became of this machine. To be called once for each, whatever became of it."""
        with self._changed:
            if planned.vm.vm_id not in self._pending:
                return
            self._pending.remove(planned.vm.vm_id)
            if successful:
                self._memory -= planned.gives_memory
                self._cpu -= planned.gives_cpu
            else:
                self._stayed.append(f"{planned.vm.name} (id {planned.vm.vm_id})")
            self._changed.notify_all()

    def wait(self, planned: PlannedVm) -> bool:
        """Wait until there is a place for the machine. Return whether it is the place of others, however soon these
        were gone; raise NoCapacity if there will be none. A machine that others wait for never waits itself."""
        if not self._lacked or _gives_place(planned):
            return False
        with self._changed:
            self._changed.wait_for(lambda: not self._is_lacking() or not self._pending)
            if self._refused is None:
                self._refused = self._ids_without_place()
            if planned.vm.vm_id not in self._refused:
                return True
        vm, stayed = planned.vm, ", ".join(sorted(self._stayed)[:5])
        raise NoCapacity(
            f"virtual machine {vm.name}: {self._cost(vm)} MiB of memory and {vm.cpu:g} CPU",
            f"it was to have what {stayed} held of host {self.plan.host}, and that was not given back",
            "Nothing of this machine was begun. See why that did not end or change, then run again",
        )

    def _is_lacking(self) -> bool:
        return self._memory > 0 or self._cpu > ROUNDING

    def _ids_without_place(self) -> set[int]:
        """Return the ids of machines that can't start: the youngest, until what is lacking is enough for the others."""
        memory, cpu = self._memory, self._cpu
        refused = set()
        for planned in sorted(self.plan.vms, key=lambda each: -each.vm.vm_id):
            if memory <= 0 and cpu <= ROUNDING:
                break
            if _is_started(planned) and not _gives_place(planned):
                refused.add(planned.vm.vm_id)
                memory -= self._cost(planned.vm)
                cpu -= planned.vm.cpu
        return refused


def _gives_place(planned: PlannedVm) -> bool:
    return planned.gives_memory > 0 or planned.gives_cpu > 0


def _is_started(planned: PlannedVm) -> bool:
    return planned.wanted == "RUNNING" and (planned.previous != "RUNNING" or planned.operation == "recreate")
