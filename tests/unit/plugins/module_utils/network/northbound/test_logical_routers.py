# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of routers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Chassis,
    FloatingAddress,
    Interface,
    LogicalNetworks,
    Route,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_rows import stable_mac
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.render import render
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    BLUE,
    CATALOG,
    FLOATING,
    GATEWAY,
    ONE,
    OUTSIDE,
    ROUTER,
    ROUTER_INSIDE,
    ROUTER_OUTSIDE,
    UPSTREAM,
    blue,
    desired,
    router,
    uuid,
    with_router,
)


def of(table, wanted=desired):
    made = {row: columns for row, columns in render(CATALOG, wanted).items() if row.table == table and row.router}
    return {
        row.part if row.table != "Logical_Router_Port" else columns["name"]: columns for row, columns in made.items()
    }


def test_a_router_has_a_port_in_each_network_and_the_network_one_to_it():
    ports = of("Logical_Router_Port")
    assert ports.keys() == {ROUTER_INSIDE, ROUTER_OUTSIDE}
    assert ports[ROUTER_INSIDE]["networks"] == {"10.0.0.1/24", "2001:db8:1::1/64"}
    assert ports[ROUTER_INSIDE]["mac"] == stable_mac("router", ROUTER, BLUE)
    ends = {
        columns["name"]: columns["options"]
        for row, columns in render(CATALOG, desired).items()
        if row.table == "Logical_Switch_Port" and row.router
    }
    assert ends == {
        f"lsp-{ROUTER}-{BLUE}": {"router-port": ROUTER_INSIDE},
        f"lsp-{ROUTER}-{OUTSIDE}": {"router-port": ROUTER_OUTSIDE, "nat-addresses": "router"},
    }


def test_a_mac_address_that_is_given_is_taken():
    given = Interface(BLUE, ("10.0.0.1/24",), "02:00:00:00:00:77")
    assert of("Logical_Router_Port", with_router(interfaces=(given,)))[ROUTER_INSIDE]["mac"] == "02:00:00:00:00:77"


def test_a_router_announces_what_the_network_wants():
    assert of("Logical_Router_Port")[ROUTER_INSIDE]["ipv6_ra_configs"] == {
        "address_mode": "slaac",
        "send_periodic": "true",
        "mtu": "1442",
        "rdnss": "2001:db8::53",
        "dnssl": "blue.example",
    }
    assert of("Logical_Router_Port")[ROUTER_OUTSIDE]["ipv6_ra_configs"] == {}
    quiet = replace(desired, networks=(replace(blue, ra_mode=""), *desired.networks[1:]))
    assert of("Logical_Router_Port", quiet)[ROUTER_INSIDE]["ipv6_ra_configs"] == {}
    only4 = with_router(interfaces=(Interface(BLUE, ("10.0.0.1/24",)),))
    assert of("Logical_Router_Port", only4)[ROUTER_INSIDE]["ipv6_ra_configs"] == {}


def test_senders_hear_of_packets_that_do_not_fit():
    ports = of("Logical_Router_Port")
    assert ports[ROUTER_INSIDE]["options"] == {"gateway_mtu": "1442"}
    assert ports[ROUTER_OUTSIDE]["options"] == {}


def test_nodes_carry_the_gateway_by_their_priorities():
    two = replace(router.gateway, chassis=(Chassis("a", 20), Chassis("b", 10)))
    assert [
        (columns["name"], columns["chassis_name"], columns["priority"])
        for columns in of("Gateway_Chassis", with_router(gateway=two)).values()
    ] == [(f"{ROUTER_OUTSIDE}_a", "a", 20), (f"{ROUTER_OUTSIDE}_b", "b", 10)]


def test_routes_lead_by_the_gateway_or_by_what_is_given():
    routes = of("Logical_Router_Static_Route", with_router(routes=(Route("10.9.0.0/16", "10.0.0.7"),)))
    assert [(each["ip_prefix"], each["nexthop"], each["output_port"]) for each in routes.values()] == [
        ("10.9.0.0/16", "10.0.0.7", frozenset()),
        ("0.0.0.0/0", UPSTREAM, {ROUTER_OUTSIDE}),
    ]


def test_machines_have_the_gateways_address_outside_if_that_is_wanted():
    nat = of("NAT")["snat"]
    assert (nat["type"], nat["external_ip"], nat["logical_ip"]) == ("snat", GATEWAY, "10.0.0.0/24")
    assert "snat" not in of("NAT", with_router(snat=False))
    assert of("NAT", with_router(gateway=None, floating=())) == {}
    six = replace(router.gateway, addresses=("2001:db8:9::2/64",), next_hop4="")
    assert "snat" not in of("NAT", with_router(gateway=six))


@pytest.mark.parametrize(
    ("floating", "inside", "spread"),
    [
        (FloatingAddress(FLOATING, uuid(ONE)), "10.0.0.11", False),
        (FloatingAddress(FLOATING, uuid(ONE), "10.0.0.11", True), "10.0.0.11", True),
        (FloatingAddress("2001:db8:9::20", uuid(ONE)), "2001:db8:1::b", False),
    ],
)
def test_a_floating_address_leads_to_a_nic(floating, inside, spread):
    nat = of("NAT", with_router(floating=(floating,)))[f"floating {floating.external_ip}"]
    assert (nat["type"], nat["external_ip"], nat["logical_ip"]) == ("dnat_and_snat", floating.external_ip, inside)
    assert nat["logical_port"] == ({uuid(ONE)} if spread else frozenset())
    assert nat["external_mac"] == ({stable_mac("floating", ROUTER, FLOATING)} if spread else frozenset())


def test_a_floating_address_is_the_same_row_wherever_it_leads():
    first, second = (
        {
            row
            for row in render(CATALOG, with_router(floating=(FloatingAddress(FLOATING, uuid(nic)),)))
            if row.table == "NAT"
        }
        for nic in (ONE, 112)
    )
    assert first == second


def test_a_router_leads_nobody_to_what_is_barred():
    policies = of("Logical_Router_Policy", with_router(barred=("169.254.0.0/16", "192.0.2.1", "fd00::/8")))
    assert {(each["match"], each["action"]) for each in policies.values()} == {
        ("ip4.dst == {169.254.0.0/16, 192.0.2.1}", "drop"),
        ("ip6.dst == fd00::/8", "drop"),
    }
    assert of("Logical_Router_Policy", with_router(barred=())) == {}


def test_a_router_without_anything_is_one():
    alone = LogicalNetworks(routers=(replace(router, interfaces=(), gateway=None, floating=(), barred=()),))
    assert [row.table for row in render(CATALOG, alone)] == ["Logical_Router"]
