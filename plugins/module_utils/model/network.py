# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a virtual network and its address ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass
from . import ethertypes
from .network_drivers import DEFAULT, ON_LINUX_BRIDGE
from .node_access import ATTRIBUTE as NODE_ACCESS
from .states import NetworkState

ONE_NODE = "ONE_NODE"
# Addresses that no machine gets.
RESERVED = "RESERVED"
# YES for a network of a catalog whose version kept PHYDEV and did not act on it: its bridges are joined by nothing.
PHYDEV_UNUSED = "PHYDEV_UNUSED"
# Attributes of networks and NICs: a machine sends with its own addresses only.
FILTERS = ("FILTER_MAC_SPOOFING", "FILTER_IP_SPOOFING")
# YES for a network on a Linux bridge whose filters and security groups its nodes act on. Versions without it kept these
# attributes, and nothing acted on them: what is not said since then is not begun.
FILTERS_ON_NODE = "FILTERS_ON_NODE"
# YES where PHYDEV may be the interface with a node's own addresses: they move to the bridge with it.
PHYDEV_FORCED = "PHYDEV_FORCED"
# These are for nodes and the scheduler alone: they are in no machine's context.
NOT_FOR_MACHINES = (
    NODE_ACCESS, ONE_NODE, RESERVED, PHYDEV_UNUSED, PHYDEV_FORCED, FILTERS_ON_NODE, ethertypes.ATTRIBUTE,
    ethertypes.UNTOLD,
)  # fmt: skip
# The number of a range that has none yet: it gets one from the engine.
NEW_AR = -1


@dataclass(frozen=True)
class AddressRange:
    """Describes a range of addresses.
    type: IP4, IP6, IP4_6, ETHER, IP6_STATIC or IP4_6_STATIC.
    size: number of addresses.
    mac: the first address's.
    global_prefix, ula_prefix: /64, for IP6 and IP4_6.
    ip6, prefix_length: the first static address, and its network's prefix length.
    used: how many are leased.
    attributes: go above the network's own for machines that lease here."""

    ar_id: int
    type: str
    size: int
    ip: str = ""
    mac: str = ""
    global_prefix: str = ""
    ula_prefix: str = ""
    ip6: str = ""
    prefix_length: int = 0
    used: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """Describes a virtual network.
    attributes: everything else by upper-case name (NETWORK_ADDRESS, NETWORK_MASK, GATEWAY, DNS, GUEST_MTU …), single
    values, as they reach the context of machines.
    nat: the bridge carries the gateway's address and masquerades.
    beside: on a node, the other networks that have the bridge."""

    id: Optional[int]
    name: str
    uuid: str = ""
    vn_mad: str = DEFAULT
    bridge: str = ""
    nat: bool = False
    state: NetworkState = NetworkState.READY
    address_ranges: tuple[AddressRange, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Network, ...] = ()


def filters_on_node(network: Network) -> bool:
    """Return whether its nodes filter what its machines send and get, as it says."""
    return network.vn_mad in ON_LINUX_BRIDGE and network.attributes.get(FILTERS_ON_NODE, "").upper() == "YES"


@dataclass(frozen=True)
class SplitNetwork:
    """Says where the machines of a network are that has a bridge of its own on each node. hosts: how many on which."""

    network: str
    hosts: Mapping[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} on {host}" for host, count in sorted(self.hosts.items()))
        return (
            f"network {self.network}: its machines are on {len(self.hosts)} nodes ({counts}), whose bridges are not "
            "connected with each other: a machine reaches those on its own node only. Put them on one (host), and set "
            "one_node: true on the network to have it stay so"
        )


def to_item(network: Network) -> dict[str, Any]:
    """Return the network as results show it; the node's side and check mode take it from there again."""
    return {
        "id": network.id,
        "uuid": network.uuid or None,
        "name": network.name,
        "bridge": network.bridge,
        "vn_mad": network.vn_mad,
        "nat": network.nat,
        "state": network.state.name,
        "address_ranges": [
            {
                "ar_id": r.ar_id,
                "type": r.type,
                "ip": r.ip,
                "size": r.size,
                "mac": r.mac,
                "global_prefix": r.global_prefix,
                "ula_prefix": r.ula_prefix,
                "ip6": r.ip6,
                "prefix_length": r.prefix_length or None,
                "used": r.used,
                "attributes": dict(r.attributes),
            }
            for r in network.address_ranges
        ],
        "attributes": dict(network.attributes),
    }


def from_item(item: Mapping[str, Any]) -> Network:
    """Return the network that to_item() showed. Keys that are missing get their defaults."""
    return Network(
        id=item.get("id"),
        uuid=item.get("uuid") or "",
        name=item["name"],
        bridge=item.get("bridge") or "",
        vn_mad=item.get("vn_mad") or DEFAULT,
        nat=bool(item.get("nat")),
        state=NetworkState[item.get("state") or "READY"],
        address_ranges=tuple(
            AddressRange(
                ar_id=NEW_AR if r.get("ar_id") is None else int(r["ar_id"]),
                type=r["type"],
                size=int(r["size"]),
                ip=r.get("ip") or "",
                mac=r.get("mac") or "",
                global_prefix=r.get("global_prefix") or "",
                ula_prefix=r.get("ula_prefix") or "",
                ip6=r.get("ip6") or "",
                prefix_length=int(r.get("prefix_length") or 0),
                used=int(r.get("used") or 0),
                attributes=dict(r.get("attributes") or {}),
            )
            for r in item.get("address_ranges") or ()
        ),
        attributes=dict(item.get("attributes") or {}),
        beside=tuple(map(from_item, item.get("beside") or ())),
    )
