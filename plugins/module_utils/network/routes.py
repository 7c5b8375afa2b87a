# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of a node, and whether a virtual network would take addresses from one of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from ..errors import Conflict
from ..host.command import run

TIMEOUT = 30.0
# Default routes, also when a VPN splits them in two: every network lies in them, and none takes anything from them.
_EVERYWHERE = 1


@dataclass(frozen=True)
class Route:
    """device: "" for a route without one (blackhole); several by commas."""

    destination: IPv4Network
    device: str
    gateway: str = ""

    def __str__(self) -> str:
        text = f"{self.destination}" + (f" via {self.gateway}" if self.gateway else "")
        return text + (f" on device {self.device}" if self.device else " without a device")


def observe() -> list[Route]:
    """The IPv4 routes of the main table."""
    entries = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "main"], timeout=TIMEOUT).stdout or "[]")
    routes = []
    for entry in entries:
        destination = "0.0.0.0/0" if entry["dst"] == "default" else entry["dst"]
        hops = [hop.get("dev", "") for hop in entry.get("nexthops", ())]
        routes.append(
            Route(
                IPv4Network(destination), entry.get("dev") or ",".join(h for h in hops if h), entry.get("gateway", "")
            )
        )
    return routes


def refuse_overlap(network: str, spans: Sequence[IPv4Network], own: Collection[str], routes: Sequence[Route]) -> None:
    """Raise Conflict if a route of the host leads into one of the network's spans of addresses, but by a bridge of
    its own."""
    for route in routes:
        if route.destination.prefixlen <= _EVERYWHERE or route.device in own:
            continue
        for span in spans:
            if span.overlaps(route.destination):
                raise Conflict(
                    f"network {network}: {span}",
                    f"the host has the route {route}",
                    "Give the network addresses that the host does not reach otherwise, or remove that route",
                )
