# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which MTU a network and its address ranges tell machines, and what of it can't be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import InvalidValue
from .addresses import range_text
from .network import Network
from .network_checks import prefixes6
from .network_drivers import BRIDGE, OVSWITCH, VLAN
from .nic import Nic
from .uplink import ETHERNET_MTU, GUEST_MTU, MTU, phydev_of
from .whole_numbers import whole

# The least that IPv6 works with (RFC 8200, 5). Linux takes IPv6 from an interface that has less.
LEAST_OF_IPV6 = 1280
# Machines of networks with these drivers have Ethernet's MTU unless they are told another.
_AS_ETHERNET = (BRIDGE, VLAN, OVSWITCH)

# The number of the address range that it is of, what its machines are told, and what is the least or the most.
Problem = tuple[int, int, int]


def largest_advertised_mtu(network: Network) -> int:
    """Return the largest packet that any of its machines is told to send, in bytes; 0 if none is told anything."""
    return max(map(_stated_mtu, (network.attributes, *(each.attributes for each in network.address_ranges))))


def problems(network: Network) -> dict[Problem, InvalidValue]:
    """Return what can't be of what the network's machines are told, besides what is refused of every network."""
    return dict((*_problems_of_uplink(network), *_problems_of_ipv6(network)))


def warn_of_unadvertised_mtu(network: Network) -> list[str]:
    """Return a warning where machines send more than the network's devices are told to carry, as nobody tells them."""
    most = whole(network.attributes.get(MTU)) or 0
    unsaid = (
        network.vn_mad in _AS_ETHERNET
        and not largest_advertised_mtu(network)
        and phydev_of(network.vn_mad, network.attributes)
    )
    if not unsaid or not 0 < most < ETHERNET_MTU:
        return []
    doubt = (
        f"network {network.name}: {MTU} = {most}, and its machines are told no MTU, so that they send {ETHERNET_MTU} "
        f"bytes, and larger packets than {most} are lost: set guest_mtu: {most}"
    )
    return [doubt]


def doubts_of_nic(nic: Nic) -> list[str]:
    """Return warnings of a NIC's own MTU beyond what its network tells machines, or below what IPv6 works with."""
    stated, most = _stated_mtu(nic.options), _stated_mtu(nic.network_values) or ETHERNET_MTU
    if stated > most:
        found = f"network {nic.network} carries {most}, and larger packets are lost"
        return [f"NIC/{GUEST_MTU} = {stated}: {found}. Leave it out, or give the network guest_mtu: {stated}"]
    if 0 < stated < LEAST_OF_IPV6 and (nic.ip6 or nic.ip6_ula):
        found = f"no interface with less than {LEAST_OF_IPV6} has {nic.ip6 or nic.ip6_ula} or another address of IPv6"
        return [f"NIC/{GUEST_MTU} = {stated}: {found}. Give {LEAST_OF_IPV6} or more"]
    return []


def _stated_mtu(attributes: Mapping[str, str]) -> int:
    return whole(attributes.get(GUEST_MTU)) or 0


def _problems_of_uplink(network: Network) -> Iterator[tuple[Problem, InvalidValue]]:
    """Yield the problems of address ranges; a network's own MTU is refused whenever it is stored."""
    most = whole(network.attributes.get(MTU)) or 0
    if not most or not phydev_of(network.vn_mad, network.attributes):
        return
    for each in network.address_ranges:
        stated = _stated_mtu(each.attributes)
        if stated > most:
            yield (
                (each.ar_id, stated, most),
                InvalidValue(
                    f"network {network.name}: address range {range_text(each)}: {GUEST_MTU} = {stated}",
                    f"the network has {MTU} = {most}: what is larger would be lost without a word",
                    f"Give the range guest_mtu {most} or less, or the network a larger mtu",
                ),
            )


def _problems_of_ipv6(network: Network) -> Iterator[tuple[Problem, InvalidValue]]:
    for each in network.address_ranges:
        stated = _stated_mtu(each.attributes) or _stated_mtu(network.attributes)
        if prefixes6(each) and 0 < stated < LEAST_OF_IPV6:
            yield (
                (each.ar_id, stated, LEAST_OF_IPV6),
                InvalidValue(
                    f"network {network.name}: {GUEST_MTU} = {stated}",
                    f"its address range {range_text(each)} has addresses of IPv6, which no interface with less than "
                    f"{LEAST_OF_IPV6} has",
                    f"Give {LEAST_OF_IPV6} or more, or take the addresses of IPv6 away",
                ),
            )
