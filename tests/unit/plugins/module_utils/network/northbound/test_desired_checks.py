# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be asked of OVN: each refusal by name, before anything is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Chassis,
    FloatingAddress,
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    Route,
    SecurityRule,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_checks import refuse
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    BLUE,
    FLOATING,
    GATEWAY,
    GROUP,
    ONE,
    OUTSIDE,
    RED,
    RED_ONE,
    TWO,
    address_of,
    blue,
    desired,
    group,
    mac_of,
    nic,
    outside,
    red,
    router,
    uuid,
    with_router,
)


def with_network(**more):
    return replace(desired, networks=(replace(blue, **more), red, outside))


def with_nic(**more):
    return replace(desired, ports=(replace(nic(ONE), **more), *desired.ports[1:]))


def with_rule(*arguments, **more):
    return replace(desired, groups=(replace(group, rules=(SecurityRule(*arguments, **more),)),))


def with_gateway(**more):
    return with_router(gateway=replace(router.gateway, **more))


def test_what_can_be_meant_passes():
    refuse(desired)
    refuse(LogicalNetworks())
    refuse(
        with_router(
            routes=(Route("10.9.0.0/16", "10.0.0.7"),), gateway=replace(router.gateway, mac="02:00:00:00:00:01")
        )
    )
    refuse(with_gateway(addresses=(f"{GATEWAY}/24",), next_hop4=""))


