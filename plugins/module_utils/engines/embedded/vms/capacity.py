# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts what machines take of their hosts: room for new machines, for those that become larger, and for those that go
on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Optional

from ....dataclass import dataclass, replace
from ....errors import NoCapacity
from ....model.host import Host
from ....model.instantiate.demands import Demands
from ....model.instantiate.growth import most_of
from ....model.machine_orders import NOTHING, HeldResources
from ....model.object_ids import id_of
from ....model.states import vm_state_name
from ....model.vm import Growth
from ..hosts import HELD, ROOMS, Hosts
from .polls import Polls
from .scheduler import Scheduler
from .vm_rows import VmRows


@dataclass(frozen=True)
class Capacity:
    hosts: Hosts
    rows: VmRows
    polls: Polls

    def scheduler(self, only: Sequence[str] | None) -> Scheduler:
        """Return what chooses among these hosts, or all; it knows of what was promised since. only: see Scheduler."""
        known = self.rows.store.once(ROOMS, dict[Optional[tuple[str, ...]], Scheduler])
        key = None if only is None else tuple(only)
        if key not in known:
            hosts = self.hosts.by_id().values()
            others, polls = self.polls.others_memory(), self.polls
            known[key] = Scheduler(hosts, others, only, polls.unreached, self.held(), polls.datastores)
        return known[key]

    def held(self) -> dict[str, HeldResources]:
        """Return what machines that are being ended hold, by host name. A plan contains these machines and those that
        take their place; the node starts the latter once the former are gone."""
        return self.rows.store.once(HELD, self._held)

    def _held(self) -> dict[str, HeldResources]:
        return {
            row["name"]: HeldResources(row["memory"], row["cpu"])
            for row in self.rows.store.rows(
                "SELECT hosts.name, sum(vms.memory + vms.overhead + vms.kept_memory) AS memory, sum(vms.cpu) AS cpu"
                " FROM vms INDEXED BY vms_unsettled JOIN hosts ON hosts.id = vms.host_id"
                " WHERE settled = 0 AND wanted = 'DONE' GROUP BY hosts.id"
            )
        }

    def refuse_without_room(self, row: sqlite3.Row) -> None:
        """Raise NoCapacity for a machine that was never made, since the one whose place it was to have did not end."""
        if not self.never_made(row):
            return
        host = self.hosts.by_id()[row["host_id"]]
        held = self.held().get(host.name, NOTHING)
        room = Scheduler([host], self.polls.others_memory(), ending={host.name: held}).rooms[0]
        # Its own share is counted already.
        if not room.has(0, 0.0):
            raise NoCapacity(
                f"VM {row['name']} (id {row['id']}): {row['memory']} MiB + {row['overhead']} MiB overhead of memory"
                f" and {row['cpu']:g} CPU",
                f"what the machines of host {host.name} were promised is more than it has, by "
                f"{max(0, -int(room.memory))} MiB and {max(0.0, round(-room.cpu, 6)):g} CPU",
                "End other machines there, or remove this one (state: absent) to have it made on another host",
            )

    def never_made(self, row: sqlite3.Row) -> bool:
        """Return whether the machine's node failed before any of it was there."""
        return vm_state_name(row["state"], row["lcm_state"]) == "PROLOG_FAILURE" and not self.rows.ever_ran(row["id"])

    def promise(self, host: Host, demands: Demands) -> None:
        """Count what a new machine takes of its host."""
        self.hosts.promise(id_of(host), demands.memory, overhead(host, demands), demands.cpu, 1, placed=True)

    def repromise(self, row: sqlite3.Row, host: Host, demands: Demands, kept: int = 0) -> HeldResources:
        """Change what the machine was promised on its host, or raise NoCapacity. Return what the machine is to hold no
        more, which it holds until its node has made the change.
        kept: MiB that it holds besides until its next start, as kept_memory() has it."""
        more = overhead(host, demands)
        memory, cpu = demands.memory - row["memory"], demands.cpu - row["cpu"]
        if memory + more > row["overhead"] or cpu > 0:
            # The machine is counted as if it were not there: it keeps what it has, which may be more than is left.
            without = replace(
                host,
                memory_used=host.memory_used - row["memory"] - row["kept_memory"],
                overhead_used=host.overhead_used - row["overhead"],
                cpu_used=host.cpu_used - row["cpu"],
            )
            scheduler = Scheduler([without], self.polls.others_memory(), ending=self.held())
            scheduler.place(row["name"], demands.cpu, demands.memory, demands.vcpu, pinned=host.name)
        keeps = kept - row["kept_memory"]
        if memory or cpu or keeps or more != row["overhead"]:
            self.hosts.promise(id_of(host), memory + keeps, more - row["overhead"], cpu, 0)
        gives = row["memory"] + row["overhead"] + row["kept_memory"] - demands.memory - more - kept
        return HeldResources(max(0, gives), max(0.0, -cpu))


def counted(demands: Demands, growth: Growth | None) -> Demands:
    """Return the demands with what a machine that may grow so far comes to at most: that is what it is promised."""
    memory, vcpu = most_of(demands.memory, demands.vcpu, growth)
    return replace(demands, memory=memory, vcpu=vcpu)


def overhead(host: Host, demands: Demands) -> int:
    """Return the MiB that the hypervisor takes for the machine, beyond the guest's memory."""
    return host.overhead.of(demands.memory, demands.vcpu)


def kept_memory(host: Host, demands: Demands, memory: int, vcpu: int | None) -> int:
    """Return the MiB that a machine which becomes smaller at its next start holds until then, besides.
    memory, vcpu: with which it runs."""
    return max(0, memory + host.overhead.of(memory, vcpu) - demands.memory - overhead(host, demands))
