# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the catalog in itself. Leases, ports, uses of images and all counters follow from its machines: what they
have to be is derived from the machines, compared, and written by repair()."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from ...dataclass import dataclass
from ...errors import CatalogError, NebulaError
from ...model import addresses, security_group
from ...model.audit import Ledger, LedgerVm
from ...model.audit_finding import UNFINISHED, Finding
from ...model.dataclass_json import from_plain
from ...model.machine_orders import DONE
from ...model.states import FAILURES, ImageState, LcmState, vm_state_name
from ...model.vm import Vm
from .datastores import Datastores
from .hosts import Hosts
from .images.image_verbs import Images
from .images.refusals import IN_USE
from .images.states_after_use import being_cloned
from .networks.network_rows import NIC, OF_NO_MACHINE, holder_named
from .networks.network_verbs import Networks
from .networks.router_leases import Reserved
from .store import Store
from .vms.move_records import move_of
from .vms.vm_rows import orders_of

DAMAGED = "Restore nebula.db from a backup: nebula.provision.restore; nothing that changes it should run before"
REPAIR = "Run nebula.provision.audit with -e nebula_audit_repair=true: it is derived anew from the catalog's machines"
# Machines that were given up with their host, and that nobody has found ended since.
_MAY_RUN_ON = "SELECT vm_id, host FROM given_up WHERE ended = 0 ORDER BY vm_id"
# SQLite says more about a damaged file than anybody reads.
SHOWN = 5
# Tables with ids, and the first id that not every catalog has from the beginning.
SEQUENCES = {
    **dict.fromkeys(("vms", "images", "networks", "hosts", "templates", "routers"), 0),
    "security_groups": security_group.FIRST,
}


