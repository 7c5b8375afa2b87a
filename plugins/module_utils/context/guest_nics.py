# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what the variables of a context (ETH0_IP, ETH0_GATEWAY, DNS …) mean for the NICs of its guest. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Union

from ..dataclass import dataclass
from ..errors import InvalidValue
from ..model.whole_numbers import whole

_NIC = re.compile(r"ETH([0-9]{1,5})_")
_ALIAS = re.compile(r"ETH([0-9]{1,5})_ALIAS([0-9]{1,5})_")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_METHODS = ("static", "dhcp", "skip")
_METHODS6 = ("static", "auto", "dhcp", "disable", "skip")
_DEFAULT_MASK, _DEFAULT_PREFIX6 = "255.255.255.0", "64"
_SMALLEST_MTU, _LARGEST_MTU, _LARGEST_METRIC = 68, 65535, 2**32 - 1
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass(frozen=True)
class Route:
    to: Network
    via: Address
    metric: int | None = None


@dataclass
class Nic:
    name: str
    mac: str = ""
    mtu: int | None = None
    # The metric of routes that DHCP brings.
    dhcp4: bool = False
    metric: int | None = None
    dhcp6: bool = False
    # None leaves it to the guest.
    router_advertisements: bool | None = None
    addresses: list[Interface] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    dns: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)


def nics_of(variables: Mapping[str, str]) -> list[Nic]:
    """Return the NICs to configure, by number. DNS and SEARCH_DOMAIN that name no NIC go to the first one."""
    numbers = {int(found.group(1)) for found in map(_NIC.match, variables) if found}
    nics = [nic for nic in (_nic(variables, number) for number in sorted(numbers)) if nic]
    if nics:
        nics[0].dns += [server for server in _addresses(variables, "DNS") if server not in nics[0].dns]
        nics[0].search += [name for name in _words(variables, "SEARCH_DOMAIN") if name not in nics[0].search]
    return nics


def _nic(variables: Mapping[str, str], number: int) -> Nic | None:
    prefix = f"ETH{number}_"
    nic = Nic(prefix[:-1].lower())
    method = _method(variables, f"{prefix}METHOD", _METHODS)
    metric = _number(variables, f"{prefix}METRIC", 0, _LARGEST_METRIC)
    if method == "dhcp":
        nic.dhcp4, nic.metric = True, metric
    elif method == "static":
        nic.addresses += _interfaces4(variables, prefix)
        if nic.addresses:
            nic.routes += _gateway(variables, f"{prefix}GATEWAY", 4, metric)
    # As in OpenNebula's guests, IPv6 takes the method of IPv4 if it has none.
    method6 = _method(variables, f"{prefix}IP6_METHOD", _METHODS6, method)
    if method6 == "static":
        found = _interfaces6(variables, prefix)
        nic.addresses += found
        if found:
            metric6 = _number(variables, f"{prefix}IP6_METRIC", 0, _LARGEST_METRIC)
            metric6 = metric if metric6 is None else metric6
            nic.routes += _gateway(variables, f"{prefix}IP6_GATEWAY", 6, metric6)
    elif method6 == "dhcp":
        nic.dhcp6, nic.router_advertisements = True, True
    elif method6 in ("auto", "disable"):
        nic.router_advertisements = method6 == "auto"
    aliases = {int(found.group(2)) for found in map(_ALIAS.match, variables) if found and int(found.group(1)) == number}
    for alias in sorted(aliases):
        own = f"{prefix}ALIAS{alias}_"
        # The network translates the address of an external alias.
        if variables.get(f"{own}EXTERNAL", "").upper() != "YES":
            nic.addresses += [*_interfaces4(variables, own), *_interfaces6(variables, own)]
    if not (nic.addresses or nic.dhcp4 or nic.dhcp6 or nic.router_advertisements):
        return None
    nic.routes += _routes(variables, f"{prefix}ROUTES")
    nic.mtu = _number(variables, f"{prefix}MTU", _SMALLEST_MTU, _LARGEST_MTU)
    nic.dns = _addresses(variables, f"{prefix}DNS")
    nic.search = _words(variables, f"{prefix}SEARCH_DOMAIN")
    nic.mac = variables.get(f"{prefix}MAC", "")
    if not nic.mac:
        raise InvalidValue(
            f"context variable {prefix}MAC", "it has no value, and the guest finds its NICs by it", "Set it"
        )
    if not _MAC.match(nic.mac):
        raise _refused(f"{prefix}MAC", "a MAC address", "02:00:0a:42:00:0a")
    return nic


