# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters the NICs of a node's machines around the work on a plan: the rules of a NIC are there before it is, and stay
until it is gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ...errors import StalePlan
from ...host import node_file
from ...model.nic_filter_rules import Guard, check
from ...model.plan import Plan, VmOutcome
from ...network import nic_filter
from ...network.networks_at_boot import Boot
from ...network.router_advertisements import Announcers, desired_chains


class NicFilters:
    """Keeps the filters of one plan's machines."""

    def __init__(self, plan: Plan, root: str) -> None:
        self._plan = plan
        self._root = root
        for guard in plan.guards:
            check(guard)

    def begin(self) -> None:
        """Make the rules of all NICs, before a machine is made or started. Raise ForeignObject, MissingDependency or
        CommandFailed, and StalePlan if a machine would start without its rules, because the rules that are there
        were decided later."""
        self._ensure(self._plan.guards, lambda table: table.ports, self._plan.guarded_at)
        self._silence(self._plan.guards, lambda announcers: announcers.found())
        table = nic_filter.read_table(self._plan.catalog, needed=bool(self._plan.guards))
        starting = {planned.vm.vm_id for planned in self._plan.vms if planned.wanted == "RUNNING"}
        wanted = nic_filter.desired_digests(guard for guard in self._plan.guards if guard.vm_id in starting)
        lacking = sorted(port for port, digest in wanted.items() if table.ports.get(port) != digest)
        if lacking:
            raise StalePlan(
                f"plan {self._plan.number}: filters of {', '.join(lacking)}",
                f"those of this host were decided at {table.as_of:.3f} s since 1970, and these at "
                f"{self._plan.guarded_at:.3f} s",
                "Run again. If the front-end's clock was set back, run this here before: nft delete table "
                f"{nic_filter.FAMILY} {table.name}",
            )

    def end(self, outcomes: Sequence[VmOutcome]) -> None:
        """Remove the rules of machines that are gone and of NICs that were detached."""
        gone = {outcome.vm_id for outcome in outcomes if outcome.state == "DONE" and outcome.error is None}

        def staying(table: nic_filter.Table) -> Collection[str]:
            return nic_filter.of_unknown_machines(table, {*self._plan.machines, *gone})

        def of_others(table: nic_filter.Table) -> Collection[str]:
            return [port for port, (vm_id, _nic_id) in table.nics.items() if vm_id not in gone]

        wanted = [guard for guard in self._plan.guards if guard.vm_id not in gone]
        if not self._ensure(wanted, staying, self._plan.guarded_at) and gone:
            # That a machine is gone is so, whenever the rules were decided.
            self._ensure((), of_others, as_of=None)
        self._silence(wanted, lambda announcers: announcers.of_strangers({*self._plan.machines, *gone}))

    def _silence(self, wanted: Sequence[Guard], staying: Callable[[Announcers], Collection[str]]) -> None:
        """Keep the wanted guards' NICs from announcing routers. The warnings are left to nebula_node_network."""
        announcers, silent = Announcers(self._root, self._plan.catalog), desired_chains(wanted, self._plan.catalog)
        if silent or announcers.found():
            with node_file.lock_host(True):
                announcers.ensure(silent, staying(announcers))

    def _ensure(
        self, wanted: Sequence[Guard], staying: Callable[[nic_filter.Table], Collection[str]], as_of: float | None
    ) -> bool:
        """Make the rules what is wanted. Return whether anything was changed."""
        plan = self._plan
        with node_file.lock_host(True):
            table = nic_filter.read_table(plan.catalog, needed=bool(wanted))
            changed = nic_filter.ensure(wanted, table, table.as_of if as_of is None else as_of, staying(table))
            if changed:
                Boot(self._root, plan.catalog).keep_guards(nic_filter.at_boot(plan.catalog))
        return changed