@dataclass
class _Expected:
    """Holds what follows from the machines.
    leases: (network, range, offset) → (machine, NIC)
    uses: (machine, disk) → (image, writable)
    ports: (host, port) → machine
    hosts: host → [memory, cpu, machines, overhead]"""

    leases: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict)
    uses: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    ports: dict[tuple[int, int], int] = field(default_factory=dict)
    hosts: dict[int, list[float]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class Audit:
    """Audits the catalog. repair() is called within a transaction, ledger() within one or without."""

    def __init__(self, store: Store, images: Images, networks: Networks, hosts: Hosts) -> None:
        self.store = store
        self.images = images
        self.networks = networks
        self.hosts = hosts

    def ledger(self) -> Ledger:
        try:
            with self._snapshot():
                damage = self._damage()
                if not damage:
                    return self._ledger()
        except sqlite3.DatabaseError as error:
            damage = [str(error)]
        except CatalogError as error:
            damage = [error.found]
        more = [f"{len(damage) - SHOWN} more"] if len(damage) > SHOWN else []
        found = "; ".join([*damage[:SHOWN], *more])
        finding = Finding("catalog-damaged", "", f"catalog {self.store.path}", found, DAMAGED)
        return Ledger(damaged=True, findings=(finding,))

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Have all that is read inside be of one moment, while others may write."""
        if self.store.db.in_transaction:
            yield
            return
        self.store.db.execute("BEGIN")
        try:
            yield
        finally:
            if self.store.db.in_transaction:
                self.store.db.execute("ROLLBACK")

    def _damage(self) -> list[str]:
        lines = [str(row[0]) for row in self.store.rows("PRAGMA integrity_check(20)")]
        found = [" ".join(text.split()) for text in lines if text != "ok"]
        if found:
            return found
        broken = Counter((row[0], row[2]) for row in self.store.rows("PRAGMA foreign_key_check"))
        leases = int(self.store.rows(OF_NO_MACHINE)[0][0])
        broken.update({("leases", "vms"): leases} if leases else {})
        return [f"rows of {own} refer to {other} that are not there: {count}" for (own, other), count in broken.items()]

    def _ledger(self) -> Ledger:
        machines = self._machines()
        expected = self._expected(machines)
        hosts = {host.name: host.state.name for host in self.hosts.pool()}
        unreadable = list(self._unreadable(machines))
        if any(finding.kind == "catalog-damaged" for finding in unreadable):
            # What this machine has is not known, and must not be taken for free.
            return Ledger(damaged=True, findings=tuple(unreadable))
        findings = [
            *unreadable,
            *expected.findings,
            *self._differing(expected),
            *self._reserved(),
            *self._counters(expected),
            *self._sequences(),
            *self._history(),
            *self._unsettled(machines),
        ]
        return Ledger(
            catalog=self.store.meta("catalog"),
            plan=int(self.store.meta("plan")),
            begun=not self.store.declared,
            hosts=hosts,
            vms=tuple(self._vm(row, vm) for row, vm in machines if vm is not None),
            ended=frozenset(row["id"] for row in self.store.rows("SELECT id FROM vms WHERE state = 6")),
            given_up={row["vm_id"]: row["host"] for row in self.store.rows(_MAY_RUN_ON)},
            images=tuple(self.images.pool()),
            networks=tuple(self.networks.pool()),
            held=tuple(self.networks.held()),
            guards=self.networks.guards(),
            datastores=tuple(Datastores(self.store).shared()),
            findings=tuple(findings),
        )

    def _machines(self) -> list[tuple[sqlite3.Row, Vm | None]]:
        rows = self.store.rows(
            "SELECT vms.*, hosts.name AS host FROM vms LEFT JOIN hosts ON hosts.id = vms.host_id WHERE vms.state != 6"
            " ORDER BY vms.id"
        )
        return [(row, _body(row["body"])) for row in rows]

    def _vm(self, row: sqlite3.Row, vm: Vm) -> LedgerVm:
        state = vm_state_name(row["state"], row["lcm_state"])
        settled, left = bool(row["settled"]), orders_of(row).lasting
        return LedgerVm(
            vm,
            row["host"] or "",
            state,
            row["wanted"],
            settled,
            row["generation"],
            row["error"],
            awaits=left != DONE,
            detached=left.detached,
            moving=move_of(row).target if row["move_host"] is not None else "",
        )

    def _unreadable(self, machines: Iterable[tuple[sqlite3.Row, Vm | None]]) -> Iterator[Finding]:
        for row, vm in machines:
            if vm is None or vm.vm_id != row["id"]:
                found = (
                    "its definition can't be read" if vm is None else f"its definition is that of machine {vm.vm_id}"
                )
                yield Finding("catalog-damaged", "", _machine_named(row), found, DAMAGED)
            if row["host"] is None:
                yield Finding("catalog-books", "", _machine_named(row), "it is on no host", DAMAGED)

    # -- what follows from the machines -----------------------------------------------------------------------------
    def _expected(self, machines: Iterable[tuple[sqlite3.Row, Vm | None]]) -> _Expected:
        expected = _Expected(hosts={host.id: [0, 0.0, 0, 0] for host in self.hosts.pool() if host.id is not None})
        ranges = {
            (network.id, each.ar_id): addresses.Calculator(each)
            for network in self.networks.pool()
            for each in network.address_ranges
        }
        files = {image.source: image for image in self.images.pool() if image.source}
        names = {row["id"]: _machine_named(row) for row, _vm in machines}
        uses: dict[int, dict[int, tuple[int, int]]] = {}
        for each in self.store.rows("SELECT vm_id, disk_id, image_id, writable FROM vm_images ORDER BY disk_id"):
            uses.setdefault(each["vm_id"], {})[each["disk_id"]] = (each["image_id"], each["writable"])
        for row, vm in machines:
            if vm is None:
                continue
            move = move_of(row) if row["move_host"] is not None else None
            for host_id, overhead in ((row["host_id"], row["overhead"]), (row["move_host"], move and move.overhead)):
                if host_id in expected.hosts:
                    used = expected.hosts[host_id]
                    used[0] += row["memory"] + row["kept_memory"]
                    used[1], used[2] = round(used[1] + row["cpu"], 6), used[2] + 1
                    used[3] += overhead or 0
            if move is not None and move.port:
                self._claim_port(expected, names, row, row["move_host"], move.port)
            noted = uses.get(vm.vm_id, {})
            for disk in vm.disks:
                if disk.image_id is not None:
                    expected.uses[vm.vm_id, disk.disk_id] = (disk.image_id, int(disk.save))
            for disk_id in orders_of(row).detached:
                # The machine has the disk until its node has taken it away.
                if disk_id in noted:
                    expected.uses[vm.vm_id, disk_id] = noted[disk_id]
            # As in Demands.images when it was made: after the disks and the context. Disks came and went since.
            for index, source in enumerate((vm.os.kernel, vm.os.initrd), len(vm.disks) + 1):
                image = files.get(source)
                if image is not None and image.id is not None:
                    use = (image.id, int(image.persistent))
                    there = [number for number, each in noted.items() if each == use]
                    free = [number for number in there if (vm.vm_id, number) not in expected.uses]
                    expected.uses[vm.vm_id, free[0] if free else index] = use
            if vm.graphics is not None and vm.graphics.port and row["host_id"] is not None:
                self._claim_port(expected, names, row, row["host_id"], vm.graphics.port)
            for nic in vm.nics_and_aliases:
                calculator = ranges.get((nic.network_id, nic.ar_id if nic.ar_id is not None else -1))
                place = f"{_machine_named(row)}, NIC {nic.nic_id}"
                if calculator is None or nic.network_id is None or nic.ar_id is None:
                    found = f"its address {nic.ip or nic.mac} is of a range that the catalog does not have"
                    expected.findings.append(Finding("catalog-books", "", place, found, DAMAGED))
                    continue
                offset = calculator.offset_of(None, addresses.mac_number(nic.mac, place))
                if offset is None:
                    found = f"its address {nic.ip or nic.mac} is not in its range"
                    expected.findings.append(Finding("catalog-books", "", place, found, DAMAGED))
                    continue
                other = expected.leases.setdefault((nic.network_id, nic.ar_id, offset), (vm.vm_id, nic.nic_id))
                if other != (vm.vm_id, nic.nic_id):
                    found = f"{names[other[0]]}, NIC {other[1]} has its address {nic.ip or nic.mac} too"
                    remedy = f"End one of the two (state: absent), then: {REPAIR}"
                    expected.findings.append(Finding("address-shared", "", place, found, remedy))
        return expected

    def _claim_port(
        self, expected: _Expected, names: Mapping[int, str], row: sqlite3.Row, host_id: int, port: int
    ) -> None:
        other = expected.ports.setdefault((host_id, port), row["id"])
        if other != row["id"]:
            found = f"{names[other]} has its graphics port {port} too"
            remedy = f"Recreate one of the two, or end it (state: absent), then: {REPAIR}"
            expected.findings.append(Finding("address-shared", "", _machine_named(row), found, remedy))

    def _tables(self, expected: _Expected) -> list[_Table]:
        networks = {network.id: network.name for network in self.networks.pool()}
        hosts = {host.id: host.name for host in self.hosts.pool()}
        images = {image.id: image.name for image in self.images.pool()}
        return [
            _Table(
                "leases",
                "network_id, ar_id, offset",
                "vm_id, nic_id",
                f"kind = '{NIC}'",
                expected.leases,
                lambda key: f"network {networks.get(key[0], key[0])}, range {key[1]}: lease at offset {key[2]}",
                lambda value: f"of machine {value[0]}, NIC {value[1]}",
            ),
            _Table(
                "vm_images",
                "vm_id, disk_id",
                "image_id, writable",
                "disk_id >= 0",
                expected.uses,
                lambda key: f"machine {key[0]}, disk {key[1]}: use of an image",
                lambda value: f"of image {images.get(value[0], value[0])}" + (", written to" if value[1] else ""),
            ),
            _Table(
                "vnc_ports",
                "host_id, port",
                "vm_id",
                "port > 0",
                {key: (vm_id,) for key, vm_id in expected.ports.items()},
                lambda key: f"host {hosts.get(key[0], key[0])}: graphics port {key[1]}",
                lambda value: f"of machine {value[0]}",
            ),
        ]

    def _differing(self, expected: _Expected) -> Iterator[Finding]:
        for table in self._tables(expected):
            there = self._rows(table)
            for key in sorted({*table.wanted, *there}):
                wanted, found = table.wanted.get(key), there.get(key)
                if wanted == found:
                    continue
                entry_is = f"it is noted {table.value(found)}" if found is not None else "it is not noted"
                has = f"it is {table.value(wanted)}" if wanted is not None else "no machine has it"
                yield Finding("catalog-books", "", table.name_of(key), f"{entry_is}, and {has}", REPAIR)

    def _reserved(self) -> Iterator[Finding]:
        for network, place, was, is_so in Reserved(self.store).differing():
            noted = f"it is noted of {holder_named(self.store, was)}" if was else "it is not noted"
            has = f"{holder_named(self.store, is_so)} has it" if is_so else "nobody has it"
            what = f"network {network.name}, range {place[1]}: lease at offset {place[2]}"
            yield Finding("catalog-books", "", what, f"{noted}, and {has}", REPAIR)

    def _rows(self, table: _Table) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        width = table.key.count(",") + 1
        rows = self.store.rows(f"SELECT {table.key}, {table.columns} FROM {table.name} WHERE {table.only}")
        return {tuple(row)[:width]: tuple(row)[width:] for row in rows}

    def _counters(self, expected: _Expected) -> Iterator[Finding]:
        for what, noted, is_so, _sql, _values in self._counted(expected):
            yield Finding("catalog-books", "", what, f"it says {noted}, and it is {is_so}", REPAIR)

    def _counted(self, expected: _Expected) -> Iterator[tuple[str, str, str, str, tuple[Any, ...]]]:
        """Yield counters that are wrong: what, as noted, as it is, and the SQL that corrects it with its values."""
        for row in self.store.rows("SELECT * FROM hosts ORDER BY id"):
            noted = (row["memory_used"], round(row["cpu_used"], 6), row["vms"], row["overhead_used"])
            memory, cpu, count, overhead = expected.hosts[row["id"]]
            if (noted[0], noted[2:]) != (memory, (count, overhead)) or abs(noted[1] - cpu) > 1e-5:
                yield (
                    f"host {row['name']}: what it has promised",
                    f"{noted[0]} MiB + {noted[3]} MiB overhead, {noted[1]:g} CPU to {noted[2]} machines",
                    f"{memory:g} MiB + {overhead:g} MiB, {cpu:g} CPU to {count:g}",
                    "UPDATE hosts SET memory_used = ?, cpu_used = ?, vms = ?, overhead_used = ? WHERE id = ?",
                    (int(memory), cpu, int(count), int(overhead), row["id"]),
                )
        for row in self.store.rows(
            "SELECT r.*, n.name FROM address_ranges r JOIN networks n ON n.id = r.network_id ORDER BY network_id, ar_id"
        ):
            place = (row["network_id"], row["ar_id"])
            taken = {offset for network, ar_id, offset in expected.leases if (network, ar_id) == place}
            held = "SELECT offset FROM leases WHERE kind != ? AND network_id = ? AND ar_id = ?"
            taken |= {each["offset"] for each in self.store.rows(held, NIC, *place)}
            lowest = min(offset for offset in range(len(taken) + 1) if offset not in taken)
            if row["used"] != len(taken) or row["first_free"] > lowest:
                yield (
                    f"network {row['name']}, range {row['ar_id']}: its leases",
                    f"{row['used']}, the first free one at offset {row['first_free']} or above",
                    f"{len(taken)}, the first free one at offset {lowest}",
                    "UPDATE address_ranges SET used = ?, first_free = ? WHERE network_id = ? AND ar_id = ?",
                    (len(taken), lowest, *place),
                )
        users: dict[int, int] = {}
        for image_id, _writable in expected.uses.values():
            users[image_id] = users.get(image_id, 0) + 1
        for row in self.store.rows("SELECT image_id FROM vm_images WHERE disk_id < 0"):
            users[row["image_id"]] = users.get(row["image_id"], 0) + 1
        cloned = being_cloned(self.store)
        for row in self.store.rows("SELECT id, name, state, persistent FROM images ORDER BY id"):
            state = ImageState(row["state"])
            used = ImageState.USED_PERS if row["persistent"] else ImageState.USED
            idle = ImageState.CLONE if row["id"] in cloned else ImageState.READY
            right = used if row["id"] in users else idle
            if state != right and (state in IN_USE or row["id"] in users):
                yield (
                    f"image {row['name']} (id {row['id']})",
                    f"{state.name}",
                    f"{right.name}: {users.get(row['id'], 0)} disks use it",
                    "UPDATE images SET state = ? WHERE id = ?",
                    (int(right), row["id"]),
                )

    def _sequences(self) -> Iterator[Finding]:
        for name, following, highest in self._low_sequences():
            found = f"the next one is {following}, and {highest} was used already"
            yield Finding("catalog-books", "", f"ids of {name}", found, REPAIR)

    def _low_sequences(self) -> Iterator[tuple[str, int, int]]:
        following = {row["name"]: row["next"] for row in self.store.rows("SELECT name, next FROM sequences")}
        for name, first in SEQUENCES.items():
            highest = self.store.rows(f"SELECT max(id) FROM {name} WHERE id >= ?", first)[0][0]
            if highest is not None and following.get(name, 0) <= highest:
                yield name, following.get(name, 0), highest

    def _history(self) -> Iterator[Finding]:
        for row in self.store.rows(
            "SELECT vms.id, vms.name, count(step) AS steps, max(step) AS last FROM vms LEFT JOIN history"
            " ON history.vm_id = vms.id GROUP BY vms.id HAVING steps = 0 OR last != steps - 1"
        ):
            found = f"it has {row['steps']} steps, the last numbered {row['last']}" if row["steps"] else "it has none"
            yield Finding("history-gap", "", f"history of {_machine_named(row)}", found, DAMAGED)

    def _unsettled(self, machines: Iterable[tuple[sqlite3.Row, Vm | None]]) -> Iterator[Finding]:
        again = "Run playbook nebula.provision.site again; if its host is gone for good, nebula.provision.forget_host"
        for row, _vm in machines:
            state = vm_state_name(row["state"], row["lcm_state"])
            why = f" ({row['error']})" if row["error"] else ""
            if row["move_host"] is not None:
                move = move_of(row)
                found = (
                    f"it moves from host {move.source} to host {move.target}, and what became of that is not known yet"
                    f"{why}"
                )
                remedy = (
                    "Run playbook nebula.provision.site again, with both hosts in the run: they are asked; if one of "
                    "them is gone for good, nebula.provision.forget_host"
                )
                yield Finding("machine-unfinished", row["host"] or "", _machine_named(row), found, remedy, UNFINISHED)
            elif not row["settled"]:
                found = f"it is to be {row['wanted']}, and its host has not done that yet{why}"
                yield Finding("machine-unfinished", row["host"] or "", _machine_named(row), found, again, UNFINISHED)
            elif LcmState.__members__.get(state) in FAILURES:
                remedy = (
                    "Remove the cause, then run playbook nebula.provision.site with state: recovered for it, "
                    "or with absent"
                )
                yield Finding(
                    "machine-failed", row["host"] or "", _machine_named(row), f"it is {state}{why}", remedy, UNFINISHED
                )

    # -- repair -------------------------------------------------------------------------------------------------------
    def repair(self) -> list[str]:
        """Write what follows from the machines. What two machines claim is not decided here."""
        ledger = self.ledger()
        if ledger.damaged or any(finding.kind == "address-shared" for finding in ledger.findings):
            return []
        expected = self._expected(self._machines())
        done = [f"{each.object}: {each.found}" for each in (*self._differing(expected), *self._reserved())]
        for table in self._tables(expected):
            there = self._rows(table)
            keys = " AND ".join(f"{column.strip()} = ?" for column in table.key.split(","))
            for key in [key for key, value in there.items() if table.wanted.get(key) != value]:
                self.store.db.execute(f"DELETE FROM {table.name} WHERE {keys}", key)
            marks = ", ".join("?" * (table.key.count(",") + table.columns.count(",") + 2))
            self.store.db.executemany(
                f"INSERT INTO {table.name} ({table.key}, {table.columns}) VALUES ({marks})",
                [(*key, *value) for key, value in table.wanted.items() if there.get(key) != value],
            )
        # Then the addresses that no machine has: those of routers, and reserved ones.
        Reserved(self.store).derive()
        for what, noted, is_so, sql, values in list(self._counted(expected)):
            self.store.db.execute(sql, values)
            done.append(f"{what}: it said {noted}, and it is {is_so}")
        for name, following, highest in list(self._low_sequences()):
            self.store.db.execute("INSERT OR REPLACE INTO sequences VALUES (?, ?)", (name, highest + 1))
            done.append(f"ids of {name}: the next one was {following}, and is {highest + 1}")
        self.store.drop()
        return done


@dataclass(frozen=True)
class _Table:
    """Describes a table that follows from the machines.
    only: which of its rows do; the others are held for machines that no longer have that, or are to have it no more.
    name_of, value: how messages name a key and the values of a row."""

    name: str
    key: str
    columns: str
    only: str
    wanted: Mapping[Any, Any]
    name_of: Callable[[Any], str]
    value: Callable[[Any], str]


def _body(text: str) -> Vm | None:
    try:
        return from_plain(Vm, json.loads(text))
    except (ValueError, TypeError, AttributeError, KeyError, NebulaError):
        return None


def _machine_named(row: sqlite3.Row) -> str:
    return f"VM {row['name']} (id {row['id']})"
