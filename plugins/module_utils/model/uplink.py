# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what joins a network's bridges on several nodes: a physical device, or a VLAN or VXLAN device on it.

Names, numbers and ports are OpenNebula's own, so that its nodes and ours can be in one network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address

from ..dataclass import dataclass, replace
from ..errors import InvalidValue
from . import vlan_trunks
from .flags import flag
from .network import PHYDEV_FORCED, PHYDEV_UNUSED, Network
from .network_drivers import BRIDGE, CHOSEN, DUMMY, NUMBERS, ON_NODES, OVN, OVSWITCH, VLAN, VXLAN, WITH_BRIDGE
from .whole_numbers import whole

PHYDEV, VLAN_ID, VLAN_IDS, MTU, GUEST_MTU = "PHYDEV", "VLAN_ID", "VLAN_IDS", "MTU", "GUEST_MTU"
# OpenNebula's word by which a number is chosen.
AUTOMATIC_VLAN_ID = "AUTOMATIC_VLAN_ID"
# These belong to the whole network: no address range can have its own.
OF_NETWORK = (PHYDEV, PHYDEV_FORCED, VLAN_IDS, MTU)
# Bytes that a frame of a machine is longer with on its way: the Ethernet header in it, VXLAN's, UDP's and IPv4's. A
# VLAN tag is no part of what a device's MTU counts.
VXLAN_COST = 50
# The same for Geneve, with what OVN adds to it.
GENEVE_COST = 58
# The MTU of a device unless somebody set another.
ETHERNET_MTU = 1500
# The group of multicast by which nodes find each other: this, plus the VNI (VXLAN_MC of a real oned).
FIRST_GROUP = IPv4Address("239.0.0.0")
# VXLAN_TTL of a real oned, and the port that Linux had before there was a standard, which a real oned leaves as it is.
VXLAN_TTL, VXLAN_PORT = 16, 8472
# IFNAMSIZ without its NUL.
LONGEST_NAME = 15
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
# A name in ovn-bridge-mappings, which are written NAME:BRIDGE,NAME:BRIDGE.
_PHYSICAL = re.compile(r"[^\s,:\"'\\]{1,255}\Z")
_SPAN = re.compile(r"\s*(\d{1,8})\s*-\s*(\d{1,8})\s*")


@dataclass(frozen=True)
class Uplink:
    """Describes an uplink.
    kind: bridge or ovswitch (the physical device is itself a port of the bridge), 802.1Q or vxlan.
    device: the port of the bridge.
    number: the VLAN id or VNI.
    mtu: the device's, in bytes, 0 for what the physical device leaves.
    needed: what has to get through in one piece, in bytes, 0 if nobody says it.
    cost: the bytes by which the physical device's MTU has to be larger.
    forced: the physical device may have a node's own addresses, which move to the bridge then."""

    kind: str
    phydev: str
    device: str
    number: int = 0
    mtu: int = 0
    needed: int = 0
    cost: int = 0
    forced: bool = False

    @property
    def group(self) -> str:
        return str(FIRST_GROUP + self.number) if self.kind == VXLAN else ""

    @property
    def made(self) -> bool:
        """Return whether this collection makes the device."""
        return self.kind not in (BRIDGE, OVSWITCH)

    def __str__(self) -> str:
        what = {VLAN: "VLAN", VXLAN: "VXLAN"}.get(self.kind, "")
        return f"{what} {self.number} on {self.phydev}" if what else self.phydev


def large_mtu(*values: Mapping[str, str]) -> int:
    """Return the MTU that a host's side of machines' NICs needs: what they are told, where an interface has less by
    itself, or else 0. values: attributes of networks, address ranges and NICs."""
    largest = max((whole(each.get(GUEST_MTU)) or 0 for each in values), default=0)
    return largest if largest > ETHERNET_MTU else 0


def large_mtu_of(network: Network) -> int:
    return large_mtu(network.attributes, *(each.attributes for each in network.address_ranges))


def phydev_of(driver: str, attributes: Mapping[str, str]) -> str:
    """Return the physical device that the network uses, "" for none."""
    unused = driver == DUMMY or (driver == BRIDGE and attributes.get(PHYDEV_UNUSED, "").upper() == "YES")
    return "" if unused else attributes.get(PHYDEV, "")


