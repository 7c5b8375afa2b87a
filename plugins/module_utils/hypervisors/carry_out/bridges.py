# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that the bridges of a machine are those of its networks. Hypervisors take any bridge of the right name."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ...errors import NotFound
from ...model.network_drivers import OVN, OVSWITCH, SWITCHED
from ...model.plan import Plan
from ...model.vm import Vm
from ...network import links, openvswitch_state


class Bridges:
    """Knows the bridges of one plan. They are looked at once, before the first machine starts that needs one."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._looking = threading.Lock()
        self._links: Mapping[str, links.Link] | None = None
        self._switches: openvswitch_state.Switches | None = None

    def require(self, vm: Vm) -> None:
        """Raise NotFound or ForeignObject, with the network's name, if a bridge is not there or not its network's."""
        for nic in vm.nics:
            driver = nic.network_values.get("VN_MAD", "")
            if driver == OVN and nic.bridge not in self._links_here():
                raise NotFound(
                    f"network {nic.network}: bridge {nic.bridge}",
                    "there is none on this host, which is no host of OVN",
                    "Set nebula_ovn: true, and run role nebula.provision.ovn on it",
                )
            if driver == OVSWITCH:
                uuid = self._plan.switches.get(str(nic.network_id), "")
                openvswitch_state.refuse_other(nic.network, nic.bridge, self._switches_here(), self._plan.catalog, uuid)
            elif nic.bridge in self._plan.bridges:
                there, uuids = self._links_here().get(nic.bridge), self._plan.bridges[nic.bridge].split(",")
                links.refuse_other(nic.network, nic.bridge, there, self._plan.catalog, uuids)

    def is_userspace(self, vm: Vm) -> bool:
        """Return whether Open vSwitch itself forwards the machine's frames: its bridge is a tap device then. A bridge
        that the kernel forwards for it has a kind of its own."""
        names = {nic.bridge for nic in vm.nics if nic.network_values.get("VN_MAD", "") in SWITCHED}
        return any(self._links_here()[name].kind == "tun" for name in names if name in self._links_here())

    def _switches_here(self) -> openvswitch_state.Switches:
        with self._looking:
            if self._switches is None:
                self._switches = openvswitch_state.observe()
            return self._switches

    def _links_here(self) -> Mapping[str, links.Link]:
        with self._looking:
            if self._links is None:
                self._links = links.observe(with_settings=False)
            return self._links
