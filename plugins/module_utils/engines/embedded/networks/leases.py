# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives machines addresses in networks, and takes them back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from ....errors import BeingEnded, NoLease
from ....model import addresses
from ....model.lease import Lease, LeaseRequest
from ....model.network import Network
from ....model.object_ids import id_of
from ..store import Store, chunks
from .network_hosts import refuse_second_node
from .network_rows import (
    CALCULATORS,
    GIVEN_UP,
    HELD_REMEDY,
    IN_RANGE,
    LEASED,
    LEAVING,
    OF_MACHINES,
    RESERVED,
    UNKNOWN,
    UNKNOWN_REMEDY,
    given_up_named,
    holder_named,
    uncounted,
    vm_named,
)


class Leases:
    """Reads and writes the leases of NICs of machines. All methods are called within a transaction of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def lease(self, requests: Sequence[LeaseRequest]) -> list[Lease]:
        """Make one lease for each request, and return them in the order of the requests.

        Requests for a certain address are met first; each other one gets the lowest free address. Raise NoLease for an
        address that can't be had, and BeingEnded if it is free once machines that are being ended are gone: until then
        nobody else gets it, since another host might start the next machine before theirs has ended them. After an
        error, the transaction around this call keeps none of the leases."""
        by_network: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            by_network.setdefault(request.network_id, []).append(index)
        leases: dict[int, Lease] = {}
        for network_id, indexes in by_network.items():
            network = uncounted(self.store, network_id)
            ranges = self._calculators(network)
            asked_for = [i for i in indexes if requests[i].ip or requests[i].mac or requests[i].ip6]
            offsets = self._claim(network, ranges, [(i, requests[i]) for i in asked_for])
            self._store(network_id, [(*offsets[i], requests[i]) for i in asked_for])
            rest = [i for i in indexes if i not in offsets]
            with_room = self._with_room(network_id)
            free = sum(row["size"] - row["used"] for row in with_room)
            if free < len(rest):
                self._refuse_shortage(network, requests, asked_for, rest, free)
            offsets.update(zip(rest, self._lowest_free(network_id, len(rest), with_room)))
            self._store(network_id, [(*offsets[i], requests[i]) for i in rest], lowest=True)
            refuse_second_node(self.store, network)
            for i in indexes:
                ar_id, offset = offsets[i]
                leases[i] = ranges[ar_id].lease(network_id, offset, requests[i].vm_id, requests[i].nic_id)
        return [leases[i] for i in range(len(requests))]

    def _calculators(self, network: Network) -> Mapping[int, addresses.Calculator]:
        known = self.store.once(CALCULATORS, dict[int, dict[int, addresses.Calculator]])
        network_id = id_of(network)
        if network_id not in known:
            known[network_id] = {r.ar_id: addresses.Calculator(r) for r in network.address_ranges}
        return known[network_id]

    def release(self, vm_ids: Iterable[int]) -> None:
        """Give back all that these machines lease."""
        for marks, part in chunks(list(vm_ids)):
            which = f"vm_id IN ({marks}) AND {OF_MACHINES}"
            rows = self.store.rows(
                f"SELECT COUNT(*), MIN(offset), network_id, ar_id FROM leases WHERE {which} GROUP BY network_id, ar_id",
                *part,
            )
            self.store.db.executemany(
                f"UPDATE address_ranges SET used = used - ?, first_free = MIN(first_free, ?) WHERE {IN_RANGE}",
                [tuple(row) for row in rows],
            )
            self.store.db.execute(f"DELETE FROM leases WHERE {which}", part)

    def _claim(
        self, network: Network, ranges: Mapping[int, addresses.Calculator], asked: Sequence[tuple[int, LeaseRequest]]
    ) -> dict[int, tuple[int, int]]:
        """Return the range and offset of each certain address that is asked for, by the index of its request."""
        offsets: dict[int, tuple[int, int]] = {}
        claimed: dict[tuple[int, int], LeaseRequest] = {}
        names = self._names([request.vm_id for _index, request in asked])
        for index, request in asked:
            requester = f"{vm_named(request.vm_id, names.get(request.vm_id))}, NIC {request.nic_id}"
            where = f"{request.ip or request.ip6 or request.mac} in network {network.name} for {requester}"
            place = _place(network, ranges, request, requester, where)
            other = claimed.setdefault(place, request)
            if other is not request:
                raise NoLease(
                    where,
                    f"{vm_named(other.vm_id, names.get(other.vm_id))}, NIC {other.nic_id} asks for the same address",
                    "Give one of them another, or none",
                )
            row = self.store.row(
                f"SELECT l.vm_id, l.nic_id, l.holder, l.kind, v.id, v.name, v.wanted, g.host FROM {LEASED}"
                " WHERE l.network_id = ? AND l.ar_id = ? AND l.offset = ?",
                network.id,
                *place,
            )
            if row and row["kind"] == RESERVED:
                raise NoLease(
                    where, f"{holder_named(self.store, row['holder'])} has it", "Ask for another, or for none"
                )
            if row and row["kind"] == GIVEN_UP:
                raise NoLease(where, f"{given_up_named(row)}, has it", f"Ask for another, or for none. {HELD_REMEDY}")
            if row and row["kind"] == LEAVING:
                found = f"{vm_named(row['vm_id'], row['name'])} has it until it is made anew, or was off"
                raise BeingEnded(where, found, "Run again when that is done")
            if row and row["kind"] == UNKNOWN:
                found = f"it is held for machine {row['vm_id']}, which the catalog does not know"
                raise NoLease(where, found, f"Ask for another, or for none. {UNKNOWN_REMEDY}")
            if row:
                holder = f"{vm_named(row['vm_id'], row['name'])} has it, on NIC {row['nic_id']}"
                if row["wanted"] == "DONE":
                    raise BeingEnded(where, f"{holder}, and is being ended", "Run again when that machine is gone")
                raise NoLease(where, holder, "Ask for another, or for none")
            offsets[index] = place
        return offsets

    def _names(self, vm_ids: Sequence[int]) -> dict[int, str]:
        return {
            row["id"]: row["name"]
            for marks, part in chunks(vm_ids)
            for row in self.store.rows(f"SELECT id, name FROM vms WHERE id IN ({marks})", *part)
        }

    def _refuse_shortage(
        self,
        network: Network,
        requests: Sequence[LeaseRequest],
        asked_for: Sequence[int],
        rest: Sequence[int],
        left: int,
    ) -> NoReturn:
        """Raise NoLease, or BeingEnded if that helps. left: addresses that are free for the rest."""
        free, wanted = left + len(asked_for), len(asked_for) + len(rest)
        first = requests[(*rest, *asked_for)[0]]
        requester = vm_named(first.vm_id, self._names([first.vm_id]).get(first.vm_id))
        more = f" and {wanted - 1} more" if wanted > 1 else ""
        where = f"leases in network {network.name} for {requester}, NIC {first.nic_id}{more}"
        if not network.address_ranges:
            found, remedy = "it has no address range", "Give it address_ranges"
        else:
            found = f"{wanted} wanted, {free} free of {sum(r.size for r in network.address_ranges)}"
            remedy = "Add an address range, make one larger, or ask for fewer machines"
            row = self.store.rows(
                "SELECT count(CASE WHEN wanted = 'DONE' THEN 1 END) AS ending,"
                f" count(CASE WHEN wanted != 'DONE' AND kind = '{LEAVING}' THEN 1 END) AS anew"
                f" FROM leases JOIN vms ON vms.id = vm_id WHERE network_id = ? AND {OF_MACHINES}",
                network.id,
            )[0]
            if row["ending"]:
                # As after a teardown that was killed: they keep their addresses until their nodes have ended them.
                found += f"; {row['ending']} are held by machines that are being ended"
            if row["anew"]:
                found += f"; {row['anew']} are held until machines are made anew"
            if wanted <= free + row["ending"] + row["anew"]:
                raise BeingEnded(where, found, "Run again when these are gone" if row["ending"] else "Run again then")
            kinds = self.store.rows("SELECT kind, count(*) FROM leases WHERE network_id = ? GROUP BY kind", network.id)
            held = {row[0]: row[1] for row in kinds}
            if GIVEN_UP in held:
                found += f"; {held[GIVEN_UP]} are held for machines that were given up with their host"
                remedy += f". {HELD_REMEDY}"
            if UNKNOWN in held:
                found += f"; {held[UNKNOWN]} are held for machines that the catalog does not know"
                remedy += f". {UNKNOWN_REMEDY}"
        raise NoLease(where, found, remedy)

    def drop(self, places: Iterable[tuple[int, int, int] | None]) -> None:
        """Give back what is leased at these places. places: ids of network and range, and offset."""
        for place in places:
            if place is None:
                continue
            self.store.db.execute(f"DELETE FROM leases WHERE {IN_RANGE} AND offset = ?", place)
            self.store.db.execute(
                f"UPDATE address_ranges SET used = used - 1, first_free = MIN(first_free, ?) WHERE {IN_RANGE}",
                (place[2], *place[:2]),
            )

    def lowest_free(self, network_id: int, wanted: int) -> list[tuple[int, int]]:
        """Return the lowest free places over all ranges, as (ar_id, offset). The caller knows that so many are free."""
        return self._lowest_free(network_id, wanted, self._with_room(network_id))

    def _with_room(self, network_id: int) -> list[sqlite3.Row]:
        return self.store.rows(
            "SELECT ar_id, size, used, first_free FROM address_ranges WHERE network_id = ? AND used < size"
            " ORDER BY ar_id",
            network_id,
        )

    def _lowest_free(self, network_id: int, wanted: int, ranges: Sequence[sqlite3.Row]) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for row in ranges:
            if len(found) >= wanted:
                break
            for start, stop in self._gaps(network_id, row["ar_id"], row["first_free"], row["size"]):
                found.extend((row["ar_id"], offset) for offset in range(start, min(stop, start + wanted - len(found))))
                if len(found) >= wanted:
                    # What follows would be looked for before it is asked for.
                    break
        return found

    def _gaps(self, network_id: int, ar_id: int, first: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield stretches of free offsets from `first` on, as (start, stop), one after another.

        SQLite walks over the leases: a range that is full up to its end costs a seek, not a row in Python per lease."""
        place = (network_id, ar_id)
        for start in self._gap_starts(place, first):
            if start >= size:
                return
            following = self.store.row(
                f"SELECT MIN(offset) FROM leases WHERE {IN_RANGE} AND offset >= ?", *place, start
            )
            stop = size if following is None or following[0] is None else following[0]
            if stop > start:
                yield start, stop

    def _gap_starts(self, place: tuple[int, int], first: int) -> Iterator[int]:
        yield first
        for row in self.store.db.execute(
            f"SELECT l.offset + 1 FROM leases l WHERE {IN_RANGE} AND l.offset >= ? AND NOT EXISTS"
            " (SELECT 1 FROM leases n WHERE n.network_id = l.network_id AND n.ar_id = l.ar_id"
            " AND n.offset = l.offset + 1) ORDER BY l.offset",
            (*place, first),
        ):
            yield row[0]

    def _store(self, network_id: int, taken: Sequence[tuple[int, int, LeaseRequest]], lowest: bool = False) -> None:
        """Write leases. lowest: they were the lowest free places, so that none below the last one is free any more."""
        self.store.db.executemany(
            "INSERT INTO leases (network_id, ar_id, offset, vm_id, nic_id) VALUES (?, ?, ?, ?, ?)",
            [(network_id, ar_id, offset, r.vm_id, r.nic_id) for ar_id, offset, r in taken],
        )
        by_range: dict[int, list[int]] = {}
        for ar_id, offset, _request in taken:
            by_range.setdefault(ar_id, []).append(offset)
        self.store.db.executemany(
            f"UPDATE address_ranges SET used = used + ?, first_free = MAX(first_free, ?) WHERE {IN_RANGE}",
            [
                (len(offsets), max(offsets) + 1 if lowest else 0, network_id, ar_id)
                for ar_id, offsets in by_range.items()
            ],
        )


def _place(
    network: Network, ranges: Mapping[int, addresses.Calculator], request: LeaseRequest, requester: str, where: str
) -> tuple[int, int]:
    """Return the range that has the address asked for, and its offset there. Raise NoLease if no range has it."""
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
        spans = ", ".join(addresses.range_text(r) for r in network.address_ranges) or "none"
    raise NoLease(
        where, f"it is in none of the network's address ranges: {spans}", "Ask for one of these, or add a range"
    )


def _span6(calculator: addresses.Calculator) -> str:
    """Return the IPv6 addresses of a range, for messages: between first and last lie those that its MACs make."""
    first, last = (calculator.lease(None, offset, None, None) for offset in (0, calculator.range.size - 1))
    spans = [f"{a} to {b}" for a, b in ((first.ip6, last.ip6), (first.ip6_ula, last.ip6_ula)) if a]
    return f"{calculator.range.ar_id} [{' or '.join(spans) or 'no IPv6 prefix'}]"
