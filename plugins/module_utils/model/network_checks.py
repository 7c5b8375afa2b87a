# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings what a virtual network and its address ranges state into one form, checks it, and reads it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Callable

from ..errors import InvalidValue
from . import ethertypes, uplink
from . import node_access as access
from .addresses import (
    LINK_LOCAL,
    TYPES,
    WITH_IP4,
    WITH_IP6,
    WITH_STATIC_IP6,
    base_mac,
    eui64,
    ip6_address,
    ip_number,
    ip_text,
    mac_number,
    mac_of_ip,
    mac_text,
    range_text,
)
from .flags import flag
from .network import ONE_NODE, PHYDEV_FORCED, RESERVED, AddressRange, Network
from .network_drivers import DUMMY, OVN
from .whole_numbers import whole

# Attributes that limit the NICs of a network.
BANDWIDTH = tuple(f"{way}_{what}" for way in ("INBOUND", "OUTBOUND") for what in ("AVG_BW", "PEAK_BW", "PEAK_KB"))
# IFNAMSIZ without its NUL.
LONGEST_BRIDGE = 15
LARGEST_RANGE = 1 << 24
# The number of MAC addresses of one prefix: each lease has its own.
LARGEST_STATIC_RANGE = 1 << 32
# Routers of OVN announce prefixes of this length.
OVN_PREFIX_LENGTH = 64
# Each of them is a row of the catalog.
MOST_RESERVED = 4096
# In longer prefixes, a machine may have the first address, too (RFC 6164).
_ANYCAST_BELOW = 127
# Names that each kernel uses itself, and such as mean a directory of /sys.
TAKEN_INTERFACES = ("lo", "all", "default", "bonding_masters", ".", "..")
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


def split_cidr(name: str, address: str, mask: str) -> IPv4Network | None:
    """Return NETWORK_ADDRESS and NETWORK_MASK as one network, None if both are empty; raise InvalidValue if wrong.

    The prefix length may be in either of them: 10.66.0.0/24, or a mask of 24."""
    where = f"network {name}"
    if not address:
        if mask:
            raise InvalidValue(f"{where}: NETWORK_MASK = {mask!r}", "there is no NETWORK_ADDRESS", "Give both")
        return None
    plain, _slash, prefix = address.strip().partition("/")
    number = ip_number(plain, f"{where}: NETWORK_ADDRESS")
    if not prefix and not mask:
        raise InvalidValue(
            f"{where}: NETWORK_ADDRESS = {address!r}", "its size is not said", f"Write {plain}/24, or give NETWORK_MASK"
        )
    lengths = {_prefix_length(text, where) for text in (prefix, mask) if text}
    if len(lengths) > 1:
        raise InvalidValue(
            f"{where}: NETWORK_ADDRESS = {address!r}",
            f"NETWORK_MASK = {mask!r} says another size",
            "Give one of the two",
        )
    network = IPv4Network((number, lengths.pop()), strict=False)
    if int(network.network_address) != number:
        raise InvalidValue(
            f"{where}: NETWORK_ADDRESS = {address!r}",
            f"an address within {network}, not the network's own",
            f"Write {network}",
        )
    return network


def _prefix_length(text: str, where: str) -> int:
    plain = text.strip().lstrip("/")
    try:
        length = IPv4Network(f"0.0.0.0/{plain}").prefixlen
    except ValueError:
        raise InvalidValue(
            f"{where}: NETWORK_MASK = {text!r}", "not a network mask", "Write 255.255.255.0, or 24"
        ) from None
    # ipaddress reads 0.0.0.255 as a host mask of the same length. No user means that here.
    if "." in plain and plain != str(IPv4Network((0, length)).netmask):
        raise InvalidValue(f"{where}: NETWORK_MASK = {text!r}", "not a network mask", "Write 255.255.255.0, or 24")
    return length


