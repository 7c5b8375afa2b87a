# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the address of a machine that installs from its answers, of either family, and checks that it fits its
network. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Union

from ..errors import InvalidValue

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

# The answers that this reads.
KEYS = ("address", "netmask", "gateway", "nameservers")
# Where no mask is given: what a small network usually has, and what each IPv6 network of hosts has.
PREFIXES = {4: 24, 6: 64}
_EXAMPLES = {4: "24 or 255.255.255.0", 6: "64"}


def interface_of(answers: Mapping[str, object], where: str) -> Interface | None:
    """Return the address with its prefix, None where the installer uses DHCP. Raise InvalidValue for an address that
    no machine has."""
    text, mask = str(answers.get("address") or ""), str(answers.get("netmask") or "")
    if not text:
        return None
    address, _slash, prefix = text.partition("/")
    version = ipaddress.ip_address(address).version
    lengths = [_length(each, version, key, where) for key, each in (("address", prefix), ("netmask", mask)) if each]
    if len(set(lengths)) > 1:
        raise InvalidValue(
            f"{where}: address {text}, netmask {mask}", "their prefixes differ", "Give one of them, or the same in both"
        )
    found = ipaddress.ip_interface(f"{address}/{lengths[0] if lengths else PREFIXES[version]}")
    _check_host(found, where)
    return found


def variables(answers: Mapping[str, object], where: str) -> dict[str, object]:
    """Return what templates are given of the address beside the answers themselves, in the form that all installers
    read.

    netmask is there for IPv4 only; IPv6 has none. Nothing is there without an address."""
    found = interface_of(answers, where)
    if found is None:
        return {}
    return {
        "address": str(found.ip),
        "netmask": str(found.netmask) if found.version == 4 else "",
        "prefix": found.network.prefixlen,
        "cidr": str(found),
        "ipv6": found.version == 6,
    }


def check(answers: Mapping[str, object], where: str, link_local_gateway: bool) -> None:
    """Raise InvalidValue where gateway and name servers are of no use to the address.
    link_local_gateway: whether the installer takes a gateway of fe80::/10."""
    given = interface_of(answers, where)
    servers = answers.get("nameservers")
    texts = servers if isinstance(servers, Sequence) and not isinstance(servers, str) else []
    addresses = [ipaddress.ip_address(str(text)) for text in texts]
    for server in addresses:
        fault = _fault_of_other(server)
        if fault:
            raise InvalidValue(f"{where}: nameservers: {server}", fault, "Give the address of a name server")
    gateway = str(answers.get("gateway") or "")
    if given is None:
        lost = [key for key in ("netmask", "gateway") if answers.get(key)]
        if lost:
            raise InvalidValue(
                f"{where}: {', '.join(lost)}",
                "no address is given, so the installer asks DHCP for all of them",
                "Give address too, or leave it out",
            )
        return
    if gateway:
        _check_gateway(given, ipaddress.ip_address(gateway), where, link_local_gateway)
    _check_servers(given, addresses, where)


def check_form(key: str, value: object, where: str) -> None:
    """Raise InvalidValue for what is no address at all."""
    # Without a value there is none; an empty item of a list is a slip.
    given = value if isinstance(value, (list, tuple)) else [value] if value else []
    for text in map(str, given):
        address = text.partition("/")[0] if key == "address" else text
        try:
            # A zone is a name of an interface that the installer alone knows.
            fault = "it names an interface (%)" if "%" in address else ""
            ipaddress.ip_address(address)
        except ValueError:
            fault = "it is no IP address"
        if fault:
            raise InvalidValue(f"{where}: {key}", fault, "Write it as 192.0.2.10 or 2001:db8::10")