def joins_nodes(network: Network) -> bool:
    """Return whether its machines reach those on other nodes."""
    return bool(phydev_of(network.vn_mad, network.attributes))


def uplink(network: Network) -> Uplink | None:
    """Return the uplink of the network, None if its bridges are not joined; raise InvalidValue for a wrong number."""
    phydev = phydev_of(network.vn_mad, network.attributes)
    if not phydev or network.vn_mad not in ON_NODES:
        return None
    mtu = int(network.attributes.get(MTU) or 0)
    needed = mtu or int(network.attributes.get(GUEST_MTU) or 0)
    if network.vn_mad == BRIDGE:
        return Uplink(BRIDGE, phydev, phydev, needed=needed, forced=is_forced(network))
    number = number_of(network)
    if network.vn_mad == OVSWITCH:
        return Uplink(OVSWITCH, phydev, phydev, number or 0, needed=needed)
    if number is None:
        return None
    device = f"{phydev}.{number}"
    if len(device) > LONGEST_NAME:
        # In check mode a network that would be made has no id yet, and no device of another network has this name.
        end = f"?{number}" if network.id is None else str(network.id)
        device = f"one{'vlan' if network.vn_mad == VLAN else 'vx'}{end}"
    cost = VXLAN_COST if network.vn_mad == VXLAN else 0
    return Uplink(network.vn_mad, phydev, device, number, mtu, needed, cost)


def is_forced(network: Network) -> bool:
    value = network.attributes.get(PHYDEV_FORCED, "")
    return bool(value) and flag(value, f"network {network.name}: {PHYDEV_FORCED}")


def chooses_number(network: Network) -> bool:
    """Return whether it gets a number where none is given. On Open vSwitch frames may do without, as in OpenNebula."""
    if network.vn_mad not in NUMBERS:
        return False
    asked = network.attributes.get(VLAN_IDS, "") or network.attributes.get(AUTOMATIC_VLAN_ID, "")
    return network.vn_mad != OVSWITCH or asked.upper() not in ("", "NO")


def number_of(network: Network) -> int | None:
    """Return the VLAN id or VNI; None if the network has none, or none yet. Raise InvalidValue for a wrong number."""
    text = network.attributes.get(VLAN_ID, "")
    if not text or network.vn_mad not in NUMBERS:
        return None
    first, last = NUMBERS[network.vn_mad]
    number = whole(text)
    if number is None or not first <= number <= last:
        raise InvalidValue(
            f"network {network.name}: {VLAN_ID} = {text!r}",
            f"not a number that {network.vn_mad} has",
            f"Give {first} to {last}, or leave it out: then a free one is chosen",
        )
    return number


def choice_of(network: Network) -> tuple[int, int]:
    """Return the first and the last number from which one is chosen; raise InvalidValue for a wrong range."""
    text = network.attributes.get(VLAN_IDS, "")
    if not text:
        return CHOSEN[network.vn_mad]
    first, last = NUMBERS[network.vn_mad]
    found = _SPAN.fullmatch(text)
    span = (int(found[1]), int(found[2])) if found else (0, 0)
    if not first <= span[0] <= span[1] <= last:
        raise InvalidValue(
            f"network {network.name}: {VLAN_IDS} = {text!r}",
            f"not a range of numbers that {network.vn_mad} has",
            f"Write it as {first}-{last}",
        )
    return span


def with_guest_mtu(network: Network) -> Network:
    """Return the network with an MTU for its machines where the tunnel leaves less than they would have otherwise."""
    attributes = dict(network.attributes)
    if network.vn_mad == VXLAN and not attributes.get(GUEST_MTU):
        attributes[GUEST_MTU] = attributes.get(MTU) or str(ETHERNET_MTU - VXLAN_COST)
    if network.vn_mad == OVN and not attributes.get(GUEST_MTU) and not attributes.get("PHYSICAL_NETWORK"):
        attributes[GUEST_MTU] = attributes.get(MTU) or str(ETHERNET_MTU - GENEVE_COST)
    return replace(network, attributes=attributes)


