# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts have written into the southbound database is compared with the catalog."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Chassis,
    FloatingAddress,
    Gateway,
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    Route,
    Router,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import southbound_audit
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_rows import stable_mac

ONE = LogicalPort("p1", "n1", "02:00:0a:00:00:0b", ("10.0.0.11",), ("2001:db8::b",), ("10.0.0.99",), name="web, NIC 0")
ROUTER = Router("r1", "edge", (Interface("n1", ("10.0.0.1/24",)),))
DESIRED = LogicalNetworks((LogicalNetwork("n1", "blue"), LogicalNetwork("n2", "red")), (ONE,), (), (ROUTER,))
HOSTS, SWITCHES = {"p1": "node1"}, {"s1": "n1", "s2": "n2"}


OUT = LogicalNetwork("n3", "public", "192.0.2.0/24", physical_network="physnet", vlan=17)
# Another network of the catalog's on the same wire.
SAME = LogicalNetwork("n4", "public too", "192.0.2.0/24", physical_network="physnet", vlan=17)
CARRIERS = (Chassis("node2", 10), Chassis("node3", 20))
EDGE = Router(
    "r1",
    "edge",
    (Interface("n1", ("10.0.0.1/24",)),),
    Gateway(
        "n3", ("192.0.2.10/24", "2001:db8:2::a/64"), CARRIERS, "192.0.2.1", "2001:db8:2::1", mac="0a:00:00:00:00:01"
    ),
    floating=(FloatingAddress("192.0.2.20", "p1"), FloatingAddress("192.0.2.21", "p1", distributed=True)),
    routes=(Route("10.9.0.0/16", "10.0.0.200"),),
)
OTHER = Router("r2", "rim", (), Gateway("n4", ("192.0.2.11/24",), CARRIERS, "192.0.2.1", mac="0a:00:00:00:00:02"))
HELD = LogicalPort("p3", "n3", "02:00:c0:00:02:63", ("192.0.2.99",), name="mail, NIC 0")
FREE = LogicalPort("p4", "n3", "02:00:c0:00:02:64", ("192.0.2.100",), name="router, NIC 0", filter_ip=False)
OUTSIDE = LogicalNetworks((*DESIRED.networks, OUT, SAME), (ONE, HELD, FREE), (), (EDGE, OTHER))


def rows(chassis="c1", mac_binding=(), fdb=(), key=3, more=(), gateway=""):
    carried = {"logical_port": "cr-lrp-r1-n3", "chassis": ["uuid", gateway] if gateway else ["set", []]}
    return {
        "Chassis": [{"_uuid": ["uuid", f"c{number}"], "name": f"node{number}"} for number in (1, 2, 3)],
        "Datapath_Binding": [
            {"tunnel_key": number, "external_ids": ["map", [["logical-switch", f"s{number}"]]]} for number in (1, 2)
        ],
        "Port_Binding": [
            {
                "_uuid": ["uuid", "b"],
                "logical_port": "p1",
                "chassis": ["uuid", chassis] if chassis else ["set", []],
                "tunnel_key": key,
                # Versions of OVN before 22.06 do not have it.
                **({"additional_chassis": ["set", [["uuid", each] for each in more]]} if len(more) != 1 else {}),
                **({"additional_chassis": ["uuid", more[0]]} if len(more) == 1 else {}),
            },
            {"logical_port": "of others", "chassis": ["uuid", "c2"], "tunnel_key": 9},
            {**carried, "tunnel_key": 7},
        ],
        "MAC_Binding": [
            {"_uuid": ["uuid", f"m{number or ''}"], "logical_port": port, "ip": ip, "mac": mac}
            for number, (port, ip, mac) in enumerate(mac_binding)
        ],
        "FDB": [
            {"_uuid": ["uuid", "f"], "mac": mac, "dp_key": network, "port_key": port} for mac, network, port in fdb
        ],
    }


def found(**given):
    return southbound_audit.find_wrong_rows(rows(**given), DESIRED, HOSTS, SWITCHES)


def outside(*mac_binding, **given):
    return southbound_audit.find_wrong_rows(rows(mac_binding=mac_binding, **given), OUTSIDE, HOSTS, SWITCHES)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"chassis": ""},
        {"mac_binding": [("lrp-r1-n1", "10.0.0.11", "02:00:0A:00:00:0B")]},
        # Of another network, and of nobody.
        {
            "mac_binding": [
                ("lrp-r1-n2", "10.0.0.11", "x"),
                ("lrp-r1-n1", "10.0.0.50", "x"),
                ("other", "10.0.0.11", "x"),
            ]
        },
        {"fdb": [("02:00:0a:00:00:0b", 1, 3), ("02:00:0a:00:00:0b", 2, 9), ("02:00:00:00:00:01", 1, 9)]},
    ],
)
def test_what_agrees_and_what_is_of_nobody_is_no_finding(given):
    assert found(**given) == []


def test_a_port_on_another_host_is_found():
    (each,) = found(chassis="c2")
    assert each.host == "node1" and "it is on host node2, and the catalog has its machine on node1" in each.found
    assert southbound_audit.find_wrong_rows(rows(chassis="c2"), DESIRED, {}, SWITCHES) == []


@pytest.mark.parametrize("more", [("c2",), ("c2", "c3")])
def test_a_host_that_gets_copies_of_packets_is_found(more):
    named = found(more=more)
    assert [each.found.split()[4] for each in named] == [f"node{each[1]}" for each in more]
    assert "ovn-sbctl clear Port_Binding b additional_chassis" in named[0].remedy and named[0].host == "node1"
    assert found(more=("c1",)) == []


