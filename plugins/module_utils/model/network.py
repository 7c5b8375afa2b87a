# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual network and its address ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from .states import NetworkState


@dataclass(frozen=True)
class AddressRange:
    """type: IP4, IP6, IP4_6 or ETHER. size: number of addresses. mac: of the first one. prefixes: /64, for IP6."""

    ar_id: int
    type: str
    size: int
    ip: str = ""
    mac: str = ""
    global_prefix: str = ""
    ula_prefix: str = ""
    used: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """attributes: everything else by upper-case name (NETWORK_ADDRESS, NETWORK_MASK, GATEWAY, DNS, GUEST_MTU …),
    single values, as they reach the context of machines. nat: the bridge carries the gateway's address and masquerades.
    """

    id: Optional[int]
    name: str
    uuid: str = ""
    vn_mad: str = "bridge"
    bridge: str = ""
    nat: bool = False
    state: NetworkState = NetworkState.READY
    address_ranges: Tuple[AddressRange, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
