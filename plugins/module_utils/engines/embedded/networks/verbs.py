# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs about virtual networks and their address ranges."""

from __future__ import annotations

import dataclasses
import os
import uuid as uuids
from collections.abc import Mapping
from typing import Any

from ....errors import Conflict, InUse, InvalidValue, Unsupported
from ....model import addresses, network_checks
from ....model.ids import id_of
from ....model.lease import HeldLease
from ....model.names import check_name
from ....model.network import NOT_FOR_MACHINES, AddressRange, Network, Spread, from_item
from ....model.states import NetworkState
from ...ports import NetworksPort
from ..references import Ref, find
from ..store import Store
from . import rows, spread
from .held import HeldLeases
from .leases import Leases
from .rows import HELD_REMEDY, IN_RANGE, LEASED, as_json, given_up_named, range_of, vm_named

VN_MADS = ("bridge", "dummy")
CHANGEABLE = ("name", "bridge", "vn_mad", "nat", "attributes")
_SHOWN = 5


class Networks(NetworksPort):
    """The port of the embedded engine. All methods are called within a transaction of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases = Leases(store)
        self.held_leases = HeldLeases(store)

    def pool(self) -> list[Network]:
        return rows.pool(self.store)

    def info(self, ref: Ref) -> Network:
        return rows.read(self.store, ref)

    def allocate(self, network: Network) -> Network:
        """Store it with its ranges. It gets its ids and UUID here, and a bridge and MAC addresses if it has none."""
        check_name("network", network.name)
        taken = self.store.row("SELECT id FROM networks WHERE name = ?", network.name)
        if taken:
            raise Conflict(f"network {network.name}", f"network {taken['id']} has that name", "Choose another name")
        if network.vn_mad == "dummy" and not network.bridge:
            raise InvalidValue(
                f"network {network.name}: VN_MAD = dummy", "there is no BRIDGE", "Name the host's bridge that it uses"
            )
        network_id = self.store.take_ids("networks")
        first = self.store.take_ids(f"ar/{network_id}", len(network.address_ranges))
        new = dataclasses.replace(
            network,
            id=network_id,
            uuid=str(uuids.uuid4()),
            bridge=network.bridge or f"onebr{network_id}",
            state=NetworkState.READY,
            address_ranges=tuple(
                dataclasses.replace(network_checks.normalised(r, network.name, _random()), ar_id=ar_id, used=0)
                for ar_id, r in enumerate(network.address_ranges, first)
            ),
        )
        self._check(new)
        self.store.db.execute(
            "INSERT INTO networks (id, name, uuid, vn_mad, bridge, nat, state, attributes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (new.id, new.name, new.uuid, new.vn_mad, new.bridge, new.nat, int(new.state), as_json(new.attributes)),
        )
        for address_range in new.address_ranges:
            self._insert_range(network_id, address_range)
        return new

    def update(self, ref: Ref, **changes: Any) -> Network:
        """Set fields of model.network.Network: name, nat, attributes (all of them) at any time, bridge and vn_mad
        while nothing is leased."""
        network = self.info(ref)
        for field in changes:
            if field not in CHANGEABLE:
                raise InvalidValue(
                    f"network {network.name}: {field}", "it can't be set", f"Set {', '.join(CHANGEABLE)}"
                )
        new = dataclasses.replace(network, **changes)
        if new.name != network.name:
            check_name("network", new.name)
            taken = self.store.row("SELECT id FROM networks WHERE name = ?", new.name)
            if taken:
                raise Conflict(f"network {network.name}: NAME = {new.name}", f"network {taken['id']} has that name")
        for field in ("bridge", "vn_mad"):
            if getattr(new, field) != getattr(network, field):
                # A machine's NIC is tied to the bridge by name, in its definition.
                self._refuse_leased(
                    f"network {network.name}: {field.upper()} = {getattr(new, field)}, it is {getattr(network, field)}",
                    network,
                )
        self._check(new)
        self.store.db.execute(
            "UPDATE networks SET name = ?, bridge = ?, vn_mad = ?, nat = ?, attributes = ? WHERE id = ?",
            (new.name, new.bridge, new.vn_mad, new.nat, as_json(new.attributes), network.id),
        )
        return new

    def delete(self, ref: Ref) -> Network:
        network = self.info(ref)
        self._refuse_leased(f"network {network.name}: delete", network)
        self.store.db.execute("DELETE FROM networks WHERE id = ?", (network.id,))
        self.store.db.execute("DELETE FROM sequences WHERE name = ?", (f"ar/{network.id}",))
        return dataclasses.replace(network, state=NetworkState.DONE)

    def declare(self, item: Mapping[str, Any]) -> None:
        """In check mode, make of a network what an earlier task of this run would have made of it.

        item: as nebula_network returns it.
        """
        wanted = from_item(item)
        row = find(self.store, "networks", wanted.name)
        current = self.info(row["id"]) if row is not None and row["name"] == wanted.name else None
        if wanted.state == NetworkState.DONE:
            if current is not None:
                self.delete(id_of(current))
            return
        if current is None:
            self.allocate(wanted)
            return
        self.update(id_of(current), **{field: getattr(wanted, field) for field in CHANGEABLE if field != "name"})
        there = {r.ar_id: r for r in current.address_ranges}
        for address_range in wanted.address_ranges:
            if address_range.ar_id not in there:
                self.add_ar(id_of(current), address_range)
            elif address_range.size != there[address_range.ar_id].size:
                self.update_ar(id_of(current), address_range)

    def add_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        network = self.info(ref)
        new = dataclasses.replace(
            network_checks.normalised(address_range, network.name, _random()),
            ar_id=self.store.take_ids(f"ar/{network.id}"),
            used=0,
        )
        network = dataclasses.replace(network, address_ranges=(*network.address_ranges, new))
        self._check(network)
        self._insert_range(id_of(network), new)
        return network

    def update_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        """Give the range of that number another size, or other attributes. Leases never move."""
        network = self.info(ref)
        current = range_of(network, address_range.ar_id)
        asked = f"network {network.name}: address range {addresses.shown(current)}"
        new = network_checks.normalised(address_range, network.name, 0)
        for field in ("type", "ip", "mac", "global_prefix", "ula_prefix"):
            # An empty field asks for no change.
            if getattr(address_range, field) and getattr(new, field) != getattr(current, field):
                raise Conflict(
                    f"{asked}: {field.upper()} = {getattr(new, field)}",
                    f"it is {getattr(current, field)}",
                    "A range never moves: add another one, and remove this one once nothing is leased in it",
                )
        new = dataclasses.replace(current, size=address_range.size, attributes=address_range.attributes)
        if new.size < current.size:
            self._refuse_leased(f"{asked}: SIZE = {new.size}, it is {current.size}", network, current, new.size)
        changed = tuple(new if r.ar_id == new.ar_id else r for r in network.address_ranges)
        network = dataclasses.replace(network, address_ranges=changed)
        self._check(network)
        self.store.db.execute(
            f"UPDATE address_ranges SET size = ?, attributes = ? WHERE {IN_RANGE}",
            (new.size, as_json(new.attributes), network.id, new.ar_id),
        )
        return network

    def rm_ar(self, ref: Ref, ar_id: int) -> Network:
        network = self.info(ref)
        current = range_of(network, ar_id)
        asked = f"network {network.name}: remove address range {addresses.shown(current)}"
        self._refuse_leased(asked, network, current)
        self.store.db.execute(f"DELETE FROM address_ranges WHERE {IN_RANGE}", (network.id, ar_id))
        left = tuple(r for r in network.address_ranges if r.ar_id != ar_id)
        return dataclasses.replace(network, address_ranges=left)

    def nic_values(self, network: Network, ar_id: int) -> Mapping[str, str]:
        """What a NIC takes from its network: its attributes, and above them those of the range it leases in."""
        values = {key: value for key, value in network.attributes.items() if key not in NOT_FOR_MACHINES}
        return {**values, **range_of(network, ar_id).attributes}

    def spread_out(self) -> list[Spread]:
        return [each for each in spread.spread(self.store).values() if len(each.hosts) > 1]

    def held(self) -> list[HeldLease]:
        return self.held_leases.held()

    def _insert_range(self, network_id: int, new: AddressRange) -> None:
        self.store.db.execute(
            "INSERT INTO address_ranges (network_id, ar_id, type, size, ip, mac, global_prefix, ula_prefix, attributes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                network_id, new.ar_id, new.type, new.size, new.ip, new.mac, new.global_prefix, new.ula_prefix,
                as_json(new.attributes),
            ),
        )  # fmt: skip

    def _check(self, network: Network) -> None:
        if network.vn_mad not in VN_MADS:
            raise Unsupported(
                f"network {network.name}: VN_MAD = {network.vn_mad}",
                "this engine has no such driver",
                f"Use one of {', '.join(VN_MADS)}",
            )
        network_checks.check(network)
        other = self.store.row(
            "SELECT id, name FROM networks WHERE bridge = ? AND vn_mad = 'bridge' AND id != ?",
            network.bridge,
            network.id,
        )
        if other and network.vn_mad == "bridge":
            raise Conflict(
                f"network {network.name}: BRIDGE = {network.bridge}",
                f"it is the bridge of network {other['name']} (id {other['id']})",
                "Choose another bridge, or use it as it is with vn_mad: dummy",
            )

    def _refuse_leased(
        self, asked: str, network: Network, address_range: AddressRange | None = None, first: int = 0
    ) -> None:
        """Raise InUse if anything is leased in the whole network, or in one range from an offset on."""
        where, values = "l.network_id = ?", [network.id]
        if address_range is not None:
            where, values = where + " AND l.ar_id = ? AND l.offset >= ?", [network.id, address_range.ar_id, first]
        rows = self.store.rows(
            f"SELECT l.vm_id, v.id, v.name, g.host FROM {LEASED}"
            f" WHERE {where} GROUP BY l.vm_id, v.id ORDER BY l.vm_id, v.id LIMIT {_SHOWN + 1}",
            *values,
        )
        if rows:
            names = ", ".join(
                vm_named(row["vm_id"], row["name"]) if row["host"] is None else given_up_named(row)
                for row in rows[:_SHOWN]
            )
            more = " …" if len(rows) > _SHOWN else ""
            held = f". {HELD_REMEDY}" if any(row["host"] is not None for row in rows) else ""
            raise InUse(asked, f"addresses of it are leased by {names}{more}", f"End these machines first{held}")


def _random() -> int:
    return int.from_bytes(os.urandom(8), "big")
