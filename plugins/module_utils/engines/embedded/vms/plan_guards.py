# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides of which machines a plan says what its node filters: of all that the node has, or only of those that the plan
is about, where the node has been told of the others already and nothing of them has changed since.

Of each host the catalog keeps what the newest plan has told, and whether the node carried that plan out. A machine of
which something changes is in its host's next plan; where it is not, what changes it calls forget()."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ....dataclass import dataclass
from ....model.nic_filter_rules import Guard
from ..networks.filtered_nics import guards
from ..store import Store, compact

# Raised where nodes are to be told anew of all their machines, since the same rows of the catalog say something else.
FORM = 1
# All that decides what is filtered of a machine's NICs, but for the machine itself.
_NETWORKS = "SELECT id, name, vn_mad, attributes FROM networks ORDER BY id"
_RANGES = (
    "SELECT network_id, ar_id, type, size, ip, mac, global_prefix, ula_prefix, attributes FROM address_ranges"
    " ORDER BY network_id, ar_id"
)
_GROUPS = "SELECT id, rules FROM security_groups ORDER BY id"


@dataclass(frozen=True)
class PlanGuards:
    """Says what a plan tells of filters; see Plan, which has these names with `guards`, `machines`, `guarded_at` and
    `guards_since`."""

    guards: Sequence[Guard]
    machines: Sequence[int]
    at: float
    since: float | None = None


def of_plans(
    store: Store, planned: Mapping[str, Sequence[int]], ending: Collection[int], number: int
) -> dict[str, PlanGuards]:
    """Return what the plans of this number tell their nodes, by host, and note it.
    planned: by host, the ids of the machines that its plan is about. ending: those of them that are to be gone."""
    stamp, now = _stamp(store), round(time.time(), 3)
    ids = {row["name"]: row["id"] for row in store.rows("SELECT id, name FROM hosts")}
    # By host, those of the other machines of which something is filtered, where the node has been told of all others.
    others: dict[str, set[int]] = {}
    for host, own in planned.items():
        noted = _noted(store, ids[host])
        if noted.get("done") and noted["stamp"] == stamp:
            others[host] = {*noted["filtered"]}.difference(own)
    found = guards(store, hosts=[ids[host] for host in planned if host not in others])
    # A machine that moves has two hosts, and of each only what its own plan is about counts here.
    of_some = guards(store, vms=sorted({vm_id for host in others for vm_id in planned[host]}))
    found.update({host: some for host, some in of_some.items() if host in others})
    made = {}
    for host, own in planned.items():
        if host in others:
            # Where nothing is filtered of the others, the node need not have anything.
            since = _noted(store, ids[host])["at"] if others[host] else 0.0
            made[host] = PlanGuards(found.get(host, ()), own, now, since)
        else:
            made[host] = PlanGuards(found.get(host, ()), _machines(store, ids[host]), now)
        filtered = {guard.vm_id for guard in found.get(host, ()) if guard.filters} | others.get(host, set())
        filtered.difference_update(ending)
        noted = {"number": number, "done": False, "at": now, "stamp": stamp, "filtered": sorted(filtered)}
        _note(store, ids[host], noted)
    return made


def carried_out(store: Store, host: str, number: int) -> None:
    """Note that the host has carried out the plan of this number."""
    row = store.row("SELECT id FROM hosts WHERE name = ?", host)
    known = _noted(store, row["id"]) if row is not None else {}
    if row is not None and known and not known["done"] and known["number"] <= number:
        _note(store, row["id"], {**known, "done": True})


def forget(store: Store, host_id: int | None = None) -> None:
    """Have the next plan of the host tell of all its machines. Without a host: the next plans of all hosts."""
    which = "key = ?" if host_id is not None else "key GLOB ?"
    store.db.execute(f"DELETE FROM meta WHERE {which}", (_key("*" if host_id is None else host_id),))


def _key(host_id: int | str) -> str:
    return f"guards/{host_id}"


def _noted(store: Store, host_id: int) -> dict[str, Any]:
    text = store.meta(_key(host_id))
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _note(store: Store, host_id: int, noted: Mapping[str, Any]) -> None:
    store.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_key(host_id), compact(noted)))


def _machines(store: Store, host_id: int) -> list[int]:
    rows = store.rows(
        "SELECT id FROM vms WHERE host_id = ? AND state != 6 UNION ALL SELECT id FROM vms WHERE move_host = ?"
        " ORDER BY id",
        host_id,
        host_id,
    )
    return [row["id"] for row in rows]


def _stamp(store: Store) -> str:
    """Return what changes with the networks and security groups of the catalog."""
    tables = [[list(row) for row in store.rows(statement)] for statement in (_NETWORKS, _RANGES, _GROUPS)]
    return hashlib.sha256(compact([FORM, tables]).encode()).hexdigest()[:16]
