# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts have written into the southbound database is compared with the catalog."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Interface,
    LogicalNetwork,
    LogicalNetworks,
    LogicalPort,
    Router,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import bindings

ONE = LogicalPort("p1", "n1", "02:00:0a:00:00:0b", ("10.0.0.11",), ("2001:db8::b",), ("10.0.0.99",), name="web, NIC 0")
ROUTER = Router("r1", "edge", (Interface("n1", ("10.0.0.1/24",)),))
DESIRED = LogicalNetworks((LogicalNetwork("n1", "blue"), LogicalNetwork("n2", "red")), (ONE,), (), (ROUTER,))
HOSTS, SWITCHES = {"p1": "node1"}, {"s1": "n1", "s2": "n2"}


def rows(chassis="c1", mac_binding=(), fdb=(), key=3):
    return {
        "Chassis": [{"_uuid": ["uuid", f"c{number}"], "name": f"node{number}"} for number in (1, 2)],
        "Datapath_Binding": [
            {"tunnel_key": number, "external_ids": ["map", [["logical-switch", f"s{number}"]]]} for number in (1, 2)
        ],
        "Port_Binding": [
            {"logical_port": "p1", "chassis": ["uuid", chassis] if chassis else ["set", []], "tunnel_key": key},
            {"logical_port": "of others", "chassis": ["uuid", "c2"], "tunnel_key": 9},
        ],
        "MAC_Binding": [
            {"_uuid": ["uuid", "m"], "logical_port": port, "ip": ip, "mac": mac} for port, ip, mac in mac_binding
        ],
        "FDB": [
            {"_uuid": ["uuid", "f"], "mac": mac, "dp_key": network, "port_key": port} for mac, network, port in fdb
        ],
    }


def found(**given):
    return bindings.altered(rows(**given), DESIRED, HOSTS, SWITCHES)


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
    assert bindings.altered(rows(chassis="c2"), DESIRED, {}, SWITCHES) == []


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

    assert set(bindings.read(Database())) == set(bindings.TABLES)
