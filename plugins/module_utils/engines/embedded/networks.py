# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual networks of the catalog, their address ranges, and the leases in them."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import uuid as uuids
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import BeingEnded, Conflict, InUse, InvalidValue, NoLease, NotFound, Unsupported
from ...model.lease import HeldLease, Lease, LeaseRequest
from ...model.names import check_name
from ...model.network import NOT_FOR_MACHINES, AddressRange, Network, Spread, from_item
from ...model.states import NetworkState
from ...network import addresses
from ..ports import NetworksPort
from .references import Ref, find, resolve
from .store import Store

__all__ = ["LeaseRequest", "Networks"]

VN_MADS = ("bridge", "dummy")
CHANGEABLE = ("name", "bridge", "vn_mad", "nat", "attributes")
_SHOWN = 5
# Below the number of variables that any SQLite allows in one statement.
_CHUNK = 500
_IN_RANGE = "network_id = ? AND ar_id = ?"
# Each lease with who has it: a machine, or one that was given up with its host.
_LEASED = (
    "leases l LEFT JOIN given_up g ON l.vm_id IS NULL AND g.vm_id = l.nic_id"
    " LEFT JOIN vms v ON v.id = coalesce(l.vm_id, g.vm_id)"
)
_HELD_REMEDY = (
    "What was given up with a host is free once that host was seen without it, or nebula.provision.forget_host was "
    "told that the host is gone for good"
)

_UNKNOWN_REMEDY = "What was made after a backup that was restored is free once all hosts were seen without it"


