# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps track of machines that were given up with their host: DONE in the catalog, without anybody having ended them.
Their addresses are held until the host was seen without them, or is declared gone for good."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence

from ....model.plan import GivenUp, Observed, ObservedVm
from ..networks.network_verbs import Networks
from ..store import Store

OFF = "POWEROFF"
# How the history says why such a machine has ended.
FORGOTTEN = "was forgotten"


class GivenUps:
    """Reads and writes the table of such machines. All methods are called within a transaction of the store.
    seen: those that nodes were found to have in this run, and that may run there again.
    doubled: by id, why a machine may not be started: a machine that was given up has its address."""

    def __init__(self, store: Store, networks: Networks) -> None:
        self.store = store
        self.networks = networks
        self.seen: list[GivenUp] = []
        self.doubled: dict[int, str] = {}

    def give_up(self, vm_id: int, host: str) -> None:
        """Hold what the machine leases from now on. It is called before the machine is DONE."""
        self._note(vm_id, host)

    def gone(self, host: str) -> list[str]:
        """Free what is held for machines of a host that is gone for good with all on it, and return the addresses."""
        freed = []
        for row in self.store.rows("SELECT vm_id FROM given_up WHERE host = ? ORDER BY vm_id", host):
            freed += self.networks.held_leases.release_given_up(row["vm_id"])
        self.store.db.execute("DELETE FROM given_up WHERE host = ?", (host,))
        return freed

    def hear(self, nodes: Sequence[Observed], others: Mapping[str, Sequence[ObservedVm]]) -> None:
        """Take over which of these machines nodes were found to have.
        nodes: those that answered, and are believed.
        others: by host, the machines with this catalog's mark there that the catalog does not have there. A machine of
        which the catalog has never heard is left alone."""
        self.seen, self.doubled = [], {}
        for host, machines in others.items():
            for vm in machines:
                row = self.store.row("SELECT * FROM vms WHERE id = ? AND state = 6", vm.vm_id)
                # Of a machine that ended in another way, a host can only claim that it has it.
                if row is not None and row["uuid"].lower() == vm.uuid.lower() and self._was_given_up(vm.vm_id, host):
                    self._found(host, vm, row)
        there = {vm.vm_id for node in nodes for vm in node.vms}
        catalog = self.store.meta("catalog")
        for node in nodes:
            # A node that has forgotten which catalog it follows does not know which machines to look for.
            if node.catalog == catalog:
                self._release_all_but(node.host, {vm.vm_id for vm in node.vms}, there)

    def _was_given_up(self, vm_id: int, host: str) -> bool:
        """Return whether the machine was given up, and may have come to this host. A machine whose host was declared
        gone, or that an older version gave up, must have been given up with this host itself."""
        if self.store.row("SELECT 1 FROM given_up WHERE vm_id = ?", vm_id) is not None:
            return True
        last = self.store.row("SELECT host, reason FROM history WHERE vm_id = ? ORDER BY step DESC LIMIT 1", vm_id)
        return last is not None and last["host"] == host and last["reason"].endswith(FORGOTTEN)

    def _found(self, host: str, vm: ObservedVm, row: sqlite3.Row) -> None:
        known = self.store.row("SELECT ended FROM given_up WHERE vm_id = ?", vm.vm_id)
        if known is not None and known["ended"] and vm.state == OFF:
            # We have powered it off, and nothing starts it again.
            return
        self._seen_on(vm.vm_id, host)
        body = json.loads(row["body"] or "{}")
        nics = (*body.get("nics", ()), *body.get("aliases", ()))
        doubles = []
        for nic in nics:
            other = self.networks.held_leases.hold(vm.vm_id, nic)
            address = nic["ip"] or nic["ip6"] or nic["mac"]
            if other is None:
                continue
            doubles.append(f"{other[1]} (id {other[0]})")
            if vm.state != OFF:
                self.doubled[other[0]] = (
                    f"its address {address} is also that of VM {row['name']} (id {vm.vm_id}), which was given up, and"
                    f" is {vm.state} on host {host}"
                )
        addresses = tuple(nic["ip"] or nic["ip6"] or nic["mac"] for nic in nics)
        self.seen.append(
            GivenUp(vm.vm_id, row["uuid"], row["name"], host, vm.state, addresses, tuple(dict.fromkeys(doubles)))
        )

    def _release_all_but(self, host: str, own: Collection[int], there: Collection[int]) -> None:
        """Free what machines held that are nowhere any more. own: those that this host has; there: all hosts'."""
        for row in self.store.rows("SELECT vm_id FROM given_up WHERE elsewhere = ?", host):
            if row["vm_id"] not in there:
                self.store.db.execute("UPDATE given_up SET elsewhere = '' WHERE vm_id = ?", (row["vm_id"],))
        for row in self.store.rows("SELECT vm_id, elsewhere FROM given_up WHERE host = ?", host):
            if row["elsewhere"] and row["vm_id"] not in own:
                # It has moved: both hosts say so.
                self._note(row["vm_id"], row["elsewhere"])
            elif row["vm_id"] not in there:
                self.networks.held_leases.release_given_up(row["vm_id"])
                self.store.db.execute("DELETE FROM given_up WHERE vm_id = ?", (row["vm_id"],))

    def _seen_on(self, vm_id: int, host: str) -> None:
        """Note which host has the machine. A host with which it was not given up can't take it over by saying so: what
        the machine leases would be free once that host does not have it any more."""
        known = self.store.row("SELECT host FROM given_up WHERE vm_id = ?", vm_id)
        if known is None or known["host"] == host:
            self._note(vm_id, host)
        else:
            self.store.db.execute("UPDATE given_up SET elsewhere = ?, ended = 0 WHERE vm_id = ?", (host, vm_id))

    def ended(self, vm_id: int) -> None:
        """Note that its node has powered it off, and that it does not start with its host any more."""
        done = self.store.db.execute("UPDATE given_up SET ended = 1 WHERE vm_id = ?", (vm_id,))
        if done.rowcount:
            self.networks.held_leases.release_given_up(vm_id)

    def _note(self, vm_id: int, host: str) -> None:
        self.store.db.execute("INSERT OR REPLACE INTO given_up (vm_id, host, ended) VALUES (?, ?, 0)", (vm_id, host))
        self.networks.held_leases.give_up(vm_id)
