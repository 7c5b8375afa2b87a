# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks up networks, and what they give to the contexts of machines, each once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import NebulaError
from ....model.network import Network
from ..networks.network_verbs import Networks


class NetworkValues:
    """Keeps what is looked up, so an object of this class serves one verb and no longer."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._network: dict[Any, Network] = {}

    def network(self, where: str, ref: Any) -> Network:
        if ref not in self._network:
            try:
                self._network[ref] = self._networks.uncounted(ref)
            except NebulaError as error:
                error.asked = f"{where}: {error.asked}"
                raise
        return self._network[ref]

    def values_of(self, network_id: int, ar_id: int) -> Mapping[str, str]:
        return self.nic_values(self.network(f"network {network_id}", network_id), ar_id)

    def nic_values(self, network: Network, ar_id: int) -> Mapping[str, str]:
        return self._networks.kept_nic_values(network, ar_id)
