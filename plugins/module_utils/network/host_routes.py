# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads routes of a node, and tells whether a virtual network would take addresses from one of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Union

from ..dataclass import dataclass
from ..errors import Conflict
from ..host.command import run

TIMEOUT = 30.0
# Default routes, also when a VPN splits them in two: every network lies in them, and none takes anything from them.
_EVERYWHERE = 1
# What every link has, and no network takes.
_ON_EVERY_LINK = (ip_network("fe80::/10"), ip_network("ff00::/8"), ip_network("224.0.0.0/4"))
_MAIN = "main"

Span = Union[IPv4Network, IPv6Network]


@dataclass(frozen=True)
class Route:
    """Describes a route. device: "" for none (blackhole); several by commas. table: "" for the main table."""

    destination: Span
    device: str
    gateway: str = ""
    table: str = ""

    def __str__(self) -> str:
        text = f"{self.destination}" + (f" via {self.gateway}" if self.gateway else "")
        text += f" on device {self.device}" if self.device else " without a device"
        return text + (f" in table {self.table}" if self.table else "")


def observe() -> list[Route]:
    """Return the routes of all tables. The table of local addresses counts too: an address that a host has on its
    loopback interface is in no other table."""
    routes = []
    for family, everywhere in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        # Without IPv6 there is nothing to show, and that is no error.
        done = run(["ip", "-json", family, "route", "show", "table", "all"], timeout=TIMEOUT, check=family == "-4")
        for entry in json.loads(done.stdout or "[]") if done.returncode == 0 else ():
            if entry.get("type") in ("broadcast", "multicast", "anycast", "throw"):
                continue
            destination = ip_network(everywhere if entry["dst"] == "default" else entry["dst"])
            if any(_overlap(destination, each) for each in _ON_EVERY_LINK if destination.prefixlen > _EVERYWHERE):
                continue
            hops = [hop.get("dev", "") for hop in entry.get("nexthops", ())]
            device = entry.get("dev") or ",".join(hop for hop in hops if hop)
            table = str(entry.get("table", _MAIN))
            routes.append(Route(destination, device, entry.get("gateway", ""), "" if table == _MAIN else table))
    # Those that people know first: an address makes one in the table of local ones, too.
    return sorted(routes, key=lambda route: bool(route.table))


def default_route_device(routes: Sequence[Route]) -> str:
    """Return the device by which the host reaches what it has no other route to; "" if there is none, or several."""
    devices = {route.device for route in routes if route.destination == IPv4Network("0.0.0.0/0") and not route.table}
    return devices.pop() if len(devices) == 1 and "," not in "".join(devices) else ""


def refuse_overlap(network: str, spans: Sequence[Span], own: Collection[str], routes: Sequence[Route]) -> None:
    """Raise Conflict if a route of the host leads into the network's addresses, but by a bridge of its own."""
    for route in routes:
        if route.destination.prefixlen <= _EVERYWHERE or route.device in own:
            continue
        for span in spans:
            if _overlap(span, route.destination):
                raise Conflict(
                    f"network {network}: {span}",
                    f"the host has the route {route}",
                    "Give the network addresses that the host does not reach otherwise, or remove that route",
                )


def _overlap(one: Span, other: Span) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.overlaps(other)
