# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes rows of routers: their ports, gateway, address translation, routes, and what they lead nobody to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

from ...model.logical_network import (
    FloatingAddress,
    Gateway,
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    Router,
)
from .desired_rows import Rows, stable_mac
from .logical_switches import FIRST, barred_matches, of_family, switch_of
from .ovsdb_tables import Identity

# What a network takes that does not say it.
_USUAL_MTU = 1500


def render(rows: Rows, desired: LogicalNetworks) -> None:
    networks = {network.uuid: network for network in desired.networks}
    ports = {port.uuid: port for port in desired.ports}
    for router in desired.routers:
        _add_router(rows, router, networks, ports)


def port_name(router: str, network: str) -> str:
    return f"lrp-{router}-{network}"


def mac_of(router: Router, interface: Interface | Gateway) -> str:
    return interface.mac or stable_mac("router", router.uuid, interface.network)


def outside_mac(router: Router, gateway: Gateway, floating: FloatingAddress) -> str:
    """Return the MAC address by which neighbours outside reach a floating address, which may be the gateway's."""
    # The MAC address goes with the address, whichever machine that leads to: neighbours need not learn another.
    own = stable_mac("floating", router.uuid, floating.external_ip)
    return own if floating.distributed else mac_of(router, gateway)


def _add_router(
    rows: Rows, router: Router, networks: Mapping[str, LogicalNetwork], ports: Mapping[str, LogicalPort]
) -> None:
    row = rows.add(rows.identity("Logical_Router", router=router.uuid), {"name": router.name})
    for column in ("ports", "static_routes", "policies", "nat"):
        rows.wanted[row][column] = set()
    gateway = router.gateway
    attached = [*router.interfaces, *((gateway,) if gateway else ())]
    largest = max((networks[each.network].mtu or _USUAL_MTU for each in attached), default=0)
    for interface in attached:
        network = networks[interface.network]
        # Where a packet does not fit, its sender hears of it, instead of nobody.
        options = {"gateway_mtu": str(network.mtu)} if 0 < network.mtu < largest else {}
        columns: dict[str, Any] = {
            "name": port_name(router.uuid, network.uuid),
            "mac": mac_of(router, interface),
            "networks": frozenset(interface.addresses),
            "options": options,
            "ipv6_ra_configs": {} if interface is gateway else advertisement_settings(network, interface.addresses),
            "gateway_chassis": set(),
        }
        _attach(rows, router, network, row, columns, nat=interface is gateway)
    for prefix, hop, output in routes_of(router):
        route = rows.identity("Logical_Router_Static_Route", router=router.uuid, part=f"route {prefix}")
        columns = {"ip_prefix": prefix, "nexthop": hop, "output_port": frozenset((output,) if output else ())}
        rows.put(rows.add(route, columns), row, "static_routes")
    for family, matched in barred_matches(router.barred):
        policy = rows.identity("Logical_Router_Policy", router=router.uuid, part=f"barred{family}")
        rows.put(rows.add(policy, {"priority": FIRST, "match": matched, "action": "drop"}), row, "policies")
    if gateway:
        _add_gateway_chassis(rows, router, gateway)
        _add_snat(rows, router, gateway, networks, row)
        for floating in router.floating:
            _add_floating(rows, router, gateway, floating, ports[floating.port], row)


def _attach(
    rows: Rows, router: Router, network: LogicalNetwork, row: Identity, columns: Mapping[str, Any], nat: bool
) -> None:
    marks = {"router": router.uuid, "network": network.uuid, "part": "interface"}
    rows.put(rows.add(rows.identity("Logical_Router_Port", **marks), columns), row, "ports")
    other_end = {
        "name": f"lsp-{router.uuid}-{network.uuid}",
        "type": "router",
        "addresses": frozenset(("router",)),
        # Neighbours outside hear where addresses went that the router answers for.
        "options": {"router-port": columns["name"], **({"nat-addresses": "router"} if nat else {})},
    }
    port = rows.add(rows.identity("Logical_Switch_Port", **marks), other_end)
    rows.put(port, switch_of(rows, network.uuid), "ports")


