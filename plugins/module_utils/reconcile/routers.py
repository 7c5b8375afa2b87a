# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog to what an item of a list of routers wants. Addresses that it does not say stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface, ip_network
from typing import Any

from ..dataclass import replace
from ..engines.base import Engine, named
from ..errors import Conflict, InUse, InvalidValue, NebulaError
from ..model import network_checks
from ..model.addresses import ip_number, ip_text
from ..model.item_reader import read_item
from ..model.network import Network
from ..model.network_drivers import OVN
from ..model.object_ids import id_of
from ..model.object_names import check_name
from ..model.router import FloatingIp, Router, RouterGateway, RouterInterface, RouterRoute
from ..model.router_routes import UselessRoute, useless_routes
from ..model.specifications.router import KEYS
from ..sync import Item
from .logical_networks import apply_checked_for_ovn
from .network_views import router_view


def apply(engine: Engine, item: Mapping[str, Any], check_mode: bool = False) -> Item:
    """Carry the item out within a session. check_mode: where the catalog has no host yet, hosts are to come."""
    name = str(item.get("name") or "")
    try:
        check_name("router", item.get("name"))
        found = named(engine.routers.info, name)
        before = None if found is None else router_view(found)
        after = apply_checked_for_ovn(
            engine, lambda: _checked(engine, name, item, found, check_mode), lambda made: made != found
        )
    except NebulaError as error:
        return Item(name or "?", error=error, changed=False)
    return Item(name, before, None if after is None else router_view(after))


def networks_in_use(engine: Engine) -> set[str]:
    """Return the names of the networks that routers use. They stay until no router uses them."""
    ids = {number for router in engine.routers.pool() for number, _ip in router.addresses()}
    return {network.name for network in engine.networks.pool() if network.id in ids} if ids else set()


def _checked(
    engine: Engine, name: str, item: Mapping[str, Any], found: Router | None, check_mode: bool
) -> Router | None:
    """Return the router as the item has it. Raise InvalidValue for a route that leads nowhere, and is new."""
    had = [] if found is None else _useless_routes(engine, found)
    made = _apply(engine, name, item, found, check_mode)
    for each in [] if made is None else _useless_routes(engine, made):
        if each not in had:
            raise each.error(name)
    return made


def _useless_routes(engine: Engine, router: Router) -> list[UselessRoute]:
    if not router.routes and router.gateway is None:
        return []
    networks = {number: engine.networks.info(number) for number in {number for number, _ip in router.addresses()}}
    hop = ""
    if router.gateway is not None:
        hop = router.gateway.next_hop or networks[router.gateway.network_id].attributes.get("GATEWAY", "")
    wholes = ((network_checks.network_cidr(networks[number]), ip) for number, ip in router.addresses() if ip)
    return useless_routes(
        [(each.destination, each.next_hop) for each in router.routes],
        [ip_interface(f"{ip}/{32 if whole is None else whole.prefixlen}") for whole, ip in wholes],
        {each.ip for each in router.floating},
        [hop] if hop else [],
    )


def _apply(engine: Engine, name: str, item: Mapping[str, Any], found: Router | None, check_mode: bool) -> Router | None:
    where = f"router {name}"
    item = read_item(item, KEYS, where, removal={"absent": ("name", "state")})
    if item["state"] == "absent":
        if found is not None:
            engine.routers.delete(id_of(found))
        return None
    current = found or Router(None, name)
    wanted = current
    if item["description"] is not None:
        wanted = replace(wanted, description=item["description"])
    if item["interfaces"] is not None:
        wanted = replace(wanted, interfaces=_interfaces(engine, item["interfaces"], where))
    if item["gateway"] is not None:
        wanted = replace(wanted, gateway=_gateway(engine, item["gateway"], current, where, check_mode))
    if item["floating"] is not None:
        wanted = replace(wanted, floating=_floating(engine, item["floating"], current, wanted, where))
    if wanted.gateway is None and wanted.floating:
        raise InUse(
            f"{where}: no gateway",
            f"it has the floating addresses {', '.join(each.ip or each.vm for each in wanted.floating)}",
            "Give it a gateway in an external network, or take these away (floating: [])",
        )
    if item["routes"] is not None:
        wanted = replace(wanted, routes=tuple(_route(each, where) for each in item["routes"]))
    fields = ("description", "interfaces", "gateway", "floating", "routes")
    if found is None:
        return engine.routers.allocate(wanted)
    changes = {field: getattr(wanted, field) for field in fields if getattr(wanted, field) != getattr(found, field)}
    return engine.routers.update(id_of(found), **changes) if changes else found


def _network(engine: Engine, ref: Any, where: str) -> Network:
    network = engine.networks.info(ref)
    if network.vn_mad != OVN:
        raise InvalidValue(
            f"{where}: network {network.name}",
            f"its driver is {network.vn_mad}, which knows no routers",
            "Name one with vn_mad: ovn",
        )
    return network


