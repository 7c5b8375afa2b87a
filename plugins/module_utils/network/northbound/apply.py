# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has OVN hold what a catalog wants of it: the database is read once, compared, written once."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import field

from ...dataclass import dataclass
from ...errors import Conflict
from ...model.logical_network import LogicalNetworks
from . import desired_checks, moving_ports, taken_by_others
from .logical_switches import is_renewal, networks_passing_advertisements
from .ovsdb_connection import ChangedMeanwhile, ConnectionLost, Database
from .ovsdb_tables import CATALOG, NETWORK
from .render import render
from .row_differences import Change, DatabaseState, Plan, compare

# Somebody else's change between reading and writing takes milliseconds to happen, and seldom does.
_TRIES = 5


@dataclass
class Outcome:
    """Says what came of it.
    changes: one for each object that was (or would be) changed
    renewed: likewise for objects that an earlier release made otherwise, though the catalog says the same of them
    warnings: of machines that move and that this OVN can't have on both hosts"""

    changes: list[Change] = field(default_factory=list)
    renewed: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.changes)


@dataclass(frozen=True)
class Finding:
    """Says what is not as the catalog has it. asked, found, remedy: as those of an error."""

    asked: str
    found: str
    remedy: str


def apply(database: Database, catalog: str, desired: LogicalNetworks, act: bool = True) -> Outcome:
    """Have the northbound database hold what is desired, and nothing else that is marked as the catalog's. All is
    written, or nothing. Raise an error before that for what can't be meant, and for what others have there. act:
    False only foretells what would change."""
    with _without_garbage_collection():
        return _apply(database, catalog, desired, act)


def _apply(database: Database, catalog: str, desired: LogicalNetworks, act: bool) -> Outcome:
    desired_checks.refuse(desired)
    unknown: list[Change] = []
    for _attempt in range(_TRIES):
        found = DatabaseState(catalog, database.read())
        plan = _plan(found, catalog, desired)
        if not act or not plan.operations:
            break
        try:
            database.write(plan.operations)
        except ChangedMeanwhile:
            continue
        except ConnectionLost:
            # What it finds next says whether that was written.
            unknown = plan.changes
            continue
        break
    else:
        raise _too_many_changes(catalog)
    changes = plan.changes or unknown
    renewed = [change for change in changes if is_renewal(catalog, change)]
    warnings = moving_ports.warnings(desired, found.version)
    return Outcome([change for change in changes if change not in renewed], renewed, warnings)


def _too_many_changes(catalog: str) -> Conflict:
    return Conflict(
        f"OVN's northbound database: the networks of catalog {catalog}",
        f"others changed the same rows {_TRIES} times between reading and writing",
        "Nothing was written. Find out who keeps changing them (ovsdb-client monitor), and run it again",
    )


def advertisement_warnings(desired: LogicalNetworks, hosts: Sequence[str] | None) -> list[str]:
    """Return a warning for each network whose machines hear what one of them announces as a router. hosts: the hosts
    where that passes, since they have the userspace datapath; None for unknown."""
    if hosts is not None and not hosts:
        return []
    where = f" on hosts with the userspace datapath ({', '.join(sorted(hosts))})" if hosts else ""
    return [
        f"network {name}: OVN holds its machines to their addresses, but lets pass what one of them announces as a "
        f"router{where}, so that others may take IPv6 addresses and routes from it. Have nodes use the kernel's "
        "datapath (nebula_ovn_datapath: system), where role nebula.provision.network has that dropped, or guests take "
        "none (accept_ra = 0)"
        for name in networks_passing_advertisements(desired)
    ]


def _plan(found: DatabaseState, catalog: str, desired: LogicalNetworks) -> Plan:
    rows = render(catalog, moving_ports.for_version(desired, found.version))
    taken_by_others.refuse(found, rows, desired)
    return compare(found, rows)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep Python from its search for circles, for which it looks through all that there is whenever much was made:
    with 10,000 ports that was more than half of the time, and here are no circles."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def audit(database: Database, catalog: str, desired: LogicalNetworks) -> list[Finding]:
    """Return where the northbound database is not as the catalog has it; nothing is changed."""
    findings = []
    for change in _plan(DatabaseState(catalog, database.read()), catalog, desired).changes:
        asked = f"OVN: {change}"
        if change.after is None:
            found = "OVN has it, and the catalog does not know it"
        elif change.before is None:
            found = "OVN does not have it"
        else:
            differing = sorted({*change.before, *change.after})
            found = f"it differs from the catalog's in {', '.join(_differs_in(change, row) for row in differing)}"
        findings.append(Finding(asked, found, "Run the playbook that makes the networks: it makes OVN as the catalog"))
    return findings


def switches(database: Database, catalog: str) -> dict[str, str]:
    """Return the networks of the catalog, by the UUIDs of the database's own rows."""
    found = {}
    for row in database.select({"Logical_Switch": ["_uuid", "external_ids"]})["Logical_Switch"]:
        marks = dict(row["external_ids"][1])
        if marks.get(CATALOG) == catalog and NETWORK in marks:
            found[str(row["_uuid"][1])] = str(marks[NETWORK])
    return found


def _differs_in(change: Change, row: str) -> str:
    before, after = ((side or {}).get(row) for side in (change.before, change.after))
    if before is None or after is None:
        return f"{row} ({'missing' if before is None else 'too much'})"
    return f"{row} ({', '.join(sorted({*before, *after}))})"
