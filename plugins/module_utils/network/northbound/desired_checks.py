# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses what must not be asked of OVN, whatever it has already. Pure.

Much of it OVN would take without a word, and then drop packets, or send them to whom they are not for."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any, Union

from ...errors import Conflict, InvalidValue, NebulaError, NotFound
from ...model.addresses import mac_number, mac_text
from ...model.logical_network import (
    DIRECTIONS,
    ICMP,
    ICMPV6,
    PROTOCOLS,
    RA_MODES,
    TCP,
    UDP,
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    Router,
    SecurityRule,
)
from .logical_routers import inside
from .port_groups import spans

LAST_VLAN, LAST_PORT = 4094, 65535
_SLAAC_LENGTH = 64
# It is written between quotes in options of DHCP, and in names of DNS.
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")

Address = Union[IPv4Address, IPv6Address]


@functools.lru_cache(maxsize=1 << 17)
def _parse_address(text: str) -> Address:
    """Return the address. Each is asked for several times, and takes longer to read than all that is done with it."""
    return ip_address(text)


_mac = functools.lru_cache(maxsize=1 << 17)(mac_number)
_mac_text = functools.lru_cache(maxsize=1 << 17)(mac_text)
_span = functools.lru_cache(maxsize=1 << 12)(ip_network)


def refuse(desired: LogicalNetworks) -> None:
    """Raise an error for the first thing that is wrong, in the order in which it was asked for."""
    networks = {network.uuid: network for network in desired.networks}
    ports = {port.uuid: port for port in desired.ports}
    _check_once("network", desired.networks)
    _check_once("NIC", desired.ports)
    _check_once("security group", desired.groups)
    _check_once("router", desired.routers)
    for network in desired.networks:
        _check_network(network)
    for group in desired.groups:
        for rule in group.rules:
            _check_rule(f"security group {group.name}", rule, networks)
    groups = {group.uuid for group in desired.groups}
    for port in desired.ports:
        _check_port(port, networks, groups)
    for router in desired.routers:
        _check_router(router, networks, ports)
    _check_addresses_once(desired, networks)
    _check_outside_once(desired, networks)


def _check_once(kind: str, objects: Iterable[Any]) -> None:
    seen: set[str] = set()
    for each in objects:
        if not _UUID.match(each.uuid):
            raise InvalidValue(f"{kind} {each.name}: UUID {each.uuid!r}", "it is none", "Write it as uuidgen does")
        if each.uuid in seen:
            raise Conflict(f"{kind} {each.name}: UUID {each.uuid}", "it is there twice", "Name each object once")
        seen.add(each.uuid)


def parse(asked: str, text: str, read: Callable[[str], Any], form: str) -> Any:
    try:
        # A scope may be any text to ipaddress, and would be text of an expression of OVN's.
        if "%" in text:
            raise ValueError(f"{text!r} has a scope")
        return read(text)
    except ValueError as error:
        raise InvalidValue(f"{asked} = {text!r}", f"{error}", f"Write it as {form}") from None


def address(asked: str, text: str, version: int = 0) -> Address:
    found: Address = parse(asked, text, _parse_address, "10.66.0.10 or 2001:db8::10")
    if version and found.version != version:
        raise InvalidValue(f"{asked} = {text!r}", f"it is one of IPv{found.version}", f"Give one of IPv{version}")
    return found


# --- networks and ports -----------------------------------------------------------------------------------------------
def _check_network(network: LogicalNetwork) -> None:
    of = f"network {network.name}"
    if network.cidr4:
        span = parse(f"{of}: CIDR", network.cidr4, _span, "10.66.0.0/24")
        if span.version != 4:
            raise InvalidValue(f"{of}: CIDR = {network.cidr4!r}", "it is one of IPv6", "Give it as a prefix of IPv6")
        for what, text in (("gateway", network.gateway4), ("DHCP server", network.dhcp_server4)):
            if text and address(f"{of}: {what}", text, 4) not in span:
                raise InvalidValue(f"{of}: {what} = {text}", f"it is outside of {span}", "Give an address of that")
    for text in network.prefixes6:
        prefix = parse(f"{of}: prefix", text, ip_network, "2001:db8::/64")
        if prefix.version != 6:
            raise InvalidValue(f"{of}: prefix = {text!r}", "it is one of IPv4", "Give it as CIDR")
        if network.ra_mode and prefix.prefixlen != _SLAAC_LENGTH:
            raise InvalidValue(
                f"{of}: prefix = {text}", f"a router announces prefixes of length {_SLAAC_LENGTH} alone", "Give a /64"
            )
    if network.gateway6:
        address(f"{of}: gateway", network.gateway6, 6)
    if network.ra_mode and network.ra_mode not in RA_MODES:
        raise InvalidValue(f"{of}: router advertisements = {network.ra_mode!r}", "unknown", f"One of {RA_MODES}")
    for text in network.dns:
        address(f"{of}: DNS", text)
    for text in network.barred:
        parse(f"{of}: barred", text, _span, "169.254.0.0/16")
    for label in network.search_domain.split(".") if network.search_domain else ():
        _check_host(f"{of}: search domain", network.search_domain, label)
    if network.vlan is not None:
        if not network.physical_network:
            raise InvalidValue(f"{of}: VLAN {network.vlan}", "it has no physical network", "Name that, too")
        if not 1 <= network.vlan <= LAST_VLAN:
            raise InvalidValue(f"{of}: VLAN {network.vlan}", "no such tag", f"Give one from 1 to {LAST_VLAN}")