def check_uplink(network: Network, carries_gateway: bool) -> None:
    """Raise InvalidValue for what can't be of a network that several nodes have."""
    where, attributes = f"network {network.name}", network.attributes
    if is_forced(network) and (network.vn_mad != BRIDGE or not phydev_of(network.vn_mad, attributes)):
        raise InvalidValue(
            f"{where}: {PHYDEV_FORCED} = YES",
            "it has no phydev that is itself a port of its bridge",
            "Give phydev with vn_mad bridge; with 802.1Q and vxlan the physical device keeps its addresses",
        )
    if network.vn_mad == OVN:
        _check_ovn(network, carries_gateway)
        return
    phydev = phydev_of(network.vn_mad, attributes)
    if network.vn_mad in NUMBERS:
        if not phydev and network.vn_mad in WITH_BRIDGE:
            raise InvalidValue(
                f"{where}: vn_mad {network.vn_mad}",
                "it says no physical device",
                "Give phydev, the interface of the nodes that leads to the other nodes, such as eth1",
            )
        if attributes.get(VLAN_IDS):
            choice_of(network)
        number_of(network)
    if network.vn_mad == OVSWITCH:
        _check_ovswitch(network, carries_gateway)
    if not phydev:
        return
    if len(phydev) > LONGEST_NAME or not _NAME.match(phydev):
        raise InvalidValue(
            f"{where}: {PHYDEV} = {phydev!r}",
            "not a name that an interface can have",
            f"Give one that `ip link` shows on the nodes, up to {LONGEST_NAME} characters",
        )
    if phydev == network.bridge:
        raise InvalidValue(
            f"{where}: {PHYDEV} = {phydev}", "the network's bridge has that name", "Choose another name for the bridge"
        )
    if carries_gateway:
        raise InvalidValue(
            f"{where}: {'nat' if network.nat else 'gateway_on_bridge'}",
            f"its bridges are joined by {phydev}, and each of them would have the gateway's address",
            "Set it to false: a router of your own, or a machine, is the gateway; or use vn_mad bridge with phydev: ''",
        )
    mtu, guest = int(attributes.get(MTU) or 0), int(attributes.get(GUEST_MTU) or 0)
    if mtu and guest > mtu:
        raise InvalidValue(
            f"{where}: {GUEST_MTU} = {guest}",
            f"{MTU} = {mtu}: what is larger would be lost without a word",
            f"Give guest_mtu {mtu} or less, or a larger mtu",
        )


def _check_ovswitch(network: Network, carries_gateway: bool) -> None:
    vlan_trunks.read(
        network.attributes.get(vlan_trunks.ATTRIBUTE, ""), f"network {network.name}: {vlan_trunks.ATTRIBUTE} ="
    )
    if carries_gateway:
        raise InvalidValue(
            f"network {network.name}: {'nat' if network.nat else 'gateway_on_bridge'}",
            "no node is a member of a network of Open vSwitch",
            "Set it to false: a router of your own, or a machine, is the gateway; or use vn_mad bridge",
        )


def _check_ovn(network: Network, carries_gateway: bool) -> None:
    where, attributes = f"network {network.name}", network.attributes
    if attributes.get(PHYDEV):
        raise InvalidValue(
            f"{where}: {PHYDEV} = {attributes[PHYDEV]}",
            "networks of OVN reach what is outside by the nodes' bridge mappings",
            "Give physical_network, a name of nebula_ovn_bridge_mappings, instead (phydev: '' takes it away)",
        )
    if carries_gateway:
        raise InvalidValue(
            f"{where}: {'nat' if network.nat else 'gateway_on_bridge'}",
            "no node is a member of a network of OVN",
            "Have its machines reach out by a router with a gateway (nebula_routers)",
        )
    physical = attributes.get("PHYSICAL_NETWORK", "")
    if physical and not _PHYSICAL.match(physical):
        raise InvalidValue(
            f"{where}: PHYSICAL_NETWORK = {physical!r}",
            "not a name that a bridge mapping can have",
            "Give one of nebula_ovn_bridge_mappings: without blanks, commas, colons and quotes",
        )
    vlan = attributes.get(VLAN_ID, "")
    if vlan and not physical:
        raise InvalidValue(
            f"{where}: {VLAN_ID} = {vlan}", "it has no physical_network, on which that would be its tag", "Give both"
        )
    first, last = NUMBERS[VLAN]
    number = whole(vlan) if vlan else first
    if number is None or not first <= number <= last:
        raise InvalidValue(f"{where}: {VLAN_ID} = {vlan!r}", "not a VLAN id", f"Give {first} to {last}")
