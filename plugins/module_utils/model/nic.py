# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network interface of a virtual machine with its lease."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import field
from typing import Optional

from ..dataclass import dataclass


@dataclass(frozen=True)
class Nic:
    """One NIC = [ … ] with its network resolved and its address leased.

    target: the host's side, `one-<vmid>-<nicid>`. network_values: the network's attributes and, above them, its address
    range's (DNS, GATEWAY, NETWORK_MASK …), upper-case names, for the context. options: what the NIC itself sets
    beyond the named fields; it goes before network_values.
    """

    nic_id: int
    network_id: Optional[int]
    network: str
    bridge: str
    mac: str
    ip: str = ""
    ip6: str = ""
    ip6_ula: str = ""
    model: str = ""
    target: str = ""
    ar_id: Optional[int] = None
    boot_order: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    network_values: Mapping[str, str] = field(default_factory=dict)


def interface_id(vm_uuid: str, nic_id: int) -> str:
    """By which Open vSwitch and OVN know the NIC of a machine: the same on each node, also after a migration."""
    return str(uuid.uuid5(uuid.UUID(vm_uuid), f"nic/{nic_id}"))
