# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raises a catalog that was made of a copy above all that the nodes have seen since."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence

from ....dataclass import replace
from ....errors import InvalidValue
from ....model import addresses, machine_orders
from ....model.audit import copied_domains
from ....model.catalog_backup import CatalogCopy, RestoreResult, UnknownMachine
from ....model.dataclass_json import from_plain, to_plain
from ....model.plan import Observed
from ....model.states import ImageState, LcmState, VmState
from ....model.vm import Vm
from ..networks.network_rows import GIVEN_UP, UNKNOWN
from ..networks.network_verbs import Networks
from ..plan_numbers import PLAUSIBLE, PlanNumbers
from ..store import Store, compact
from ..vms import plan_guards
from ..vms.device_ids import next_disk
from ..vms.move_records import move_of
from ..vms.vm_rows import orders_of
from .read_copy import made_of

# How far the next plan number and id are above what the nodes know.
PLANS_APART = 1000
IDS_APART = 100


def raise_above(
    store: Store, observed: Sequence[Observed], current: CatalogCopy | None, origin: str, keep: bool, now: int
) -> RestoreResult:
    """Bring the candidate above all that the nodes have seen, so that they follow it again and no id is used twice.
    current: the catalog that it replaces. origin: the copy of which it is made.
    keep: machines that it does not know are not ended."""
    catalog, plan = store.meta("catalog"), int(store.meta("plan"))
    hosts = tuple(node.host for node in observed if node.catalog == catalog)
    replaced = current if current is not None and current.catalog == catalog else None
    numbers = PlanNumbers(store)
    # A run that was under way when the catalog was lost may have taken numbers that no node has seen.
    lost = replaced is None and bool(hosts)
    with store.transaction() as db:
        if replaced is not None and replaced.plan_key:
            numbers.use_key(replaced.plan_key, replaced.plan_key_since)
        seen = numbers.highest_of(node for node in observed if node.catalog == catalog)
        seen = max(seen, replaced.plan if replaced is not None else 0)
        ahead = seen > plan
        strangers, raised, missing, own = _compare(store, observed, ahead, now)
        if replaced is not None:
            strangers = [replace(each, known=each.uuid in replaced.known) for each in strangers]
        known = dict(replaced.next_ids) if replaced is not None else {}
        known["vms"] = max(known.get("vms", 0), _above_ids(store, strangers))
        above = ahead or bool(strangers) or lost
        for name, following in known.items():
            # A catalog has no sequence of objects that it never had, and a copy of it is to be the same.
            if following or above:
                db.execute("INSERT OR IGNORE INTO sequences VALUES (?, 0)", (name,))
                db.execute("UPDATE sequences SET next = max(next, ?) WHERE name = ?", (following, name))
        if above:
            plan = max(plan, seen) + PLANS_APART
            db.execute("UPDATE meta SET value = ? WHERE key = 'plan'", (str(plan),))
            db.execute("UPDATE sequences SET next = next + ?", (IDS_APART,))
            _leave_out_disks(store)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('restored', ?)", (made_of(origin, plan),))
            plan_guards.forget(store)
        unknown = [each for each in strangers if not each.elsewhere]
        held = list(_hold(store, unknown))
        rested = list(_hold_images(store, [each for each in unknown if keep or each.known], own))
        row = store.row("SELECT next FROM sequences WHERE name = 'vms'")
    return RestoreResult(
        catalog,
        plan,
        row["next"] if row else 0,
        ahead,
        tuple(raised),
        tuple(missing),
        tuple(strangers),
        tuple(held),
        tuple(rested),
        hosts,
        numbers.proof(plan),
    )


def _above_ids(store: Store, strangers: Sequence[UnknownMachine]) -> int:
    """Return the id above those of the strangers. An id that is further ahead than any copy can be behind is a node's
    invention, and would use up all that there are."""
    row = store.row("SELECT next FROM sequences WHERE name = 'vms'")
    most = (row["next"] if row else 0) + PLAUSIBLE
    return max((each.vm_id + 1 for each in strangers if each.vm_id <= most), default=0)


