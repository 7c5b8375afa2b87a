# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what OVN is to know of ports whose machines move while they run. Pure.

Both hosts have an interface of such a port, the new one from before the first of its disks is copied. Without a word
each would take the port from the other again and again. So OVN is told of both hosts: the port stays with the first,
and the second has it besides, and passes nothing of it until QEMU announces there that the machine has come (RARP)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...dataclass import replace
from ...model.logical_network import LogicalNetworks, LogicalPort
from .ovsdb_tables import MOVING

# OVN has a port on two hosts since this version.
_SINCE = (22, 9)


def options(port: LogicalPort) -> dict[str, str]:
    """Return what the port's row has in options for that; nothing for one whose machine stays."""
    if not port.between:
        return {}
    both = {"activation-strategy": "rarp"} if len(port.between) > 1 else {}
    return {"requested-chassis": ",".join(port.between), **both}


def marks(port: LogicalPort) -> dict[str, str]:
    """Return what it has for that in external_ids: whoever finds it knows whose these options are."""
    return {MOVING: ",".join(port.between)} if port.between else {}


def for_version(desired: LogicalNetworks, version: str) -> LogicalNetworks:
    """Return the same networks as this version of OVN can have them: an earlier one keeps such a port at the host that
    its machine leaves, until it is told that it has left. version: of ovn-northd."""
    if not any(port.between for port in desired.ports) or _has_both(version):
        return desired
    return replace(desired, ports=tuple(replace(port, between=port.between[:1]) for port in desired.ports))


def warnings(desired: LogicalNetworks, version: str) -> list[str]:
    """Return a warning for each port that an earlier version of OVN is not to have on both hosts."""
    moving: Sequence[LogicalPort] = [] if _has_both(version) else [port for port in desired.ports if port.between]
    return [
        f"{port.name or port.uuid}: its machine moves to host {port.between[-1]}, and OVN (version "
        f"{version.partition('-')[0] or 'not known'}) has a port on one host at a time: it has no network from its "
        "arrival until the end of this round of moves. OVN 22.09 and later have it on both"
        for port in moving
    ]


def _has_both(version: str) -> bool:
    found = re.match(r"(\d{1,4})\.(\d{1,4})\.", version)
    return found is not None and (int(found[1]), int(found[2])) >= _SINCE
