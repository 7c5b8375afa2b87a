# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases addresses of networks that no machine gets, as a router has them or somebody wants them kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from ....errors import NoLease
from ....model import addresses, network_checks
from ....model.dataclass_json import from_plain
from ....model.network import RESERVED, Network
from ....model.object_ids import id_of
from ....model.router import Router
from ..store import Store
from .leases import Leases
from .network_rows import IN_RANGE, OF_MACHINES, holder_named, kept_holder, read, router_holder, vm_named
from .network_rows import RESERVED as RESERVED_KIND


class Reserved:
    """Reads and writes leases of no machine. All methods are called within a transaction of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases = Leases(store)

    def have(self, holder: str, wanted: Sequence[tuple[int, str]], asked: str) -> list[str]:
        """Give the holder these addresses, and no others; return the addresses in that order. An address outside of
        all ranges is nobody's to lease. Raise NoLease, and then the transaction keeps nothing. wanted: ids of networks
        with an address each, "" for the lowest free one."""
        places: list[tuple[int, int, int] | None] = []
        networks = {network_id: read(self.store, network_id) for network_id, _ip in wanted}
        for network_id, ip in wanted:
            places.append(_place(networks[network_id], ip, asked) if ip else None)
        had = {
            (row["network_id"], row["ar_id"], row["offset"])
            for row in self.store.rows("SELECT * FROM leases WHERE holder = ?", holder)
        }
        self.leases.drop(had - set(places))
        for (network_id, ip), place in zip(wanted, places):
            if place is not None and place not in had:
                self._refuse_taken(networks[network_id], ip, place, asked)
                self._insert(holder, place)
                had.add(place)
        found = []
        for network_id, ip in wanted:
            if ip:
                found.append(ip)
                continue
            network = read(self.store, network_id)
            free = self.leases.lowest_free(network_id, 1)
            if not free:
                raise NoLease(
                    f"{asked}: an address in network {network.name}",
                    "none of its address ranges has a free one",
                    "Give an ip outside of them, or a larger range",
                )
            self._insert(holder, (network_id, *free[0]), lowest=True)
            calculator = addresses.Calculator(next(r for r in network.address_ranges if r.ar_id == free[0][0]))
            found.append(calculator.lease(network_id, free[0][1], None, None).ip)
        return found

    def keep(self, network: Network) -> None:
        """Lease for nobody what the network is to keep, and give back what it kept before."""
        wanted = [(id_of(network), ip) for ip in network_checks.reserved_addresses(network)]
        holder = kept_holder(id_of(network))
        if wanted or self.store.row("SELECT 1 FROM leases WHERE holder = ?", holder) is not None:
            self.have(holder, wanted, f"network {network.name}: {RESERVED}")

    def cover(self, network: Network) -> None:
        """Lease for routers what they have in the network, and what no range of it held before."""
        for row in self.store.rows("SELECT id, body FROM routers ORDER BY id"):
            router = from_plain(Router, {**json.loads(row["body"]), "id": row["id"], "name": ""})
            for network_id, ip in router.addresses():
                place = _place(network, ip, "router") if ip and network_id == network.id else None
                if place is not None and not self._is_leased(place):
                    self._insert(router_holder(row["id"]), place)

    def differing(self) -> Iterator[tuple[Network, tuple[int, int, int], str, str]]:
        """Yield leases of routers and reserved addresses that differ from what these say: the network, the place, its
        holder as it is noted, and as it is to be. Either may be "". A place that a machine leases is the machine's."""
        networks = {row["id"]: read(self.store, row["id"]) for row in self.store.rows("SELECT id FROM networks")}
        wanted: dict[tuple[int, int, int], str] = {}
        for network_id, ip, holder in self._holders(networks.values()):
            place = _place(networks[network_id], ip, holder) if ip and network_id in networks else None
            if place is not None:
                wanted.setdefault(place, holder)
        noted, others = {}, set()
        for row in self.store.rows("SELECT network_id, ar_id, offset, holder FROM leases"):
            place = (row["network_id"], row["ar_id"], row["offset"])
            if row["holder"]:
                noted[place] = row["holder"]
            else:
                others.add(place)
        for place in sorted({*noted, *wanted} - others):
            was, is_so = noted.get(place, ""), wanted.get(place, "")
            if was != is_so:
                yield networks[place[0]], place, was, is_so

    def derive(self) -> None:
        """Lease and give back what differing() has found."""
        for _network, place, was, is_so in list(self.differing()):
            if was:
                self.leases.drop({place})
            if is_so:
                self._insert(is_so, place)

    def _holders(self, networks: Iterable[Network]) -> Iterator[tuple[int, str, str]]:
        """Yield all addresses that routers and networks are to have."""
        for row in self.store.rows("SELECT id, body FROM routers ORDER BY id"):
            router = from_plain(Router, {**json.loads(row["body"]), "id": row["id"], "name": ""})
            for network_id, ip in router.addresses():
                yield network_id, ip, router_holder(row["id"])
        for network in networks:
            for ip in network_checks.reserved_addresses(network):
                yield id_of(network), ip, kept_holder(id_of(network))

    def _is_leased(self, place: tuple[int, int, int]) -> bool:
        return self.store.row(f"SELECT 1 FROM leases WHERE {IN_RANGE} AND offset = ?", *place) is not None

    def release(self, holder: str) -> None:
        places = self.store.rows("SELECT network_id, ar_id, offset FROM leases WHERE holder = ?", holder)
        self.leases.drop({tuple(place) for place in places})

    def _insert(self, holder: str, place: tuple[int, int, int], lowest: bool = False) -> None:
        self.store.db.execute(
            "INSERT INTO leases (network_id, ar_id, offset, holder, kind) VALUES (?, ?, ?, ?, ?)",
            (*place, holder, RESERVED_KIND),
        )
        self.store.db.execute(
            f"UPDATE address_ranges SET used = used + 1, first_free = MAX(first_free, ?) WHERE {IN_RANGE}",
            (place[2] + 1 if lowest else 0, *place[:2]),
        )

    def _refuse_taken(self, network: Network, ip: str, place: tuple[int, int, int], asked: str) -> None:
        row = self.store.row(
            f"SELECT l.holder, v.id, v.name FROM leases l LEFT JOIN vms v ON v.id = l.vm_id AND {OF_MACHINES}"
            " WHERE l.network_id = ? AND l.ar_id = ? AND l.offset = ?",
            *place,
        )
        if row is None:
            return
        if row["holder"]:
            whose = f"{holder_named(self.store, row['holder'])} has it"
        else:
            whose = f"{vm_named(row['id'], row['name'])} has it"
        raise NoLease(f"{asked}: {ip} in network {network.name}", whose, "Give another address, or none")


def _place(network: Network, ip: str, asked: str) -> tuple[int, int, int] | None:
    ip6 = addresses.ip6_address(ip, f"{asked}: ip") if ":" in ip else None
    number = None if ip6 is not None else addresses.ip_number(ip, f"{asked}: ip")
    for address_range in network.address_ranges:
        calculator = addresses.Calculator(address_range)
        if ip6 is not None:
            offset = calculator.offset_of_ip6(ip6)
        else:
            offset = calculator.offset_of(number, None) if address_range.ip else None
        if offset is not None and network.id is not None:
            return network.id, address_range.ar_id, offset
    return None
