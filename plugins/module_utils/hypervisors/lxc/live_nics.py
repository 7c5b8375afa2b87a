# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adjusts NICs that a container gets while it runs.

libvirt gives the container's end of such a NIC any free name (vnet0): that it is to be eth1 only counts when the
container starts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import Conflict
from ...host import command
from ..libvirt.domain_xml import attribute_of

# Seconds that `ip` takes at most.
_TIMEOUT = 30
_BY_LIBVIRT = re.compile(r"vnet\d+")


@dataclass(frozen=True)
class LiveNic:
    """Holds a NIC of a definition.
    host, guest: the names of its two ends, "" where the definition says none.
    text: its element, as libvirt wants it to attach or detach the NIC.
    mtu: 0 where the definition says none."""

    host: str
    guest: str
    text: str
    mtu: int = 0


def nics_of(text: str) -> dict[str, LiveNic]:
    """Return the NICs of a definition, by MAC address."""
    return {
        attribute_of(each, "mac", "address").lower(): LiveNic(
            attribute_of(each, "target", "dev"),
            attribute_of(each, "guest", "dev"),
            ET.tostring(each, encoding="unicode"),
            int(attribute_of(each, "mtu", "size") or 0),
        )
        for each in ET.fromstring(text).iterfind("devices/interface")
    }


def set_mtus(nics: Mapping[str, LiveNic]) -> None:
    """Give the hosts' ends the MTU of their definitions, which libvirt reads but ignores for containers. The container
    sets the MTU of its own end."""
    wanted = {nic.host: nic.mtu for nic in nics.values() if nic.host and nic.mtu}
    for each in _links() if wanted else ():
        name = str(each.get("ifname"))
        if each.get("mtu", 0) < wanted.get(name, 0):
            command.run(["ip", "link", "set", "dev", name, "mtu", str(wanted[name])], timeout=_TIMEOUT)


def name_ends(init: int, nics: Mapping[str, LiveNic], asked: str) -> bool:
    """Rename the container's ends that still have libvirt's names. Return whether there was one; raise Conflict if the
    container has made an interface of that name. All of them are down until the container brings them up, as they
    are when it starts. What the container itself has renamed stays. init: its init, by the host's number."""
    wanted = {nic.host: nic.guest for nic in nics.values() if nic.host and nic.guest}
    own = {each.get("ifname"): each.get("link_index") for each in _links() if each.get("ifname") in wanted}
    inside = _links(init) if own else []
    named = False
    for host, index in own.items():
        found = next((each for each in inside if index is not None and each.get("ifindex") == index), None)
        name, guest = str(found.get("ifname", "")) if found else "", wanted[str(host)]
        if not _BY_LIBVIRT.fullmatch(name) or name == guest:
            continue
        if any(each.get("ifname") == guest for each in inside):
            raise Conflict(
                f"{asked}: {guest}",
                f"the container has made another interface of this name itself, so that its NIC is still called {name}",
                "Rename or remove that one in the container, then run again",
            )
        command.run(["ip", "link", "set", "dev", name, "name", guest], before=_enter_network(init), timeout=_TIMEOUT)
        named = True
    return named


def _links(init: int = 0) -> list[dict[str, Any]]:
    """Return the interfaces of this host, or of the container with that init."""
    before = _enter_network(init) if init else []
    done = command.run(["ip", "-json", "link", "show"], before=before, timeout=_TIMEOUT)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def _enter_network(init: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{init}/ns/net", "--"]
