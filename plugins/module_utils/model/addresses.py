# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes with addresses of virtual networks: numbers and text, and the arithmetic of ranges.

Addresses are integers while they are computed with: a batch asks for thousands of them."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address

from ..errors import InvalidValue
from .lease import Lease
from .network import AddressRange

MAC_PREFIX = 0x0200
TYPES = ("IP4", "IP6", "IP4_6", "ETHER", "IP6_STATIC", "IP4_6_STATIC")
WITH_IP4 = ("IP4", "IP4_6", "IP4_6_STATIC")
# In the first the IPv6 address follows from a prefix and the MAC address, in the others it is counted from the first.
WITH_IP6 = ("IP6", "IP4_6")
WITH_STATIC_IP6 = ("IP6_STATIC", "IP4_6_STATIC")
# The most digits of a MAC address that YAML read as a number.
_MOST_DIGITS = 12
# These have no use beyond one link. Clouds have services there that only the host itself is to reach.
LINK_LOCAL = IPv4Network("169.254.0.0/16")
_MAC = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\Z")


def ip_number(text: str, asked: str) -> int:
    """Return an IPv4 address as a number, or raise InvalidValue. asked: the object and the attribute, for the error."""
    try:
        return int(IPv4Address(text.strip()))
    except AddressValueError as error:
        raise InvalidValue(f"{asked} = {text!r}", f"not an IPv4 address ({error})", "Write it as 10.66.0.10") from None


def ip_text(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def ip6_address(text: str, asked: str) -> IPv6Address:
    try:
        # A scope may be any text to ipaddress.
        if "%" in text:
            raise AddressValueError("it has a scope")
        return IPv6Address(text.strip())
    except AddressValueError as error:
        raise InvalidValue(f"{asked} = {text!r}", f"not an IPv6 address ({error})", "Write it as 2001:db8::1") from None


def mac_number(text: str, asked: str) -> int:
    """Return a MAC address as a number; raise InvalidValue for a text that is none, and for a multicast address.

    YAML 1.1 reads an unquoted 52:54:00:12:34:56 as a number to base 60: that is understood, too."""
    plain = text.strip().lower()
    if plain.isascii() and plain.isdigit() and len(plain) <= _MOST_DIGITS:
        plain = _from_base_60(int(plain))
    if not _MAC.match(plain):
        raise InvalidValue(
            f"{asked} = {text!r}",
            "not a MAC address",
            'Write six pairs of hexadecimal digits, in quotes: "02:00:0a:42:00:0a"',
        )
    number = int(plain.replace(":", "").replace("-", ""), 16)
    if number >> 40 & 1:
        raise InvalidValue(f"{asked} = {text!r}", "a multicast address", "Make the first byte even, as in 02")
    return number


def _from_base_60(number: int) -> str:
    groups = []
    for _group in range(6):
        number, group = divmod(number, 60)
        groups.append(f"{group:02d}")
    # With a seventh group, or with a first group that begins with 0, YAML has not misread a MAC address.
    return "" if number or groups[-1].startswith("0") else ":".join(reversed(groups))


def mac_text(number: int) -> str:
    digits = f"{number:012x}"
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def mac_of_ip(number: int) -> int:
    """Return the MAC address of an IPv4 address by OpenNebula's rule: 02:00:0a:42:00:0a for 10.66.0.10."""
    return MAC_PREFIX << 32 | number


def base_mac(random: int, size: int) -> str:
    """Return the first MAC address of a range that has no IPv4 to make it from. random: a number of 32 bits or more."""
    return mac_text(MAC_PREFIX << 32 | random % ((1 << 32) - size + 1))


def eui64(prefix: str, mac: int) -> str:
    """Return the IPv6 address that a machine with this MAC address gives itself within a /64 prefix."""
    identifier = (mac >> 24 ^ 0x020000) << 40 | 0xFFFE << 24 | (mac & 0xFFFFFF)
    return str(IPv6Address(int(IPv6Address(prefix)) | identifier))


def split_eui64(address: IPv6Address) -> tuple[str, int] | None:
    """Return the prefix and the MAC address of which eui64() made this address; None if it did not make it."""
    identifier = int(address) & ((1 << 64) - 1)
    if identifier >> 24 & 0xFFFF != 0xFFFE:
        return None
    return str(IPv6Address(int(address) - identifier)), (identifier >> 40 ^ 0x020000) << 24 | identifier & 0xFFFFFF


class Calculator:
    """Computes the addresses of one range from their offsets, and offsets from addresses."""

    def __init__(self, address_range: AddressRange) -> None:
        self.range = address_range
        self.mac = mac_number(address_range.mac, "MAC")
        self.ip = ip_number(address_range.ip, "IP") if address_range.type in WITH_IP4 else None
        self.ip6 = int(IPv6Address(address_range.ip6)) if address_range.type in WITH_STATIC_IP6 else None
        self.with_ip6 = address_range.type in WITH_IP6 or self.ip6 is not None

    def lease(self, network_id: int | None, offset: int, vm_id: int | None, nic_id: int | None) -> Lease:
        mac = self.mac + offset
        prefix, ula = self.range.global_prefix, self.range.ula_prefix
        ip6 = eui64(prefix, mac) if self.with_ip6 and prefix else ""
        return Lease(
            network_id=network_id,
            ar_id=self.range.ar_id,
            offset=offset,
            mac=mac_text(mac),
            ip="" if self.ip is None else ip_text(self.ip + offset),
            ip6=ip6 if self.ip6 is None else str(IPv6Address(self.ip6 + offset)),
            ip6_ula=eui64(ula, mac) if self.with_ip6 and ula else "",
            vm_id=vm_id,
            nic_id=nic_id,
        )

    def offset_of(self, ip: int | None, mac: int | None) -> int | None:
        """Return the offset of an address; None if the range lacks it. mac counts only without ip."""
        offset = (-1 if self.ip is None else ip - self.ip) if ip is not None else -1 if mac is None else mac - self.mac
        return offset if 0 <= offset < self.range.size else None

    def offset_of_ip6(self, ip6: IPv6Address) -> int | None:
        """Return the offset of an IPv6 address, static or by a prefix of the range; None if it is not in the range."""
        if self.ip6 is not None:
            offset = int(ip6) - self.ip6
            return offset if 0 <= offset < self.range.size else None
        made_of = split_eui64(ip6)
        if made_of is None or not self.with_ip6 or made_of[0] not in (self.range.global_prefix, self.range.ula_prefix):
            return None
        return self.offset_of(None, made_of[1])


def range_text(address_range: AddressRange) -> str:
    """Return how messages name a range: by its number and its first and last address."""
    first = address_range.ip or address_range.ip6 or address_range.mac
    span = (f"{address_range.type} {first}" if first else address_range.type) + f" ({address_range.size})"
    family, bits = (IPv4Address, 32) if address_range.ip else (IPv6Address, 128)
    try:
        last = int(family(address_range.ip or address_range.ip6)) + max(address_range.size, 1) - 1
        span = f"{first}-{family(min(last, (1 << bits) - 1))}"
    except AddressValueError:
        pass
    return f"{address_range.ar_id} [{span}]" if address_range.ar_id >= 0 else f"[{span}]"
