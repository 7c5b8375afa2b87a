# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which networks may have one bridge together, and what they ask of it that contradicts each other.

Networks of driver bridge may: their machines are on one wire then, as OpenNebula's own are. VLANs and VXLANs may not: a
bridge with two of them would join what they keep apart. Bridges of Open vSwitch have rules of their own."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, summarize_address_range
from typing import Union

from ..errors import Conflict
from . import addresses, guest_mtu, network_checks
from .network import AddressRange, Network
from .network_drivers import BRIDGE
from .uplink import GUEST_MTU, MTU, PHYDEV, is_forced, phydev_of

# A list may change these for all networks of a bridge at once.
ASKED = (PHYDEV, "PHYDEV_FORCED", "PHYDEV_UNUSED", MTU, GUEST_MTU)
# Addresses of gateways that a bridge carries. Its mark names them, and has no room for more.
MOST_GATEWAYS = 6
Span = Union[IPv4Network, IPv6Network]


def may_share(one: Network, other: Network) -> bool:
    return one.vn_mad == other.vn_mad == BRIDGE


def address_spans(network: Network) -> list[Span]:
    whole = network_checks.network_cidr(network)
    found: list[Span] = [whole] if whole else []
    for each in network.address_ranges:
        if each.ip and not whole:
            first = addresses.ip_number(each.ip, f"network {network.name}")
            found += summarize_address_range(IPv4Address(first), IPv4Address(first + each.size - 1))
        found += [IPv6Network(prefix) for prefix in network_checks.prefixes6(each)]
    return found


def refuse_contradictions(network: Network, others: Iterable[Network]) -> None:
    """Raise Conflict for what the network asks of its bridge, if another network that has the bridge asks for something
    else, or has the same addresses. others: the networks with the same bridge, each with its address ranges."""
    others = tuple(others)
    for other in others:
        _refuse_other_uplink(network, other)
        _refuse_mtu(network, other)
        _refuse_gateway(network, other)
        _refuse_same_addresses(network, other)
        _refuse_leased_gateway(network, other)
    carrying = [each for each in (network, *others) if network_checks.carries_gateway(each)]
    if len({each.attributes.get("GATEWAY") for each in carrying}) > MOST_GATEWAYS:
        raise Conflict(
            f"{_subject(network)}, with the gateway's address on it",
            f"it has those of {', '.join(map(_label, carrying[1:]))}, and there is room for {MOST_GATEWAYS}",
            "Choose another bridge for some of them",
        )


def _refuse_other_uplink(network: Network, other: Network) -> None:
    ports = [phydev_of(each.vn_mad, each.attributes) or "(none)" for each in (network, other)]
    if ports[0] != ports[1]:
        raise Conflict(
            f"{_subject(network)}, {PHYDEV} = {ports[0]}",
            f"it is the bridge of {_label(other)} too, which has {PHYDEV} = {ports[1]}",
            "Give both the same phydev, since what is attached to the bridge reaches the machines of both; or choose "
            "another bridge",
        )
    if is_forced(network) != is_forced(other):
        words = ["YES" if is_forced(each) else "NO" for each in (network, other)]
        raise Conflict(
            f"{_subject(network)}, PHYDEV_FORCED = {words[0]}",
            f"it is the bridge of {_label(other)} too, which has PHYDEV_FORCED = {words[1]}",
            "Give both the same phydev_forced: the host's own addresses are on the bridge, or they are not",
        )


def _refuse_mtu(network: Network, other: Network) -> None:
    own, their = (int(each.attributes.get(MTU) or 0) for each in (network, other))
    if own and their and own != their:
        raise Conflict(
            f"{_subject(network)}, {MTU} = {own}",
            f"it is the bridge of {_label(other)} too, which has {MTU} = {their}",
            "Give both the same mtu, or choose another bridge",
        )
    for first, second in ((network, other), (other, network)):
        guest, most = guest_mtu.largest_advertised_mtu(first), int(second.attributes.get(MTU) or 0)
        if most and guest > most:
            raise Conflict(
                f"{_subject(network)}: {_label(first)} has {GUEST_MTU} = {guest}",
                f"{_label(second)} has {MTU} = {most} on the same bridge: what is larger would be lost without a word",
                f"Give guest_mtu {most} or less, or both a larger mtu",
            )