class Networks(NetworksPort):
    """All methods are called within a transaction of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- networks -------------------------------------------------------------------------------------------------
    def pool(self) -> list[Network]:
        ranges: dict[int, list[AddressRange]] = {}
        for row in self.store.rows("SELECT * FROM address_ranges ORDER BY network_id, ar_id"):
            ranges.setdefault(row["network_id"], []).append(_range(row))
        return [
            _network(row, ranges.get(row["id"], ())) for row in self.store.rows("SELECT * FROM networks ORDER BY id")
        ]

    def info(self, ref: Ref) -> Network:
        row = resolve(self.store, "networks", ref)
        ranges = self.store.rows("SELECT * FROM address_ranges WHERE network_id = ? ORDER BY ar_id", row["id"])
        return _network(row, [_range(r) for r in ranges])

    def allocate(self, network: Network) -> Network:
        """Store it with its ranges. Ids and the UUID are given here, the bridge and MAC addresses where it has none."""
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
                dataclasses.replace(addresses.normalised(r, network.name, _random()), ar_id=ar_id, used=0)
                for ar_id, r in enumerate(network.address_ranges, first)
            ),
        )
        self._check(new)
        self.store.db.execute(
            "INSERT INTO networks (id, name, uuid, vn_mad, bridge, nat, state, attributes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (new.id, new.name, new.uuid, new.vn_mad, new.bridge, new.nat, int(new.state), _json(new.attributes)),
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
            (new.name, new.bridge, new.vn_mad, new.nat, _json(new.attributes), network.id),
        )
        return new

    def delete(self, ref: Ref) -> Network:
        network = self.info(ref)
        self._refuse_leased(f"network {network.name}: delete", network)
        self.store.db.execute("DELETE FROM networks WHERE id = ?", (network.id,))
        self.store.db.execute("DELETE FROM sequences WHERE name = ?", (f"ar/{network.id}",))
        return dataclasses.replace(network, state=NetworkState.DONE)

    def declare(self, item: Mapping[str, Any]) -> None:
        """Check mode: take as given what an earlier task of this run would have made of a network.

        item: as nebula_network returns it.
        """
        wanted = from_item(item)
        row = find(self.store, "networks", wanted.name)
        current = self.info(row["id"]) if row is not None and row["name"] == wanted.name else None
        if wanted.state == NetworkState.DONE:
            if current is not None:
                self.delete(_id(current))
            return
        if current is None:
            self.allocate(wanted)
            return
        self.update(_id(current), **{field: getattr(wanted, field) for field in CHANGEABLE if field != "name"})
        there = {r.ar_id: r for r in current.address_ranges}
        for address_range in wanted.address_ranges:
            if address_range.ar_id not in there:
                self.add_ar(_id(current), address_range)
            elif address_range.size != there[address_range.ar_id].size:
                self.update_ar(_id(current), address_range)

    # -- address ranges -------------------------------------------------------------------------------------------
    def add_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        network = self.info(ref)
        new = dataclasses.replace(
            addresses.normalised(address_range, network.name, _random()),
            ar_id=self.store.take_ids(f"ar/{network.id}"),
            used=0,
        )
        network = dataclasses.replace(network, address_ranges=(*network.address_ranges, new))
        self._check(network)
        self._insert_range(_id(network), new)
        return network

    def update_ar(self, ref: Ref, address_range: AddressRange) -> Network:
        """Give the range of that number another size, or other attributes. Leases never move."""
        network = self.info(ref)
        current = _range_of(network, address_range.ar_id)
        asked = f"network {network.name}: address range {addresses.shown(current)}"
        new = addresses.normalised(address_range, network.name, 0)
        for field in ("type", "ip", "mac", "global_prefix", "ula_prefix"):
            # What has no value was not asked for.
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
            f"UPDATE address_ranges SET size = ?, attributes = ? WHERE {_IN_RANGE}",
            (new.size, _json(new.attributes), network.id, new.ar_id),
        )
        return network

    def rm_ar(self, ref: Ref, ar_id: int) -> Network:
        network = self.info(ref)
        current = _range_of(network, ar_id)
        asked = f"network {network.name}: remove address range {addresses.shown(current)}"
        self._refuse_leased(asked, network, current)
        self.store.db.execute(f"DELETE FROM address_ranges WHERE {_IN_RANGE}", (network.id, ar_id))
        left = tuple(r for r in network.address_ranges if r.ar_id != ar_id)
        return dataclasses.replace(network, address_ranges=left)

    def _insert_range(self, network_id: int, new: AddressRange) -> None:
        self.store.db.execute(
            "INSERT INTO address_ranges (network_id, ar_id, type, size, ip, mac, global_prefix, ula_prefix, attributes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                network_id, new.ar_id, new.type, new.size, new.ip, new.mac, new.global_prefix, new.ula_prefix,
                _json(new.attributes),
            ),
        )  # fmt: skip

    def _check(self, network: Network) -> None:
        if network.vn_mad not in VN_MADS:
            raise Unsupported(
                f"network {network.name}: VN_MAD = {network.vn_mad}",
                "this engine has no such driver",
                f"Use one of {', '.join(VN_MADS)}",
            )
        addresses.check(network)
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
        """Raise InUse if anything is leased: in the whole network, or in one range from an offset on."""
        where, values = "l.network_id = ?", [network.id]
        if address_range is not None:
            where, values = where + " AND l.ar_id = ? AND l.offset >= ?", [network.id, address_range.ar_id, first]
        rows = self.store.rows(
            f"SELECT l.vm_id, v.id, v.name, g.host FROM {_LEASED}"
            f" WHERE {where} GROUP BY l.vm_id, v.id ORDER BY l.vm_id, v.id LIMIT {_SHOWN + 1}",
            *values,
        )
        if rows:
            names = ", ".join(
                _vm(row["vm_id"], row["name"]) if row["host"] is None else _given_up(row) for row in rows[:_SHOWN]
            )
            more = " …" if len(rows) > _SHOWN else ""
            held = f". {_HELD_REMEDY}" if any(row["host"] is not None for row in rows) else ""
            raise InUse(asked, f"addresses of it are leased by {names}{more}", f"End these machines first{held}")

    # -- where its machines are ------------------------------------------------------------------------------------
    def spread(self, network: Network | None = None) -> dict[int, Spread]:
        """By id, of networks with a bridge of their own on each node, those that have machines which are to stay.
        network: of this one alone."""
        which, values = ("", []) if network is None else (" AND l.network_id = ?", [network.id])
        found: dict[int, Spread] = {}
        for row in self.store.rows(
            "SELECT n.id, n.name, h.name AS host, COUNT(DISTINCT v.id) AS machines FROM leases l"
            " JOIN vms v ON v.id = l.vm_id JOIN hosts h ON h.id = v.host_id JOIN networks n ON n.id = l.network_id"
            f" WHERE n.vn_mad = 'bridge' AND v.wanted != 'DONE'{which} GROUP BY n.id, h.id ORDER BY n.id",
            *values,
        ):
            hosts = found[row["id"]].hosts if row["id"] in found else {}
            found[row["id"]] = Spread(row["name"], {**hosts, row["host"]: row["machines"]})
        return found

    def spread_out(self) -> list[Spread]:
        return [spread for spread in self.spread().values() if len(spread.hosts) > 1]

    def _refuse_second_node(self, network: Network) -> None:
        spread = self.spread(network).get(_id(network)) if addresses.one_node(network) else None
        if spread is not None and len(spread.hosts) > 1:
            told = ", ".join(f"{count} on {host}" for host, count in sorted(spread.hosts.items()))
            raise Conflict(
                f"network {network.name}: one_node",
                f"its machines would be on {len(spread.hosts)} nodes ({told})",
                "Keep them on one, end those on the other, or set one_node: false",
            )

    # -- leases ---------------------------------------------------------------------------------------------------
    def lease(self, requests: Sequence[LeaseRequest]) -> list[Lease]:
        """One lease per request, in their order. Addresses asked for go first, then each gets the lowest that is free.

        Raises NoLease when one can't be had, BeingEnded when one can once machines that are being ended are gone: their
        addresses are given to nobody before, as another host might start the next machine before theirs ends them. The
        transaction around it then keeps none of the others either.
        """
        by_network: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            by_network.setdefault(request.network_id, []).append(index)
        leases: dict[int, Lease] = {}
        for network_id, indexes in by_network.items():
            network = self.info(network_id)
            ranges = {r.ar_id: addresses.Calculator(r) for r in network.address_ranges}
            asked_for = [i for i in indexes if requests[i].ip or requests[i].mac or requests[i].ip6]
            offsets = self._claim(network, ranges, [(i, requests[i]) for i in asked_for])
            self._store(network_id, [(*offsets[i], requests[i]) for i in asked_for])
            rest = [i for i in indexes if i not in offsets]
            self._refuse_shortage(network, requests, asked_for, rest)
            free = self._lowest_free(network_id, len(rest))
            offsets.update(zip(rest, free))
            self._store(network_id, [(*offsets[i], requests[i]) for i in rest], lowest=True)
            self._refuse_second_node(network)
            for i in indexes:
                ar_id, offset = offsets[i]
                leases[i] = ranges[ar_id].lease(network_id, offset, requests[i].vm_id, requests[i].nic_id)
        return [leases[i] for i in range(len(requests))]

    def release(self, vm_ids: Iterable[int]) -> None:
        """Give back all that these machines lease."""
        wanted = list(vm_ids)
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            which = f"vm_id IN ({', '.join('?' * len(part))})"
            rows = self.store.rows(
                f"SELECT COUNT(*), MIN(offset), network_id, ar_id FROM leases WHERE {which} GROUP BY network_id, ar_id",
                *part,
            )
            self.store.db.executemany(
                f"UPDATE address_ranges SET used = used - ?, first_free = MIN(first_free, ?) WHERE {_IN_RANGE}",
                [tuple(row) for row in rows],
            )
            self.store.db.execute(f"DELETE FROM leases WHERE {which}", part)

    def release_held(self, seen: Collection[int], complete: bool) -> None:
        """Give back what was held for machines that the catalog does not know, once they are on no node any more. A
        lease of no machine has the id of such a one in place of its NIC's. complete: all nodes were seen."""
        rows = self.store.rows(
            "SELECT network_id, ar_id, offset, nic_id FROM leases WHERE vm_id IS NULL"
            " AND nic_id NOT IN (SELECT vm_id FROM given_up)"
        )
        self._drop([row for row in rows if complete and row["nic_id"] not in seen])

    def let_go(self, vm_id: int, nics: Sequence[int]) -> None:
        """Hold what these NICs of the machine leased, as leases of no NIC, until its node has taken them away."""
        for nic_id in nics:
            self.store.db.execute("UPDATE leases SET nic_id = NULL WHERE vm_id = ? AND nic_id = ?", (vm_id, nic_id))

    def held_by(self, vm_id: int) -> list[tuple[int, int, int]]:
        """Network, range and offset of all that is held for the machine, and for no NIC of it."""
        rows = self.store.rows("SELECT network_id, ar_id, offset FROM leases WHERE vm_id = ? AND nic_id IS NULL", vm_id)
        return [tuple(row) for row in rows]

    def keep(self, vm_id: int, places: Iterable[tuple[int, int, int]]) -> None:
        """Hold what the machine leased and is to have no more, as leases of no NIC, until its node has made it anew."""
        for place in places:
            done = self.store.db.execute("INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?, NULL)", (*place, vm_id))
            if done.rowcount == 1:
                self.store.db.execute(f"UPDATE address_ranges SET used = used + 1 WHERE {_IN_RANGE}", place[:2])

    def release_kept(self, vm_id: int) -> None:
        """Give back what keep() and let_go() held."""
        self._drop(
            self.store.rows("SELECT network_id, ar_id, offset FROM leases WHERE vm_id = ? AND nic_id IS NULL", vm_id)
        )

    def give_up(self, vm_id: int) -> None:
        """Hold all that the machine leases, as leases of no machine."""
        self.store.db.execute("UPDATE leases SET vm_id = NULL, nic_id = ?1 WHERE vm_id = ?1", (vm_id,))

    def release_given_up(self, vm_id: int) -> list[str]:
        """Give back what is held for a machine that was given up; the addresses."""
        rows = self.store.rows("SELECT * FROM leases WHERE vm_id IS NULL AND nic_id = ?", vm_id)
        freed = []
        for row in rows:
            network = self.info(row["network_id"])
            calculator = addresses.Calculator(_range_of(network, row["ar_id"]))
            lease = calculator.lease(network.id, row["offset"], None, None)
            freed.append(f"{lease.ip or lease.ip6 or lease.mac} of network {network.name}")
        self._drop(rows)
        return freed

    def held(self) -> list[HeldLease]:
        """The leases of no machine, and those of no NIC."""
        found = []
        networks: dict[int, Network] = {}
        for row in self.store.rows(
            f"SELECT l.*, v.id, v.name, g.host FROM {_LEASED} WHERE l.vm_id IS NULL OR l.nic_id IS NULL"
            " ORDER BY l.network_id, l.ar_id, l.offset"
        ):
            network_id = row["network_id"]
            network = networks[network_id] = networks.get(network_id) or self.info(network_id)
            lease = addresses.Calculator(_range_of(network, row["ar_id"])).lease(network_id, row["offset"], None, None)
            held = "its machine has it until it is made anew, or was off"
            if row["vm_id"] is None:
                held = "the catalog does not know that machine"
                if row["host"] is not None:
                    held = f"it was given up with host {row['host']}"
            vm_id = row["nic_id"] if row["vm_id"] is None else row["vm_id"]
            found.append(HeldLease(network.name, lease.mac, lease.ip, lease.ip6, vm_id, row["name"] or "", held))
        return found

    def hold(self, vm_id: int, nic: Mapping[str, Any]) -> tuple[int, str] | None:
        """Give what that NIC of a machine that was given up has to nobody else; id and name of the machine that has it
        already, None if there is none."""
        place = (nic["network_id"], nic["ar_id"])
        row = self.store.row(f"SELECT * FROM address_ranges WHERE {_IN_RANGE}", *place)
        if row is None:
            return None
        offset = addresses.Calculator(_range(row)).offset_of(None, addresses.mac_number(nic["mac"], f"VM {vm_id}"))
        if offset is None:
            return None
        found = self.store.row(
            "SELECT l.vm_id, v.name FROM leases l LEFT JOIN vms v ON v.id = l.vm_id"
            " WHERE l.network_id = ? AND l.ar_id = ? AND l.offset = ?",
            *place,
            offset,
        )
        if found is not None:
            return None if found["vm_id"] is None else (found["vm_id"], found["name"])
        self.store.db.execute("INSERT INTO leases VALUES (?, ?, ?, NULL, ?)", (*place, offset, vm_id))
        self.store.db.execute(f"UPDATE address_ranges SET used = used + 1 WHERE {_IN_RANGE}", place)
        return None

    def _drop(self, leases: Iterable[sqlite3.Row]) -> None:
        for row in leases:
            place = (row["network_id"], row["ar_id"])
            self.store.db.execute(f"DELETE FROM leases WHERE {_IN_RANGE} AND offset = ?", (*place, row["offset"]))
            self.store.db.execute(
                f"UPDATE address_ranges SET used = used - 1, first_free = MIN(first_free, ?) WHERE {_IN_RANGE}",
                (row["offset"], *place),
            )

    def nic_values(self, network: Network, ar_id: int) -> Mapping[str, str]:
        """What a NIC takes from its network: its attributes, and above them those of the range it leases in."""
        values = {key: value for key, value in network.attributes.items() if key not in NOT_FOR_MACHINES}
        return {**values, **_range_of(network, ar_id).attributes}

    def _claim(
        self, network: Network, ranges: Mapping[int, addresses.Calculator], asked: Sequence[tuple[int, LeaseRequest]]
    ) -> dict[int, tuple[int, int]]:
        """Range and offset of each address that is asked for by itself, by the request's index."""
        offsets: dict[int, tuple[int, int]] = {}
        claimed: dict[tuple[int, int], LeaseRequest] = {}
        names = self._names([request.vm_id for _index, request in asked])
        for index, request in asked:
            requester = f"{_vm(request.vm_id, names.get(request.vm_id))}, NIC {request.nic_id}"
            where = f"{request.ip or request.ip6 or request.mac} in network {network.name} for {requester}"
            place = _place(network, ranges, request, requester, where)
            other = claimed.setdefault(place, request)
            if other is not request:
                raise NoLease(
                    where,
                    f"{_vm(other.vm_id, names.get(other.vm_id))}, NIC {other.nic_id} asks for the same address",
                    "Give one of them another, or none",
                )
            row = self.store.row(
                f"SELECT l.vm_id, l.nic_id, v.id, v.name, v.wanted, v.settled, v.orders, g.host FROM {_LEASED}"
                " WHERE l.network_id = ? AND l.ar_id = ? AND l.offset = ?",
                network.id,
                *place,
            )
            if row and row["host"] is not None:
                raise NoLease(where, f"{_given_up(row)}, has it", f"Ask for another, or for none. {_HELD_REMEDY}")
            if row and row["vm_id"] is not None and row["nic_id"] is None:
                found = f"{_vm(row['vm_id'], row['name'])} has it until it is made anew, or was off"
                raise BeingEnded(where, found, "Run again when that is done")
            if row and row["vm_id"] is None:
                found = f"it is held for machine {row['nic_id']}, which the catalog does not know"
                raise NoLease(where, found, f"Ask for another, or for none. {_UNKNOWN_REMEDY}")
            if row:
                holder = f"{_vm(row['vm_id'], row['name'])} has it, on NIC {row['nic_id']}"
                if row["wanted"] == "DONE":
                    raise BeingEnded(where, f"{holder}, and is being ended", "Run again when that machine is gone")
                raise NoLease(where, holder, "Ask for another, or for none")
            offsets[index] = place
        return offsets

    def _names(self, vm_ids: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        for start in range(0, len(vm_ids), _CHUNK):
            part = vm_ids[start : start + _CHUNK]
            marks = ", ".join("?" * len(part))
            names.update(
                (row[0], row[1]) for row in self.store.rows(f"SELECT id, name FROM vms WHERE id IN ({marks})", *part)
            )
        return names

    def _refuse_shortage(
        self, network: Network, requests: Sequence[LeaseRequest], asked_for: Sequence[int], rest: Sequence[int]
    ) -> None:
        free = sum(r.size - r.used for r in network.address_ranges)
        wanted = len(asked_for) + len(rest)
        if wanted <= free:
            return
        first = requests[(*rest, *asked_for)[0]]
        requester = _vm(first.vm_id, self._names([first.vm_id]).get(first.vm_id))
        more = f" and {wanted - 1} more" if wanted > 1 else ""
        where = f"leases in network {network.name} for {requester}, NIC {first.nic_id}{more}"
        if not network.address_ranges:
            found, remedy = "it has no address range", "Give it address_ranges"
        else:
            found = f"{wanted} wanted, {free} free of {sum(r.size for r in network.address_ranges)}"
            remedy = "Add an address range, make one larger, or ask for fewer machines"
            row = self.store.rows(
                "SELECT count(CASE WHEN wanted = 'DONE' THEN 1 END) AS ending,"
                " count(CASE WHEN wanted != 'DONE' AND nic_id IS NULL THEN 1 END) AS anew"
                " FROM leases JOIN vms ON vms.id = vm_id WHERE network_id = ?",
                network.id,
            )[0]
            if row["ending"]:
                # As after a teardown that was killed: they keep their addresses until their nodes have ended them.
                found += f"; {row['ending']} are held by machines that are being ended"
            if row["anew"]:
                found += f"; {row['anew']} are held until machines are made anew"
            if wanted <= free + row["ending"] + row["anew"]:
                raise BeingEnded(where, found, "Run again when these are gone" if row["ending"] else "Run again then")
            held = self.store.row(
                "SELECT count(*) FROM leases JOIN given_up ON given_up.vm_id = nic_id"
                " WHERE leases.vm_id IS NULL AND network_id = ?",
                network.id,
            )
            if held is not None and held[0]:
                found += f"; {held[0]} are held for machines that were given up with their host"
                remedy += f". {_HELD_REMEDY}"
            unknown = self.store.row(
                "SELECT count(*) FROM leases WHERE vm_id IS NULL AND network_id = ?"
                " AND nic_id NOT IN (SELECT vm_id FROM given_up)",
                network.id,
            )
            if unknown is not None and unknown[0]:
                found += f"; {unknown[0]} are held for machines that the catalog does not know"
                remedy += f". {_UNKNOWN_REMEDY}"
        raise NoLease(where, found, remedy)

    def _lowest_free(self, network_id: int, wanted: int) -> list[tuple[int, int]]:
        """The `wanted` lowest free places over all ranges, as (ar_id, offset); there are that many."""
        found: list[tuple[int, int]] = []
        for row in self.store.rows(
            "SELECT ar_id, size, first_free FROM address_ranges WHERE network_id = ? AND used < size ORDER BY ar_id",
            network_id,
        ):
            for start, stop in self._gaps(network_id, row["ar_id"], row["first_free"], row["size"]):
                if len(found) >= wanted:
                    return found
                found.extend((row["ar_id"], offset) for offset in range(start, min(stop, start + wanted - len(found))))
        return found

    def _gaps(self, network_id: int, ar_id: int, first: int, size: int) -> Iterator[tuple[int, int]]:
        """Stretches of free offsets from `first` on, as (start, stop), lazily. What is in use is walked over by
        SQLite: a range that is full up to its end costs a seek, not a row in Python for each lease."""
        place = (network_id, ar_id)
        for start in self._gap_starts(place, first):
            if start >= size:
                return
            following = self.store.row(
                f"SELECT MIN(offset) FROM leases WHERE {_IN_RANGE} AND offset >= ?", *place, start
            )
            stop = size if following is None or following[0] is None else following[0]
            if stop > start:
                yield start, stop

    def _gap_starts(self, place: tuple[int, int], first: int) -> Iterator[int]:
        yield first
        for row in self.store.db.execute(
            f"SELECT l.offset + 1 FROM leases l WHERE {_IN_RANGE} AND l.offset >= ? AND NOT EXISTS"
            " (SELECT 1 FROM leases n WHERE n.network_id = l.network_id AND n.ar_id = l.ar_id"
            " AND n.offset = l.offset + 1) ORDER BY l.offset",
            (*place, first),
        ):
            yield row[0]

    def _store(self, network_id: int, taken: Sequence[tuple[int, int, LeaseRequest]], lowest: bool = False) -> None:
        """lowest: they were the lowest free ones, so nothing below the last of them is free any more."""
        self.store.db.executemany(
            "INSERT INTO leases (network_id, ar_id, offset, vm_id, nic_id) VALUES (?, ?, ?, ?, ?)",
            [(network_id, ar_id, offset, r.vm_id, r.nic_id) for ar_id, offset, r in taken],
        )
        by_range: dict[int, list[int]] = {}
        for ar_id, offset, _request in taken:
            by_range.setdefault(ar_id, []).append(offset)
        self.store.db.executemany(
            f"UPDATE address_ranges SET used = used + ?, first_free = MAX(first_free, ?) WHERE {_IN_RANGE}",
            [
                (len(offsets), max(offsets) + 1 if lowest else 0, network_id, ar_id)
                for ar_id, offsets in by_range.items()
            ],
        )


def _vm(vm_id: int | None, name: str | None) -> str:
    if vm_id is None:
        return "a machine that the catalog does not know"
    return f"VM {name} (id {vm_id})" if name else f"VM {vm_id}"


def _given_up(row: sqlite3.Row) -> str:
    return f"{_vm(row['id'], row['name'])}, given up with host {row['host']}"


def _id(network: Network) -> int:
    if network.id is None:
        raise NotFound(f"network {network.name}", "it has no id: it was never stored")
    return network.id


def _range_of(network: Network, ar_id: int) -> AddressRange:
    for address_range in network.address_ranges:
        if address_range.ar_id == ar_id:
            return address_range
    known = ", ".join(addresses.shown(r) for r in network.address_ranges) or "none"
    raise NotFound(
        f"network {network.name}: address range {ar_id}", "it has none of that number", f"There are: {known}"
    )


def _place(
    network: Network, ranges: Mapping[int, addresses.Calculator], request: LeaseRequest, requester: str, where: str
) -> tuple[int, int]:
    """The range that has the address asked for, and its offset there."""
    ip = addresses.ip_number(request.ip, f"{requester}: IP") if request.ip else None
    mac = addresses.mac_number(request.mac, f"{requester}: MAC") if request.mac else None
    ip6 = addresses.ip6_address(request.ip6, f"{requester}: IP6") if request.ip6 else None
    for ar_id, calculator in ranges.items():
        offset = calculator.offset_of_ip6(ip6) if ip is None and ip6 is not None else calculator.offset_of(ip, mac)
        if offset is None:
            continue
        if ip6 is not None and calculator.offset_of_ip6(ip6) != offset:
            there = calculator.lease(network.id, offset, None, None)
            found = f"it goes with {there.ip6 or there.ip6_ula or 'no IPv6 address'} there, not with {request.ip6}"
            raise NoLease(where, found, "Give the IP only")
        if mac is not None and mac != calculator.mac + offset:
            leased = addresses.mac_text(calculator.mac + offset)
            raise NoLease(where, f"it goes with MAC address {leased} there, not with {request.mac}", "Give the IP only")
        return ar_id, offset
    if ip6 is not None and ip is None:
        spans = ", ".join(_span6(calculator) for calculator in ranges.values() if calculator.with_ip6) or "none"
    else:
        spans = ", ".join(addresses.shown(r) for r in network.address_ranges) or "none"
    raise NoLease(
        where, f"it is in none of the network's address ranges: {spans}", "Ask for one of these, or add a range"
    )


def _span6(calculator: addresses.Calculator) -> str:
    """The IPv6 addresses of a range, for messages: between first and last lie those that its MAC addresses make."""
    first, last = (calculator.lease(None, offset, None, None) for offset in (0, calculator.range.size - 1))
    spans = [f"{a} to {b}" for a, b in ((first.ip6, last.ip6), (first.ip6_ula, last.ip6_ula)) if a]
    return f"{calculator.range.ar_id} [{' or '.join(spans) or 'no IPv6 prefix'}]"


def _random() -> int:
    return int.from_bytes(os.urandom(8), "big")


def _json(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), ensure_ascii=False, sort_keys=True)


def _network(row: sqlite3.Row, ranges: Sequence[AddressRange]) -> Network:
    return Network(
        id=row["id"],
        name=row["name"],
        uuid=row["uuid"],
        vn_mad=row["vn_mad"],
        bridge=row["bridge"],
        nat=bool(row["nat"]),
        state=NetworkState(row["state"]),
        address_ranges=tuple(ranges),
        attributes=json.loads(row["attributes"]),
    )


def _range(row: sqlite3.Row) -> AddressRange:
    return AddressRange(
        ar_id=row["ar_id"],
        type=row["type"],
        size=row["size"],
        ip=row["ip"],
        mac=row["mac"],
        global_prefix=row["global_prefix"],
        ula_prefix=row["ula_prefix"],
        used=row["used"],
        attributes=json.loads(row["attributes"]),
    )
