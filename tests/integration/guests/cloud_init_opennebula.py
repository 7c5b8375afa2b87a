# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which network configuration cloud-init makes of OpenNebula's format: cloud_init_opennebula.py DIRECTORY MAC…

It runs with a cloud-init on its path, and no other part of this project. DIRECTORY has a context.sh; MAC: of the
guest's interfaces, eth0 first. Printed is cloud-init's configuration as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

if __name__ == "__main__":
    from cloudinit.sources import DataSourceOpenNebula as source  # type: ignore[import-not-found]

    directory, *addresses = sys.argv[1:]

    class Distribution:
        """Which interfaces there are: those of the arguments."""

        class networking:
            @staticmethod
            def is_physical(name: str) -> bool:
                return True

    source.net.get_interfaces_by_mac = lambda *a, **k: {mac: f"eth{n}" for n, mac in enumerate(addresses)}
    found: dict[str, Any] = source.read_context_disk_dir(directory, Distribution(), asuser=None)
    print(json.dumps({"network": found.get("network-interfaces"), "metadata": found["metadata"]}))