def _refuse_gateway(network: Network, other: Network) -> None:
    """Raise Conflict where networks with the same addresses ask for different things: a node tells by the addresses of
    packets on the bridge what it does with them."""
    carrying = [each for each in (network, other) if network_checks.carries_gateway(each)]
    common = _common_span(address_spans(network), address_spans(other))
    if not carrying or common is None:
        return
    if len(carrying) == 1:
        one = carrying[0]
        raise Conflict(
            f"{_subject(network)}: {common}",
            f"{_label(network)} and {_label(other)} both have these addresses, and the gateway is on the bridge for "
            f"{_label(one)} alone",
            "Set nat and gateway_on_bridge alike in both, give them other addresses, or choose another bridge",
        )
    what = (
        ("NETWORK_ADDRESS", network_checks.network_cidr(network), network_checks.network_cidr(other)),
        ("GATEWAY", network.attributes.get("GATEWAY"), other.attributes.get("GATEWAY")),
        ("nat", network.nat, other.nat),
        ("NODE_ACCESS", network_checks.node_access(network), network_checks.node_access(other)),
    )
    for name, own, their in what:
        if own != their:
            raise Conflict(
                f"{_subject(network)}, {name} = {own}",
                f"{_label(other)} has {name} = {their}, on the same bridge, and addresses of {common} as well",
                f"Have both say the same {name}, give them other addresses, or choose another bridge",
            )


def _refuse_same_addresses(network: Network, other: Network) -> None:
    """Raise Conflict where two machines of one wire would have the same address, of IP or of the interface."""
    for own in network.address_ranges:
        for their in other.address_ranges:
            what = _shared_addresses(own, their)
            if what:
                raise Conflict(
                    f"{_subject(network)}: address range {addresses.range_text(own)}",
                    f"{_label(other)} has the range {addresses.range_text(their)} on the same bridge: machines of both "
                    f"would get the same {what}",
                    "Give it other addresses, or choose another bridge",
                )


def _refuse_leased_gateway(network: Network, other: Network) -> None:
    """Raise Conflict where a machine could get the gateway's address of another network on its wire."""
    for leasing, reaching in ((network, other), (other, network)):
        for name in ("GATEWAY", "GATEWAY6"):
            gateway = reaching.attributes.get(name, "")
            held = next((each for each in leasing.address_ranges if gateway and _holds_address(each, gateway)), None)
            if held is not None:
                raise Conflict(
                    f"{_subject(network)}: {name} {gateway} of {_label(reaching)}",
                    f"address range {addresses.range_text(held)} of {_label(leasing)} holds it, on the same bridge: a "
                    "machine would get it",
                    "Begin the range above it, end it below it, or choose another bridge",
                )


def _holds_address(one: AddressRange, address: str) -> bool:
    if ":" in address:
        first, number = int(addresses.ip6_address(one.ip6, "")) if one.ip6 else -1, int(IPv6Address(address))
    else:
        first, number = addresses.ip_number(one.ip, "") if one.ip else -1, addresses.ip_number(address, "")
    return 0 <= first <= number < first + one.size


def _shared_addresses(one: AddressRange, other: AddressRange) -> str:
    pairs = (
        ("addresses", addresses.ip_number, one.ip, other.ip),
        ("MAC addresses", addresses.mac_number, one.mac, other.mac),
        ("addresses", lambda text, _asked: int(addresses.ip6_address(text, "")), one.ip6, other.ip6),
    )
    for what, number, own, their in pairs:
        if own and their:
            first, second = number(own, what), number(their, what)
            if first < second + other.size and second < first + one.size:
                return what
    return ""


def _common_span(own: Iterable[Span], their: Iterable[Span]) -> Span | None:
    """Return the first of their spans of IPv4 that has addresses of ours."""
    for one in own:
        for other in their:
            if isinstance(one, IPv4Network) and isinstance(other, IPv4Network) and one.overlaps(other):
                return other
    return None


def _subject(network: Network) -> str:
    return f"network {network.name}: BRIDGE = {network.bridge}"


def _label(network: Network) -> str:
    return f"network {network.name}" + (f" (id {network.id})" if network.id is not None else "")
