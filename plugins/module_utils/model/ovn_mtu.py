# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what OVN's tunnels leave on each host for the machines' packets, and which networks ask for more.

Everywhere here `left` has these bytes by the hosts' names. A host that is not in it is not known to be too narrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidValue
from .network import Network
from .network_drivers import OVN
from .uplink import ETHERNET_MTU, GENEVE_COST, GUEST_MTU, MTU
from .whole_numbers import whole

PHYSICAL_NETWORK = "PHYSICAL_NETWORK"
# Hosts that an error names one by one.
_NAMED = 5


def read(given: Mapping[str, Any]) -> dict[str, int]:
    """Return option inner_mtus as numbers, without the hosts of which it is not known, which have 0 there."""
    left = {}
    for host, value in given.items():
        size = whole(value)
        if size is None:
            raise InvalidValue(
                f"inner_mtus: {value!r} of host {host}",
                "it is not a number of bytes",
                "Give inner_mtu as module nebula_ovn_host returns it",
            )
        if size:
            left[str(host)] = size
    return left


def requested_mtu(network: Network) -> int:
    """Return the largest packet that machines of the network send through tunnels, as far as it says one; else 0.
    Packets of an external network go by the hosts' bridges."""
    if network.vn_mad != OVN or network.attributes.get(PHYSICAL_NETWORK):
        return 0
    all_of_it = (network.attributes, *(each.attributes for each in network.address_ranges))
    return max(whole(attributes.get(GUEST_MTU)) or 0 for attributes in all_of_it)


def default_guest_mtu(attributes: Mapping[str, str], left: Mapping[str, int]) -> str:
    """Return GUEST_MTU for a network of OVN with these attributes, which says none, where the tunnels leave less than
    it would get otherwise; "" where they do not."""
    least = min(left.values(), default=ETHERNET_MTU)
    outside = attributes.get(MTU) or attributes.get(PHYSICAL_NETWORK)
    return str(least) if least < ETHERNET_MTU - GENEVE_COST and not outside else ""


def problem_of_mtu(name: str, wanted: int, left: Mapping[str, int]) -> InvalidValue | None:
    """Return what is wrong if a network's machines send packets of so many bytes, None if all hosts carry them."""
    narrow = sorted((size, host) for host, size in left.items() if size < wanted)
    if not narrow:
        return None
    least, host = narrow[0]
    missing = [f"by {wanted - size} on {each}" for size, each in narrow[:_NAMED]]
    if len(narrow) > _NAMED:
        missing.append(f"on {len(narrow) - _NAMED} more")
    return InvalidValue(
        f"network {name}: {GUEST_MTU} = {wanted}",
        f"OVN's tunnels leave {least} bytes for the machines' packets on host {host}, the least of all; larger ones "
        "would be lost without a word",
        f"Give guest_mtu {least} or less, or raise the MTU of the interface with the tunnels and of the switches "
        f"behind it ({', '.join(missing)})",
    )
