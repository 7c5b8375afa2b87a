# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what the node of a machine lets through to it and from it."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Optional

from ..dataclass import dataclass
from ..errors import InvalidValue
from . import ethertypes
from .dataclass_json import from_plain, to_plain
from .logical_network import ALL, DIRECTIONS

# nftables reads a name that ends with * as the beginning of many, and none of the others needs an escape in it.
_PORT = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


@dataclass(frozen=True)
class GuardRule:
    """Describes what may pass. direction, protocol, ports and icmp_type are as Rule of logical_network has them.
    addresses: the other side's, as 10.0.0.5, 10.0.0.0/8 or 10.0.0.5-10.0.0.9, of one family; none for everybody."""

    direction: str
    protocol: str
    ports: tuple[tuple[int, int], ...] = ()
    addresses: tuple[str, ...] = ()
    icmp_type: Optional[int] = None


@dataclass(frozen=True)
class Guard:
    """Describes a NIC and what its node filters of it.
    port: its interface on the node.
    addresses: its leases, IPv4 and IPv6.
    filter_mac, filter_ip: the machine sends with its MAC address and these addresses, and no others; filter_ip goes
    with filter_mac.
    rules: what may pass besides answers; None for everything.
    firewall: what of that may come in; None for all of it.
    on_ovn: it is on OVN's integration bridge, and OVN does all of that; the node does what OVN can't.
    ethertypes: what passes besides ARP and IP, as model/ethertypes.py has it."""

    vm_id: int
    nic_id: int
    port: str
    mac: str
    addresses: tuple[str, ...] = ()
    filter_mac: bool = False
    filter_ip: bool = False
    rules: Optional[tuple[GuardRule, ...]] = None
    firewall: Optional[tuple[GuardRule, ...]] = None
    on_ovn: bool = False
    ethertypes: tuple[int, ...] = ()

    @property
    def filters(self) -> bool:
        return not self.on_ovn and (self.filter_mac or self.filter_ip or self.effective_rules is not None)

    @property
    def bars_router_advertisements(self) -> bool:
        """Return whether its node keeps it from announcing itself as a router on OVN."""
        return self.on_ovn and self.filter_ip and may_announce(self.addresses)

    @property
    def effective_rules(self) -> tuple[GuardRule, ...] | None:
        """Return the rules, where something is to be kept out; None where nothing is."""
        if self.rules is None and self.firewall is not None:
            return tuple(GuardRule(direction, ALL) for direction in DIRECTIONS)
        return self.rules


def may_announce(addresses: Sequence[str]) -> bool:
    """Return whether OVN lets a NIC with these addresses announce itself as a router: of a NIC that has addresses, and
    none of IPv6, it drops all IPv6."""
    return not addresses or any(family_of(text) == 6 for text in addresses)


def check_port(port: str, asked: str) -> None:
    """Raise InvalidValue for a name by which no rule could tell the NIC from others."""
    if not _PORT.match(port):
        raise InvalidValue(
            f"{asked}: TARGET = {port}",
            "its node filters what the NIC sends, and no rule can name such an interface",
            "Use letters, digits and _ . : @ -, or leave TARGET out",
        )


def check(guard: Guard) -> None:
    """Raise InvalidValue for what can't be part of a rule: what comes from another host is looked at first."""
    asked = f"NIC {guard.nic_id} of machine {guard.vm_id}"
    check_port(guard.port, asked)
    if not _MAC.match(guard.mac):
        raise InvalidValue(f"{asked}: MAC = {guard.mac}", "not a MAC address", "Write it as 02:00:0a:00:00:01")
    for number in guard.ethertypes:
        ethertypes.check(number, asked)
    rules = (*(guard.rules or ()), *(guard.firewall or ()))
    texts = [*guard.addresses, *(text for rule in rules for text in rule.addresses)]
    for text in texts:
        try:
            for part in text.split("-"):
                ip_network(part) if "/" in part else ip_address(part)
        except ValueError as error:
            raise InvalidValue(f"{asked}: {text}", str(error), "Write it as 10.0.0.5 or 10.0.0.0/8") from None


def family_of(text: str) -> int:
    return 6 if ":" in text else 4


def pack(guards: Iterable[Guard], machines: Iterable[int]) -> str:
    """Return the guards as text, small for many NICs with the same rules. machines: ids of the host's machines."""
    content = {"guards": [to_plain(guard) for guard in guards], "machines": [*machines]}
    text = json.dumps(content, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode("ascii")


def unpack(text: str) -> tuple[Sequence[Guard], Sequence[int]]:
    """Return the guards and the machines; raise InvalidValue for a text that packed() has not made."""
    if not text:
        return [], []
    try:
        content = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
        found = [from_plain(Guard, entry) for entry in content["guards"]]
        machines = [int(number) for number in content["machines"]]
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        raise InvalidValue("option guards", str(error), "Pass on what nebula_network returned") from None
    for guard in found:
        check(guard)
    return found, machines