def _check_host(asked: str, text: str, label: str) -> None:
    if not _HOST.match(label):
        raise InvalidValue(f"{asked} = {text!r}", "not a name of a host", "Use letters, digits and hyphens")


def _check_port(port: LogicalPort, networks: Mapping[str, LogicalNetwork], groups: Collection[str]) -> None:
    of = f"NIC {port.name or port.uuid}"
    _check_mac(f"{of}: MAC", port.mac)
    for text in port.addresses4:
        address(f"{of}: address", text, 4)
    for text in port.addresses6:
        address(f"{of}: address", text, 6)
    for text in port.further:
        address(f"{of}: address", text)
    for label in port.hostname.split(".") if port.hostname else ():
        _check_host(f"{of}: host name", port.hostname, label)
    if port.network not in networks:
        raise _dangling(of, "network", port.network)
    for group in port.security_groups:
        if group not in groups:
            raise _dangling(of, "security group", group)
    span = networks[port.network].cidr4
    for text in (each for each in port.addresses if _parse_address(each).version == 4) if span else ():
        if _parse_address(text) not in _span(span):
            raise InvalidValue(
                f"{of}: address = {text}",
                f"it is outside of {span}, the CIDR of network {networks[port.network].name}",
                "Lease an address of the network",
            )


def _check_mac(asked: str, text: str) -> None:
    """Raise InvalidValue for a MAC address in a form that OVN does not know: others than the catalog write more."""
    plain = _mac_text(_mac(text, asked))
    if text.lower() != plain:
        raise InvalidValue(f"{asked} = {text!r}", "OVN reads one form", f"Write it as {plain}")


def _dangling(of: str, kind: str, uuid: str) -> NebulaError:
    return NotFound(f"{of}: {kind} {uuid}", "there is none among those that are wanted", "Name one that is there")


def _check_rule(of: str, rule: SecurityRule, networks: Mapping[str, LogicalNetwork]) -> None:
    if rule.direction not in DIRECTIONS:
        raise InvalidValue(f"{of}: RULE_TYPE = {rule.direction!r}", "unknown", "Write inbound or outbound")
    if rule.protocol not in PROTOCOLS:
        raise InvalidValue(f"{of}: PROTOCOL = {rule.protocol!r}", "unknown", f"One of {', '.join(PROTOCOLS)}")
    if rule.ports and rule.protocol not in (TCP, UDP):
        raise InvalidValue(f"{of}: RANGE", f"{rule.protocol} has no ports", "Leave it out, or write TCP or UDP")
    for first, last in rule.ports:
        if not 0 <= first <= last <= LAST_PORT:
            raise InvalidValue(f"{of}: RANGE = {first}:{last}", "no range of ports", "Write it as 22,80,8000:8010")
    if rule.icmp_type is not None:
        if rule.protocol not in (ICMP, ICMPV6):
            raise InvalidValue(f"{of}: ICMP_TYPE", f"{rule.protocol} has none", "Leave it out, or write ICMP")
        if not 0 <= rule.icmp_type <= 255:
            raise InvalidValue(f"{of}: ICMP_TYPE = {rule.icmp_type}", "no such type", "Give one from 0 to 255")
    if rule.network and rule.ip:
        raise InvalidValue(f"{of}: NETWORK_ID and IP", "a rule has one of them", "Write a rule for each")
    if rule.network:
        if rule.network not in networks:
            raise _dangling(of, "network", rule.network)
        if not networks[rule.network].cidr4 and not networks[rule.network].prefixes6:
            found = f"network {networks[rule.network].name} has no addresses that are known"
            raise InvalidValue(f"{of}: NETWORK_ID", found, "Write its addresses as IP and SIZE")
    if rule.ip:
        if rule.size < 1:
            raise InvalidValue(f"{of}: SIZE = {rule.size}", "no number of addresses", "Give 1 or more")
        found = parse(f"{of}: IP", rule.ip, lambda _text: spans(rule), "10.66.0.10 or 10.66.0.0/24")
        if {ICMP: 6, ICMPV6: 4}.get(rule.protocol) == found[0].version:
            raise InvalidValue(
                f"{of}: IP = {rule.ip}", f"{rule.protocol} is of the other IP", "Write ICMP for IPv4, ICMPV6 for IPv6"
            )