def _leave_out_disks(store: Store) -> None:
    """Raise each machine's next disk id above those of disks that may have come since: their files are on hosts."""
    for row in store.rows("SELECT id, body FROM vms WHERE state != 6 AND body != ''"):
        vm = from_plain(Vm, json.loads(row["body"]))
        body = compact(to_plain(replace(vm, next_disk=next_disk(store, vm) + IDS_APART)))
        store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (body, row["id"]))


def _compare(
    store: Store, observed: Sequence[Observed], ahead: bool, now: int
) -> tuple[list[UnknownMachine], list[str], list[str], list[UnknownMachine]]:
    """Return the machines that the catalog does not know, the names of those that were raised and of those that are
    missing, and the catalog's own machines as their hosts have them."""
    catalog = store.meta("catalog")
    tokens = {each.token for node in observed for each in node.moves}
    for row in store.rows("SELECT * FROM vms WHERE move_host IS NOT NULL"):
        if move_of(row).token not in tokens:
            # It was decided since: the machine is where it is found.
            _close_move(store, row)
    rows = store.rows(
        "SELECT vms.*, hosts.name AS host FROM vms LEFT JOIN hosts ON hosts.id = vms.host_id"
        " WHERE vms.state != 6 ORDER BY vms.id"
    )
    known = {(row["host"], row["id"], row["uuid"]): row for row in rows}
    hosts = {(row["id"], row["uuid"]): row["host"] or "none" for row in rows}
    # A machine that moves is known on both of its hosts, and what became of that is asked as in any run.
    moving = {(move_of(row).target, row["id"], row["uuid"]): row for row in rows if row["move_host"] is not None}
    strangers: list[UnknownMachine] = []
    own: list[UnknownMachine] = []
    raised, missing = [], []
    found: dict[tuple[str, int, str], tuple[str, int]] = {}
    for node in observed:
        for each in _machines_on(node, catalog):
            key = (each.host, each.vm_id, each.uuid)
            found[key] = (each.state, each.generation)
            if key in known or key in moving:
                own.append(each)
            else:
                # The catalog's own machine under another host has no command that ends it.
                elsewhere = hosts.get(key[1:], "")
                strangers.append(replace(each, elsewhere=elsewhere, forget="") if elsewhere else each)
    reached = {node.host for node in observed if node.reached}
    for key, row in moving.items():
        newest = max((found[each][1] for each in (key, (row["host"], *key[1:])) if each in found), default=0)
        if newest > row["generation"]:
            _raise_move(store, row, newest + 1)
    for key, row in _where_they_are(store, known, strangers, own, found, reached, observed):
        name = f"VM {row['name']} (id {row['id']}) on host {row['host']}"
        if key in found:
            state, generation = found[key]
            if generation > row["generation"]:
                # What the copy says of the machine is made true again, without a start or an end.
                wanted = state if state in ("RUNNING", "POWEROFF", "SUSPENDED") else row["wanted"]
                _adjust(store, row, generation + 1, wanted, 0, row["state"], row["lcm_state"], "", now)
                raised.append(name)
        elif row["host"] in reached and row["wanted"] != "DONE" and (ahead or row["settled"]):
            missing.append(name)
            if ahead:
                # The machine may have been ended since: it is not made again before somebody says so.
                error = "did not have it when this catalog was restored; state: running makes it anew"
                states = (VmState.ACTIVE, LcmState.UNKNOWN)
                _adjust(
                    store, row, row["generation"] + 1, row["wanted"], 1, *states, f"host {row['host']} {error}", now
                )
    return strangers, raised, missing, own


def _where_they_are(
    store: Store,
    known: Mapping[tuple[str, int, str], sqlite3.Row],
    strangers: list[UnknownMachine],
    own: list[UnknownMachine],
    found: Mapping[tuple[str, int, str], tuple[str, int]],
    reached: Collection[str],
    observed: Sequence[Observed],
) -> Iterator[tuple[tuple[str, int, str], sqlite3.Row]]:
    """Yield the machines of the catalog by host, id and UUID, without those whose move is open. One that is on no host
    but another than the catalog says has moved after the copy was made: it is made that one's, and is no stranger."""
    for key, row in known.items():
        if row["move_host"] is not None:
            continue
        there = [each for each in strangers if (each.vm_id, each.uuid) == key[1:]]
        if key in found or row["host"] not in reached or len(there) != 1:
            yield key, row
            continue
        moved = _take_along(store, row, there[0], observed)
        if moved is None:
            yield key, row
            continue
        strangers.remove(there[0])
        own.append(there[0])
        yield (there[0].host, *key[1:]), moved


