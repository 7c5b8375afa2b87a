# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what running machines wait for: the parts of them that change at their next start, and the memory that they
hold until then."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from ....model.dataclass_json import from_plain, to_plain
from ....model.template_changes import CONTEXT
from ....model.waiting_changes import OWNER, UNTOLD, VARIABLES, Waiting, without_devices_that_fit
from ..hosts import PLACES
from ..store import compact
from .parts import Parts

# The column vms.waits of a machine that waits for nothing.
EMPTY = "{}"
_DEVICES = ("those that it was started with", "those of the list")


def waiting_of(row: sqlite3.Row) -> dict[str, Waiting]:
    """Return by part what the machine waits for."""
    if row["waits"] == EMPTY:
        return {}
    return {part: from_plain(Waiting, plain) for part, plain in json.loads(row["waits"]).items()}


def shown_waiting(row: sqlite3.Row, awaits: bool) -> list[dict[str, str]]:
    """Return the same for people: part, found and wanted of each. awaits: it has not all of its devices; a former
    release, or a node that could not finish, left it so."""
    waits = waiting_of(row)
    if not {CONTEXT, "CONTEXT_FORMAT", OWNER}.isdisjoint(waits):
        # These say what of its context it is.
        waits.pop(VARIABLES, None)
    found = [{"part": part, "found": each.found, "wanted": each.wanted} for part, each in waits.items()]
    if not found and awaits and row["settled"] and not row["error"]:
        found.append({"part": UNTOLD, "found": _DEVICES[0], "wanted": _DEVICES[1]})
    return found


def write(parts: Parts, vm_id: int, waiting: Mapping[str, Waiting], kept_memory: int) -> None:
    """Keep what a machine waits for. kept_memory: MiB that it holds until then, besides what it is to have."""
    text = compact({part: to_plain(each) for part, each in waiting.items()})
    parts.store.db.execute("UPDATE vms SET waits = ?, kept_memory = ? WHERE id = ?", (text, kept_memory, vm_id))


def drop(parts: Parts, row: sqlite3.Row) -> None:
    """Note that the machine was started anew, or is off: it waits for nothing, and holds no more than it is to have."""
    if row["held"] != EMPTY:
        parts.store.db.execute("UPDATE vms SET held = ? WHERE id = ?", (EMPTY, row["id"]))
        parts.store.drop(PLACES)
    if row["waits"] == EMPTY and not row["kept_memory"]:
        return
    if row["kept_memory"]:
        parts.hosts.promise(row["host_id"], -row["kept_memory"], 0, 0.0, 0)
    write(parts, row["id"], {}, 0)


def drop_devices(parts: Parts, row: sqlite3.Row) -> None:
    """Note that the running machine has all disks and NICs that it is to have, and no others."""
    before = waiting_of(row)
    left = without_devices_that_fit(before)
    if left != before:
        write(parts, row["id"], left, row["kept_memory"])
