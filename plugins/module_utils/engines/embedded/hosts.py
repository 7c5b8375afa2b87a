# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about hosts, and counts what each host has promised to machines."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Protocol

from ...dataclass import replace
from ...errors import CatalogError, Conflict, ForeignObject, InUse, NebulaError
from ...model.answers.observed import as_silent
from ...model.dataclass_json import from_plain, to_plain
from ...model.host import Host, HostHardware, Overhead
from ...model.object_names import check_name
from ...model.states import HostState
from ..ports import HostsPort, Ref
from .host_marks import HostMarks
from .images.returns import come_from_renamed, coming_from
from .plan_numbers import PlanNumbers
from .references import resolve

if TYPE_CHECKING:
    from ...model.plan import Observed
    from .store import Store

# What a session keeps of the hosts (Store.once): all of them by id, the schedulers with the room that is left on them,
# what machines hold there that are being ended, and which processors and memory machines have to themselves.
HOSTS, ROOMS, HELD, PLACES = "hosts", "rooms", "held", "places"
COLUMNS = ("hypervisor", "state", "memory", "cpu", "reserved_memory", "memory_overcommit", "cpu_overcommit", "transfer")

# Columns of what is no single value.
_JSON = ("attributes", "overhead", "hardware")
# The fields that a result shows as they are.
_DECLARED = ("overhead", "hardware", *(column for column in COLUMNS if column != "state"))


class Machines(Protocol):
    """Decides what becomes of the machines of a host that is given up."""

    def forget(self, host: Host, gone: bool) -> None: ...

    def gone_for_good(self, name: str) -> list[str]: ...