# --- routers ----------------------------------------------------------------------------------------------------------
def _check_router(router: Router, networks: Mapping[str, LogicalNetwork], ports: Mapping[str, LogicalPort]) -> None:
    of = f"router {router.name}"
    attached: list[str] = []
    for interface in router.interfaces:
        network = _check_interface(of, interface, networks)
        if network.uuid in attached:
            raise Conflict(f"{of}: network {network.name}", "it is there twice", "Give one interface its addresses")
        attached.append(network.uuid)
    _check_spans_apart(of, [networks[uuid] for uuid in attached])
    for text in router.barred:
        parse(f"{of}: barred", text, ip_network, "169.254.0.0/16")
    reached = [ip_interface(text).network for each in router.interfaces for text in each.addresses]
    if router.gateway:
        _check_gateway(of, router, networks, attached)
        reached += [ip_interface(text).network for text in router.gateway.addresses]
    for route in router.routes:
        parse(f"{of}: route", route.destination, ip_network, "10.9.0.0/16")
        hop = address(f"{of}: next hop", route.next_hop)
        if not any(hop in span for span in reached):
            raise InvalidValue(f"{of}: next hop {hop}", "no interface of it reaches that", "Give a neighbour's address")
    destinations = [route.destination for route in router.routes]
    for destination in destinations:
        if destinations.count(destination) > 1:
            raise Conflict(f"{of}: route to {destination}", "there are two", "Give one next hop")
    for floating in router.floating:
        _check_floating(of, floating, router, networks, ports)


def _check_interface(of: str, interface: Any, networks: Mapping[str, LogicalNetwork]) -> LogicalNetwork:
    if interface.network not in networks:
        raise _dangling(of, "network", interface.network)
    network = networks[interface.network]
    if not interface.addresses:
        raise InvalidValue(f"{of}: network {network.name}", "it has no address there", "Give one as 10.66.0.1/24")
    if interface.mac:
        _check_mac(f"{of}: MAC in network {network.name}", interface.mac)
    within = [ip_network(text) for text in (network.cidr4, *network.prefixes6) if text]
    for text in interface.addresses:
        asked = f"{of}: address in network {network.name}"
        if "/" not in text:
            raise InvalidValue(f"{asked} = {text!r}", "it has no length of its prefix", "Write it as 10.66.0.1/24")
        own = parse(asked, text, ip_interface, "10.66.0.1/24")
        if not any(own.network == span for span in within):
            raise InvalidValue(
                f"{asked} = {text}",
                f"it is not one of {', '.join(map(str, within)) or 'a network without addresses'}",
                "Give an address of the network, with the network's length of prefix",
            )
    return network


def _check_spans_apart(of: str, networks: list[LogicalNetwork]) -> None:
    seen: list[tuple[Any, str]] = []
    for network in networks:
        for text in (network.cidr4, *network.prefixes6):
            if not text:
                continue
            span = ip_network(text)
            for other, name in seen:
                if other.version == span.version and other.overlaps(span):
                    raise Conflict(
                        f"{of}: network {network.name}",
                        f"its {span} overlaps {other} of network {name}, which the router is in as well",
                        "A router tells networks apart by their addresses: put one of them on another router",
                    )
            seen.append((span, network.name))


def _check_gateway(of: str, router: Router, networks: Mapping[str, LogicalNetwork], attached: list[str]) -> None:
    gateway = router.gateway
    if gateway is None:
        return
    network = _check_interface(f"{of}: gateway", gateway, networks)
    if not network.physical_network:
        raise InvalidValue(f"{of}: gateway in network {network.name}", "it is no external network", "Name one that is")
    if network.uuid in attached:
        raise Conflict(f"{of}: gateway in network {network.name}", "it has an interface there, too", "Give one of both")
    _check_spans_apart(of, [*(networks[uuid] for uuid in attached), network])
    if not gateway.chassis:
        raise InvalidValue(f"{of}: gateway", "no node carries it", "Name one node or more that reach the network")
    for values in ([each.name for each in gateway.chassis], [each.priority for each in gateway.chassis]):
        if len(set(values)) < len(values):
            raise Conflict(f"{of}: gateway: nodes {values}", "one is there twice", "Name each, with its own priority")
    for version, text in ((4, gateway.next_hop4), (6, gateway.next_hop6)):
        if text and not any(
            address(f"{of}: next hop", text, version) in ip_interface(own).network for own in gateway.addresses
        ):
            raise InvalidValue(f"{of}: next hop {text}", "the gateway does not reach it", "Give a neighbour's address")


