# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts on how many nodes the machines of a network are."""

from __future__ import annotations

import json

from ....errors import Conflict
from ....model import network_checks
from ....model.network import Network, SplitNetwork
from ....model.network_drivers import BRIDGE, OVSWITCH
from ....model.object_ids import id_of
from ....model.uplink import phydev_of
from ..store import Store
from .network_rows import OF_MACHINES


def spread(store: Store, network: Network | None = None) -> dict[int, SplitNetwork]:
    """Return the nodes with machines that are to stay, by the id of their network, for networks whose bridges are not
    joined.
    network: only this one is looked at."""
    which, values = ("", []) if network is None else (" AND l.network_id = ?", [network.id])
    found: dict[int, SplitNetwork] = {}
    for row in store.rows(
        "SELECT n.id, n.name, n.attributes, n.vn_mad, h.name AS host, COUNT(DISTINCT v.id) AS machines FROM leases l"
        " JOIN vms v ON v.id = l.vm_id JOIN hosts h ON h.id = v.host_id JOIN networks n ON n.id = l.network_id"
        f" WHERE n.vn_mad IN (?, ?) AND v.wanted != 'DONE' AND {OF_MACHINES}{which} GROUP BY n.id, h.id ORDER BY n.id",
        BRIDGE,
        OVSWITCH,
        *values,
    ):
        if phydev_of(row["vn_mad"], json.loads(row["attributes"])):
            continue
        hosts = found[row["id"]].hosts if row["id"] in found else {}
        found[row["id"]] = SplitNetwork(row["name"], {**hosts, row["host"]: row["machines"]})
    return found


def refuse_second_node(store: Store, network: Network) -> None:
    """Raise Conflict if the network has one_node, and its machines would be on several."""
    found = spread(store, network).get(id_of(network)) if network_checks.one_node(network) else None
    if found is not None and len(found.hosts) > 1:
        hosts = ", ".join(f"{count} on {host}" for host, count in sorted(found.hosts.items()))
        raise Conflict(
            f"network {network.name}: one_node",
            f"its machines would be on {len(found.hosts)} nodes ({hosts})",
            "Keep them on one, end those on the other, or set one_node: false",
        )