def as_kernel_shows(mac: str) -> str:
    """Return a MAC address as kernels write it, since many guests compare texts. Another text is returned unchanged."""
    plain = mac.strip().lower().replace("-", ":")
    return plain if _MAC.match(plain) else mac


def _interfaces4(variables: Mapping[str, str], prefix: str) -> list[Interface]:
    if f"{prefix}IP" not in variables:
        return []
    address = _address(variables[f"{prefix}IP"], f"{prefix}IP", 4)
    mask = variables.get(f"{prefix}MASK", _DEFAULT_MASK).strip()
    try:
        interface = ipaddress.IPv4Interface(f"{address}/{mask}")
        _refuse_wildcard(mask, interface.netmask)
        return [interface]
    except ValueError:
        raise _refused(f"{prefix}MASK", "a network mask", _DEFAULT_MASK) from None


def _refuse_wildcard(mask: str, netmask: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Raise ValueError for a mask such as 0.0.0.255, which ipaddress takes for 255.255.255.0."""
    if "." in mask and ipaddress.ip_address(mask) != netmask:
        raise ValueError(mask)


def _interfaces6(variables: Mapping[str, str], prefix: str) -> list[Interface]:
    found: list[Interface] = []
    for name in (f"{prefix}IP6", f"{prefix}IP6_ULA"):
        if name not in variables:
            continue
        text, slash, length = variables[name].strip().partition("/")
        address = _address(text, name, 6)
        length = length if slash else variables.get(f"{prefix}IP6_PREFIX_LENGTH", _DEFAULT_PREFIX6).strip()
        try:
            interface = ipaddress.IPv6Interface(f"{address}/{length}")
        except ValueError:
            raise _refused(name if slash else f"{prefix}IP6_PREFIX_LENGTH", "a prefix length", "64") from None
        if interface not in found:
            found.append(interface)
    return found


def _gateway(variables: Mapping[str, str], name: str, version: int, metric: int | None) -> Iterator[Route]:
    if name in variables:
        everything = ipaddress.ip_network("0.0.0.0/0" if version == 4 else "::/0")
        yield Route(everything, _address(variables[name], name, version), metric)


def _routes(variables: Mapping[str, str], name: str) -> Iterator[Route]:
    for item in filter(str.strip, variables.get(name, "").split(",")):
        words = item.split()
        try:
            if len(words) != 3 or words[1].lower() != "via":
                raise ValueError
            to = ipaddress.ip_network(words[0], strict=False)
            _refuse_wildcard(words[0].partition("/")[2], to.netmask)
        except ValueError:
            raise _refused(name, "a list of routes", "10.0.0.0/8 via 10.66.0.1, 10.67.0.0/16 via 10.66.0.2") from None
        yield Route(to, _address(words[2], name, to.version))


def _addresses(variables: Mapping[str, str], name: str) -> list[str]:
    return [str(_address(word, name)) for word in _words(variables, name)]


def _words(variables: Mapping[str, str], name: str) -> list[str]:
    return variables.get(name, "").replace(",", " ").replace(";", " ").split()


def _address(text: str, name: str, version: int = 0) -> Address:
    try:
        address = ipaddress.ip_address(text.strip())
        # A scope may be any text to ipaddress.
        if "%" in text or version not in (0, address.version):
            raise ValueError
    except ValueError:
        kind, example = ("IPv6", "2001:db8::1") if version == 6 else ("IPv4", "10.66.0.10")
        raise _refused(name, f"an {kind} address" if version else "IP addresses", example) from None
    return address


def _method(variables: Mapping[str, str], name: str, known: Sequence[str], default: str = "static") -> str:
    method = variables.get(name, default).strip().lower()
    if method not in known:
        raise InvalidValue(f"context variable {name}", "no such method", f"Known are {', '.join(known)}")
    return method


def _number(variables: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    if name not in variables:
        return None
    number = whole(variables[name])
    if number is None or not least <= number <= most:
        raise InvalidValue(f"context variable {name}", f"it is no number from {least} to {most}", "Give it as digits")
    return number


def _refused(name: str, wanted: str, example: str) -> InvalidValue:
    return InvalidValue(f"context variable {name}", f"it is not {wanted}", f"Write it as {example}")