def _check_floating(
    of: str, floating: Any, router: Router, networks: Mapping[str, LogicalNetwork], ports: Mapping[str, LogicalPort]
) -> None:
    asked = f"{of}: floating address {floating.external_ip}"
    outside = address(asked, floating.external_ip)
    if router.gateway is None:
        raise InvalidValue(asked, "the router has no gateway", "Give it one in an external network")
    if floating.port not in ports:
        raise _dangling(asked, "NIC", floating.port)
    port = ports[floating.port]
    if floating.logical_ip:
        address(asked, floating.logical_ip, outside.version)
        if floating.logical_ip not in port.addresses:
            found = f"its NIC {port.name or port.uuid} does not have {floating.logical_ip}"
            raise InvalidValue(asked, found, "Name an address that it has")
    if not inside(floating, port):
        found = f"its NIC {port.name or port.uuid} has no address of IPv{outside.version}"
        raise InvalidValue(asked, found, "Name a NIC that has one")
    if all(port.network != interface.network for interface in router.interfaces):
        raise InvalidValue(
            asked,
            f"the router has no interface in network {networks[port.network].name}, where its NIC is",
            "Give the router one there, or the address to the router that has it",
        )


# --- addresses that are there once ------------------------------------------------------------------------------------
class _AddressOwners:
    """Holds the addresses of one link, with who has them."""

    def __init__(self) -> None:
        self.owners: dict[object, str] = {}

    def take(self, key: object, owner: str, where: str) -> None:
        other = self.owners.setdefault(key, owner)
        if other is not owner:
            raise Conflict(f"{owner}: {key} in {where}", f"{other} has it", "Give each its own")


def _check_addresses_once(desired: LogicalNetworks, networks: Mapping[str, LogicalNetwork]) -> None:
    """Raise Conflict for an address that machines or routers have twice on one switch."""
    seen = {uuid: _AddressOwners() for uuid in networks}
    for port in desired.ports:
        owner = f"NIC {port.name or port.uuid}"
        of, where = seen[port.network], f"network {networks[port.network].name}"
        of.take(f"MAC {_mac(port.mac, f'{owner}: MAC'):012x}", owner, where)
        for text in port.addresses:
            of.take(_parse_address(text), owner, where)
    for router in desired.routers:
        owner = f"router {router.name}"
        interfaces: list[Any] = [*router.interfaces, *((router.gateway,) if router.gateway else ())]
        for interface in interfaces:
            of, where = seen[interface.network], f"network {networks[interface.network].name}"
            for text in interface.addresses:
                of.take(ip_interface(text).ip, owner, where)


def _check_outside_once(desired: LogicalNetworks, networks: Mapping[str, LogicalNetwork]) -> None:
    """Raise Conflict for an address that is twice in one external network, among gateways, floating addresses, and
    machines that are in it themselves. Two networks of one VLAN on one physical network are one."""
    seen: dict[tuple[str, Any], _AddressOwners] = {}

    def link(uuid: str) -> _AddressOwners:
        return seen.setdefault((networks[uuid].physical_network, networks[uuid].vlan), _AddressOwners())

    for router in desired.routers:
        if router.gateway:
            where = f"external network {networks[router.gateway.network].name}"
            for text in router.gateway.addresses:
                link(router.gateway.network).take(ip_interface(text).ip, f"the gateway of router {router.name}", where)
    for port in desired.ports:
        if networks[port.network].physical_network:
            where = f"external network {networks[port.network].name}"
            for text in port.addresses:
                link(port.network).take(ip_address(text), f"NIC {port.name or port.uuid}", where)
    for router in desired.routers:
        for floating in router.floating if router.gateway else ():
            where = f"external network {networks[router.gateway.network].name}" if router.gateway else ""
            network = router.gateway.network if router.gateway else ""
            owner = f"floating address of router {router.name} for NIC {floating.port}"
            link(network).take(ip_address(floating.external_ip), owner, where)


__all__ = ["Interface", "address", "parse", "refuse"]