def network_cidr(network: Network) -> IPv4Network | None:
    return split_cidr(
        network.name, network.attributes.get("NETWORK_ADDRESS", ""), network.attributes.get("NETWORK_MASK", "")
    )


def normalise_attributes(network: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of a network, with addresses and numbers checked and in one form. Empty ones stay."""
    where = f"network {network}"
    result = dict(attributes)
    if not result.get(access.ATTRIBUTE, access.NOTHING).strip():
        # Without the attribute, everything would be allowed.
        result[access.ATTRIBUTE] = access.NOTHING
    if "/" in result.get("NETWORK_ADDRESS", ""):
        whole = split_cidr(network, result["NETWORK_ADDRESS"], result.get("NETWORK_MASK", ""))
        if whole is not None:
            result.update(NETWORK_ADDRESS=str(whole.network_address), NETWORK_MASK=str(whole.netmask))
    elif result.get("NETWORK_MASK"):
        result["NETWORK_MASK"] = str(IPv4Network((0, _prefix_length(result["NETWORK_MASK"], where))).netmask)
    for attribute, read in _READERS.items():
        text = result.get(attribute, "")
        values = text.replace(",", " ").split() if attribute in _LISTS else [text]
        if any(values):
            result[attribute] = " ".join(read(value, f"{where}: {attribute}") for value in values)
    return result


def _read_ip(text: str, asked: str) -> str:
    return ip_text(ip_number(text, asked))


def _read_ip6(text: str, asked: str) -> str:
    return str(ip6_address(text, asked))


def _read_any_ip(text: str, asked: str) -> str:
    return _read_ip6(text, asked) if ":" in text else _read_ip(text, asked)


def _read_mtu(text: str, asked: str) -> str:
    # 68 is the least that IPv4 works with (RFC 791), 65535 the most that the kernel takes.
    return _read_number(text, asked, 68, 65535, "bytes")


def _read_metric(text: str, asked: str) -> str:
    return _read_number(text, asked, 0, 0xFFFFFFFF, "as in a routing table")


def _read_number(text: str, asked: str, least: int, most: int, unit: str) -> str:
    plain = text.strip()
    number = whole(plain)
    if number is None or not least <= number <= most:
        raise InvalidValue(f"{asked} = {text!r}", "not such a number", f"Give {least} to {most} ({unit})")
    return str(number)


def _read_flag(text: str, asked: str) -> str:
    return "YES" if flag(text, asked) else "NO"


def _read_span(text: str, asked: str) -> str:
    first, last = (_span_text(text, number) for number in _reserved_span(text, asked))
    return first if first == last else f"{first}-{last}"


def _span_text(text: str, number: int) -> str:
    """Return an address in the form of the span's family, which the span's text shows."""
    return str(IPv6Address(number)) if ":" in text else ip_text(number)


def _reserved_span(text: str, asked: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if ":" in text:
        span = int(ip6_address(first, asked)), int(ip6_address(last if dash else first, asked))
    else:
        span = ip_number(first, asked), ip_number(last if dash else first, asked)
    if not 0 <= span[1] - span[0] < MOST_RESERVED:
        raise InvalidValue(
            f"{asked} = {text!r}",
            f"not a span of 1 to {MOST_RESERVED} addresses",
            "Write it as 10.66.0.30-10.66.0.39; what more there is to be kept, leave out of the address ranges",
        )
    return span


def _read_bandwidth(text: str, asked: str) -> str:
    return _read_number(text, asked, 1, 0xFFFFFFFF, "kB/s; kB for _PEAK_KB")


# Attributes of several values, with blanks between.
_LISTS = ("DNS", RESERVED, ethertypes.ATTRIBUTE)
_READERS: dict[str, Callable[[str, str], str]] = {
    "NETWORK_ADDRESS": _read_ip,
    "GATEWAY": _read_ip,
    "GATEWAY6": _read_ip6,
    "DNS": _read_any_ip,
    "GUEST_MTU": _read_mtu,
    "MTU": _read_mtu,
    "METRIC": _read_metric,
    "IP6_METRIC": _read_metric,
    **dict.fromkeys(("DHCP", "FILTER_MAC_SPOOFING", "FILTER_IP_SPOOFING"), _read_flag),
    access.ATTRIBUTE: lambda text, asked: str(access.read(text, asked)),
    **dict.fromkeys((ONE_NODE, PHYDEV_FORCED), _read_flag),
    RESERVED: _read_span,
    ethertypes.ATTRIBUTE: ethertypes.normalise,
    **dict.fromkeys(BANDWIDTH, _read_bandwidth),
}


def reserved_addresses(network: Network) -> list[str]:
    """Return the addresses that the network keeps for nobody, one by one."""
    found: dict[str, None] = {}
    for text in network.attributes.get(RESERVED, "").split():
        first, last = _reserved_span(text, f"network {network.name}: {RESERVED}")
        found.update(dict.fromkeys(_span_text(text, number) for number in range(first, last + 1)))
    return list(found)


def prefixes6(address_range: AddressRange) -> list[str]:
    """Return the networks of IPv6 in which machines have addresses of the range, as 2001:db8::/64."""
    found = [f"{prefix}/64" for prefix in (address_range.global_prefix, address_range.ula_prefix) if prefix]
    if address_range.ip6:
        found.append(str(IPv6Network((address_range.ip6, address_range.prefix_length), strict=False)))
    return found


def carries_gateway(network: Network) -> bool:
    """Return whether the bridge on each node has the gateway's address."""
    return network.nat or network.attributes.get("GATEWAY_ON_BRIDGE", "").upper() == "YES"


def node_access(network: Network) -> access.NodeAccess:
    """Return what its machines may reach on a node: everything if the network is older than that attribute."""
    value = network.attributes.get(access.ATTRIBUTE, "")
    if not value:
        return access.NodeAccess(everything=True)
    return access.read(value, f"network {network.name}: {access.ATTRIBUTE}")


def one_node(network: Network) -> bool:
    """Return whether all its machines are to be on the same node."""
    value = network.attributes.get(ONE_NODE, "")
    return bool(value) and flag(value, f"network {network.name}: {ONE_NODE}")


def check_bridge(name: str, bridge: str) -> None:
    """Raise InvalidValue for a bridge that the kernel can't have. name: the network's."""
    asked = f"network {name}: BRIDGE = {bridge!r}"
    if len(bridge) > LONGEST_BRIDGE:
        raise InvalidValue(
            asked, f"{len(bridge)} characters", f"The kernel takes up to {LONGEST_BRIDGE}: choose a shorter name"
        )
    if bridge in TAKEN_INTERFACES:
        raise InvalidValue(asked, "the kernel uses that name itself", "Choose another")
    if not _BRIDGE.match(bridge):
        raise InvalidValue(asked, "not a name for an interface", "Use letters, digits, '-', '_' and '.'")


def normalise_range(address_range: AddressRange, network: str, random: int) -> AddressRange:
    """Return the range with each value in its one form; raise InvalidValue for a wrong value.
    random: a number of which the first MAC address is made, if neither a MAC nor an IPv4 address is given."""
    where = f"network {network}: address range {range_text(address_range)}"
    kind = address_range.type.upper()
    if kind not in TYPES:
        raise InvalidValue(f"{where}: TYPE = {address_range.type!r}", "no such type", f"Use one of {', '.join(TYPES)}")
    ip6 = _first_ip6(address_range, where, kind)
    size = address_range.size
    if size == 0 and kind == "IP6_STATIC":
        size = _default_size6(IPv6Address(ip6), address_range)
    largest = LARGEST_STATIC_RANGE if kind == "IP6_STATIC" else LARGEST_RANGE
    if not 1 <= size <= largest:
        raise InvalidValue(f"{where}: SIZE = {size}", "not a size", f"Give the number of addresses, 1 to {largest}")
    if ip6:
        _check_room6(where, ip6, address_range.prefix_length, size)
    ip = ""
    if kind in WITH_IP4:
        if not address_range.ip:
            raise InvalidValue(f"{where}: TYPE = {kind}", "there is no IP", "Give the range's first address as ip")
        first = ip_number(address_range.ip, f"{where}: IP")
        if first + size - 1 > 0xFFFFFFFF:
            raise InvalidValue(f"{where}: SIZE = {size}", "it leads beyond 255.255.255.255", "Give a smaller size")
        ip = ip_text(first)
    elif address_range.ip:
        raise InvalidValue(
            f"{where}: IP = {address_range.ip!r}", f"TYPE {kind} has no IPv4", f"Use one of {', '.join(WITH_IP4)}"
        )
    prefixes = [
        _read_prefix(value, f"{where}: {attribute}", kind)
        for attribute, value in (
            ("GLOBAL_PREFIX", address_range.global_prefix),
            ("ULA_PREFIX", address_range.ula_prefix),
        )
    ]
    if address_range.mac:
        mac = mac_number(address_range.mac, f"{where}: MAC")
    elif ip:
        mac = mac_of_ip(first)
    else:
        mac = mac_number(base_mac(random, size), "MAC")
    if (mac & 0xFFFFFFFF) + size - 1 > 0xFFFFFFFF:
        raise InvalidValue(
            f"{where}: SIZE = {size}",
            f"it leads beyond the MAC addresses of {mac_text(mac)[:5]}",
            "Give a smaller size",
        )
    return dataclasses.replace(
        address_range,
        type=kind,
        size=size,
        ip=ip,
        mac=mac_text(mac),
        global_prefix=prefixes[0],
        ula_prefix=prefixes[1],
        ip6=ip6,
    )


def _first_ip6(address_range: AddressRange, where: str, kind: str) -> str:
    """Return the first address of a static range in its one form, "" for other ranges; raise InvalidValue if wrong."""
    text, length = address_range.ip6, address_range.prefix_length
    if kind not in WITH_STATIC_IP6:
        if text or length:
            raise InvalidValue(
                f"{where}: IP6 = {text!r}" if text else f"{where}: PREFIX_LENGTH = {length}",
                f"TYPE {kind} has no static IPv6",
                f"Use one of {', '.join(WITH_STATIC_IP6)}",
            )
        return ""
    for name in ("IP6", "PREFIX_LENGTH"):
        if name in address_range.attributes:
            raise InvalidValue(
                f"{where}: attribute {name}", "it is not set that way", f"Use the option {name.lower()} of the range"
            )
    if not text:
        raise InvalidValue(f"{where}: TYPE = {kind}", "there is no IP6", "Give the range's first address as ip6")
    first = ip6_address(text, f"{where}: IP6")
    if not 1 <= length <= 128:
        raise InvalidValue(
            f"{where}: PREFIX_LENGTH = {length or 'none'}",
            "not the length of a prefix",
            "Give that of the network that the addresses are in, 1 to 128; mostly it is 64",
        )
    if first.is_multicast or first.is_loopback or first.is_link_local or first.is_unspecified or first.ipv4_mapped:
        raise InvalidValue(
            f"{where}: IP6 = {first}", "no machines are given such addresses", "Use one as 2001:db8::10 or fd00::10"
        )
    if length < _ANYCAST_BELOW and first == IPv6Network((first, length), strict=False).network_address:
        raise InvalidValue(
            f"{where}: IP6 = {first}",
            f"the first address of {first}/{length} is that of its routers (RFC 4291, 2.6.1)",
            f"Begin with {first + 1} or a later one",
        )
    return str(first)


def _default_size6(first: IPv6Address, address_range: AddressRange) -> int:
    """Return the size of a range that says none: up to the end of its network, or as far as there are MAC addresses."""
    last = IPv6Network((first, address_range.prefix_length), strict=False).broadcast_address
    macs = 1 << 32
    if address_range.mac:
        macs -= mac_number(address_range.mac, "MAC") & 0xFFFFFFFF
    return min(int(last) - int(first) + 1, LARGEST_RANGE, macs)


def _check_room6(where: str, first: str, length: int, size: int) -> None:
    span = IPv6Network((first, length), strict=False)
    room = int(span.broadcast_address) - int(IPv6Address(first)) + 1
    if size > room:
        raise InvalidValue(
            f"{where}: SIZE = {size}",
            f"PREFIX_LENGTH = {length}: {span} has room for {room} from {first} on",
            "Give a smaller size, an earlier ip6 or a shorter prefix_length",
        )


def _read_prefix(value: str, asked: str, kind: str) -> str:
    if not value:
        return ""
    if kind not in WITH_IP6:
        found = f"TYPE {kind} has no IPv6 by a prefix" if kind in WITH_STATIC_IP6 else f"TYPE {kind} has no IPv6"
        raise InvalidValue(f"{asked} = {value!r}", found, "Use TYPE IP6 or IP4_6")
    plain, _slash, length = value.strip().partition("/")
    try:
        number = int(IPv6Address(plain))
    except AddressValueError as error:
        raise InvalidValue(f"{asked} = {value!r}", f"not an IPv6 prefix ({error})", "Write it as 2001:db8::") from None
    if length not in ("", "64") or number & ((1 << 64) - 1):
        raise InvalidValue(
            f"{asked} = {value!r}", "not a /64", "The lower 64 bits come from the MAC address: leave them 0"
        )
    return str(IPv6Address(number))


def check(network: Network) -> None:
    """Raise InvalidValue for the first wrong value of a network, whose ranges are normalised()."""
    where = f"network {network.name}"
    check_bridge(network.name, network.bridge)
    uplink.check_uplink(network, carries_gateway(network))
    _check_bandwidth(where, network.attributes)
    for address_range in network.address_ranges:
        own = {**network.attributes, **address_range.attributes}
        _check_bandwidth(f"{where}: address range {range_text(address_range)}", own)
    whole = network_cidr(network)
    if whole is not None and (whole.is_loopback or whole.is_multicast or whole.network_address.is_unspecified):
        raise InvalidValue(f"{where}: NETWORK_ADDRESS = {whole}", "no machines have such addresses", "Use 10.0.0.0/8")
    gateway = network.attributes.get("GATEWAY", "")
    gateway_number = ip_number(gateway, f"{where}: GATEWAY") if gateway else None
    if carries_gateway(network):
        _check_gateway(network, whole, gateway_number)
    elif uplink.is_forced(network):
        _check_phydev_forced(network)
    elif network.attributes.get(access.ATTRIBUTE, access.NOTHING) != access.NOTHING:
        raise InvalidValue(
            f"{where}: {access.ATTRIBUTE} = {network.attributes[access.ATTRIBUTE]}",
            "its bridge carries no address of a node, so that its machines reach none",
            "Set nat or gateway_on_bridge, or node_access: []",
        )
    if one_node(network) and network.vn_mad == DUMMY:
        raise InvalidValue(
            f"{where}: {ONE_NODE} = YES",
            f"its bridge {network.bridge} is the nodes' own (vn_mad dummy), and may span them",
            "Use vn_mad bridge, or one_node: false",
        )
    if whole is not None and gateway_number is not None and is_edge(gateway_number, whole):
        _refuse_gateway(network, whole, gateway_number)
    for address_range in network.address_ranges:
        _check_range(where, address_range, whole, gateway_number)
        _check_static(network, address_range)
    if network.vn_mad == OVN:
        _check_static_of_ovn(network)
    _check_overlaps(where, network.address_ranges)


def _check_phydev_forced(network: Network) -> None:
    """Raise InvalidValue where the network does not say node_access: all. A node has its own addresses on the bridge
    then, and is reached by whoever is on the physical network."""
    if access.ATTRIBUTE not in network.attributes or not node_access(network).everything:
        raise InvalidValue(
            f"network {network.name}: {PHYDEV_FORCED} = YES",
            "nodes have their own addresses on its bridge, so that its machines reach them as all do that are on "
            f"{network.attributes.get(uplink.PHYDEV)}'s network",
            "Say so with node_access: all, and use a firewall of the nodes",
        )


def _check_bandwidth(where: str, attributes: Mapping[str, str]) -> None:
    for peak in BANDWIDTH:
        average = f"{peak.partition('_')[0]}_AVG_BW"
        if attributes.get(peak) and not attributes.get(average):
            raise InvalidValue(f"{where}: {peak} = {attributes[peak]}", f"there is no {average}", f"Set {average} too")


def _check_gateway(network: Network, whole: IPv4Network | None, gateway: int | None) -> None:
    asked = f"network {network.name}: " + ("nat" if network.nat else "gateway_on_bridge")
    if network.vn_mad == DUMMY:
        raise InvalidValue(
            asked, f"its bridge {network.bridge} is not made by this collection (vn_mad dummy)", "Use vn_mad bridge"
        )
    if whole is None or gateway is None:
        raise InvalidValue(
            asked,
            "the bridge is to carry the gateway's address, and GATEWAY, NETWORK_ADDRESS or NETWORK_MASK is missing",
            "Give all three",
        )
    if IPv4Address(gateway) not in whole:
        _refuse_gateway(network, whole, gateway)
    if whole.overlaps(LINK_LOCAL):
        raise InvalidValue(
            f"network {network.name}: NETWORK_ADDRESS = {whole}",
            f"what is sent to {LINK_LOCAL} never leaves its link, and never reaches this host from a machine",
            "Use addresses of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
        )


def _refuse_gateway(network: Network, whole: IPv4Network, gateway: int) -> None:
    raise InvalidValue(
        f"network {network.name}: GATEWAY = {ip_text(gateway)}",
        f"not an address of a machine in {whole}",
        "Give one of it",
    )


def is_within(address: str, whole: IPv4Network) -> bool:
    return IPv4Address(address) in whole


def is_edge(number: int, whole: IPv4Network) -> bool:
    """Return whether it is the network address or the broadcast address; a /31 and a /32 have neither."""
    edges = (int(whole.network_address), int(whole.broadcast_address))
    return whole.prefixlen < 31 and number in edges


def _check_range(where: str, address_range: AddressRange, whole: IPv4Network | None, gateway: int | None) -> None:
    if address_range.type not in WITH_IP4:
        return
    first = ip_number(address_range.ip, f"{where}: IP")
    last = first + address_range.size - 1
    asked = f"{where}: address range {range_text(address_range)}"
    if whole is not None:
        lowest, highest = int(whole.network_address), int(whole.broadcast_address)
        if first < lowest or last > highest:
            raise InvalidValue(asked, f"it leaves {whole}", _room_remedy(whole, gateway))
        for edge, kind in ((lowest, "network"), (highest, "broadcast")):
            if first <= edge <= last and whole.prefixlen < 31:
                found = f"it holds the {kind} address {ip_text(edge)} of {whole}"
                raise InvalidValue(asked, found, _room_remedy(whole, gateway))
    if gateway is not None and first <= gateway <= last:
        raise InvalidValue(
            asked, f"it holds the gateway {ip_text(gateway)}", "Begin above it, end below it, or split the range in two"
        )


def _check_static(network: Network, address_range: AddressRange) -> None:
    if not address_range.ip6:
        return
    where = f"network {network.name}: address range {range_text(address_range)}"
    span = IPv6Network((address_range.ip6, address_range.prefix_length), strict=False)
    first = int(IPv6Address(address_range.ip6))
    own = {**network.attributes, **address_range.attributes}
    for attributes, whose in ((own, where), *((r.attributes, where) for r in network.address_ranges)):
        for name in ("GATEWAY6", "IP6_GATEWAY"):
            if not attributes.get(name):
                continue
            gateway = ip6_address(attributes[name], f"{whose}: {name}")
            if first <= int(gateway) < first + address_range.size:
                raise InvalidValue(where, f"it holds the gateway {gateway} ({name})", "Begin above it, or end below it")
            if attributes is own and not gateway.is_link_local and gateway not in span:
                raise InvalidValue(
                    f"{where}: {name} = {gateway}",
                    f"it is outside of {span}",
                    "Give an address of that, or a link-local one (fe80::1); where ranges differ, give GATEWAY6 among "
                    "the attributes of each",
                )


def _check_static_of_ovn(network: Network) -> None:
    """Raise InvalidValue for more than OVN announces in a network: one prefix and one way to come to addresses."""
    static = [r for r in network.address_ranges if r.ip6]
    where = f"network {network.name}: address range"
    if not static:
        return
    for each in static:
        if each.prefix_length != OVN_PREFIX_LENGTH:
            raise InvalidValue(
                f"{where} {range_text(each)}: PREFIX_LENGTH = {each.prefix_length}",
                f"routers of OVN announce prefixes of length {OVN_PREFIX_LENGTH} alone",
                f"Give {OVN_PREFIX_LENGTH}",
            )
    prefixes = {prefix: r for r in network.address_ranges for prefix in prefixes6(r)}
    if len(prefixes) > 1 or any(r.type in WITH_IP6 for r in network.address_ranges):
        raise InvalidValue(
            f"{where} {range_text(static[0])}",
            f"a network of OVN with static addresses has them in one prefix, this one in {', '.join(prefixes)}",
            "Give all its ranges with IPv6 the same type and prefix, or make another network for the others",
        )


def _room_remedy(whole: IPv4Network, gateway: int | None) -> str:
    if whole.prefixlen >= 31:
        return f"Keep it within {whole}"
    first, last = int(whole.network_address) + 1, int(whole.broadcast_address) - 1
    text = f"Keep it within {ip_text(first)} to {ip_text(last)}"
    return text + (f", without the gateway {ip_text(gateway)}" if gateway is not None else "")


def _check_overlaps(where: str, ranges: Sequence[AddressRange]) -> None:
    for kind, spans in (
        ("addresses", [_range_span(ip_number(r.ip, where), r) for r in ranges if r.type in WITH_IP4]),
        ("IPv6 addresses", [span for r in ranges for span in _range_spans6(r)]),
        ("MAC addresses", [_range_span(mac_number(r.mac, where), r) for r in ranges]),
    ):
        spans.sort(key=lambda span: span[:2])
        for (_first, last, one), (other_first, _last, other) in zip(spans, spans[1:]):
            if other_first <= last and one is not other:
                raise InvalidValue(
                    f"{where}: address range {range_text(other)}",
                    f"it shares {kind} with {range_text(one)}",
                    "Ranges of a network never overlap and never move: change its start or size, or give the other "
                    "one with state: absent",
                )


def _range_span(first: int, address_range: AddressRange) -> tuple[int, int, AddressRange]:
    return first, first + address_range.size - 1, address_range


def _range_spans6(address_range: AddressRange) -> list[tuple[int, int, AddressRange]]:
    """Return for each of its prefixes the span from its first to its last address of IPv6. Addresses that follow from
    MAC addresses are not all that lie between."""
    if address_range.ip6:
        return [_range_span(int(IPv6Address(address_range.ip6)), address_range)]
    first = mac_number(address_range.mac, "MAC")
    return [
        (int(IPv6Address(eui64(prefix, first))), int(IPv6Address(eui64(prefix, first + address_range.size - 1))),
         address_range)
        for prefix in (address_range.global_prefix, address_range.ula_prefix)
        if prefix
    ]  # fmt: skip
