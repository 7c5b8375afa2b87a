# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases that are held: they belong to no NIC or to no machine of the catalog, and nobody else gets their addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ....model import addresses
from ....model.lease import HeldLease
from ....model.network import Network
from ....model.nic import Alias, Nic
from ..store import Store
from .leases import Leases
from .network_rows import (
    GIVEN_UP,
    IN_RANGE,
    LEASED,
    LEAVING,
    NIC,
    OF_MACHINES,
    RESERVED,
    UNKNOWN,
    address_range_of,
    range_of,
    read,
)


class HeldLeases:
    """Reads and writes held leases. All methods are called within a transaction of the store.

    Of kind LEAVING, the machine may still use the address, until its node has taken the NIC away. Of GIVEN_UP and
    UNKNOWN, vm_id is the machine that was given up or is not known."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases = Leases(store)

    def held(self) -> list[HeldLease]:
        """Return all held leases, with the reason for which each is held."""
        found = []
        networks: dict[int, Network] = {}
        for row in self.store.rows(
            f"SELECT l.*, v.id, v.name, g.host FROM {LEASED} WHERE l.kind NOT IN ('{NIC}', '{RESERVED}')"
            " ORDER BY l.network_id, l.ar_id, l.offset"
        ):
            network_id = row["network_id"]
            network = networks[network_id] = networks.get(network_id) or read(self.store, network_id)
            lease = addresses.Calculator(range_of(network, row["ar_id"])).lease(network_id, row["offset"], None, None)
            held = "its machine has it until it is made anew, or was off"
            if row["kind"] == UNKNOWN:
                held = "the catalog does not know that machine"
            elif row["kind"] == GIVEN_UP:
                held = f"it was given up with host {row['host']}"
            found.append(HeldLease(network.name, lease.mac, lease.ip, lease.ip6, row["vm_id"], row["name"] or "", held))
        return found

    def let_go(self, vm_id: int, nics: Sequence[int]) -> None:
        """Hold what these NICs of the machine leased, until its node has taken them away."""
        for nic_id in nics:
            self.store.db.execute(
                "UPDATE leases SET nic_id = NULL, kind = ? WHERE kind = ? AND vm_id = ? AND nic_id = ?",
                (LEAVING, NIC, vm_id, nic_id),
            )

    def free(self, vm_id: int, nics: Sequence[int]) -> None:
        """Give back what these NICs of the machine leased, which its node never had."""
        which = "SELECT network_id, ar_id, offset FROM leases WHERE kind = ? AND vm_id = ? AND nic_id = ?"
        self.leases.drop([tuple(row) for nic_id in nics for row in self.store.rows(which, NIC, vm_id, nic_id)])

    def take_back(self, vm_id: int, nic: Nic | Alias) -> None:
        """Give a NIC or alias back what let_go() held of it. nic: as the catalog has it of its machine."""
        place = (nic.network_id, nic.ar_id)
        row = None if None in place else self.store.row(f"SELECT * FROM address_ranges WHERE {IN_RANGE}", *place)
        mac = addresses.mac_number(nic.mac, f"VM {vm_id}")
        offset = addresses.Calculator(address_range_of(row)).offset_of(None, mac) if row is not None else None
        if offset is not None:
            self.store.db.execute(
                "UPDATE leases SET nic_id = ?, kind = ? WHERE vm_id = ? AND kind = ?"
                " AND network_id = ? AND ar_id = ? AND offset = ?",
                (nic.nic_id, NIC, vm_id, LEAVING, *place, offset),
            )

    def held_by(self, vm_id: int) -> list[tuple[int, int, int]]:
        """Return the network, range and offset of each lease that is held for the machine, and for no NIC of it."""
        return self._of(vm_id, LEAVING)

    def keep(self, vm_id: int, places: Iterable[tuple[int, int, int]]) -> None:
        """Hold addresses that the machine leased and is to have no more, until its node has made it anew."""
        for place in places:
            done = self.store.db.execute(
                "INSERT OR IGNORE INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (?, ?, ?, ?, ?)",
                (*place, vm_id, LEAVING),
            )
            if done.rowcount == 1:
                self.store.db.execute(f"UPDATE address_ranges SET used = used + 1 WHERE {IN_RANGE}", place[:2])

    def release_kept(self, vm_id: int) -> None:
        """Give back what keep() and let_go() held for the machine."""
        self.leases.drop(self._of(vm_id, LEAVING))

    def give_up(self, vm_id: int) -> None:
        """Hold all that the machine leases, after the machine was given up with its host."""
        self.store.db.execute("UPDATE leases SET nic_id = NULL, kind = ? WHERE vm_id = ?", (GIVEN_UP, vm_id))

    def hold(self, vm_id: int, nic: Mapping[str, Any]) -> tuple[int, str] | None:
        """Hold the address of one NIC of a machine that was given up and is on a node again.
        nic: as its node reports it. If another machine has the address already, nothing is held, and the id and name
        of that machine are returned."""
        place = (nic["network_id"], nic["ar_id"])
        row = self.store.row(f"SELECT * FROM address_ranges WHERE {IN_RANGE}", *place)
        if row is None:
            return None
        mac = addresses.mac_number(nic["mac"], f"VM {vm_id}")
        offset = addresses.Calculator(address_range_of(row)).offset_of(None, mac)
        if offset is None:
            return None
        found = self.store.row(
            f"SELECT v.id, v.name FROM leases l LEFT JOIN vms v ON v.id = l.vm_id AND {OF_MACHINES}"
            " WHERE l.network_id = ? AND l.ar_id = ? AND l.offset = ?",
            *place,
            offset,
        )
        if found is not None:
            return None if found["id"] is None else (found["id"], found["name"])
        self.store.db.execute(
            "INSERT INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (?, ?, ?, ?, ?)",
            (*place, offset, vm_id, GIVEN_UP),
        )
        self.store.db.execute(f"UPDATE address_ranges SET used = used + 1 WHERE {IN_RANGE}", place)
        return None

    def release_given_up(self, vm_id: int) -> list[str]:
        """Give back what is held for a machine that was given up, and return the addresses for messages."""
        places = self._of(vm_id, GIVEN_UP, UNKNOWN)
        freed = []
        for network_id, ar_id, offset in places:
            network = read(self.store, network_id)
            lease = addresses.Calculator(range_of(network, ar_id)).lease(network_id, offset, None, None)
            freed.append(f"{lease.ip or lease.ip6 or lease.mac} of network {network.name}")
        self.leases.drop(places)
        return freed

    def release_held(self, seen: Collection[int], complete: bool) -> None:
        """Give back what was held for machines that the catalog does not know, once they are on no node any more.
        seen: the ids of the machines on all nodes. complete: all nodes answered; otherwise nothing is given back."""
        rows = self.store.rows("SELECT network_id, ar_id, offset, vm_id FROM leases WHERE kind = ?", UNKNOWN)
        self.leases.drop([tuple(row)[:3] for row in rows if complete and row["vm_id"] not in seen])

    def _of(self, vm_id: int, *kinds: str) -> list[tuple[int, int, int]]:
        which = f"vm_id = ? AND kind IN ({', '.join('?' * len(kinds))})"
        rows = self.store.rows(f"SELECT network_id, ar_id, offset FROM leases WHERE {which}", vm_id, *kinds)
        return [tuple(row) for row in rows]
