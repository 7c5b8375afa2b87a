# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the bridges of a machine are those of its networks. Hypervisors take any bridge of the right name."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ...model.plan import Plan
from ...model.vm import Vm
from ...network import links


class Bridges:
    """Those of one plan, looked at once, before the first machine starts that needs one."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._looking = threading.Lock()
        self._links: Mapping[str, links.Link] | None = None

    def require(self, vm: Vm) -> None:
        """Raise NotFound or ForeignObject, which names the network, if a bridge is not there or not its network's."""
        for nic in vm.nics:
            if nic.bridge in self._plan.bridges:
                mark = links.Mark(self._plan.catalog, self._plan.bridges[nic.bridge])
                links.refuse_other(nic.network, nic.bridge, self._here().get(nic.bridge), mark)

    def _here(self) -> Mapping[str, links.Link]:
        with self._looking:
            if self._links is None:
                self._links = links.observe()
            return self._links
