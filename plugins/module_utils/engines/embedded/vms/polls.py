# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what the nodes reported in this run, as far as decisions about machines need it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from ....dataclass import dataclass
from ....model.network import Network
from ....model.network_drivers import ON_NODES
from ....model.plan import Observed, ObservedVm
from ....model.transfer import OWN_PREFIX


@dataclass
class Polls:
    """Holds what nodes reported in this run, by host name.
    foreign_ids: ids of all nodes together.
    written: the files that machines wrote there, as the node names them.
    unknown_memory: MiB of machines with this catalog's mark that the catalog does not have there.
    networks: UUIDs of the networks whose bridge the node has.
    without_ovn: the nodes that have no bridge of OVN.
    believed: the reports of nodes that answered, and that are not older than what the catalog knows.
    unknown: machines with this catalog's mark that the catalog does not have there.
    doubled: by id, why nothing is done about a machine: its former host still runs it.
    datastores: what is wrong with the system datastores of hosts that are to have a shared one."""

    foreign_memory: dict[str, int] = field(default_factory=dict)
    taken_ports: dict[str, set[int]] = field(default_factory=dict)
    unreached: set[str] = field(default_factory=set)
    foreign_ids: set[int] = field(default_factory=set)
    contents: dict[str, frozenset[str]] = field(default_factory=dict)
    written: dict[str, frozenset[str]] = field(default_factory=dict)
    unknown_memory: dict[str, int] = field(default_factory=dict)
    networks: dict[str, frozenset[str]] = field(default_factory=dict)
    without_ovn: set[str] = field(default_factory=set)
    believed: dict[str, Observed] = field(default_factory=dict)
    unknown: dict[str, list[ObservedVm]] = field(default_factory=dict)
    doubled: dict[int, str] = field(default_factory=dict)
    datastores: dict[str, str] = field(default_factory=dict)
    _without_bridge: dict[tuple[tuple[str, str], ...], dict[str, list[str]]] = field(default_factory=dict)

    def others_memory(self) -> dict[str, int]:
        """Return by host name the MiB that the catalog can promise to no machine: other machines have them."""
        names = {*self.foreign_memory, *self.unknown_memory}
        return {name: self.foreign_memory.get(name, 0) + self.unknown_memory.get(name, 0) for name in names}

    def hear(self, node: Observed) -> None:
        """Take over the report of a node, or that it did not answer."""
        self.foreign_memory[node.host] = node.foreign_memory
        self.taken_ports[node.host] = set(node.ports)
        self.foreign_ids.update(node.foreign_ids)
        self.contents[node.host] = frozenset(node.contents)
        # Bases are left out: machines may rest on an old one, and the node knows when none does.
        own = (name for name in node.images if name.startswith(OWN_PREFIX))
        self.written[node.host] = frozenset((*own, *node.returns))
        if node.has_ovn is False:
            self.without_ovn.add(node.host)
        if not node.reached:
            self.unreached.add(node.host)
        elif node.networks is not None:
            self.networks[node.host] = frozenset(node.networks)
            self._without_bridge.clear()

    def without_bridge(self, networks: Iterable[Network]) -> dict[str, list[str]]:
        """Return by host name the names of those of these networks that need a bridge of their own and lack it."""
        own = tuple(dict.fromkeys((n.uuid, n.name) for n in networks if n.vn_mad in ON_NODES))
        if own not in self._without_bridge:
            found = {host: [name for uuid, name in own if uuid not in there] for host, there in self.networks.items()}
            self._without_bridge[own] = {host: names for host, names in found.items() if names}
        return self._without_bridge[own]
