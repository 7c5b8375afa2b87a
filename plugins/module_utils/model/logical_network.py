# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes tenants' networks as OVN is to have them: switches, ports, routers and security groups, whatever the
catalog calls them. Everything that is here is wanted, and what is not here is not."""

from __future__ import annotations

from typing import Optional

from ..dataclass import dataclass
from .addresses import LINK_LOCAL

INBOUND, OUTBOUND = "inbound", "outbound"
DIRECTIONS = (INBOUND, OUTBOUND)
TCP, UDP, ICMP, ICMPV6, IPSEC, ALL = PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPV6", "IPSEC", "ALL")
# How machines come to their IPv6 addresses by what routers announce; "" for no announcements at all.
SLAAC, STATELESS, STATEFUL = RA_MODES = ("slaac", "dhcpv6_stateless", "dhcpv6_stateful")
# No machine reaches these by a network that says nothing else: clouds have their metadata there.
BARRED = (str(LINK_LOCAL),)
LEASE_SECONDS = 43200


@dataclass(frozen=True)
class LogicalNetwork:
    """Describes a network of one tenant, or an external one, which is what a node's bridge is connected with.
    cidr4: as 10.0.0.0/24.
    gateway4, gateway6: the router's address, as machines are told.
    dhcp_server4: the address by which DHCP answers; the gateway's, or the network's first where there is no gateway.
    prefixes6: as 2001:db8::/64.
    mtu: 0 for whatever machines take.
    physical_network: the name in each node's bridge mappings, which makes it an external network.
    vlan: its tag there.
    barred: what no machine reaches by this network (addresses and prefixes, of nodes too)."""

    uuid: str
    name: str
    cidr4: str = ""
    gateway4: str = ""
    dhcp_server4: str = ""
    prefixes6: tuple[str, ...] = ()
    gateway6: str = ""
    ra_mode: str = ""
    dns: tuple[str, ...] = ()
    search_domain: str = ""
    mtu: int = 0
    dhcp: bool = True
    lease_seconds: int = LEASE_SECONDS
    physical_network: str = ""
    vlan: Optional[int] = None
    barred: tuple[str, ...] = BARRED


@dataclass(frozen=True)
class Bandwidth:
    """Describes limits as the machine sees them, in kbit/s, bursts in kbit; 0 for no limit."""

    inbound: int = 0
    outbound: int = 0
    inbound_burst: int = 0
    outbound_burst: int = 0


@dataclass(frozen=True)
class LogicalPort:
    """Describes a NIC.
    uuid: the interface id that its interface has on the node.
    filter_mac, filter_ip: what the machine sends has these addresses and no others; filter_ip goes with filter_mac, and
    neither answers of DHCP servers nor advertisements of routers pass it.
    hostname: the name of its addresses in the network's DNS.
    further: addresses of its aliases, which neither DHCP nor DNS tells.
    ethertypes: what passes besides ARP and IP, as model/ethertypes.py has it.
    between: the host that its machine leaves and the one to which it goes, while it does so as it runs."""

    uuid: str
    network: str
    mac: str
    addresses4: tuple[str, ...] = ()
    addresses6: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    hostname: str = ""
    name: str = ""
    filter_mac: bool = True
    filter_ip: bool = True
    dhcp: bool = True
    security_groups: tuple[str, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    ethertypes: tuple[int, ...] = ()
    between: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return all addresses, its own before those of its aliases."""
        return (*self.addresses4, *self.addresses6, *self.further)

    @property
    def held(self) -> tuple[str, ...]:
        """Return the addresses to which filter_ip holds it; none for any. A NIC without addresses of its own has others
        than its aliases, of which the catalog knows nothing."""
        return self.addresses if self.addresses4 or self.addresses6 else ()


@dataclass(frozen=True)
class SecurityRule:
    """Describes what may pass.
    ports: the destination's, as ranges from first to last; none for all.
    ip: the other side's: an address, the first of size addresses, or a prefix as 10.0.0.0/8.
    network: UUID of a network whose addresses the other side has.
    icmp_type: the type of ICMP or ICMPV6; None for all."""

    direction: str
    protocol: str = ALL
    ports: tuple[tuple[int, int], ...] = ()
    ip: str = ""
    size: int = 1
    network: str = ""
    icmp_type: Optional[int] = None


@dataclass(frozen=True)
class SecurityGroup:
    """Lists what is let through; answers pass as well. A machine without a group is not filtered, so that group 0,
    which allows everything, is none."""

    uuid: str
    name: str
    rules: tuple[SecurityRule, ...] = ()


@dataclass(frozen=True)
class Interface:
    """Describes the interface of a router in a network.
    addresses: as 10.0.0.1/24, one or more.
    mac: "" for an address that follows from the UUIDs of router and network."""

    network: str
    addresses: tuple[str, ...]
    mac: str = ""


@dataclass(frozen=True)
class Chassis:
    """Identifies a node that may carry a router's gateway: the living node with the highest priority does."""

    name: str
    priority: int


@dataclass(frozen=True)
class Gateway:
    """Describes a router's interface in an external network.
    next_hop4, next_hop6: where everything goes that no other route leads to; "" for nowhere.
    named: whether somebody has named these nodes, and they are not just all of them."""

    network: str
    addresses: tuple[str, ...]
    chassis: tuple[Chassis, ...]
    next_hop4: str = ""
    next_hop6: str = ""
    mac: str = ""
    named: bool = False


@dataclass(frozen=True)
class FloatingAddress:
    """Describes an address of the external network that leads to a machine.
    port: its NIC.
    logical_ip: which of the NIC's addresses; "" for the first.
    distributed: the machine's own node sends and takes its packets, not the gateway's."""

    external_ip: str
    port: str
    logical_ip: str = ""
    distributed: bool = False


@dataclass(frozen=True)
class Route:
    destination: str
    next_hop: str


@dataclass(frozen=True)
class Router:
    """Describes a router.
    snat: what machines send through the gateway has the gateway's first IPv4 address as its source.
    barred: where the router leads nobody to."""

    uuid: str
    name: str
    interfaces: tuple[Interface, ...] = ()
    gateway: Optional[Gateway] = None
    snat: bool = True
    floating: tuple[FloatingAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    barred: tuple[str, ...] = BARRED


@dataclass(frozen=True)
class LogicalNetworks:
    """Holds all that one catalog wants of OVN."""

    networks: tuple[LogicalNetwork, ...] = ()
    ports: tuple[LogicalPort, ...] = ()
    groups: tuple[SecurityGroup, ...] = ()
    routers: tuple[Router, ...] = ()
