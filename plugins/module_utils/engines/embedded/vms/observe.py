# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes over what nodes report of themselves: the states of machines, and what they have that the catalog does not
know."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from ....model.host import Host
from ....model.move import COMING, LEAVING, LEFT
from ....model.plan import Observed, ObservedVm
from ....model.states import FAILURES, LcmState, vm_state_name
from ...ports import VmRecord
from ..hosts import PLACES, ROOMS
from . import move_records, transitions, vm_records, waiting
from .parts import Parts

# How the error of a machine begins and ends that its former host still runs.
_RUNS_ON, _UNTIL_THEN = re.compile(r"it runs on host (\S+) (?:as well|while) "), "; nothing is done about it until then"


def observe(parts: Parts, observed: Sequence[Observed]) -> list[VmRecord]:
    moved: list[tuple[int, str, str]] = []
    believed: list[Observed] = []
    others: dict[str, list[ObservedVm]] = {}
    heard: list[tuple[int, Observed]] = []
    for node in observed:
        host = parts.store.row("SELECT id FROM hosts WHERE name = ?", node.host)
        host_id = None if host is None else host["id"]
        stale = node.reached and _is_stale(parts, host_id, node)
        if node.reached and not stale:
            believed.append(node)
            others[node.host] = _others(parts, host_id, node)
        if host is None:
            continue
        parts.polls.hear(node)
        if not stale:
            heard.append((host["id"], node))
    known = _known_doubled(parts)
    doubled = _doubled(parts, {node.host: node for node in believed}, others, known)
    for host_id, node in heard:
        seen = {vm.vm_id: vm for vm in node.vms}
        for row in parts.store.rows(
            "SELECT id, uuid, state, lcm_state, error, host_id, waits, held, kept_memory FROM vms"
            " WHERE host_id = ? AND state != 6 AND settled = 1",
            host_id,
        ):
            vm = seen.get(row["id"])
            now = vm.state if vm is not None and node.reached else "UNKNOWN"
            before = vm_state_name(row["state"], row["lcm_state"])
            # A node that could not do all of it has noted nothing of what waits.
            if vm is not None and node.reached and (vm.state == "POWEROFF" or not (vm.waits or row["error"])):
                waiting.drop(parts, row)
            if LcmState.__members__.get(before) in FAILURES and now in ("UNKNOWN", "POWEROFF"):
                continue  # the reason of the failure says more
            why = _reasons_of_unknown(node)[_seen_as(node, vm)] if now == "UNKNOWN" else ""
            why = doubled.get(row["id"], why)
            # A reason that an earlier poll gave is dropped when it is over: the host answers, the domain is gone.
            former = row["error"] in _reasons_of_unknown(node).values() or row["id"] in known
            if now != before or (why != row["error"] and former and row["id"] not in doubled):
                moved.append((row["id"], now, why))
    transitions.write_states(parts, moved, "monitor")
    noted = _note_doubled(parts, doubled, known)
    parts.polls.believed, parts.polls.unknown = {node.host: node for node in believed}, others
    parts.polls.doubled = doubled
    parts.polls.datastores = parts.datastores.hear({node.host: node.datastore for node in believed})
    parts.given_ups.hear(believed, others)
    parts.store.drop(PLACES)
    count_unknown(parts)
    parts.networks.held_leases.release_held(
        {vm.vm_id for node in observed for vm in node.vms}, _all_answered(parts, observed)
    )
    return vm_records.pool(parts, ids=[*(vm_id for vm_id, _s, _r in moved), *noted])


def _others(parts: Parts, host_id: int | None, node: Observed) -> list[ObservedVm]:
    """Return the machines on the node that carry this catalog's mark, and that the catalog does not have there."""
    rows = parts.store.rows(
        "SELECT id FROM vms WHERE host_id = ? AND state != 6 UNION ALL SELECT id FROM vms WHERE move_host = ?",
        host_id,
        host_id,
    )
    ours = {row["id"] for row in rows}
    others = [vm for vm in node.vms if vm.vm_id not in ours]
    # What a host keeps of a machine that moved is no unknown machine: its plan says what becomes of it.
    stages = {move.vm_id: move.stage for move in node.moves} if others else {}
    return [vm for vm in others if not (_stands_still(stages.get(vm.vm_id), vm) and _is_elsewhere(parts, vm))]


def _stands_still(stage: str | None, vm: ObservedVm) -> bool:
    """Return whether a machine is as a move leaves it on a host that does not have it: what comes is paused or off."""
    return vm.state != "RUNNING" if stage == COMING else vm.state == "POWEROFF" and stage in (LEFT, LEAVING)


def _known_doubled(parts: Parts) -> dict[int, str]:
    """Return the errors of machines that their former hosts ran when these were asked before, by id."""
    rows = parts.store.rows("SELECT id, error FROM vms WHERE error LIKE '%' || ? AND state != 6", _UNTIL_THEN)
    return {row["id"]: row["error"] for row in rows}


