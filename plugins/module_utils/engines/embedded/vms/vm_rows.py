# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads rows of the table of machines and of their history, and writes them in the few forms that all verbs share."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ....dataclass import dataclass
from ....errors import NotFound
from ....model import hypervisor_rules, machine_orders
from ....model.dataclass_json import from_plain, to_plain
from ....model.machine_orders import Orders
from ....model.states import LcmState, VmState
from ....model.template import Template
from ....model.vm import Vm
from ..store import Store, chunks, compact

# What a session keeps (Store.once): the machines that it has written, by what their rows say of them.
WRITTEN = "written_vms"
# States in which a guest goes on with what it read when it was started.
WITH_MEMORY = ("RUNNING", "SUSPENDED", "UNKNOWN")


@dataclass(frozen=True)
class VmRows:
    """Reads and writes the rows of machines. All methods are called within a transaction of the store."""

    store: Store

    def get(self, vm_id: int) -> sqlite3.Row:
        row = self.store.row("SELECT * FROM vms WHERE id = ?", vm_id)
        if row is None:
            raise NotFound(f"VM {vm_id}", "the catalog has none of this id", "List them with nebula_info")
        return row

    def select(self, column: str, values: Iterable[Any], condition: str) -> Iterable[sqlite3.Row]:
        for marks, part in chunks(list(dict.fromkeys(values))):
            yield from self.store.db.execute(f"SELECT * FROM vms WHERE {column} IN ({marks}){condition}", part)

    def insert(self, machines: Sequence[Mapping[str, Any]]) -> None:
        """Write new rows, all with the same columns."""
        columns = list(machines[0])
        self.store.db.executemany(
            f"INSERT INTO vms ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [tuple(machine.values()) for machine in machines],
        )

    def write_body(self, vm_id: int, vm: Vm) -> Mapping[str, Any]:
        """Write what the machine is to be. Return it as its row has it."""
        plain: Mapping[str, Any] = to_plain(vm)
        body = compact(plain)
        self.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (body, vm_id))
        # Its plan follows in this session.
        self.store.once(WRITTEN, dict[str, Vm])[body] = vm
        return plain

    def vm_of(self, row: sqlite3.Row) -> Vm:
        """Return what vm_of() does, which need not read again what this session has written."""
        return self.store.once(WRITTEN, dict[str, Vm]).get(row["body"]) or vm_of(row)

    def write_request(self, vm: Vm, request: str, cpu: float, memory: int, overhead: int) -> None:
        """Write what the machine was asked to be (as JSON), what it is to be, and what it takes of its host in MiB."""
        self.store.db.execute(
            "UPDATE vms SET request = ?, body = ?, cpu = ?, memory = ?, overhead = ? WHERE id = ?",
            (request, compact(to_plain(vm)), cpu, memory, overhead, vm.vm_id),
        )

    def names(self) -> dict[int, str]:
        """Return the names of all machines that are not DONE, by id."""
        # An index has the names of those that stay; other names are beside all that their machines are.
        by_host, by_name = "vms INDEXED BY vms_host WHERE state != 6", "vms INDEXED BY vms_name WHERE wanted != 'DONE'"
        counted = [self.store.rows(f"SELECT COUNT(*) AS vms FROM {each}")[0]["vms"] for each in (by_host, by_name)]
        which = by_name if counted[0] == counted[1] else "vms WHERE state != 6"
        return {row["id"]: row["name"] for row in self.store.rows(f"SELECT id, name FROM {which}")}

    def history(self, vm_id: int) -> list[Mapping[str, Any]]:
        rows = self.store.rows(
            "SELECT time, host, state, action, reason FROM history WHERE vm_id = ? ORDER BY step", vm_id
        )
        return [dict(row) for row in rows]

    def remember(self, steps: Sequence[tuple[int, str, str, str, str]], now: int) -> None:
        """Append to the histories. steps: machine, host, state, action and reason of each. now: s since the epoch."""
        self.store.db.executemany(
            "INSERT INTO history (vm_id, step, time, host, state, action, reason)"
            " SELECT ?, coalesce(max(step), -1) + 1, ?, ?, ?, ?, ? FROM history WHERE vm_id = ?",
            [(vm_id, now, host, state, action, reason, vm_id) for vm_id, host, state, action, reason in steps],
        )

    def ever_ran(self, vm_id: int) -> bool:
        """Return whether the machine was ever there as a whole."""
        # A machine that was adopted may have been SUSPENDED from the beginning.
        ran = "SELECT 1 FROM history WHERE vm_id = ? AND state IN ('RUNNING', 'POWEROFF', 'SUSPENDED', 'BOOT_FAILURE')"
        return self.store.row(ran, vm_id) is not None

    def host_names(self, ids: Sequence[int]) -> dict[int, str]:
        """Return the names of the hosts of these machines, by the machines' ids. One without a host is left out."""
        return {
            row["id"]: row["name"]
            for marks, part in chunks(ids)
            for row in self.store.db.execute(
                f"SELECT vms.id, hosts.name FROM vms JOIN hosts ON hosts.id = vms.host_id WHERE vms.id IN ({marks})",
                part,
            )
        }


def writes_files_only(row: sqlite3.Row) -> bool:
    """Return whether the machine's disks are file systems that its host has mounted for it."""
    body = json.loads(row["body"]) if row["body"] else {}
    return hypervisor_rules.rules_of(body.get("hypervisor", "")).devices.paths


def vm_of(row: sqlite3.Row) -> Vm:
    """Return what the machine is to be."""
    return _read(row["body"])


@functools.lru_cache(maxsize=64)
def _read(body: str) -> Vm:
    # A decision asks for the same machine several times.
    return from_plain(Vm, json.loads(body))


def orders_of(row: sqlite3.Row) -> Orders:
    """Return the orders in force of a machine: what it still owes."""
    return machine_orders.orders_in_force(row["orders"], bool(row["settled"]))


def request_of(row: sqlite3.Row) -> Template:
    """Return what the machine was asked to be."""
    return Template.from_attributes(json.loads(row["request"]))


def numbers_of(name: str) -> tuple[VmState, LcmState]:
    """Return the two numbers of a state that a node reported by its name."""
    if name in VmState.__members__ and name not in ("ACTIVE",):
        return VmState[name], LcmState.LCM_INIT
    return VmState.ACTIVE, LcmState[name]
