# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives machines processors, memory, huge pages and devices of their host to themselves, none of them twice."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence

from ....dataclass import dataclass, replace
from ....errors import Conflict, InUse, InvalidValue
from ....model import isolated_processors
from ....model.dataclass_json import from_plain, to_plain
from ....model.host import Host
from ....model.instantiate import host_placement
from ....model.instantiate.demands import Demands
from ....model.instantiate.host_placement import NOTHING, HostPlace, Taken
from ....model.instantiate.host_wants import HostWants
from ....model.instantiate.numa_placement import NoPlaceError
from ....model.move import Move
from ....model.object_ids import id_of
from ....model.vm import Vm
from ..hosts import PLACES
from ..store import Store, compact
from .scheduler import REMEDY
from .vm_rows import vm_of

# The column vms.held of a machine that holds nothing but what it is to have.
EMPTY = "{}"
# What the JSON of a machine holds that has anything of its host to itself.
_SIGNS = ('"policy":', '"address":')


@dataclass(frozen=True)
class HostPlaces:
    store: Store

    def lacking(self, host: Host, wants: HostWants) -> str:
        """Return what the host lacks for a machine; "" if it has all of it."""
        try:
            self._place(host, wants)
        except NoPlaceError as error:
            return str(error)
        return ""

    def find(self, host: Host, wants: HostWants) -> HostPlace:
        """Return what the host would give a machine. Raise NoPlaceError if it does not have it."""
        return self._place(host, wants)

    def take(
        self,
        host: Host,
        wants: HostWants,
        vm_id: int,
        where: str,
        had: Sequence[Taken] = (),
        kept: Sequence[Taken] = (),
    ) -> HostPlace:
        """Return what the host gives the machine, which has that from now on in this transaction. Raise InUse if it
        does not have it.
        had: what the machine has already.
        kept: what of that it holds besides until its next start."""
        try:
            found = self._place(host, wants, vm_id, had)
        except NoPlaceError as error:
            raise InUse(f"{where}: {_named(wants)} on host {host.name}", str(error), REMEDY) from None
        self._taken(host)[vm_id] = (_taken_of(found), *kept)
        return found

    def refuse_overlap(self, host: Host, place: HostPlace, vm_id: int, where: str) -> None:
        """Raise Conflict where another machine has some of it."""
        for other, some in self._taken(host).items():
            both = next((text for each in some if (text := host_placement.overlap(each, _taken_of(place)))), "")
            if both and other != vm_id:
                raise Conflict(where, f"it has {both}, and so has machine {other}", "End one of the two")

    def hold(self, row: sqlite3.Row, held: Taken | None, wanted: Vm) -> None:
        """Note what a machine holds as it runs, where that is not what it is to have.
        row: as it was.
        held: None for one that does not run."""
        own = host_placement.taken_by(wanted)
        text = EMPTY if held is None or held == own else compact(to_plain(held))
        if text != row["held"]:
            self.store.db.execute("UPDATE vms SET held = ? WHERE id = ?", (text, row["id"]))
        if text != row["held"] or own != host_placement.taken_by(vm_of(row)):
            self.store.drop(PLACES)

    def _place(self, host: Host, wants: HostWants, vm_id: int | None = None, had: Sequence[Taken] = ()) -> HostPlace:
        """Return what the host would give a machine. vm_id: of one that is there, whose own counts as free."""
        taken = [each for other, some in self._taken(host).items() if other != vm_id for each in some]
        return host_placement.place(wants, host.hardware, taken, isolated_of(host), had)

    def _taken(self, host: Host) -> dict[int, tuple[Taken, ...]]:
        """Return by machine what it has of the host: as it is to be, and as it runs until its next start. Machines of a
        host that was given up have it, too, until nobody saw them there any more; and those that move have what they
        are to have of their new host, and what they had of the old one until they were found on the new one."""
        known = self.store.once(PLACES, dict[int, dict[int, tuple[Taken, ...]]])
        number = id_of(host)
        if number not in known:
            rows = self.store.rows(
                "SELECT vms.* FROM vms LEFT JOIN given_up ON given_up.vm_id = vms.id"
                " WHERE ((vms.host_id = ? AND vms.state != 6)"
                " OR (NOT given_up.ended AND ? IN (given_up.host, given_up.elsewhere)))"
                " AND (instr(body, ?) OR instr(body, ?) OR held != ?)",
                number,
                host.name,
                *_SIGNS,
                EMPTY,
            )
            known[number] = {row["id"]: some for row in rows if (some := _places_of(row))}
            for row in self.store.rows("SELECT * FROM vms WHERE state != 6 AND instr(move, ?)", _SIGNS[0]):
                found = _place_in_move(row, host)
                if found != NOTHING:
                    known[number][row["id"]] = (*known[number].get(row["id"], ()), found)
        return known[number]


def _taken_of(place: HostPlace) -> Taken:
    numa = place.numa
    return Taken(numa.numa if numa else None, numa.threads if numa else 0, place.devices, place.encryption is not None)


def _named(wants: HostWants) -> str:
    """Return the attributes that ask for it."""
    parts = (("TOPOLOGY", wants.numa), ("PCI", wants.devices), ("MEMORY_ENCRYPTION", wants.encryption))
    return ", ".join(name for name, each in parts if each)


def isolated_of(host: Host) -> frozenset[int]:
    """Return the processors of the host that no machine gets to itself."""
    with contextlib.suppress(InvalidValue):
        return isolated_processors.read(host.attributes.get(isolated_processors.ATTRIBUTE, ""), f"host {host.name}")
    # Of a catalog in which it was kept as it was written.
    return frozenset()


def with_processors(demands: Demands, wants: HostWants | None) -> Demands:
    """Return what a machine is promised of its host that wants such a thing: each of its own processors as a whole, and
    no ordinary memory if it has huge pages."""
    if wants is None or wants.numa is None:
        return demands
    cpu = float(demands.vcpu or 1) if wants.numa.pins else demands.cpu
    return replace(demands, cpu=cpu, memory=0 if wants.numa.page_size else demands.memory)


def running(row: sqlite3.Row) -> Taken:
    """Return what the machine of that row holds as it runs; what it is to have, if it holds nothing else."""
    held = json.loads(row["held"])
    return from_plain(Taken, held) if held else host_placement.taken_by(vm_of(row))


def _place_in_move(row: sqlite3.Row, host: Host) -> Taken:
    """Return what a machine of which the catalog says that another host has it holds of this one by its newest move."""
    move = from_plain(Move, json.loads(row["move"]))
    if row["move_host"] == host.id:
        return host_placement.taken_of(move.numa, move.topology)
    if row["move_host"] is None and row["host_id"] != host.id and move.source == host.name:
        return host_placement.taken_of(move.source_numa, move.source_topology)
    return NOTHING


def _places_of(row: sqlite3.Row) -> tuple[Taken, ...]:
    some = (host_placement.taken_by(vm_of(row)), running(row))
    return tuple(each for index, each in enumerate(some) if each != NOTHING and each not in some[:index])
