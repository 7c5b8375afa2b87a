# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what one network wants of its bridge on a node, and what networks that share a bridge want of it together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network

from ..dataclass import dataclass, replace
from ..errors import InvalidValue
from ..model import network_checks, shared_bridge
from ..model.network import Network
from ..model.uplink import Uplink, large_mtu_of
from ..model.uplink import uplink as uplink_of
from . import host_routes, nat

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class Wanted:
    """Says what one network wants of this node.
    address: the gateway's with its prefix length, or ""
    spans: the addresses that belong to the network
    uplink: what joins its bridges on several nodes
    six: whether its machines have IPv6
    beside: UUIDs of the other networks that have the bridge
    others_carry: whether the bridge has the gateway's address of another of these networks
    mtu: what the bridge and its ports have to carry, 0 if what they have by themselves is enough"""

    name: str
    uuid: str
    bridge: str
    address: str
    rules: nat.Rules
    spans: Sequence[host_routes.Span]
    uplink: Uplink | None = None
    six: bool = False
    beside: Sequence[str] = ()
    others_carry: bool = False
    mtu: int = 0

    @classmethod
    def of(cls, network: Network) -> Wanted:
        network_checks.check(network)
        check_uuid(f"network {network.name}: uuid", network.uuid)
        whole = network_checks.network_cidr(network)
        spans = shared_bridge.address_spans(network)
        address, rules = "", nat.Rules(network.uuid, network.bridge)
        if whole and network_checks.carries_gateway(network):
            gateway = network.attributes["GATEWAY"]
            address = f"{gateway}/{whole.prefixlen}"
            access = network_checks.node_access(network)
            rules = nat.Rules(network.uuid, network.bridge, gateway, whole if network.nat else None, access)
        six = any(network_checks.prefixes6(r) for r in network.address_ranges)
        uplink, mtu = uplink_of(network), large_mtu_of(network)
        return cls(network.name, network.uuid, network.bridge, address, rules, spans, uplink, six, mtu=mtu)

    def with_addresses_of_host(self) -> Wanted:
        return replace(self, rules=replace(self.rules, forced=True))

    def _shared_with(self, networks: Sequence[Wanted]) -> Wanted:
        """Return what this network wants where all these networks, itself among them, have the bridge."""
        if len(networks) < 2:
            return self
        rules, uplink = self.rules, self.uplink
        carrying = [each for each in networks if each.whole is not None]
        if carrying:
            access = [each.rules.access for each in carrying]
            dhcp = any(a.everything or any(first <= nat.DHCP <= last for first, last in a.udp) for a in access)
            wholes = {each.whole for each in carrying if each.whole is not None}
            rules = replace(rules, shared=nat.SharedBridge(tuple(sorted(wholes)), self.whole, dhcp))
        if uplink is not None:
            uplink = replace(uplink, needed=max(each.uplink.needed for each in networks if each.uplink is not None))
        others = tuple(each.uuid for each in networks if each.name != self.name)
        mtu = max(each.mtu for each in networks)
        return replace(self, rules=rules, uplink=uplink, beside=others, others_carry=bool(carrying), mtu=mtu)

    @property
    def carries_gateway(self) -> bool:
        return bool(self.address) or self.others_carry

    @property
    def whole(self) -> IPv4Network | None:
        """Return all addresses of the network, if the bridge has its gateway's address."""
        return IPv4Network(self.spans[0]) if self.address else None

    @property
    def port(self) -> str:
        """Return the host's own interface that is to be a port of the bridge."""
        return self.uplink.device if self.uplink is not None and not self.uplink.made else ""


def merge_by_bridge(networks: Sequence[Wanted]) -> list[Wanted]:
    """Return what each of these networks wants, where networks of one bridge want what all of them ask of it."""
    by_bridge: dict[str, list[Wanted]] = {}
    for each in networks:
        by_bridge.setdefault(each.bridge, []).append(each)
    return [each._shared_with(by_bridge[each.bridge]) for each in networks]


def check_uuid(asked: str, value: str) -> None:
    """Raise InvalidValue for what is no UUID: marks are parts of command lines. Empty: not known yet, in check mode."""
    if value and not _UUID.match(value):
        raise InvalidValue(f"{asked} = {value!r}", "not a UUID", "Pass on what nebula_network returned")