def _address(network: Network, text: str, where: str) -> str:
    """Return the address in its one form. Raise InvalidValue if the network does not have it."""
    asked = f"{where}: ip {text} in network {network.name}"
    address = ip_text(ip_number(text, f"{where}: ip"))
    whole = network_checks.network_cidr(network)
    if whole is None:
        raise InvalidValue(asked, "it says no NETWORK_ADDRESS", "Give the network its network_address, as 10.0.0.0/24")
    if not network_checks.is_within(address, whole):
        raise InvalidValue(asked, f"the network is {whole}", "Give an address of it")
    if network_checks.is_edge(ip_number(address, asked), whole):
        raise InvalidValue(asked, f"it is the network or the broadcast address of {whole}", "Give one between the two")
    return address


def _own_address(network: Network, text: str, where: str) -> str:
    """Return an address of the router in an external network. Raise as _address() does, and Conflict for the network's
    gateway, which is somebody else's."""
    address = _address(network, text, where)
    if address == network.attributes.get("GATEWAY"):
        raise Conflict(
            f"{where}: ip {address} in network {network.name}",
            "it is the GATEWAY of that network, which the router reaches the outside by",
            "Give another address, or none: then a free one is leased",
        )
    return address


def _interfaces(engine: Engine, entries: Sequence[Mapping[str, Any]], where: str) -> tuple[RouterInterface, ...]:
    found: list[RouterInterface] = []
    for number, entry in enumerate(entries):
        place = f"{where}: interfaces[{number}]"
        if entry.get("network") is None:
            raise InvalidValue(place, "it says no network", "Name the network that it is in")
        network = _network(engine, entry["network"], place)
        text = entry.get("ip") or network.attributes.get("GATEWAY", "")
        if not text:
            raise InvalidValue(
                f"{place}: network {network.name}",
                "neither the interface says an ip nor the network a GATEWAY",
                "Give one of the two; machines take the network's gateway as their router",
            )
        if any(each.network_id == network.id for each in found):
            raise InvalidValue(f"{place}: network {network.name}", "the list has it twice", "Keep one of the two")
        found.append(RouterInterface(id_of(network), _address(network, text, place)))
    return tuple(found)


def _gateway(
    engine: Engine, entry: Mapping[str, Any], current: Router, where: str, check_mode: bool
) -> RouterGateway | None:
    if not any(value is not None for value in entry.values()):
        return None
    place = f"{where}: gateway"
    if entry.get("network") is None:
        raise InvalidValue(place, "it says no network", "Name the external network")
    network = _network(engine, entry["network"], place)
    if not network.attributes.get("PHYSICAL_NETWORK"):
        raise InvalidValue(
            f"{place}: network {network.name}",
            "it is no external network, as it has no physical_network",
            "Name one that has, or connect the two as interfaces",
        )
    there = current.gateway if current.gateway is not None and current.gateway.network_id == network.id else None
    hosts = tuple(entry.get("hosts") or ()) if entry.get("hosts") is not None else there.hosts if there else ()
    if not check_mode or engine.hosts.pool():
        for host in hosts:
            engine.hosts.info(host)
    next_hop = str(entry.get("next_hop") or (there.next_hop if there and entry.get("next_hop") is None else ""))
    return RouterGateway(
        id_of(network),
        _own_address(network, entry["ip"], place) if entry.get("ip") else there.ip if there else "",
        (there.snat if there else True) if entry.get("snat") is None else bool(entry["snat"]),
        _address(network, next_hop, f"{place}: next_hop") if next_hop else "",
        hosts,
    )


def _floating(
    engine: Engine, entries: Sequence[Mapping[str, Any]], current: Router, wanted: Router, where: str
) -> tuple[FloatingIp, ...]:
    """Return the floating addresses. An entry without an address keeps the address that its machine has."""
    if entries and wanted.gateway is None:
        raise InvalidValue(f"{where}: floating", "the router has no gateway", "Give it one in an external network")
    same = current.gateway is not None and wanted.gateway is not None
    same = same and current.gateway.network_id == wanted.gateway.network_id  # type: ignore[union-attr]
    left = list(current.floating) if same else []
    found: list[FloatingIp] = []
    given = {str(entry["ip"]) for entry in entries if entry.get("ip")}
    for number, entry in enumerate(entries):
        place = f"{where}: floating[{number}]"
        network = None if entry.get("network") is None else id_of(_network(engine, entry["network"], place))
        vm = str(entry.get("vm") or "")
        if entry.get("ip") and wanted.gateway is not None:
            ip = _own_address(engine.networks.info(wanted.gateway.network_id), entry["ip"], place)
        else:
            fits = [each for each in left if each.vm == vm and each.network_id == network and each.ip not in given]
            ip = fits[0].ip if fits else ""
            left = [each for each in left if each not in fits[:1]]
        if ip and any(each.ip == ip for each in found):
            raise InvalidValue(f"{place}: ip {ip}", "the list has it twice", "Keep one of the two")
        found.append(FloatingIp(ip, vm, network, bool(entry.get("distributed"))))
    return tuple(found)


def _route(entry: Mapping[str, Any], where: str) -> RouterRoute:
    try:
        destination = str(ip_network(str(entry["destination"])))
    except ValueError as error:
        raise InvalidValue(
            f"{where}: routes: destination {entry['destination']!r}", str(error), "Write it as 10.9.0.0/16"
        ) from None
    hop = ip_text(ip_number(str(entry["next_hop"]), f"{where}: routes: next_hop"))
    return RouterRoute(destination, hop)
