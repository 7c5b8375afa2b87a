# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes an address that a network interface holds."""

from __future__ import annotations

from typing import Optional

from ..dataclass import dataclass


@dataclass(frozen=True)
class Lease:
    """Describes a leased address.
    offset: counts from the first address of the range.
    ip, ip6, ip6_ula: "" where the range has none."""

    network_id: Optional[int]
    ar_id: int
    offset: int
    mac: str
    ip: str = ""
    ip6: str = ""
    ip6_ula: str = ""
    vm_id: Optional[int] = None
    nic_id: Optional[int] = None


@dataclass(frozen=True)
class LeaseRequest:
    """Asks for an address of one NIC: the next free one, or the address that ip, ip6 or mac names.

    Where more than one of them is given, all have to be of the same lease."""

    network_id: int
    vm_id: int
    nic_id: int
    ip: str = ""
    mac: str = ""
    ip6: str = ""


@dataclass(frozen=True)
class HeldLease:
    """Describes an address that no NIC of a machine has, and that nobody gets.
    vm_id, vm: the machine that had it; vm is "" for a machine that the catalog does not know.
    held: why nobody gets it."""

    network: str
    mac: str
    ip: str
    ip6: str
    vm_id: Optional[int]
    vm: str
    held: str

    def __str__(self) -> str:
        machine = f"VM {self.vm} (id {self.vm_id})" if self.vm else f"machine {self.vm_id}"
        return f"{self.ip or self.ip6 or self.mac} of network {self.network} is held for {machine}: {self.held}"
