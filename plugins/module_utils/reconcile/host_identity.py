# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out which host of the catalog a host of the inventory is, by the mark that it carries.

A mark is a claim of whoever answers. A wrong one may have the host that answers refused, and alters nothing of the
host on record whose mark it is: that host gets another name only if the inventory says so (renamed_from)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..dataclass import dataclass
from ..engines.base import Engine, named
from ..errors import Conflict, InUse, InvalidValue
from ..model.host import Host
from ..model.plan import Observed

_MARK = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Known:
    """Holds what the catalog knows of a host.
    was: a host of the catalog as it was found, under whatever name
    host: the same host as it is now"""

    was: Host | None
    host: Host | None


class Identities:
    """Finds out which hosts items are about.
    items: all that are asked about together
    nodes: all names of the inventory
    warnings: what was found on the way; complete after clones()
    doubled: second names of hosts that are tolerated, because the catalog has machines under them"""

    def __init__(
        self, engine: Engine, items: Iterable[Mapping[str, Any]] = (), nodes: Collection[str] = frozenset()
    ) -> None:
        self._engine = engine
        self._nodes = frozenset(nodes)
        self._showing: dict[str, list[str]] = {}
        for item in items:
            if item.get("name") and item.get("mark"):
                self._showing.setdefault(str(item["mark"]), []).append(str(item["name"]))
        self._owners: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self.doubled: set[str] = set()
        self.warnings: list[str] = []

    def known(self, name: str, found: Host | None, item: Mapping[str, Any]) -> Known:
        """Return the host of the catalog that the item is about, which has the item's name from now on. Raise Conflict
        if the name is a second name of another host. found: the host that the catalog has under the item's name."""
        mark, former = item.get("mark") or "", item.get("renamed_from") or ""
        if not mark:
            return Known(found, found)
        if not _MARK.fullmatch(mark):
            raise InvalidValue(
                f"host {name}: mark", "it is none that a front-end gives", "See what wrote nebula.node on that host"
            )
        owner = self._owner(mark)
        other = _on_record(self._engine, owner) if owner != name else None
        if other is not None and owner == former:
            return Known(other, self._rename(name, found, other))
        if other is not None or (owner != name and owner in self._showing.get(mark, ())):
            self._refuse_second_name(name, found, owner)
            return Known(found, found)
        if found is None and former and _on_record(self._engine, former) is not None:
            raise Conflict(
                f"host {name}: renamed from {former}",
                f"it does not carry the mark that host {former} has in the catalog: it was installed anew, was never "
                "asked under that name, or is another host",
                f"Without nebula_renamed_from it is a new host; {former} then goes by nebula.provision.forget_host. If "
                f"it has no mark yet: run nebula.provision.site once under the name {former}",
            )
        return Known(found, found)

    def keep(self, name: str, item: Mapping[str, Any]) -> None:
        """Note the mark and the machine id that a host has told. To be called once the host is in the catalog."""
        mark = item.get("mark") or ""
        if mark and name not in self.doubled:
            self._engine.hosts.keep_mark(name, mark)
        if item.get("machine_id"):
            self._ids[name] = str(item["machine_id"])

    def clones(self) -> None:
        """Warn of hosts with the machine id of others, and note the ids."""
        if not self._ids:
            return
        known = self._engine.hosts.machine_ids()
        for name, machine_id in self._ids.items():
            if known.get(name) != machine_id:
                self._engine.hosts.keep_machine_id(name, machine_id)
        known.update(self._ids)
        by_id: dict[str, list[str]] = {}
        for name, machine_id in known.items():
            if name not in self.doubled:
                by_id.setdefault(machine_id, []).append(name)
        for names in by_id.values():
            if len(names) > 1 and not self._ids.keys().isdisjoint(names):
                self.warnings.append(
                    f"Hosts {' and '.join(sorted(names))} have the same machine id, and different marks: they were "
                    "cloned from one installation. Give each clone an id of its own (rm /etc/machine-id; "
                    "systemd-machine-id-setup; reboot). If both names are of one host, take one of both names out of "
                    "the inventory"
                )

    def _owner(self, mark: str) -> str:
        """Return the name that the mark belongs to. If several names show a mark at once that was never shown before,
        the host kept the mark of the name by which it was asked first: then it belongs to the name with the most
        machines."""
        if mark not in self._owners:
            owner, names = self._engine.hosts.owner_of_mark(mark), self._showing.get(mark, [])
            if len(names) > 1 and owner in names and not self._engine.hosts.has_shown_mark(owner):
                found = {name: _on_record(self._engine, name) for name in names}
                had = {name: host.vms if host is not None else 0 for name, host in found.items()}
                owner = max(names, key=lambda name: (had[name], name == owner))
            self._owners[mark] = owner
        return self._owners[mark]

    def _refuse_second_name(self, name: str, found: Host | None, owner: str) -> None:
        what = _one_host(owner)
        if _is_tolerated(self._engine, name, found):
            self.doubled.add(name)
            self.warnings.append(
                f"host {name}: {what}, and the catalog has machines under {name}, too. {name} is DISABLED, so that its "
                f"memory and processors count once. End its machines, then take one of both names out of the inventory"
            )
            return
        raise Conflict(
            f"host {name}",
            what,
            f"If it was renamed, take {owner} out of the inventory and set nebula_renamed_from: {owner} for {name}. "
            f"Else take one of both names out of the inventory; or, if {name} is a copy of that host's disk, remove "
            "nebula.node there",
        )

    def _rename(self, name: str, found: Host | None, other: Host) -> Host:
        asked = f"host {name}: renamed from {other.name}"
        if other.name in self._nodes:
            raise Conflict(
                asked, f"{other.name} is still in the inventory", f"Take {other.name} out of it, and run again"
            )
        if found is not None and found.vms and other.vms:
            raise InUse(
                asked,
                f"the catalog has {found.vms} machines under the new name, and {other.vms} under the former",
                f"End those of one of both. For those of {other.name}, ask under that name only",
            )
        if found is not None and found.vms:
            self._engine.hosts.delete(other.name)
            return found
        return self._engine.hosts.rename(other.name, name)


def without_second_names(engine: Engine, observed: Sequence[Observed]) -> tuple[list[Observed], dict[str, str]]:
    """Return what nodes told, with the second names of hosts as silent; and why, by second name. What a host tells
    under its second name is about the machines that the catalog has under its other name."""
    believed, why = [], {}
    for node in observed:
        owner = engine.hosts.owner_of_mark(node.mark) if node.mark else ""
        if (
            owner not in ("", node.host)
            and _on_record(engine, owner) is not None
            and not _is_tolerated(engine, node.host, _on_record(engine, node.host))
        ):
            why[node.host] = _one_host(owner)
            believed.append(Observed(node.host, node.hypervisor, reached=False, facts={"problem": why[node.host]}))
        else:
            believed.append(node)
    return believed, why


def _one_host(owner: str) -> str:
    return f"it carries the mark of host {owner}: both names are of one host"


def _is_tolerated(engine: Engine, name: str, found: Host | None) -> bool:
    """Return whether a second name is tolerated: the catalog has machines under it, from before hosts had marks."""
    return found is not None and found.vms > 0 and not engine.hosts.has_shown_mark(name)


def _on_record(engine: Engine, name: str) -> Host | None:
    return named(engine.hosts.info, name) if name else None
