# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's routes are read from `ip`, and a virtual network may not take addresses from one of them."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, Conflict
from ansible_collections.nebula.provision.plugins.module_utils.network import host_routes
from ansible_collections.nebula.provision.plugins.module_utils.network.host_routes import Route

OF_IPV4, OF_IPV6 = (f"-json {family} route show table all" for family in ("-4", "-6"))
LISTED = [
    {"dst": "default", "gateway": "192.0.2.254", "dev": "eth0", "protocol": "dhcp", "metric": 100, "flags": []},
    {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link", "prefsrc": "192.0.2.1", "flags": []},
    {"type": "local", "dst": "127.0.0.0/8", "dev": "lo", "table": "local", "scope": "host", "flags": []},
    {"type": "local", "dst": "192.0.2.1", "dev": "eth0", "table": "local", "scope": "host", "flags": []},
    {"type": "broadcast", "dst": "192.0.2.255", "dev": "eth0", "table": "local", "scope": "link", "flags": []},
    {"type": "blackhole", "dst": "10.9.0.0/16", "flags": []},
    {"type": "throw", "dst": "10.8.0.0/16", "flags": []},
    {"dst": "10.7.0.0/16", "table": "51820", "dev": "wg0", "scope": "link", "flags": []},
    {"dst": "10.6.0.0/16", "flags": [], "nexthops": [{"gateway": "192.0.2.2", "dev": "eth0"}, {"dev": "eth1"}]},
    {"dst": "224.0.0.0/4", "dev": "eth0", "scope": "link", "flags": []},
]
LISTED_6 = [
    {"dst": "2001:db8:1::/64", "dev": "eth0", "protocol": "kernel", "metric": 256, "flags": [], "pref": "medium"},
    {"dst": "fe80::/64", "dev": "eth0", "protocol": "kernel", "metric": 256, "flags": [], "pref": "medium"},
    {"dst": "default", "gateway": "fe80::1", "dev": "eth0", "metric": 1024, "flags": [], "pref": "medium"},
    {"type": "local", "dst": "fe80::1445:8eff:fea1:97e", "dev": "eth0", "table": "local", "metric": 0, "flags": []},
    {"type": "anycast", "dst": "2001:db8:1::", "dev": "eth0", "table": "local", "metric": 0, "flags": []},
    {"type": "multicast", "dst": "ff00::/8", "dev": "eth0", "table": "local", "metric": 256, "flags": []},
]


def answer(programs: Programs, ipv4: list[dict[str, Any]], ipv6: list[dict[str, Any]]) -> None:
    programs.answer("ip", OF_IPV4, json.dumps(ipv4))
    programs.answer("ip", OF_IPV6, json.dumps(ipv6))


def route(destination: str, device: str = "eth0", **more: str) -> Route:
    return Route(ip_network(destination), device, **more)


# -- what is there ----------------------------------------------------------------------------------------------------
def test_all_tables_are_read_and_the_main_one_comes_first(programs: Programs) -> None:
    answer(programs, LISTED, LISTED_6)
    assert host_routes.observe() == [
        route("0.0.0.0/0", gateway="192.0.2.254"),
        route("192.0.2.0/24"),
        route("10.9.0.0/16", ""),
        route("10.6.0.0/16", "eth0,eth1"),
        route("2001:db8:1::/64"),
        route("::/0", gateway="fe80::1"),
        route("127.0.0.0/8", "lo", table="local"),
        route("192.0.2.1/32", table="local"),
        route("10.7.0.0/16", "wg0", table="51820"),
    ]


def test_a_host_without_ipv6_is_no_error(programs: Programs) -> None:
    programs.answer("ip", OF_IPV4, json.dumps(LISTED[:2]))
    programs.answer("ip", OF_IPV6, err="Error: ipv6: FIB table does not exist.\nDump terminated\n", code=2)
    assert [str(found.destination) for found in host_routes.observe()] == ["0.0.0.0/0", "192.0.2.0/24"]


def test_a_host_without_any_route_prints_nothing(programs: Programs) -> None:
    programs.answer("ip", OF_IPV4)
    programs.answer("ip", OF_IPV6)
    assert host_routes.observe() == []


def test_routes_of_ipv4_that_can_not_be_listed_are_an_error(programs: Programs) -> None:
    programs.answer("ip", OF_IPV4, err="Dump terminated\n", code=2)
    with pytest.raises(CommandFailed, match="Dump terminated"):
        host_routes.observe()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (route("10.9.0.0/16", ""), "10.9.0.0/16 without a device"),
        (route("10.9.0.0/16"), "10.9.0.0/16 on device eth0"),
        (
            route("10.9.0.0/16", "wg0", gateway="10.0.0.1", table="51820"),
            "10.9.0.0/16 via 10.0.0.1 on device wg0 in table 51820",
        ),
    ],
)
def test_a_route_is_written_as_people_know_it(found: Route, text: str) -> None:
    assert str(found) == text


