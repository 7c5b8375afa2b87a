# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a northbound database hold the ports of a file, as a module of the collection does: what is measured.

usage: northbound_apply.py FILE

The file has remote, catalog, network, and ports with uuid, mac and address, as JSON. Prints what changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.apply import apply
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_connection import Database


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_bytes())
    network = given["network"]
    desired = LogicalNetworks(
        (LogicalNetwork(network, network, cidr4="10.64.0.0/16"),),
        tuple(LogicalPort(port["uuid"], network, port["mac"], (port["address"],)) for port in given["ports"]),
    )
    with Database([given["remote"]]) as database:
        changes = apply(database, given["catalog"], desired).changes
    print(f"{len(changes)} objects" if changes else "nothing")


if __name__ == "__main__":
    main()