# The same CIDR in a second network of one router.
overlapping = (*router.interfaces, Interface(RED, ("10.0.0.2/24",)))
BAD = {
    # networks
    "no CIDR": (with_network(cidr4="10.0.0.1/24"), InvalidValue, "network blue: CIDR = '10.0.0.1/24'"),
    "CIDR of IPv6": (with_network(cidr4="2001:db8::/64"), InvalidValue, "it is one of IPv6"),
    "gateway outside": (
        with_network(gateway4="10.0.1.1"),
        InvalidValue,
        r"gateway = 10.0.1.1: it is outside of 10\.0\.0\.0/24",
    ),
    "no gateway": (with_network(gateway4="x"), InvalidValue, "network blue: gateway = 'x'"),
    "DHCP server outside": (with_network(dhcp_server4="10.0.1.1"), InvalidValue, "DHCP server = 10.0.1.1"),
    "prefix of IPv4": (with_network(prefixes6=("10.0.0.0/24",)), InvalidValue, "it is one of IPv4"),
    "prefix that nobody announces": (with_network(prefixes6=("2001:db8::/48",)), InvalidValue, "length 64 alone"),
    "gateway of the other IP": (with_network(gateway6="10.0.0.1"), InvalidValue, "it is one of IPv4"),
    "unknown announcements": (with_network(ra_mode="often"), InvalidValue, "router advertisements = 'often'"),
    "no server of names": (with_network(dns=("dns.example",)), InvalidValue, "network blue: DNS"),
    "a domain that ends its quotes": (with_network(search_domain='a", router = 1'), InvalidValue, "search domain"),
    "no barred prefix": (with_network(barred=("10.0.0.1/8",)), InvalidValue, "network blue: barred"),
    "a tag without a network": (with_network(vlan=5), InvalidValue, "it has no physical network"),
    "no tag": (replace(desired, networks=(blue, red, replace(outside, vlan=4095))), InvalidValue, "VLAN 4095"),
    "an address with a scope": (with_network(gateway6="fe80::1%eth0"), InvalidValue, "has a scope"),
    # identities
    "no UUID": (replace(desired, networks=(replace(blue, uuid="1"),)), InvalidValue, "network blue: UUID '1'"),
    "one UUID twice": (replace(desired, networks=(blue, replace(red, uuid=BLUE))), Conflict, "it is there twice"),
    # NICs
    "no MAC address": (with_nic(mac="x"), InvalidValue, "NIC nic111: MAC"),
    "a MAC address in another form": (with_nic(mac="02-00-0a-00-00-0b"), InvalidValue, "OVN reads one form"),
    "no address": (with_nic(addresses4=("10.0.0.300",)), InvalidValue, "NIC nic111: address"),
    "an address of the other IP": (with_nic(addresses6=("10.0.0.11",)), InvalidValue, "it is one of IPv4"),
    "no host name": (with_nic(hostname='a"b'), InvalidValue, "NIC nic111: host name"),
    "an address outside": (with_nic(addresses4=("10.0.7.1",)), InvalidValue, "the CIDR of network blue"),
    "no address of an alias": (with_nic(further=("10.0.0.300",)), InvalidValue, "NIC nic111: address"),
    "an alias outside": (with_nic(further=("10.0.7.1",)), InvalidValue, "the CIDR of network blue"),
    "another's address for an alias": (with_nic(further=(address_of(TWO),)), Conflict, "has it"),
    "no such network": (with_nic(network=uuid(77)), NotFound, f"NIC nic111: network {uuid(77)}"),
    "no such group": (with_nic(security_groups=(uuid(77),)), NotFound, f"security group {uuid(77)}"),
    "a MAC address twice": (
        with_nic(mac=mac_of(TWO)),
        Conflict,
        "NIC nic112: MAC .* in network blue: NIC nic111 has it",
    ),
    "an address twice": (
        with_nic(addresses4=(address_of(TWO),)),
        Conflict,
        r"NIC nic112: 10\.0\.0\.12 in network blue",
    ),
    "an address that the router has": (
        with_nic(addresses4=("10.0.0.1",)),
        Conflict,
        "router edge: 10.0.0.1 in network blue",
    ),
    # rules
    "no direction": (with_rule("sideways"), InvalidValue, "security group web: RULE_TYPE"),
    "no protocol": (with_rule("inbound", "GRE"), InvalidValue, "PROTOCOL = 'GRE'"),
    "ports of what has none": (with_rule("inbound", "ICMP", ((1, 1),)), InvalidValue, "ICMP has no ports"),
    "no range": (with_rule("inbound", "TCP", ((90, 80),)), InvalidValue, "RANGE = 90:80"),
    "no port": (with_rule("inbound", "TCP", ((1, 65536),)), InvalidValue, "RANGE = 1:65536"),
    "a type of what has none": (with_rule("inbound", "TCP", icmp_type=8), InvalidValue, "TCP has none"),
    "no type": (with_rule("inbound", "ICMP", icmp_type=256), InvalidValue, "ICMP_TYPE = 256"),
    "addresses twice": (with_rule("inbound", ip="10.0.0.1", network=BLUE), InvalidValue, "NETWORK_ID and IP"),
    "a rule's network is not there": (with_rule("inbound", network=uuid(77)), NotFound, f"network {uuid(77)}"),
    "no size": (with_rule("inbound", ip="10.0.0.1", size=0), InvalidValue, "SIZE = 0"),
    "no source": (with_rule("inbound", ip="10.0.0.0/33"), InvalidValue, "security group web: IP"),
    "more addresses than there are": (with_rule("inbound", ip="255.255.255.255", size=2), InvalidValue, "IP = "),
    "ICMP of the other IP": (with_rule("inbound", "ICMP", ip="2001:db8::1"), InvalidValue, "ICMP is of the other IP"),
    "a network without addresses": (
        replace(with_rule("inbound", network=uuid(8)), networks=(*desired.networks, LogicalNetwork(uuid(8), "bare"))),
        InvalidValue,
        "network bare has no addresses",
    ),
    # routers
    "no such interface": (
        with_router(interfaces=(Interface(uuid(77), ("10.0.0.1/24",)),)),
        NotFound,
        "router edge: network",
    ),
    "an interface without addresses": (
        with_router(interfaces=(Interface(BLUE, ()),)),
        InvalidValue,
        "no address there",
    ),
    "an interface's address outside": (
        with_router(interfaces=(Interface(BLUE, ("10.0.1.1/24",)),)),
        InvalidValue,
        r"address in network blue = 10\.0\.1\.1/24",
    ),
    "an interface without a length": (
        with_router(interfaces=(Interface(BLUE, ("10.0.0.1",)),)),
        InvalidValue,
        "length of its",
    ),
    "another length": (with_router(interfaces=(Interface(BLUE, ("10.0.0.1/16",)),)), InvalidValue, "it is not one of"),
    "an interface's MAC": (
        with_router(interfaces=(Interface(BLUE, ("10.0.0.1/24",), "x"),)),
        InvalidValue,
        "MAC in network",
    ),
    "a network twice": (with_router(interfaces=router.interfaces * 2), Conflict, "network blue: it is there twice"),
    "one CIDR twice": (with_router(interfaces=overlapping), Conflict, "network red: its 10.0.0.0/24 overlaps"),
    "no such gateway": (with_gateway(network=uuid(77)), NotFound, "router edge: gateway"),
    "a gateway inside": (with_gateway(network=RED, addresses=("10.0.0.5/24",)), InvalidValue, "no external network"),
    "nobody carries it": (with_gateway(chassis=()), InvalidValue, "no node carries it"),
    "one node twice": (with_gateway(chassis=(Chassis("a", 1), Chassis("a", 2))), Conflict, "one is there twice"),
    "one priority twice": (with_gateway(chassis=(Chassis("a", 1), Chassis("b", 1))), Conflict, "one is there twice"),
    "a next hop elsewhere": (with_gateway(next_hop4="192.0.3.1"), InvalidValue, "the gateway does not reach it"),
    "an interface outside as well": (
        with_router(interfaces=(*router.interfaces, Interface(OUTSIDE, ("192.0.2.9/24",)))),
        Conflict,
        "it has an interface there",
    ),
    "no route": (with_router(routes=(Route("10.9.0.1/16", "10.0.0.7"),)), InvalidValue, "router edge: route"),
    "a hop elsewhere": (
        with_router(routes=(Route("10.9.0.0/16", "10.8.0.7"),)),
        InvalidValue,
        "no interface of it reaches",
    ),
    "a route twice": (with_router(routes=(Route("10.9.0.0/16", "10.0.0.7"),) * 2), Conflict, "there are two"),
    "no barred prefix of a router": (with_router(barred=("x",)), InvalidValue, "router edge: barred"),
    # floating addresses
    "no floating address": (
        with_router(floating=(FloatingAddress("x", uuid(ONE)),)),
        InvalidValue,
        "floating address x",
    ),
    "nothing to float in": (with_router(gateway=None), InvalidValue, f"{FLOATING}: the router has no gateway"),
    "no such NIC": (with_router(floating=(FloatingAddress(FLOATING, uuid(77)),)), NotFound, f"NIC {uuid(77)}"),
    "an address that the NIC has not": (
        with_router(floating=(FloatingAddress(FLOATING, uuid(ONE), "10.0.0.77"),)),
        InvalidValue,
        "NIC nic111 does not have",
    ),
    "a NIC without addresses": (
        replace(desired, ports=(replace(nic(ONE), addresses4=()), *desired.ports[1:])),
        InvalidValue,
        "no address of IPv4",
    ),
    "another tenant's NIC": (
        with_router(floating=(FloatingAddress(FLOATING, uuid(RED_ONE)),)),
        InvalidValue,
        "no interface in network red",
    ),
    "twice": (
        with_router(floating=(FloatingAddress(FLOATING, uuid(ONE)), FloatingAddress(FLOATING, uuid(TWO)))),
        Conflict,
        f"{FLOATING} in",
    ),
    "the gateway's own": (
        with_router(floating=(FloatingAddress(GATEWAY, uuid(ONE)),)),
        Conflict,
        "the gateway of router edge has it",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_meant_is_refused_by_name(name):
    wanted, error, found = BAD[name]
    with pytest.raises(error, match=found) as caught:
        refuse(wanted)
    assert caught.value.remedy


@pytest.mark.parametrize("vlan", [17, 18])
def test_two_routers_on_one_gateway_address(vlan):
    """One VLAN of one physical network is one link, however many networks say so."""
    second = replace(outside, uuid=uuid(31), name="outside too", vlan=vlan)
    other = replace(
        router, uuid=uuid(71), name="other", interfaces=(), floating=(),
        gateway=replace(router.gateway, network=second.uuid),
    )  # fmt: skip
    wanted = replace(desired, networks=(*desired.networks, second), routers=(router, other))
    if vlan == 18:
        refuse(wanted)
        return
    with pytest.raises(Conflict, match=f"the gateway of router other: {GATEWAY} in external network outside too"):
        refuse(wanted)


def test_a_machine_outside_has_no_address_that_floats():
    direct = replace(nic(ONE), uuid=uuid(800), network=OUTSIDE, addresses4=(FLOATING,), addresses6=(), name="direct")
    with pytest.raises(Conflict, match="NIC direct has it"):
        refuse(replace(desired, ports=(*desired.ports, direct)))


def test_names_are_not_identities():
    refuse(replace(desired, networks=(blue, replace(red, name="blue"), outside)))
    assert desired.groups[0].uuid == GROUP