# -- the uplink -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("known", "found"),
    [
        ([], ""),
        ([route("192.0.2.0/24")], ""),
        ([route("0.0.0.0/0")], "eth0"),
        ([route("0.0.0.0/0"), route("0.0.0.0/0", gateway="192.0.2.9")], "eth0"),
        ([route("0.0.0.0/0"), route("0.0.0.0/0", "eth1")], ""),
        ([route("0.0.0.0/0", "eth0,eth1")], ""),
        ([route("0.0.0.0/0"), route("0.0.0.0/0", "wg0", table="51820")], "eth0"),
        ([route("::/0")], ""),
    ],
)
def test_the_uplink_is_the_device_of_the_one_default_route(known: list[Route], found: str) -> None:
    assert host_routes.default_route_device(known) == found


# -- overlaps ---------------------------------------------------------------------------------------------------------
def refused(span: str, known: list[Route], own: tuple[str, ...] = ()) -> bool:
    try:
        host_routes.refuse_overlap("Public", [ip_network(span)], own, known)
    except Conflict:
        return True
    return False


@pytest.mark.parametrize(
    ("span", "known"),
    [
        ("10.66.0.0/24", route("10.66.0.0/24")),
        ("10.66.0.0/24", route("10.0.0.0/8")),
        ("10.66.0.0/24", route("10.66.0.200/32", "lo", table="local")),
        ("10.66.0.0/24", route("10.66.0.0/16", "")),
        ("fd00:66::/64", route("fd00::/8")),
    ],
)
def test_a_network_may_not_take_what_the_host_reaches_otherwise(span: str, known: Route) -> None:
    with pytest.raises(Conflict) as caught:
        host_routes.refuse_overlap("Public", [ip_network("172.16.0.0/24"), ip_network(span)], {"nbr0"}, [known])
    assert caught.value.asked == f"network Public: {span}"
    assert caught.value.found == f"the host has the route {known}"
    assert "remove that route" in caught.value.remedy


@pytest.mark.parametrize(
    ("span", "known"),
    [
        ("10.66.0.0/24", route("10.66.1.0/24")),
        ("10.66.0.0/24", route("0.0.0.0/0")),
        # As a VPN splits the default route in two.
        ("10.66.0.0/24", route("0.0.0.0/1", "tun0")),
        ("10.66.0.0/24", route("10.66.0.0/24", "nbr0")),
        ("10.66.0.0/24", route("fd00::/8")),
        ("fd00:66::/64", route("10.66.0.0/24")),
        ("fd00:66::/64", route("8000::/1")),
    ],
)
def test_what_takes_nothing_from_the_host_is_let_pass(span: str, known: Route) -> None:
    assert not refused(span, [known], ("nbr0",))


def test_a_network_without_addresses_takes_nothing() -> None:
    host_routes.refuse_overlap("Plain", [], (), [route("10.0.0.0/8")])


NETWORKS = st.builds(
    lambda number, length: ip_network((number, length), strict=False), st.integers(0, 2**32 - 1), st.integers(2, 32)
)


@settings(max_examples=50, deadline=None)
@given(NETWORKS, NETWORKS)
def test_a_network_is_refused_exactly_where_one_holds_the_other(span: Any, destination: Any) -> None:
    within = span.subnet_of(destination) or destination.subnet_of(span)
    assert refused(str(span), [Route(destination, "eth0")]) == within