def _close_move(store: Store, row: sqlite3.Row) -> None:
    """Free what is held for a machine at the host to which it was to move."""
    move = move_of(row)
    _promise(store, row["move_host"], -row["memory"] - row["kept_memory"], -move.overhead, -row["cpu"], -1)
    store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ? AND host_id = ?", (row["id"], row["move_host"]))
    store.db.execute("UPDATE vms SET move_host = NULL WHERE id = ?", (row["id"],))


def _promise(store: Store, host_id: int, memory: int, overhead: int, cpu: float, vms: int) -> None:
    store.db.execute(
        "UPDATE hosts SET memory_used = memory_used + ?, overhead_used = overhead_used + ?,"
        " cpu_used = round(cpu_used + ?, 6), vms = vms + ? WHERE id = ?",
        (memory, overhead, cpu, vms, host_id),
    )


def _raise_move(store: Store, row: sqlite3.Row, generation: int) -> None:
    """Raise a machine that moves above what its hosts have seen, with its move."""
    move = compact(to_plain(replace(move_of(row), generation=generation, asked=True)))
    store.db.execute("UPDATE vms SET generation = ?, move = ? WHERE id = ?", (generation, move, row["id"]))


def _take_along(
    store: Store, row: sqlite3.Row, there: UnknownMachine, observed: Sequence[Observed]
) -> sqlite3.Row | None:
    """Make a machine that is nowhere but on another host that host's. Return its row then; None if the catalog does not
    know that host."""
    host = store.row("SELECT id FROM hosts WHERE name = ?", there.host)
    if host is None:
        return None
    for host_id, sign in ((row["host_id"], -1), (host["id"], 1)):
        held = row["memory"] + row["kept_memory"]
        _promise(store, host_id, sign * held, sign * row["overhead"], sign * row["cpu"], sign)
    vm = from_plain(Vm, json.loads(row["body"]))
    store.db.execute("DELETE FROM vnc_ports WHERE vm_id = ?", (row["id"],))
    ports = [
        domain.port
        for node in observed
        for domain in (node.inventory.domains if node.host == there.host and node.inventory is not None else ())
        if (domain.vm_id, domain.uuid) == (there.vm_id, there.uuid) and domain.port
    ]
    if vm.graphics is not None:
        port = ports[0] if ports else vm.graphics.port
        vm = replace(vm, graphics=replace(vm.graphics, port=port))
        store.db.execute("INSERT OR IGNORE INTO vnc_ports VALUES (?, ?, ?)", (host["id"], port, row["id"]))
    store.db.execute(
        "UPDATE vms SET host_id = ?, body = ? WHERE id = ?", (host["id"], compact(to_plain(vm)), row["id"])
    )
    return store.row(
        "SELECT vms.*, hosts.name AS host FROM vms JOIN hosts ON hosts.id = vms.host_id WHERE vms.id = ?", row["id"]
    )


def _adjust(
    store: Store,
    row: sqlite3.Row,
    generation: int,
    wanted: str,
    settled: int,
    state: int,
    lcm_state: int,
    error: str,
    now: int,
) -> None:
    left = machine_orders.write(machine_orders.after_restore(orders_of(row)))
    store.db.execute(
        "UPDATE vms SET generation = ?, wanted = ?, settled = ?, state = ?, lcm_state = ?, error = ?, orders = ?,"
        " seq = seq + 1 WHERE id = ?",
        (generation, wanted, settled, state, lcm_state, error, left, row["id"]),
    )
    store.db.execute(
        "INSERT INTO history (vm_id, step, time, host, state, action, reason)"
        " SELECT ?, coalesce(max(step), -1) + 1, ?, ?, ?, 'restore', ? FROM history WHERE vm_id = ?",
        (row["id"], now, row["host"], "UNKNOWN" if error else wanted, error, row["id"]),
    )


