# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns a network as OpenNebula's templates write it, also those of its older documents, into an item of our lists.

TYPE = FIXED,  LEASES = [ IP = …, MAC = … ]           a range of one address each
TYPE = RANGED, NETWORK_ADDRESS = …, NETWORK_SIZE = C  one range of the hosts' addresses, without the gateway's
AR = [ TYPE = IP4, IP = …, SIZE = … ]                 as today"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

from ..errors import InvalidValue
from .addresses import WITH_STATIC_IP6, ip_number
from .network_drivers import DRIVERS, DUMMY, driver_of
from .object_names import known_are
from .template import Template
from .whole_numbers import whole

TYPES = ("FIXED", "RANGED")
# Prefix lengths by class.
_CLASSES = {"A": 8, "B": 16, "C": 24}
# Older names, and those of OpenVZ's networks, of what is an attribute today.
_OLD_NAMES = {"NETMASK": "NETWORK_MASK", "NETWORK": "NETWORK_ADDRESS"}
# Attributes that may be there several times; one value with blanks between says the same.
_LISTS = ("DNS", "SEARCH_DOMAIN")
_RANGED_ONLY = ("NETWORK_SIZE", "IP_START", "IP_END")
_NOT_ATTRIBUTES = ("NAME", "BRIDGE", "VN_MAD", "TYPE", *_RANGED_ONLY)
_AR_OPTIONS = ("TYPE", "IP", "MAC", "GLOBAL_PREFIX", "ULA_PREFIX")
# OpenNebula's own entries in what it prints of a network.
_AR_STATE = ("AR_ID", "ALLOCATED", "USED_LEASES")


def with_template(item: Mapping[str, Any], template: Template) -> dict[str, Any]:
    """Return the item with what the template says where the item itself says nothing; where both say something, it has
    to be the same. Address ranges of the item go before those of the template with the same first address."""
    result = {key: value for key, value in item.items() if key != "template"}
    name = _single_value(template, "NAME", f"network {item.get('name') or '?'}")
    where = f"network {item.get('name') or name or '?'}"
    stated = {"name": name}
    if item.get("state") != "absent":
        stated.update(bridge=_single_value(template, "BRIDGE", where), vn_mad=_driver(template, where))
    for key, value in stated.items():
        if value and result.get(key) is None:
            result[key] = value
        elif value and result[key] != value:
            raise _conflict(where, key, result[key], f"{key.upper()} = {value!r}")
    if item.get("state") == "absent":
        return result
    attributes = _attributes(template, where)
    ranges = _ranges(template, attributes, result, where)
    result["attributes"] = _merge_attributes(result.get("attributes"), attributes, where)
    own = list(result.get("address_ranges") or ())
    starts = {_first_address(entry) for entry in own}
    result["address_ranges"] = [*own, *(entry for entry in ranges if _first_address(entry) not in starts)]
    return result


def _conflict(where: str, key: str, own: Any, stated: str) -> InvalidValue:
    return InvalidValue(f"{where}: {key} = {own!r}", f"its template says {stated}", "Give one of the two")


def _first_address(entry: Mapping[str, Any]) -> tuple[str, str]:
    first = next((entry[key] for key in ("ip", "ip6", "mac", "global_prefix", "ula_prefix") if entry.get(key)), "")
    return str(entry.get("type") or "IP4").upper(), str(first).strip().lower()


def _single_value(template: Template, name: str, where: str) -> str:
    """Return the one value of that name; "" if there is none."""
    values = [value for key, value in template.attributes if key == name]
    if any(not isinstance(value, str) for value in values):
        raise InvalidValue(f"{where}: {name}", "it is a vector", f"Write {name} = …, one value")
    found = list(dict.fromkeys(str(value).strip() for value in values))
    if name in _LISTS:
        return " ".join(found)
    if len(found) > 1:
        raise InvalidValue(f"{where}: {name}", f"it is there {len(values)} times, with different values", "Keep one")
    return found[0] if found else ""


def _driver(template: Template, where: str) -> str:
    driver = driver_of(_single_value(template, "VN_MAD", where))
    if driver and driver not in DRIVERS:
        raise InvalidValue(f"{where}: VN_MAD = {driver!r}", "there is no such driver here", known_are(driver, DRIVERS))
    if driver or _single_value(template, "TYPE", where).upper() not in TYPES:
        return driver
    # When networks had these types, their bridges were made by hand.
    return DUMMY if _single_value(template, "BRIDGE", where) else ""


