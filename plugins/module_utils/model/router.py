# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a router between networks of OVN, as the catalog has it."""

from __future__ import annotations

from typing import Optional

from ..dataclass import dataclass


@dataclass(frozen=True)
class RouterInterface:
    """Describes a router's interface in a network. ip: the router's address there."""

    network_id: int
    ip: str


@dataclass(frozen=True)
class RouterGateway:
    """Describes a router's gateway in an external network.
    ip: the router's address there.
    snat: whether machines reach out with that address.
    hosts: the nodes that may carry it, the first that is alive does; none for every node.
    next_hop: "" for the GATEWAY of that network."""

    network_id: int
    ip: str
    snat: bool = True
    next_hop: str = ""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FloatingIp:
    """Describes an address of the external network that leads to a machine.
    vm: its name; "" for an address that waits for a machine.
    network_id: which of its NICs; None for the first that the router leads to.
    distributed: the machine's own node sends and takes its packets, not the gateway's."""

    ip: str
    vm: str = ""
    network_id: Optional[int] = None
    distributed: bool = False


@dataclass(frozen=True)
class RouterRoute:
    destination: str
    next_hop: str


@dataclass(frozen=True)
class Router:
    id: Optional[int]
    name: str
    uuid: str = ""
    description: str = ""
    interfaces: tuple[RouterInterface, ...] = ()
    gateway: Optional[RouterGateway] = None
    floating: tuple[FloatingIp, ...] = ()
    routes: tuple[RouterRoute, ...] = ()

    def addresses(self) -> list[tuple[int, str]]:
        """Return what it has in networks, as (id of the network, address)."""
        found = [(each.network_id, each.ip) for each in self.interfaces]
        if self.gateway is not None:
            found.append((self.gateway.network_id, self.gateway.ip))
            found += [(self.gateway.network_id, each.ip) for each in self.floating]
        return found
