# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tenants of one CIDR, a router with a gateway and a floating address: what tests of OVN begin with."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ovn_central import CHASSIS, Central

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Chassis,
    FloatingAddress,
    Gateway,
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    Router,
    SecurityGroup,
    SecurityRule,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_connection import Database


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


CATALOG, OTHER_CATALOG = uuid(99), uuid(98)
BLUE, RED, OUTSIDE, ROUTER, GROUP = (uuid(number) for number in (1, 2, 3, 7, 5))
# On every network, by the last byte of its address; the hundreds say which network.
ONE, TWO, FREE, RED_ONE, RED_TWO = NICS = (111, 112, 113, 211, 212)
GATEWAY, FLOATING, UPSTREAM, FAR = "192.0.2.10", "192.0.2.20", "192.0.2.1", "203.0.113.9"
# OVN names each port of a router, and its end on the switch, after both.
ROUTER_INSIDE, ROUTER_OUTSIDE = f"lrp-{ROUTER}-{BLUE}", f"lrp-{ROUTER}-{OUTSIDE}"

blue = LogicalNetwork(
    BLUE,
    "blue",
    cidr4="10.0.0.0/24",
    gateway4="10.0.0.1",
    prefixes6=("2001:db8:1::/64",),
    gateway6="2001:db8:1::1",
    ra_mode="slaac",
    dns=("9.9.9.9", "2001:db8::53"),
    search_domain="blue.example",
    mtu=1442,
    lease_seconds=4242,
)
red = LogicalNetwork(RED, "red", cidr4="10.0.0.0/24", gateway4="10.0.0.1")
outside = LogicalNetwork(OUTSIDE, "outside", cidr4="192.0.2.0/24", dhcp=False, physical_network="physnet", vlan=17)


def mac_of(nic: int) -> str:
    return f"02:00:0a:00:00:{nic % 100:02x}"


def address_of(nic: int) -> str:
    return f"10.0.0.{nic % 100}"


def address6_of(nic: int) -> str:
    return f"2001:db8:1::{nic % 100:x}"


def link_local_of(nic: int) -> str:
    return f"fe80::aff:fe00:{nic % 100:x}"


def nic(number: int, **more: Any) -> LogicalPort:
    of_blue = number < 200
    return LogicalPort(
        uuid(number),
        BLUE if of_blue else RED,
        mac_of(number),
        (address_of(number),),
        (address6_of(number),) if of_blue else (),
        hostname=f"host{number}",
        name=f"nic{number}",
        **more,
    )


group = SecurityGroup(
    GROUP,
    "web",
    (
        SecurityRule("inbound", "TCP", ((22, 22), (80, 90))),
        SecurityRule("inbound", "ICMP", network=BLUE),
        SecurityRule("inbound", "UDP", ip="10.0.0.100", size=3),
        SecurityRule("outbound"),
    ),
)
router = Router(
    ROUTER,
    "edge",
    (Interface(BLUE, ("10.0.0.1/24", "2001:db8:1::1/64")),),
    Gateway(OUTSIDE, (f"{GATEWAY}/24",), (Chassis(CHASSIS, 10),), UPSTREAM),
    floating=(FloatingAddress(FLOATING, uuid(ONE)),),
)
desired = LogicalNetworks(
    (blue, red, outside),
    (nic(ONE), nic(TWO, security_groups=(GROUP,)), nic(FREE, filter_ip=False), nic(RED_ONE), nic(RED_TWO)),
    (group,),
    (router,),
)


def with_router(**more: Any) -> LogicalNetworks:
    return dataclasses.replace(desired, routers=(dataclasses.replace(router, **more),))


@contextlib.contextmanager
def central(northd: bool = True) -> Iterator[tuple[Central, Database]]:
    with (
        tempfile.TemporaryDirectory() as directory,
        Central(Path(directory) / "central", northd) as running,
        Database([running.remote]) as database,
    ):
        yield running, database