def _attributes(template: Template, where: str) -> dict[str, str]:
    """Return what is kept as an attribute of the network, by today's names."""
    found: dict[str, str] = {}
    for name in template.names():
        if name in _NOT_ATTRIBUTES or name in ("AR", "LEASES"):
            continue
        value, today = _single_value(template, name, where), _OLD_NAMES.get(name, name)
        if found.setdefault(today, value) != value:
            raise InvalidValue(f"{where}: {name} = {value!r}", f"{today} is given too, as {found[today]!r}", "Keep one")
    return found


def _merge_attributes(own: Any, stated: Mapping[str, str], where: str) -> dict[str, Any]:
    own = dict(own or {})
    by_name = {str(key).upper(): value for key, value in own.items()}
    for name, value in stated.items():
        if name in by_name and str(by_name[name]) != value:
            raise _conflict(where, f"attribute {name}", by_name[name], f"{name} = {value!r}")
    return {**own, **{name: value for name, value in stated.items() if name not in by_name}}


# -- addresses --------------------------------------------------------------------------------------------------------
def _ranges(
    template: Template, attributes: dict[str, str], item: Mapping[str, Any], where: str
) -> list[dict[str, Any]]:
    """Return the address ranges, as entries of address_ranges. Of a RANGED network, NETWORK_MASK is put among the
    attributes if nothing says it."""
    for name in ("AR", "LEASES"):
        if any(key == name and isinstance(value, str) for key, value in template.attributes):
            raise InvalidValue(f"{where}: {name}", "it is a single value", f"Write {name} = [ IP = 10.0.0.5, … ]")
    kind = _single_value(template, "TYPE", where).upper()
    leases = template.vectors("LEASES")
    if kind and kind not in TYPES:
        raise InvalidValue(
            f"{where}: TYPE = {kind!r}", "there is no such type of network", "Use FIXED or RANGED, or give an AR"
        )
    if kind == "FIXED" and not leases:
        raise InvalidValue(
            f"{where}: TYPE = FIXED",
            "it has no LEASES",
            "Give LEASES = [ IP = 10.0.0.5 ] for each address, or an AR = [ … ] and no TYPE",
        )
    if kind == "RANGED" and leases:
        raise InvalidValue(f"{where}: TYPE = RANGED", "it has LEASES", "Write TYPE = FIXED, or take LEASES away")
    if kind != "RANGED":
        for name in _RANGED_ONLY:
            if template.has(name):
                raise InvalidValue(f"{where}: {name}", "the network is not RANGED", "Write TYPE = RANGED")
    found = [_range_of_lease(lease, where) for lease in leases]
    if kind == "RANGED":
        found += _ranges_of_ranged(template, attributes, item, where)
    return [*found, *(_range_of_ar(vector, where) for vector in template.vectors("AR"))]


def _range_of_lease(vector: Mapping[str, str], where: str) -> dict[str, Any]:
    if not vector.get("IP", "").strip():
        raise InvalidValue(f"{where}: LEASES", "one of them has no IP", "Write LEASES = [ IP = 10.0.0.5 ]")
    return {**_range_of_ar(vector, where), "type": "IP4", "size": 1}


def _range_of_ar(vector: Mapping[str, str], where: str) -> dict[str, Any]:
    is_static = vector.get("TYPE", "").strip().upper() in WITH_STATIC_IP6
    # In other ranges, IP6 and PREFIX_LENGTH are attributes for machines.
    options = [*_AR_OPTIONS, "IP6"] if is_static else _AR_OPTIONS
    numbers = ["SIZE", "PREFIX_LENGTH"] if is_static else ["SIZE"]
    entry: dict[str, Any] = {key.lower(): vector[key].strip() for key in options if vector.get(key)}
    for name in numbers:
        if vector.get(name):
            number = whole(vector[name].strip())
            if number is None:
                raise InvalidValue(
                    f"{where}: AR: {name} = {vector[name]!r}", "it is not a whole number", "Write digits"
                )
            entry[name.lower()] = number
    rest = {key: value for key, value in vector.items() if key not in (*options, *_AR_STATE, *numbers)}
    return {**entry, "attributes": rest} if rest else entry