@pytest.mark.parametrize(
    ("chassis", "more", "hosts"),
    [("c1", ("c2",), []), ("", ("c2",), []), ("c2", (), []), ("c3", (), ["c3"]), ("c1", ("c2", "c3"), ["c3"])],
)
def test_a_port_whose_machine_moves_is_on_either_host_or_on_both(chassis, more, hosts):
    moves = replace(DESIRED, ports=tuple(replace(each, between=("node1", "node2")) for each in DESIRED.ports))
    wrong = southbound_audit.find_wrong_rows(rows(chassis=chassis, more=more), moves, HOSTS, SWITCHES)
    assert [each.found.replace(",", "").split()[4] for each in wrong] == [f"node{each[1]}" for each in hosts]


def test_a_row_without_further_hosts_is_one_of_an_earlier_version():
    given = rows()
    del given["Port_Binding"][0]["additional_chassis"]
    assert southbound_audit.find_wrong_rows(given, DESIRED, HOSTS, SWITCHES) == []


def test_a_gateway_is_on_one_of_the_hosts_that_carry_it():
    for host in ("", "c2", "c3"):
        assert outside(gateway=host) == []
    (each,) = outside(gateway="c1")
    assert each.asked == "gateway of router edge in OVN" and each.host == "node3"
    assert each.found == (
        "it is on host node1, and the catalog has it on node3 or node2: what goes outside, and what comes from there, "
        "goes to node1"
    )
    assert "certificate of node1" in each.remedy and "ovn-controller of node3 takes" in each.remedy
    # A router that nobody knows.
    assert southbound_audit.find_wrong_rows(rows(gateway="c1"), DESIRED, HOSTS, SWITCHES) == []


FALSE = "02:00:00:00:00:99"


@pytest.mark.parametrize(
    ("port", "address", "mac", "whose"),
    [
        ("lrp-r1-n3", "192.0.2.99", HELD.mac, "mail, NIC 0"),
        ("lrp-r1-n3", "192.0.2.100", FREE.mac, "router, NIC 0"),
        ("lrp-r1-n3", "192.0.2.11", "0a:00:00:00:00:02", "router rim"),
        ("lrp-r2-n4", "192.0.2.10", "0A:00:00:00:00:01", "router edge"),
        ("lrp-r2-n4", "2001:DB8:2:0::a", "0a:00:00:00:00:01", "router edge"),
        ("lrp-r2-n4", "192.0.2.20", "0a:00:00:00:00:01", "the floating addresses of router edge"),
        (
            "lrp-r2-n4",
            "192.0.2.21",
            stable_mac("floating", "r1", "192.0.2.21"),
            "the floating addresses of router edge",
        ),
    ],
)
def test_addresses_outside_that_the_catalog_gives_are_compared(port, address, mac, whose):
    assert outside((port, address, mac)) == []
    (each,) = outside((port, address, FALSE))
    assert each.asked == f"address {address} of {whose} in OVN" and f"send to {FALSE}" in each.found
    assert "ovn-sbctl destroy MAC_Binding m." in each.remedy


@pytest.mark.parametrize(
    ("port", "address"), [("lrp-r1-n3", "192.0.2.1"), ("lrp-r1-n3", "2001:db8:2::1"), ("lrp-r1-n1", "10.0.0.200")]
)
def test_a_next_hop_with_the_mac_address_of_somebody_else_is_found(port, address):
    mac, whose = (HELD.mac, "mail, NIC 0") if port == "lrp-r1-n3" else (ONE.mac, "web, NIC 0")
    (each,) = outside((port, address, mac.upper()))
    assert each.asked == f"next hop {address} of router edge in OVN"
    assert f"which is the MAC address of {whose}, and that does not have the address" in each.found
    # Nobody here knows the one of a neighbour outside, and a machine without filters may be it.
    assert outside((port, address, FALSE)) == []
    assert outside(("lrp-r1-n3", address, FREE.mac)) == []
    # Of what is no next hop, a router may know what was so before.
    assert outside(("lrp-r1-n3", "192.0.2.77", HELD.mac)) == []


def test_routers_that_know_different_mac_addresses_of_a_next_hop_are_found():
    same = [("lrp-r1-n3", "192.0.2.1", FALSE), ("lrp-r2-n4", "192.0.2.1", FALSE)]
    assert outside(*same) == []
    (each,) = outside(same[0], ("lrp-r2-n4", "192.0.2.1", "02:00:00:00:00:98"))
    assert each.asked == "next hop 192.0.2.1 of routers edge, rim in OVN"
    assert f"different MAC addresses what is for it (MAC_Binding): {FALSE}, 02:00:00:00:00:98" in each.found
    assert "On the central host: ovn-sbctl destroy MAC_Binding m m1." in each.remedy
    # What is no address is nobody's.
    assert outside(("lrp-r1-n3", "no address", FALSE)) == []


@pytest.mark.parametrize("address", ["10.0.0.11", "2001:db8::b", "10.0.0.99"])
def test_an_address_that_was_learned_at_another_machine_is_found(address):
    (each,) = found(mac_binding=[("lrp-r1-n1", address, "02:00:00:00:00:99")])
    assert "routers send to 02:00:00:00:00:99" in each.found and "ovn-sbctl destroy MAC_Binding m." in each.remedy


def test_a_mac_address_that_was_learned_at_another_port_is_found():
    (each,) = found(fdb=[("02:00:0A:00:00:0b", 1, 4)])
    assert "learned at port 4" in each.found and "its own is 3" in each.found


def test_all_tables_are_read_at_once():
    class Database:
        def select(self, asked):
            return {table: sorted(columns) for table, columns in asked.items()}

    assert set(southbound_audit.read(Database())) == set(southbound_audit.TABLES)