def _machines_on(node: Observed, catalog: str) -> Iterator[UnknownMachine]:
    """Yield all that carries the catalog's mark on the node: domains, and directories without a domain."""
    inventory = node.inventory
    if inventory is None:
        return
    states = {vm.vm_id: vm for vm in node.vms}
    ours = [each for each in inventory.directories if each.catalog == catalog]
    acted = {each.vm_id: each.generation for each in ours}
    files = {
        each.vm_id: frozenset(os.path.basename(file.backing or file.target or file.name) for file in each.files)
        for each in ours
    }
    there = set()
    # A copy that somebody made by hand is no machine: it has the id of one that is there.
    copied = copied_domains(inventory.domains)
    for domain in inventory.domains:
        if domain.catalog != catalog or domain in copied:
            continue
        there.add(domain.vm_id)
        polled = states.get(domain.vm_id)
        yield UnknownMachine(
            node.host,
            domain.vm_id,
            domain.uuid,
            domain.name,
            polled.state if polled is not None else domain.state,
            node.hypervisor,
            max(domain.generation, acted.get(domain.vm_id, 0)),
            tuple(domain.macs),
            domain.forget,
            frozenset(map(os.path.basename, domain.disks)) | files.get(domain.vm_id, frozenset()),
        )
    for each in ours:
        if each.vm_id not in there:
            where = (node.host, each.vm_id, each.uuid, each.path)
            yield UnknownMachine(*where, "no domain", node.hypervisor, each.generation, files=files[each.vm_id])


def _hold(store: Store, strangers: Sequence[UnknownMachine]) -> Iterator[str]:
    """Hold the addresses of these machines, so that nobody else gets them while they have them; yield what is held."""
    store.db.execute("DELETE FROM leases WHERE kind = ?", (UNKNOWN,))
    given_up = {row["vm_id"] for row in store.rows("SELECT vm_id FROM given_up")}
    for network in Networks(store).pool():
        for address_range in network.address_ranges:
            calculator = addresses.Calculator(address_range)
            for stranger in strangers:
                for mac in stranger.macs:
                    offset = _offset(calculator, mac)
                    if offset is None:
                        continue
                    place = (network.id, address_range.ar_id, offset)
                    done = store.db.execute(
                        "INSERT OR IGNORE INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (?, ?, ?, ?, ?)",
                        (*place, stranger.vm_id, GIVEN_UP if stranger.vm_id in given_up else UNKNOWN),
                    )
                    if done.rowcount == 1:
                        lease = calculator.lease(network.id, offset, None, None)
                        yield f"{lease.ip or lease.ip6 or lease.mac} of network {network.name}"
    store.db.execute(
        "UPDATE address_ranges SET first_free = 0, used = (SELECT count(*) FROM leases l WHERE"
        " l.network_id = address_ranges.network_id AND l.ar_id = address_ranges.ar_id)"
    )


def _offset(calculator: addresses.Calculator, mac: str) -> int | None:
    """Return where in the range the address is; None for what is no address, which a node may say as well."""
    try:
        return calculator.offset_of(None, addresses.mac_number(mac, mac))
    except InvalidValue:
        return None


def _hold_images(store: Store, strangers: Sequence[UnknownMachine], own: Sequence[UnknownMachine]) -> Iterator[str]:
    """Disable images to which these machines write, so that no other gets them; yield what only the user can take care
    of. own: machines that the catalog knows, which may have come by another disk since."""
    for row in store.rows("SELECT id, name, source, state, persistent FROM images WHERE source != '' ORDER BY id"):
        # The catalog knows the machine of an image that it has in use.
        free = row["persistent"] and row["state"] in (ImageState.READY, ImageState.DISABLED)
        users = [
            f"{each.name} on host {each.host}"
            for each in (*strangers, *(own if free else ()))
            if os.path.basename(row["source"]) in each.files
        ]
        if not users:
            continue
        what = f"image {row['name']} (id {row['id']})"
        if not row["persistent"]:
            disks = f"disks of {', '.join(users)} rest on it"
            yield f"{what}: {disks}, which this catalog does not know: keep it while they are there"
        elif free:
            store.db.execute("UPDATE images SET state = ? WHERE id = ?", (int(ImageState.DISABLED), row["id"]))
            yield (
                f"{what}: {', '.join(users)} writes to it, which this catalog does not know. It is DISABLED: once that "
                "machine has ended, nebula_image with state: enabled"
            )