def _ranges_of_ranged(
    template: Template, attributes: dict[str, str], item: Mapping[str, Any], where: str
) -> list[dict[str, Any]]:
    own = {str(key).upper(): value for key, value in (item.get("attributes") or {}).items()}

    def value_of(name: str) -> str:
        value = attributes.get(name) or item.get(name.lower()) or own.get(name)
        return str(value or "").strip()

    size = _single_value(template, "NETWORK_SIZE", where).upper()
    network, hosts = _network_and_hosts(value_of("NETWORK_ADDRESS"), value_of("NETWORK_MASK"), size, where)
    if not value_of("NETWORK_MASK") and "/" not in value_of("NETWORK_ADDRESS"):
        attributes["NETWORK_MASK"] = str(network.netmask)
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    if hosts:
        last = first + hosts - 1
    lowest, highest = first, int(network.broadcast_address) - 1
    for name in ("IP_START", "IP_END"):
        text = _single_value(template, name, where)
        if not text:
            continue
        number = ip_number(text, f"{where}: {name}")
        if not lowest <= number <= highest:
            raise InvalidValue(
                f"{where}: {name} = {text!r}",
                f"not an address of a machine in {network}",
                f"Give one of {IPv4Address(lowest)} to {IPv4Address(highest)}",
            )
        first, last = (number, last) if name == "IP_START" else (first, number)
    if first > last:
        raise InvalidValue(
            f"{where}: TYPE = RANGED", f"it would begin at {IPv4Address(first)} and end at {IPv4Address(last)}",
            "Give an IP_END at or after its IP_START",
        )  # fmt: skip
    return [
        {"type": "IP4", "ip": str(IPv4Address(start)), "size": end - start + 1}
        for start, end in _without_gateway(first, last, value_of("GATEWAY"))
        if start <= end
    ]


def _without_gateway(first: int, last: int, gateway: str) -> list[tuple[int, int]]:
    """Return the span without the gateway: older documents have it among the addresses, and no machine may lease it."""
    try:
        hole = int(IPv4Address(gateway))
    except AddressValueError:
        return [(first, last)]
    return [(first, hole - 1), (hole + 1, last)] if first <= hole <= last else [(first, last)]


def _network_and_hosts(address: str, mask: str, size: str, where: str) -> tuple[IPv4Network, int]:
    """Return the network, and how many hosts NETWORK_SIZE wants; 0: all that there is room for."""
    plain, _slash, prefix = address.partition("/")
    if not plain:
        raise InvalidValue(f"{where}: TYPE = RANGED", "it has no NETWORK_ADDRESS", "Give the network's own address")
    number = ip_number(plain, f"{where}: NETWORK_ADDRESS")
    hosts = 0 if size in _CLASSES else whole(size) if size else 0
    if hosts is None or size == "0":
        raise InvalidValue(
            f"{where}: NETWORK_SIZE = {size!r}", "not a size", "Give a class, A, B or C, or the number of addresses"
        )
    length: int | str = prefix or mask
    if not length and not size:
        raise InvalidValue(f"{where}: TYPE = RANGED", "its size is not said", "Give NETWORK_SIZE = C, or NETWORK_MASK")
    if not length:
        # The network's own address and the one for broadcasts count, too.
        length = _CLASSES[size] if size in _CLASSES else 32 - (hosts + 1).bit_length()
    try:
        network = IPv4Network(f"{IPv4Address(number)}/{length}", strict=False)
        # ipaddress sees 255.255.255.0 in 0.0.0.255.
        if "." in str(length) and IPv4Address(length) != network.netmask:
            raise ValueError(length)
    except ValueError:
        raise InvalidValue(
            f"{where}: NETWORK_SIZE = {size}" if not prefix and not mask else f"{where}: NETWORK_MASK = {length!r}",
            "there is no such network",
            "Give 255.255.255.0, or a class C",
        ) from None
    if int(network.network_address) != number:
        raise InvalidValue(
            f"{where}: NETWORK_ADDRESS = {plain!r}",
            f"an address within {network}, not the network's own",
            f"Write {network.network_address}",
        )
    room = network.num_addresses - 2
    wanted = 2 ** (32 - _CLASSES[size]) - 2 if size in _CLASSES else hosts
    if room < max(wanted, 1):
        raise InvalidValue(
            f"{where}: NETWORK_SIZE = {size or 'all'}",
            f"{network} has room for {max(room, 0)} machines",
            "Give a smaller size, or another NETWORK_MASK",
        )
    return network, wanted if size in _CLASSES else hosts