def advertisement_settings(network: LogicalNetwork, addresses: Sequence[str]) -> dict[str, str]:
    """Return what the router announces to a network's machines."""
    if not network.ra_mode or all(ip_interface(address).version == 4 for address in addresses):
        return {}
    configuration = {"address_mode": network.ra_mode, "send_periodic": "true"}
    if network.mtu:
        configuration["mtu"] = str(network.mtu)
    servers = of_family(6, network.dns)
    if servers:
        # OVN announces one.
        configuration["rdnss"] = servers[0]
    if network.search_domain:
        configuration["dnssl"] = network.search_domain
    return configuration


def routes_of(router: Router) -> list[tuple[str, str, str]]:
    """Return each route with the port that it leads out by, where that does not follow from the next hop."""
    routes = [(route.destination, route.next_hop, "") for route in router.routes]
    if router.gateway:
        output = port_name(router.uuid, router.gateway.network)
        hops = (("0.0.0.0/0", router.gateway.next_hop4), ("::/0", router.gateway.next_hop6))
        routes += [(prefix, hop, output) for prefix, hop in hops if hop]
    return routes


def _add_gateway_chassis(rows: Rows, router: Router, gateway: Gateway) -> None:
    marks = {"router": router.uuid, "network": gateway.network}
    port = rows.identity("Logical_Router_Port", part="interface", **marks)
    for chassis in gateway.chassis:
        row = rows.identity("Gateway_Chassis", part=f"chassis {chassis.name}", **marks)
        name = f"{port_name(router.uuid, gateway.network)}_{chassis.name}"
        columns = {"name": name, "chassis_name": chassis.name, "priority": chassis.priority}
        rows.put(rows.add(row, columns), port, "gateway_chassis")


def outside4(gateway: Gateway) -> str:
    """Return the address that stands for machines outside; "" if the gateway has no IPv4 address."""
    found = (ip_interface(address) for address in gateway.addresses)
    return next((str(each.ip) for each in found if each.version == 4), "")


def _add_snat(
    rows: Rows, router: Router, gateway: Gateway, networks: Mapping[str, LogicalNetwork], row: Identity
) -> None:
    outside = outside4(gateway)
    if not router.snat or not outside:
        return
    for interface in router.interfaces:
        network = networks[interface.network]
        if not network.cidr4:
            continue
        nat = rows.identity("NAT", router=router.uuid, network=network.uuid, part="snat")
        columns = {
            "type": "snat",
            "external_ip": outside,
            "logical_ip": network.cidr4,
            "external_mac": frozenset(),
            "logical_port": frozenset(),
        }
        rows.put(rows.add(nat, columns), row, "nat")


def inside(floating: FloatingAddress, port: LogicalPort) -> str:
    """Return the machine's address that a floating address leads to; "" if the machine has none of that family."""
    if floating.logical_ip:
        return floating.logical_ip
    of_kind = port.addresses4 if ip_address(floating.external_ip).version == 4 else port.addresses6
    return of_kind[0] if of_kind else ""


def _add_floating(
    rows: Rows, router: Router, gateway: Gateway, floating: FloatingAddress, port: LogicalPort, row: Identity
) -> None:
    spread = floating.distributed
    columns = {
        "type": "dnat_and_snat",
        "external_ip": floating.external_ip,
        "logical_ip": inside(floating, port),
        "external_mac": frozenset((outside_mac(router, gateway, floating),) if spread else ()),
        "logical_port": frozenset((port.uuid,) if spread else ()),
    }
    nat = rows.identity("NAT", router=router.uuid, part=f"floating {floating.external_ip}")
    rows.put(rows.add(nat, columns), row, "nat")