def _length(text: str, version: int, key: str, where: str) -> int:
    """Return the length of the prefix that a text states: 24, 255.255.255.0, 64, ffff:ffff:ffff:ffff::"""
    most = 32 if version == 4 else 128
    asked, remedy = f"{where}: {key}: {text}", f"Write the prefix: {_EXAMPLES[version]}"
    if text.isascii() and text.isdigit():
        if 1 <= int(text) <= most:
            return int(text)
        raise InvalidValue(asked, f"a prefix of IPv{version} has 1 to {most} bits", remedy)
    try:
        mask = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidValue(asked, "it is neither a prefix nor a mask", remedy) from None
    if mask.version != version:
        raise InvalidValue(asked, f"it is a mask of IPv{mask.version}, and the address is of IPv{version}", remedy)
    bits = f"{int(mask):0{most}b}"
    if "01" in bits or "1" not in bits:
        raise InvalidValue(asked, "it is no mask: its ones are not together at its beginning", remedy)
    return bits.count("1")


def _check_host(given: Interface, where: str) -> None:
    address, network = given.ip, given.network
    several = network.prefixlen < network.max_prefixlen - 1
    faults = (
        (_is_nobodys(address), "no machine of a network has it"),
        (given.version == 6 and address.is_link_local, "it reaches no router: each interface has such a one by itself"),
        (several and address == network.network_address, f"it is the address of the network {network} itself"),
        (
            several and given.version == 4 and address == network.broadcast_address,
            f"it is the broadcast address of {network}",
        ),
    )
    for wrong, fault in faults:
        if wrong:
            raise InvalidValue(f"{where}: address {address}", fault, "Give an address of one machine")


def _is_nobodys(address: Address) -> bool:
    """Return whether no machine anywhere has the address."""
    if address.version == 6:
        # ::ffff:192.0.2.1 is how a program writes an address of IPv4.
        mapped = ipaddress.IPv6Address(int(address)).ipv4_mapped is not None
        return mapped or address.is_unspecified or address.is_multicast or address.is_loopback
    return address.is_multicast or address.is_loopback or address.is_reserved or int(address) >> 24 == 0


def _fault_of_other(address: Address) -> str:
    """Return why a machine that installs can't ask the address, "" if it can."""
    if _is_nobodys(address):
        return "no other machine has it"
    if address.version == 6 and address.is_link_local:
        return "without an interface nothing is reached by it"
    return ""


def _check_gateway(given: Interface, gateway: Address, where: str, link_local: bool) -> None:
    asked = f"{where}: gateway {gateway}"
    if gateway.version != given.version:
        raise InvalidValue(
            asked,
            f"it is of IPv{gateway.version}, and address {given} is of IPv{given.version}",
            f"Give the router's IPv{given.version} address",
        )
    network = given.network
    several = network.prefixlen < network.max_prefixlen - 1
    if gateway == given.ip:
        raise InvalidValue(asked, "it is the machine's own address", "Give the router's")
    if gateway.version == 6 and gateway.is_link_local:
        if not link_local:
            raise InvalidValue(
                asked,
                "this installer takes no router by its link-local address",
                f"Give the router's address in {given.network}",
            )
    elif gateway not in given.network:
        raise InvalidValue(
            asked,
            f"it is not in {given.network}, the network of the address, and installers ask for another one",
            "Correct gateway, address or netmask",
        )
    elif several and given.version == 4 and gateway in (network.network_address, network.broadcast_address):
        kind = "broadcast address" if gateway == network.broadcast_address else "address"
        raise InvalidValue(asked, f"it is the {kind} of the network {network} itself", "Give the router's")


def _check_servers(given: Interface, servers: Sequence[Address], where: str) -> None:
    """Refuse name servers that the machine can't reach. With an IPv6 address alone it reaches nothing of IPv4. With an
    IPv4 address it may still get one of IPv6 by itself, so that one server of its own family is enough."""
    others = [each for each in servers if each.version != given.version]
    if others and (given.version == 6 or len(others) == len(servers)):
        raise InvalidValue(
            f"{where}: nameservers: {', '.join(map(str, others))}",
            f"address {given} is of IPv{given.version}, and these are of IPv{others[0].version}",
            f"Give name servers with IPv{given.version} addresses",
        )
