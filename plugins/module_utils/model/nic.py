# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a network interface of a virtual machine with its lease."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass


@dataclass(frozen=True)
class Nic:
    """Describes one NIC = [ … ] with its network resolved and its address leased.
    target: the host's side, `one-<vmid>-<nicid>`.
    network_values: the network's attributes and, above them, its address range's (DNS, GATEWAY, NETWORK_MASK …),
    upper-case names, for the context.
    options: what the NIC itself sets beyond the named fields; it goes before network_values."""

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


@dataclass(frozen=True)
class Alias:
    """Describes one NIC_ALIAS = [ … ]: a further address on a NIC, with a lease of its own and no interface on the
    node. The fields that are not explained are as in Nic.
    nic_id: counted on after the NICs.
    parent_id, alias_id: the nic_id of its NIC, and its number there.
    mac: the lease's; the guest sends with the MAC address of its NIC.
    external: whether the network translates the address, so that the guest does not have it.
    late: it came while the machine ran, so that the guest has it once it reads its context again."""

    nic_id: int
    network_id: Optional[int]
    network: str
    bridge: str
    mac: str
    ip: str = ""
    ip6: str = ""
    ip6_ula: str = ""
    parent_id: int = 0
    alias_id: int = 0
    external: bool = False
    late: bool = False
    ar_id: Optional[int] = None
    options: Mapping[str, str] = field(default_factory=dict)
    network_values: Mapping[str, str] = field(default_factory=dict)


def addresses_by_nic(aliases: Iterable[Mapping[str, Any]]) -> dict[int, tuple[str, ...]]:
    """Return the addresses that guests have by their aliases, by the number of the NIC. aliases: as plain values."""
    found: dict[int, tuple[str, ...]] = {}
    for alias in aliases:
        if not alias.get("external"):
            own = tuple(filter(None, (alias.get(key, "") for key in ("ip", "ip6", "ip6_ula"))))
            found[alias["parent_id"]] = found.get(alias["parent_id"], ()) + own
    return found


def interface_id(vm_uuid: str, nic_id: int) -> str:
    """Return the id of a machine's NIC in Open vSwitch and OVN: the same on each node, and after a migration."""
    return str(uuid.uuid5(uuid.UUID(vm_uuid), f"nic/{nic_id}"))
