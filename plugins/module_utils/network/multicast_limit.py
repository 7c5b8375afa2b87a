# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has this host be in as many groups of multicast as it needs. Each VXLAN device is in one, all of them by one socket
of the kernel's, which by itself says "No buffer space available" beyond 20."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import CommandFailed
from .links import VXLAN_KIND, Link

LIMIT = Path("/proc/sys/net/ipv4/igmp_max_memberships")
# What others on the host may want besides, as the kernel has it.
_OTHERS = 20


def limit_for(devices: int) -> int:
    return devices + _OTHERS


def sysctl_line(links: Mapping[str, Link]) -> str:
    """Return the path below /proc/sys/net and the value for these links, for programs that set the limit."""
    count = sum(link.kind == VXLAN_KIND for link in links.values())
    return f"ipv4/{LIMIT.name} {limit_for(count)}"


def ensure_limit(making: Sequence[str], links: Mapping[str, Link]) -> None:
    """Raise the limit, where the devices that are to be made need that. It is never lowered: its former value is kept
    nowhere, and a high limit takes nothing by itself. making: lines for `ip`."""
    devices = sum(" type vxlan " in line for line in making)
    if not devices:
        return
    wanted = limit_for(devices + sum(link.kind == VXLAN_KIND for link in links.values()))
    try:
        if int(LIMIT.read_text(encoding="ascii")) < wanted:
            LIMIT.write_text(f"{wanted}\n", encoding="ascii")
    except OSError as error:
        raise CommandFailed(
            f"set net.ipv4.igmp_max_memberships to {wanted}",
            f"{LIMIT}: {error.strerror}",
            "In a container it may be read-only: set it on the host",
        ) from error
