# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds routes of routers that lead nowhere, and routes that ovn-northd has made nothing of. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_interface
from typing import Any

from ...errors import NetworkDatabaseError
from ...model.logical_network import LogicalNetworks, Router
from ...model.router_routes import UselessRoute, useless_routes
from .logical_routers import port_name, routes_of
from .row_differences import Change

# Of the southbound database, where ovn-northd writes what it has made of the northbound one.
TABLE = "Logical_Flow"
COLUMNS = ("match", "actions")
# Of hundreds of thousands of rows those that say where a router sends packets.
WHERE = (["external_ids", "includes", ["map", [["stage-name", "lr_in_ip_routing"]]]],)


def of_router(router: Router) -> list[UselessRoute]:
    gateway = router.gateway
    attached = [*router.interfaces, *((gateway,) if gateway else ())]
    return useless_routes(
        [(route.destination, route.next_hop) for route in router.routes],
        [ip_interface(address) for each in attached for address in each.addresses],
        {each.external_ip for each in router.floating},
        [hop for hop in (gateway.next_hop4, gateway.next_hop6) if hop] if gateway else [],
    )


def warnings(desired: LogicalNetworks) -> list[str]:
    """Return warnings of routes that were in the catalog before it was known that they lead nowhere."""
    return [str(each.error(router.name)) for router in desired.routers for each in of_router(router)]


def routers_with_changed_routes(desired: LogicalNetworks, changes: Iterable[Change]) -> list[Router]:
    """Return the routers with routes that OVN was told something of."""
    uuids = {change.owner.uuid for change in changes if change.owner.kind == "router" and change.after is not None}
    return [router for router in desired.routers if router.uuid in uuids and routes_of(router)]


def routes_without_flows(routers: Collection[Router], flows: Iterable[Mapping[str, Any]]) -> list[NetworkDatabaseError]:
    """Return an error for each route of these routers that has no flow, unless it is known why. flows: rows of TABLE
    that fit WHERE."""
    routing = [(str(flow["match"]), str(flow["actions"])) for flow in flows]
    found = []
    for router in routers:
        known = {each.destination for each in of_router(router)}
        attached = [*router.interfaces, *((router.gateway,) if router.gateway else ())]
        ports = [f'"{port_name(router.uuid, each.network)}"' for each in attached]
        own = [(match, actions) for match, actions in routing if any(port in actions for port in ports)]
        # Without any flow, not even for its own networks, nothing can be told by them.
        for destination, hop, _output in routes_of(router) if own else ():
            if destination not in known and not any(
                f"dst == {destination}" in match and f"= {hop};" in actions for match, actions in own
            ):
                found.append(
                    NetworkDatabaseError(
                        f"router {router.name}: route to {destination} by {hop}",
                        "ovn-northd was told of it, and has made no flow of it: it is not carried out",
                        "See why in ovn-northd.log on the central host, below /var/log/ovn. Correct the router's "
                        "routes or its gateway, then run it again",
                    )
                )
    return found
