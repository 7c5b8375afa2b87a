# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes NICs of machines and their aliases, with their leases, for new machines and for those that keep some."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TypeVar

from ....dataclass import dataclass, replace
from ....model.instantiate.demands import Demands
from ....model.instantiate.nic_vectors import NicDemand
from ....model.lease import LeaseRequest
from ....model.nic import Alias, Nic
from ....model.object_ids import id_of
from ..networks.network_verbs import Networks
from .device_ids import Interfaces
from .template_references import References

_Leased = TypeVar("_Leased", Nic, Alias)


@dataclass(frozen=True)
class Leased:
    """Holds the NICs of a machine and their aliases, in the order of its template."""

    nics: list[Nic] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)


@dataclass(frozen=True)
class Nics:
    networks: Networks

    def lease(
        self, wanted: Sequence[tuple[int, str, Demands, Interfaces | None]], references: References
    ) -> dict[int, Leased]:
        """Return the NICs and aliases of each machine, by its id; all leases of the batch are taken in one go. wanted:
        id, name and demands of each machine, with what of these is to be leased. None stands for all; their ids are
        then their numbers in the template, aliases after the NICs."""
        requests, places = [], []
        found = {vm_id: Leased() for vm_id, _n, _d, _i in wanted}
        for vm_id, name, demands, interfaces in wanted:
            for kind, nic_id, where, demand in _wanted(demands, interfaces):
                network = references.network(f"VM {name}, {where}", demand.network)
                requests.append(
                    LeaseRequest(id_of(network), vm_id, nic_id, ip=demand.ip, mac=demand.mac, ip6=demand.ip6)
                )
                places.append((vm_id, kind, nic_id, network))
        for (vm_id, kind, nic_id, network), lease in zip(places, self.networks.leases.lease(requests)):
            leased = kind(
                nic_id=nic_id,
                network_id=network.id,
                network=network.name,
                bridge=network.bridge,
                mac=lease.mac,
                ip=lease.ip,
                ip6=lease.ip6,
                ip6_ula=lease.ip6_ula,
                ar_id=lease.ar_id,
                network_values=references.nic_values(network, lease.ar_id),
            )
            if isinstance(leased, Alias):
                found[vm_id].aliases.append(leased)
            else:
                found[vm_id].nics.append(leased)
        return found

    def with_new(self, row: sqlite3.Row, demands: Demands, interfaces: Interfaces, references: References) -> Leased:
        """Return the NICs and aliases of a machine that has some already."""
        leased = self.lease([(row["id"], row["name"], demands, interfaces)], references)[row["id"]]
        return Leased(
            _in_order(len(demands.nics), interfaces.nics, leased.nics, references),
            _in_order(len(demands.aliases), interfaces.aliases, leased.aliases, references),
        )


def _wanted(
    demands: Demands, interfaces: Interfaces | None
) -> list[tuple[type[Nic] | type[Alias], int, str, NicDemand]]:
    """Return what is to be leased: its kind, its id, what messages call it, and what it asks for."""
    count = len(demands.nics)
    of_nics = {index: index for index in range(count)} if interfaces is None else interfaces.new_nics
    of_aliases = (
        {index: count + index for index in range(len(demands.aliases))}
        if interfaces is None
        else interfaces.new_aliases
    )
    found: list[tuple[type[Nic] | type[Alias], int, str, NicDemand]] = [
        (Nic, of_nics[index], f"NIC {index}", demand) for index, demand in enumerate(demands.nics) if index in of_nics
    ]
    found += [
        (Alias, of_aliases[index], f"NIC_ALIAS {index}", demand.address)
        for index, demand in enumerate(demands.aliases)
        if index in of_aliases
    ]
    return found


def _in_order(
    count: int, there: Mapping[int, _Leased], coming: Sequence[_Leased], references: References
) -> list[_Leased]:
    """Return the NICs or aliases in the order of the template. there: those that stay, by number in the template."""
    others = iter(coming)
    staying = dict(zip(there, refreshed(tuple(there.values()), references)))
    return [staying[index] if index in staying else next(others) for index in range(count)]


def refreshed(nics: Sequence[_Leased], references: References) -> list[_Leased]:
    """Return the NICs, or aliases, with the values that their networks have now; leases and bridges stay."""
    return [
        replace(nic, network_values=references.values_of(nic.network_id, nic.ar_id))
        if nic.network_id is not None and nic.ar_id is not None
        else nic
        for nic in nics
    ]
