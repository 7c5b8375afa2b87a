# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site whose only host is a stock host, which has everything that containers and OVN need from its packages. Ansible
comes to it by ssh, as a login that is not root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stock_host import FullStockHost

from ansible_collections.nebula.provision.tests.integration.site_runs import Site


class StockSite(Site):
    seconds = 1500

    def __init__(self, host: FullStockHost, place: Path, **variables: Any) -> None:
        self.host = host
        self.directory = place
        self.root = Path("/var/lib/nebula")
        self.environment = {"ANSIBLE_NOCOLOR": "1"}
        self.variables: dict[str, Any] = {"nebula_reserved_memory": 0, **variables}

    def inventory(self, **changes: Any) -> Path:
        hosts = {"hosts": {"node1": {**self.host.inventory(), **self.variables, **changes}}}
        inventory = self.directory / "hosts.yml"
        inventory.write_text(json.dumps({"nebula_frontend": hosts, "nebula_nodes": {"hosts": {"node1": {}}}}))
        return inventory

    def done(self, playbook: str, **changes: Any) -> str:
        code, output = self.run(playbook, **changes)
        assert code == 0, output
        return output

    def says(self, *argv: str) -> str:
        """What a command on the host prints, whatever its code."""
        return self.host.sudo(argv, check=False).stdout.strip()