class Hosts(HostsPort):
    """Serves as the port for hosts. machines: returns the port for machines, which itself needs hosts."""

    def __init__(self, store: Store, machines: Callable[[], Machines]) -> None:
        self.store = store
        self.marks = HostMarks(store)
        self.plan_numbers = PlanNumbers(store)
        self._machines = machines

    def pool(self) -> list[Host]:
        return list(self.by_id().values())

    def by_id(self) -> dict[int, Host]:
        return self.store.once(
            HOSTS, lambda: {row["id"]: _host(row) for row in self.store.rows("SELECT * FROM hosts ORDER BY id")}
        )

    def info(self, ref: Ref) -> Host:
        return _host(resolve(self.store, "hosts", ref))

    def allocate(self, host: Host) -> Host:
        check_name("host", host.name)
        taken = self.store.row("SELECT id FROM hosts WHERE name = ?", host.name)
        if taken:
            raise Conflict(f"host {host.name}", f"host {taken['id']} has that name", "Update it, or rename this one")
        host_id = self.store.take_ids("hosts")
        values = [int(getattr(host, c)) if c == "state" else getattr(host, c) for c in COLUMNS]
        columns = ("id", "name", *_JSON, *COLUMNS)
        self.store.db.execute(
            f"INSERT INTO hosts ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [host_id, host.name, *(json.dumps(to_plain(getattr(host, column))) for column in _JSON), *values],
        )
        self._changed()
        return self.info(host_id)

    def update(self, ref: Ref, **changes: Any) -> Host:
        host = self.info(ref)
        if changes.get("transfer", host.transfer) != host.transfer and host.vms:
            raise InUse(
                f"host {host.name}: transfer {changes['transfer']} instead of {host.transfer}",
                f"its {host.vms} machines have what they write where {host.transfer} has it",
                f"End these machines first, or set nebula_transfer: {host.transfer} for it. If the front-end's "
                "datastores are mounted there as a rule, see why they aren't now",
            )
        for column, value in changes.items():
            stored = json.dumps(to_plain(value)) if column in _JSON else value
            stored = int(value) if column == "state" else stored
            self.store.db.execute(f"UPDATE hosts SET {column} = ? WHERE id = ?", (stored, host.id))
        if "overhead" in changes:
            self._promise_overheads_anew(host, changes["overhead"])
        self._changed()
        return self.info(host.name)

    def _promise_overheads_anew(self, host: Host, overhead: Overhead) -> None:
        """Promise the host's machines what they really take: KVM came or went, or an older version counted none."""
        rows = self.store.rows("SELECT id, memory, body FROM vms WHERE host_id = ? AND state != 6", host.id)
        costs = [(overhead.of(row["memory"], _most_vcpus(json.loads(row["body"]))), row["id"]) for row in rows]
        self.store.db.executemany("UPDATE vms SET overhead = ? WHERE id = ?", costs)
        # What is held for machines that are on their way to the host is in what the catalog has of their moves.
        coming = [
            (overhead.of(row["memory"], _most_vcpus(json.loads(row["body"]))), row["move"], row["id"])
            for row in self.store.rows("SELECT id, memory, body, move FROM vms WHERE move_host = ?", host.id)
        ]
        self.store.db.executemany(
            "UPDATE vms SET move = ? WHERE id = ?",
            [(json.dumps({**json.loads(move), "overhead": cost}), vm_id) for cost, move, vm_id in coming],
        )
        total = sum(cost for cost, *_machine in (*costs, *coming))
        self.store.db.execute("UPDATE hosts SET overhead_used = ? WHERE id = ?", (total, host.id))

    def delete(self, ref: Ref) -> Host:
        host = self.info(ref)
        coming = coming_from(self.store, host.name)
        if coming:
            raise InUse(
                f"host {host.name}: delete",
                f"what machines wrote to {', '.join(coming[:5])}{' …' if len(coming) > 5 else ''} is still there",
                "Run playbook nebula.provision.site, which fetches it; if the host is gone for good: "
                "nebula.provision.forget_host",
            )
        self._refuse_left(host)
        return self._delete(host)

    def forget(self, ref: Ref, gone: bool = False) -> Host:
        self._refuse_moving(self.info(ref), "forget", gone)
        self._machines().forget(self.info(ref), gone)
        return self._delete(self.info(ref))

    def gone(self, name: str) -> list[str]:
        return self._machines().gone_for_good(name)

    def rename(self, ref: Ref, name: str) -> Host:
        host = self.info(ref)
        check_name("host", name)
        if self.store.row("SELECT 1 FROM hosts WHERE name = ?", name):
            self.delete(name)
        come_from_renamed(self.store, host.name, name)
        self.store.db.execute(
            "UPDATE history SET host = ? WHERE host = ? AND vm_id IN (SELECT id FROM vms WHERE host_id = ?)",
            (name, host.name, host.id),
        )
        for column in ("host", "elsewhere"):
            self.store.db.execute(f"UPDATE given_up SET {column} = ? WHERE {column} = ?", (name, host.name))
        self.store.db.execute("UPDATE vms SET away = ? WHERE away = ?", (name, host.name))
        for row in self.store.rows("SELECT id, move FROM vms WHERE move != ''"):
            known = json.loads(row["move"])
            renamed = {key: name for key in ("source", "target", "away") if known.get(key) == host.name}
            if renamed:
                text = json.dumps({**known, **renamed})
                self.store.db.execute("UPDATE vms SET move = ? WHERE id = ?", (text, row["id"]))
        for row in self.store.rows("SELECT id, hosts FROM datastores WHERE shared = 1"):
            names = [name if each == host.name else each for each in json.loads(row["hosts"])]
            # The list may have both names by now.
            text = json.dumps(list(dict.fromkeys(names)))
            self.store.db.execute("UPDATE datastores SET hosts = ? WHERE id = ?", (text, row["id"]))
        self.store.db.execute("UPDATE hosts SET name = ? WHERE id = ?", (name, host.id))
        self.marks.rename(host.name, name)
        self._changed()
        return self.info(name)

    def offer_marks(self, names: Sequence[str]) -> dict[str, str]:
        known = self.marks.of(names)
        lacking = [name for name in names if name not in known]
        if not lacking:
            return known
        with self.store.transaction():
            self.marks.make(lacking)
            return self.marks.of(names)

    def owner_of_mark(self, mark: str) -> str:
        return self.marks.owner(mark)

    def has_shown_mark(self, name: str) -> bool:
        return self.marks.was_shown(name)

    def keep_mark(self, name: str, mark: str) -> None:
        self.marks.keep(name, mark)

    def machine_ids(self) -> dict[str, str]:
        rows = self.store.rows("SELECT name, machine_id FROM hosts WHERE machine_id != '' ORDER BY id")
        return {row["name"]: row["machine_id"] for row in rows}

    def keep_machine_id(self, name: str, machine_id: str) -> None:
        self.store.db.execute("UPDATE hosts SET machine_id = ? WHERE name = ?", (machine_id, name))

    def _delete(self, host: Host) -> Host:
        rows = self.store.rows("SELECT id, name FROM vms WHERE host_id = ? AND state != 6 LIMIT 6", host.id)
        if rows:
            names = ", ".join(f"{row['name']} (id {row['id']})" for row in rows[:5]) + (" …" if len(rows) > 5 else "")
            raise InUse(
                f"host {host.name}: delete",
                f"it has {names}",
                "Move them to other hosts (playbook nebula.provision.maintenance with nebula_maintenance=begin), or "
                "end them first",
            )
        self._refuse_moving(host, "delete")
        # Machines that are DONE keep their history, but no host.
        self.store.db.execute("UPDATE vms SET host_id = NULL WHERE host_id = ?", (host.id,))
        # What was to return to it stays where it is.
        self.store.db.execute("UPDATE vms SET away = '' WHERE away = ?", (host.name,))
        # Ports that are still held for machines which have left it.
        self.store.db.execute("DELETE FROM vnc_ports WHERE host_id = ?", (host.id,))
        self.store.db.execute("DELETE FROM hosts WHERE id = ?", (host.id,))
        self.store.db.execute("DELETE FROM meta WHERE key = ?", (f"recorded/{host.id}",))
        self.store.db.execute("DELETE FROM meta WHERE key = ?", (f"guards/{host.id}",))
        self.marks.forget(host.name)
        self._changed()
        return host

    def _refuse_left(self, host: Host) -> None:
        """Raise InUse for a host that has the disks of machines which have left it, and were not found yet where they
        went."""
        rows = self.store.rows(
            "SELECT id, name, generation, move FROM vms WHERE settled = 0 AND move != '' AND host_id != ?", host.id
        )
        known = [(row, json.loads(row["move"])) for row in rows]
        left = [
            row for row, move in known if (move["source"], move["generation"] + 1) == (host.name, row["generation"])
        ]
        if left:
            names = ", ".join(f"{row['name']} (id {row['id']})" for row in left[:5]) + (" …" if left[5:] else "")
            raise InUse(
                f"host {host.name}: delete",
                f"machines have left it, and have not been found yet where they went: {names}",
                "Run playbook nebula.provision.site with the hosts to which they went",
            )

    def _refuse_moving(self, host: Host, verb: str, gone: bool = False) -> None:
        """Raise InUse for a host that takes part in moves of which nobody knows yet what became of them.
        gone: it is gone for good, and nobody will ever hear that from it."""
        rows = self.store.rows("SELECT id, name, host_id FROM vms WHERE move_host IS NOT NULL")
        which = [row for row in rows if not gone and host.id == row["host_id"]]
        which += self.store.rows("SELECT id, name FROM vms WHERE move_host = ?", host.id) if rows and not gone else []
        if which:
            names = ", ".join(f"{row['name']} (id {row['id']})" for row in which[:5]) + (" …" if which[5:] else "")
            raise InUse(
                f"host {host.name}: {verb}",
                f"machines move from or to it, and it is not known where they are: {names}",
                "Run playbook nebula.provision.site, which asks both hosts. If this one is gone for good with all on "
                "it, tell nebula.provision.forget_host so",
            )

    def _changed(self) -> None:
        self.store.drop(HOSTS, ROOMS, HELD, PLACES)

    def check(self, observed: Sequence[Observed]) -> list[Observed]:
        if self.store.declared:
            return [*observed]  # check mode on a bare front-end: there is no catalog yet that could be older
        catalog, plan = self.store.meta("catalog"), self.plan_numbers.newest()
        doubts = {node.host: doubt for node in observed if (doubt := self._doubt(node, catalog, plan)) is not None}
        # Where the last plan was for a single node, that node alone knows it. If the others went on, what was decided
        # after the copy was made would be given away again.
        known = [
            node.host
            for node in observed
            if isinstance(doubts.get(node.host), CatalogError) and self.plan_numbers.is_credible(node)
        ]
        if known or 2 * len(doubts) > sum(node.reached for node in observed):
            raise doubts[known[0]] if known else next(iter(doubts.values()))
        return [as_silent(node, str(doubts[node.host])) if node.host in doubts else node for node in observed]

    def names_a_plan_not_given(self, node: Observed) -> bool:
        newer = node.reached and node.catalog == self.store.meta("catalog")
        newer = newer and node.plan_number > self.plan_numbers.newest()
        return newer and not self.plan_numbers.is_credible(node)

    def _doubt(self, node: Observed, catalog: str, plan: int) -> NebulaError | None:
        """Return the error that tells why the node, if it is right, follows another catalog than this; else None."""
        if node.reached and node.catalog and node.catalog != catalog:
            return ForeignObject(
                f"host {node.host}",
                f"it carries the marks of catalog {node.catalog}, and this is catalog {catalog}",
                "Restore that catalog's nebula.db on the front-end, or take its machines off this host first",
            )
        if self.names_a_plan_not_given(node):
            return CatalogError(
                f"host {node.host}",
                f"it names plan {node.plan_number} of catalog {catalog}, whose newest is {plan}, and does not show "
                f"that it was given plan {node.plan_number}",
                "See what answers on this host, and leave it out until then",
            )
        if node.reached and node.plan_number > plan:
            return CatalogError(
                f"catalog {self.store.path}",
                f"its newest plan is {plan}, and host {node.host} has followed plan {node.plan_number} of it: "
                "this is an older copy",
                "Restore the newest copy of nebula.db; what was decided after this one was made is not in it",
            )
        return None

    def declare(self, item: Mapping[str, Any]) -> None:
        """Make of a host, in check mode, what an earlier task of this run would have made of it."""
        former = item.get("renamed_from") or ""
        if former and self.store.row("SELECT id FROM hosts WHERE name = ?", former):
            self.rename(former, item["name"])
        values = {name: item[name] for name in _DECLARED if item.get(name) is not None}
        if "overhead" in values:
            values["overhead"] = from_plain(Overhead, values["overhead"])
        if "hardware" in values:
            values["hardware"] = from_plain(HostHardware, values["hardware"])
        if item.get("state") in HostState.__members__:
            values["state"] = HostState[item["state"]]
        if self.store.row("SELECT id FROM hosts WHERE name = ?", item["name"]) is None:
            self.allocate(Host(id=None, name=item["name"], **{"state": HostState.MONITORED, **values}))
            return
        current = self.info(item["name"])
        self.update(current.name, **{name: each for name, each in values.items() if getattr(current, name) != each})

    def promise(self, host_id: int, memory: int, overhead: int, cpu: float, vms: int, placed: bool = False) -> None:
        """Count what machines of the host were promised; negative to give it back. placed: a scheduler has chosen the
        host, and counted it."""
        self.store.db.execute(
            "UPDATE hosts SET memory_used = memory_used + ?, overhead_used = overhead_used + ?,"
            " cpu_used = round(cpu_used + ?, 6), vms = vms + ? WHERE id = ?",
            (memory, overhead, cpu, vms, host_id),
        )
        self._count_again(host_id)
        if not placed:
            for scheduler in self.store.kept.get(ROOMS, {}).values():
                scheduler.count(host_id, memory + overhead, cpu)

    def _count_again(self, host_id: int) -> None:
        """Have what was read of the hosts say what is promised of this one now."""
        known = self.store.kept.get(HOSTS)
        if known is None:
            return
        row = self.store.row("SELECT memory_used, overhead_used, cpu_used, vms FROM hosts WHERE id = ?", host_id)
        if row is not None:
            known[host_id] = replace(known[host_id], **dict(row))


def _most_vcpus(body: Mapping[str, Any]) -> int | None:
    """Return the processors that a machine comes to at most, as it was promised them."""
    # Machines of older versions have no such value.
    most: int = (body.get("growth") or {}).get("vcpu", 0)
    vcpu: int | None = body.get("vcpu")
    return max(vcpu or 1, most) if most else vcpu


def _host(row: sqlite3.Row) -> Host:
    return Host(
        id=row["id"],
        name=row["name"],
        hypervisor=row["hypervisor"],
        state=HostState(row["state"]),
        memory=row["memory"],
        cpu=row["cpu"],
        reserved_memory=row["reserved_memory"],
        memory_overcommit=row["memory_overcommit"],
        cpu_overcommit=row["cpu_overcommit"],
        memory_used=row["memory_used"],
        overhead=from_plain(Overhead, json.loads(row["overhead"])),
        overhead_used=row["overhead_used"],
        cpu_used=row["cpu_used"],
        vms=row["vms"],
        transfer=row["transfer"],
        attributes=json.loads(row["attributes"]),
        hardware=from_plain(HostHardware, json.loads(row["hardware"])),
    )
