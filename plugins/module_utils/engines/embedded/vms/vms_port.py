# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names the function that carries out each verb about machines, in the file that is named after the verb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ....model.plan import GivenUp
from ....model.vm import Vm
from ...ports import VmsPort
from . import ended_vms, observe, record, vm_records
from .parts import Parts, decision_file


def decision(file: str, name: str) -> Any:
    """Return the verb that a function of a file here carries out, which is shipped with what decides about machines."""

    def decide(parts: Parts, *arguments: Any, **named: Any) -> Any:
        return getattr(decision_file(file), name)(parts, *arguments, **named)

    return decide


class Vms(Parts, VmsPort):
    """Carries out the verbs of VmsPort, which documents them. All are called within a transaction of the store."""

    pool = vm_records.pool
    observe = observe.observe
    record = record.record
    forget = ended_vms.forget
    instantiate = decision("instantiate", "instantiate")
    adopt = decision("adopt", "adopt")
    action = decision("actions", "action")
    disk_save_as = decision("actions", "disk_save_as")
    disk_snapshot = decision("actions", "disk_snapshot")
    devices = decision("update", "devices")
    rename = decision("update", "rename")
    update = decision("update", "update")
    move = decision("moving", "move")
    stay = decision("moving", "stay")
    recreate = decision("recreate", "recreate")
    plans = decision("plans", "plans")

    def names(self) -> dict[int, str]:
        return self.rows.names()

    def described(self, ids: Iterable[int]) -> dict[int, Vm]:
        return {row["id"]: self.rows.vm_of(row) for row in self.rows.select("id", ids, " AND state != 6")}

    def history(self, vm_id: int) -> list[Mapping[str, Any]]:
        return self.rows.history(vm_id)

    def given_up(self) -> list[GivenUp]:
        return list(self.given_ups.seen)

    def gone_for_good(self, name: str) -> list[str]:
        """Free what is held for machines of a forgotten host. Return the addresses."""
        return self.given_ups.gone(name)

    def disk_room(self, host: str, images: bool = False) -> int | None:
        node = self.polls.believed.get(host)
        return None if node is None else node.room if images else node.disk_room

    def take_disk_room(self, vm_id: int, place: str, size: int, free: int | None) -> int | None:
        # As long as the catalog is open, and undone with what else is undone.
        execute = self.store.db.execute
        columns = "vm_id INTEGER, place TEXT, mib INTEGER, UNIQUE (vm_id, place)"
        execute(f"CREATE TEMP TABLE IF NOT EXISTS disk_room ({columns})")
        asked = "SELECT ifnull(sum(mib), 0) FROM disk_room WHERE place = ? AND vm_id != ?"
        others = int(execute(asked, (place, vm_id)).fetchone()[0])
        if free is not None and others + size > free:
            return others
        execute("INSERT OR REPLACE INTO disk_room VALUES (?, ?, ?)", (vm_id, place, size))
        return None

    def fetched(self) -> set[str]:
        """Return the SHA-256 of the files from URLs that machines have."""
        fetched: set[str] = self.assembler.fetched()
        return fetched
