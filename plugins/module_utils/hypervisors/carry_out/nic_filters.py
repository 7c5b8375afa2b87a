# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters the NICs of a node's machines around the work on a plan: the rules of a NIC are there before it is, and stay
until it is gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ...errors import StalePlan, WrongState
from ...host import node_file
from ...model.move import HAS_LEFT, IS_ABSENT
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
        were decided later. Raise WrongState if the rules are not there of machines that the plan says nothing of."""
        self._refuse_lost_rules()
        changed = self._ensure(self._plan.guards, lambda table: table.ports, self._plan.guarded_at)
        self._silence(self._plan.guards, lambda announcers: announcers.found())
        if changed or not self._plan.guards:
            # What is changed is changed in one transaction.
            return
        table = nic_filter.read_table(self._plan.catalog, needed=True)
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

    def _refuse_lost_rules(self) -> None:
        since, catalog = self._plan.guards_since, self._plan.catalog
        if not since:
            return
        with node_file.lock_host(True):
            table = nic_filter.read_table(catalog, needed=True)
            kept = "" if table.exists else Boot(self._root, catalog).kept_guards()
            if kept:
                nic_filter.load(kept)
                table = nic_filter.read_table(catalog, needed=True)
        if table.as_of < since:
            raise WrongState(
                f"plan {self._plan.number}: filters of the NICs of machines that it is not about",
                f"nftables' table {nic_filter.FAMILY} {table.name} of this host is not there, or older than it was",
                "Run again: the next plan says what is filtered of all machines of this host",
            )

    def end(self, outcomes: Sequence[VmOutcome]) -> None:
        """Remove the rules of machines that are gone and of NICs that were detached. A machine that failed may still
        have each of its NICs."""
        left = {outcome.vm_id for outcome in outcomes if outcome.moved in (HAS_LEFT, IS_ABSENT)}
        gone = left | {outcome.vm_id for outcome in outcomes if outcome.state == "DONE" and outcome.error is None}
        failed = {outcome.vm_id for outcome in outcomes if outcome.error is not None} - left
        planned = {*self._plan.machines, *gone} - failed
        others = self._plan.guards_since is not None

        def staying(table: nic_filter.Table) -> Collection[str]:
            return _without(table.nics, planned) if others else nic_filter.of_unknown_machines(table, planned)

        def of_others(table: nic_filter.Table) -> Collection[str]:
            return _without(table.nics, gone)

        wanted = [guard for guard in self._plan.guards if guard.vm_id not in gone]
        if not self._ensure(wanted, staying, self._plan.guarded_at, last=True) and gone:
            # That a machine is gone is so, whenever the rules were decided.
            self._ensure((), of_others, as_of=None)
        self._silence(
            wanted,
            lambda announcers: announcers.of_others(planned) if others else announcers.of_strangers(planned),
        )

    def _silence(self, wanted: Sequence[Guard], staying: Callable[[Announcers], Collection[str]]) -> None:
        """Keep the wanted guards' NICs from announcing routers. The warnings are left to nebula_node_network."""
        announcers, silent = Announcers(self._root, self._plan.catalog), desired_chains(wanted, self._plan.catalog)
        if silent or announcers.found():
            with node_file.lock_host(True):
                announcers.ensure(silent, staying(announcers))

    def _ensure(
        self,
        wanted: Sequence[Guard],
        staying: Callable[[nic_filter.Table], Collection[str]],
        as_of: float | None,
        last: bool = False,
    ) -> bool:
        """Make the rules what is wanted. Return whether anything was changed. last: nothing of the plan follows."""
        plan = self._plan
        with node_file.lock_host(True):
            table = nic_filter.read_table(plan.catalog, needed=bool(wanted))
            changed = nic_filter.ensure(wanted, table, table.as_of if as_of is None else as_of, staying(table))
            if not changed and as_of is not None and last:
                changed = nic_filter.confirm(table, as_of)
            if changed:
                Boot(self._root, plan.catalog).keep_guards(nic_filter.at_boot(plan.catalog))
        return changed


def _without(nics: Mapping[str, tuple[int, int]], machines: Collection[int]) -> list[str]:
    """Return the interfaces that are of other machines than these."""
    return [port for port, (vm_id, _nic_id) in nics.items() if vm_id not in machines]
