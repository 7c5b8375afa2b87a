# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds routes of a router that lead nowhere: OVN takes them without a word and carries them out not at all, or sends
packets to nobody."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from typing import Union

from ..dataclass import dataclass
from ..errors import InvalidValue

Own = Union[IPv4Interface, IPv6Interface]
_OWN = "the next hop is an address of the router itself"
_NEIGHBOUR = "Give the address of a neighbour, which is in a network that the router is in and is not the router"


@dataclass(frozen=True)
class UselessRoute:
    """Describes a route that leads nowhere. found and remedy are as those of an error."""

    destination: str
    next_hop: str
    found: str
    remedy: str

    def error(self, router: str) -> InvalidValue:
        asked = f"router {router}: route to {self.destination} by {self.next_hop}"
        return InvalidValue(asked, self.found, self.remedy)


def useless_routes(
    routes: Sequence[tuple[str, str]], own: Sequence[Own], floating: Collection[str], default_hops: Collection[str]
) -> list[UselessRoute]:
    """Return those of a router's routes that lead nowhere.
    routes: destinations with their next hops.
    own: the router's addresses, with their networks.
    floating: addresses besides that it answers for.
    default_hops: where its gateway sends everything that no other route leads to, which is a route as well."""
    to_itself = [hop for hop in default_hops if _is_own(hop, own, floating)]
    found = [UselessRoute("::/0" if ":" in hop else "0.0.0.0/0", hop, _OWN, _NEIGHBOUR) for hop in to_itself]
    for destination, next_hop in routes:
        why, remedy = _problem(destination, next_hop, own, floating, default_hops)
        if why:
            found.append(UselessRoute(destination, next_hop, why, remedy))
    return found


def _problem(
    destination: str, next_hop: str, own: Sequence[Own], floating: Collection[str], default_hops: Collection[str]
) -> tuple[str, str]:
    span, hop = ip_network(destination), ip_address(next_hop)
    if span.version != hop.version:
        why = f"the destination is of IPv{span.version} and the next hop of IPv{hop.version}: OVN leaves it out"
        return why, "Give both of one family, or take the route away"
    if _is_own(next_hop, own, floating):
        return _OWN, _NEIGHBOUR
    if not any(hop in each.network for each in own):
        return "the router is in no network that has the next hop", _NEIGHBOUR
    wide = [each.network for each in own if each.version == 4 and each.network.prefixlen < 31]
    if any(hop in (each.network_address, each.broadcast_address) for each in wide):
        return "the next hop is the address of a whole network, or its broadcast address", _NEIGHBOUR
    if span.is_multicast or span.is_loopback:
        return "OVN sends what is for such addresses by no route", "Take the route away"
    if span.num_addresses == 1 and _is_own(str(span.network_address), own, floating):
        return "the destination is an address of the router itself, which answers it", "Take the route away"
    if any(span == each.network for each in own):
        return (
            "the router is in that network itself, and sends there without a route",
            "Take the route away, or give a part of that network as its destination",
        )
    gateways = [each for each in default_hops if ip_address(each).version == span.version]
    if span.prefixlen == 0 and gateways:
        return (
            f"its gateway has the default route by {gateways[0]}, and OVN keeps one of the two",
            "Take the route away, or give the gateway this next hop (gateway: next_hop)",
        )
    return "", ""


def _is_own(address: str, own: Sequence[Own], floating: Collection[str]) -> bool:
    return any(ip_address(address) == each.ip for each in own) or str(ip_address(address)) in floating