def _doubled(
    parts: Parts, nodes: Mapping[str, Observed], others: Mapping[str, Sequence[ObservedVm]], known: Mapping[int, str]
) -> dict[int, str]:
    """Return by id what is wrong with machines that run on a host from or to which they have moved, and that the
    catalog has on another one. Both would write to what is theirs.
    known: machines of which that was so before: it is as long as that host does not say that it is over."""
    hosts = {host.name for host in parts.hosts.pool()}
    found = {}
    for vm_id, error in known.items():
        named = _RUNS_ON.match(error)
        if named and named[1] in hosts and named[1] not in nodes:
            found[vm_id] = error
    for name, machines in others.items():
        moving = {move.vm_id for move in nodes[name].moves} if machines else ()
        for vm in machines:
            if vm.state != "RUNNING" or not _is_elsewhere(parts, vm):
                continue
            row = parts.rows.get(vm.vm_id)
            took_part = bool(row["move"]) and bool(move_records.role_in(move_records.move_of(row), name))
            if vm.vm_id in moving or took_part:
                host = parts.hosts.by_id()[row["host_id"]].name
                there = {each.vm_id: each.state for each in nodes[host].vms} if host in nodes else {}
                both = there.get(vm.vm_id) == "RUNNING"
                found[vm.vm_id] = (
                    f"it runs on host {name} "
                    + (f"as well as on host {host}: " if both else f"while the catalog has it on host {host}: ")
                    + "find out which of both is to have it, and end it on the other one before anything else"
                    + _UNTIL_THEN
                )
    return found


def _note_doubled(parts: Parts, doubled: Mapping[int, str], known: Mapping[int, str]) -> list[int]:
    """Write the errors of such machines, and return the ids of those whose error is another than it was."""
    for vm_id in known.keys() - doubled.keys():
        parts.store.db.execute("UPDATE vms SET error = '' WHERE id = ? AND error = ?", (vm_id, known[vm_id]))
    noted = [vm_id for vm_id, error in doubled.items() if known.get(vm_id) != error]
    parts.store.db.executemany("UPDATE vms SET error = ? WHERE id = ?", [(doubled[vm_id], vm_id) for vm_id in noted])
    return noted


def _is_elsewhere(parts: Parts, vm: ObservedVm) -> bool:
    """Return whether the catalog has the machine, on whatever host."""
    row = parts.store.row("SELECT uuid FROM vms WHERE id = ? AND state != 6", vm.vm_id)
    return row is not None and row["uuid"].lower() == vm.uuid.lower()


def count_unknown(parts: Parts) -> None:
    """Count memory and ports of machines that the catalog does not have on their hosts: no other machine can have
    these. It is called again after one of them was adopted."""
    parts.store.drop(ROOMS)
    hosts = {host.name: host for host in parts.hosts.pool()}
    for name, machines in parts.polls.unknown.items():
        if name in hosts:
            overhead = hosts[name].overhead
            # Some may have been adopted since.
            strange = [vm for vm in machines if vm.memory and not _is_on(parts, vm.vm_id, hosts[name])]
            parts.polls.unknown_memory[name] = sum(vm.memory + overhead.of(vm.memory, None) for vm in strange)
    for found in parts.given_ups.seen:
        graphics = json.loads(parts.rows.get(found.vm_id)["body"]).get("graphics") or {}
        if found.state != "POWEROFF" and graphics.get("port"):
            parts.polls.taken_ports.setdefault(found.host, set()).add(graphics["port"])


def _is_on(parts: Parts, vm_id: int, host: Host) -> bool:
    row = parts.store.row("SELECT 1 FROM vms WHERE id = ? AND host_id = ? AND state != 6", vm_id, host.id)
    return row is not None


def _is_stale(parts: Parts, host_id: int | None, node: Observed) -> bool:
    """Return whether another run has recorded what the node did after this poll of it."""
    recorded = int(parts.store.meta(f"recorded/{host_id}") or 0)
    return node.catalog == parts.store.meta("catalog") and node.done_number < recorded


def _all_answered(parts: Parts, observed: Sequence[Observed]) -> bool:
    reached = {node.host for node in observed if node.reached}
    return all(host.name in reached for host in parts.hosts.pool())


def _seen_as(node: Observed, vm: ObservedVm | None) -> str:
    """Return how a node sees a machine that is UNKNOWN, as a key of _reasons_of_unknown()."""
    return "silent" if not node.reached else "gone" if vm is None else "stands still"


def _reasons_of_unknown(node: Observed) -> dict[str, str]:
    """Return why a machine is UNKNOWN, by how its node sees it."""
    return {
        "silent": f"host {node.host} did not answer",
        "gone": f"its domain has vanished from host {node.host}; state: running starts it again from its disks",
        "stands still": f"its domain on host {node.host} stands still, paused or crashed, and not by its wanted state; "
        "state: running lets a paused one go on where it was, and starts a crashed one again from its disks",
    }
