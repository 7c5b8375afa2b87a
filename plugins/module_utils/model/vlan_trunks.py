# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which VLANs the port of a machine on Open vSwitch carries: VLAN_ID and VLAN_TAGGED_ID."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..dataclass import dataclass
from ..errors import InvalidValue
from .whole_numbers import whole

ATTRIBUTE = "VLAN_TAGGED_ID"
FIRST, LAST = 1, 4094
# The VLAN of frames without a tag, as Open vSwitch counts.
UNTAGGED = 0
_PART = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?\Z")


@dataclass(frozen=True)
class Port:
    """Describes a port. If it said nothing of either, it would be in all VLANs.
    tag: the VLAN of frames that the machine sends and gets without a tag, 0 if they are in none.
    trunks: VLANs whose frames it sends and gets with their tag."""

    tag: int = UNTAGGED
    trunks: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"VLAN {self.tag or 'none'}" + (f", trunk {trunk_text(self.trunks)}" if self.trunks else "")

    @property
    def carried(self) -> tuple[int, ...]:
        return tuple(sorted({self.tag, *self.trunks}))

    @property
    def mode(self) -> str:
        """Return vlan_mode of Open vSwitch, as libvirt sets it; "" for none."""
        return "native-untagged" if self.tag and self.trunks else ""


def port_of(network_values: Mapping[str, str], options: Mapping[str, str]) -> Port:
    """Return a NIC's port: its network's tag, its own trunk where it has one; raise InvalidValue for a wrong one."""
    text = options.get(ATTRIBUTE, "").strip() or network_values.get(ATTRIBUTE, "")
    tag = whole(network_values.get("VLAN_ID", "") or "0") or UNTAGGED
    return Port(tag, tuple(number for number in read(text, f"{ATTRIBUTE} =") if number != tag))


def read(text: str, where: str) -> tuple[int, ...]:
    """Return the numbers of a text as `1,10,100-199`, by commas or blanks; raise InvalidValue for other text."""
    found: set[int] = set()
    for part in text.replace(",", " ").split():
        match = _PART.match(part)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if not FIRST <= first <= last <= LAST:
            raise InvalidValue(
                f"{where} {text!r}",
                f"{part} is neither a VLAN id nor a range of them",
                f"Write numbers and ranges from {FIRST} to {LAST}, as 10,20,100-199",
            )
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def trunk_text(numbers: tuple[int, ...]) -> str:
    """Return the numbers in the form that read() takes."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
