# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs of machines with their leases: for new machines, and for those that keep some of what they have."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ....dataclass import dataclass
from ....model.ids import id_of
from ....model.instantiate.demands import Demands
from ....model.lease import LeaseRequest
from ....model.nic import Nic
from ..networks.verbs import Networks
from .template_references import References


@dataclass(frozen=True)
class Nics:
    networks: Networks

    def lease(
        self, wanted: Sequence[tuple[int, str, Demands, Mapping[int, int] | None]], references: References
    ) -> dict[int, list[Nic]]:
        """The NICs of each machine, by its id; all leases of the batch are taken in one go. wanted: id, name and
        demands of each machine, with the ids of the NICs that are to be leased by their numbers in the template;
        None for all, whose ids are their numbers."""
        requests, places = [], []
        nics: dict[int, list[Nic]] = {vm_id: [] for vm_id, _n, _d, _f in wanted}
        for vm_id, name, demands, ids in wanted:
            for index, demand in enumerate(demands.nics):
                nic_id = index if ids is None else ids.get(index)
                if nic_id is None:
                    continue
                network = references.network(f"VM {name}, NIC {index}", demand.network)
                requests.append(
                    LeaseRequest(id_of(network), vm_id, nic_id, ip=demand.ip, mac=demand.mac, ip6=demand.ip6)
                )
                places.append((vm_id, nic_id, network))
        for (vm_id, index, network), lease in zip(places, self.networks.leases.lease(requests)):
            nics[vm_id].append(
                Nic(
                    nic_id=index,
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
            )
        return nics

    def with_new(
        self,
        row: sqlite3.Row,
        demands: Demands,
        there: Mapping[int, Nic],
        coming: Mapping[int, int],
        references: References,
    ) -> list[Nic]:
        """The NICs of a machine that has some already. there: those that stay, by number in the template; coming: the
        ids of the others."""
        leased = iter(self.lease([(row["id"], row["name"], demands, coming)], references)[row["id"]])
        staying = dict(zip(there, refreshed(tuple(there.values()), references)))
        return [staying[index] if index in staying else next(leased) for index in range(len(demands.nics))]


def refreshed(nics: Sequence[Nic], references: References) -> list[Nic]:
    """The NICs with the values that their networks have now; leases and bridges are as they were."""
    return [
        replace(nic, network_values=references.values_of(nic.network_id, nic.ar_id))
        if nic.network_id is not None and nic.ar_id is not None
        else nic
        for nic in nics
    ]
