# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways and hosts that can carry them. tests/integration/test_nebula_ovn.py has real rows of hosts."""

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
    Router,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import bridge_mappings
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_tables import Owner
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.row_differences import Change

BLUE = LogicalNetwork("n1", "blue", "10.0.0.0/24")
OUT = LogicalNetwork("n3", "public", "192.0.2.0/24", physical_network="physnet")
WEB = LogicalPort("p1", "n1", "02:00:0a:00:00:0b", ("10.0.0.11",), name="web, NIC 0")
MAIL = LogicalPort("p3", "n3", "02:00:c0:00:02:63", ("192.0.2.99",), name="mail, NIC 0")
GATEWAY = Gateway("n3", ("192.0.2.10/24",), (Chassis("node1", 30), Chassis("node2", 20), Chassis("node3", 10)))
EDGE = Router("r1", "edge", (Interface("n1", ("10.0.0.1/24",)),), GATEWAY)
DESIRED = LogicalNetworks((BLUE, OUT), (WEB,), (), (EDGE,))
HAS, HAS_NOT = frozenset(("physnet", "other")), frozenset(("other",))


def row(name: str, mapping: str | None, column: str = "other_config") -> dict[str, object]:
    given = ["map", [] if mapping is None else [["ovn-bridge-mappings", mapping]]]
    return {"name": name, "external_ids": ["map", []], column: given}


def test_what_hosts_have_written_is_read() -> None:
    rows = [row("node1", "physnet:br-ex,other:br-b"), row("node2", ""), row("node3", None)]
    assert bridge_mappings.read_mappings([*rows, row("old", "physnet:br-ex", "external_ids")]) == {
        "node1": HAS, "node2": frozenset(), "node3": frozenset(), "old": frozenset(("physnet",)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        ({}, ["node1", "node2", "node3"]),
        ({"node1": HAS_NOT, "node2": HAS, "node3": HAS}, ["node2", "node3"]),
        # Of a host that is not there yet nothing is known.
        ({"node1": HAS_NOT, "node2": HAS_NOT}, ["node3"]),
        # None can: it stays as it is, and is told.
        ({"node1": HAS_NOT, "node2": HAS_NOT, "node3": HAS_NOT}, ["node1", "node2", "node3"]),
    ],
)
def test_a_gateway_is_on_hosts_that_can_carry_it(hosts: bridge_mappings.Mappings, names: list[str]) -> None:
    (router,) = bridge_mappings.with_able_hosts(DESIRED, hosts).routers
    assert router.gateway is not None and [each.name for each in router.gateway.chassis] == names
    assert [each.priority for each in router.gateway.chassis] == [
        each.priority for each in GATEWAY.chassis if each.name in names
    ]


def test_a_network_that_no_host_is_connected_with_is_a_warning() -> None:
    nobody = dict.fromkeys(("node1", "node2", "node3"), HAS_NOT)
    (warning,) = bridge_mappings.warnings(DESIRED, nobody, {})
    assert "network public: physical_network physnet: none of the hosts in OVN" in warning
    assert "nebula_ovn_bridge_mappings" in warning and "node1, node2, node3" in warning
    assert bridge_mappings.warnings(DESIRED, {}, {}) == [], "nothing is known"
    assert bridge_mappings.warnings(DESIRED, {**nobody, "node9": HAS}, {}) != [], "but none that the router is on"


def told(before: str | None, after: str | None, uuid: str = "n3") -> Change:
    rows = [{"localnet": {"options": {"network_name": each}}} if each else None for each in (before, after)]
    return Change(Owner("network", uuid), "public", *rows)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ([told(None, "physnet")], True),
        ([told("other", "physnet")], True),
        ([told("physnet", "physnet")], False),
        ([Change(Owner("network", "n3"), "public", {"x": {"name": "a"}}, {"x": {"name": "b"}})], False),
        ([told(None, "physnet", "n9")], False),
        ([], False),
    ],
)
def test_a_network_that_is_told_of_and_that_no_host_is_connected_with_is_an_error(
    changes: list[Change], wrong: bool
) -> None:
    nobody = dict.fromkeys(("node1", "node2"), frozenset(("physnet1",)))
    found = bridge_mappings.unconnected_networks(DESIRED, nobody, ["node1", "node2"], changes)
    assert ["network public: physical_network physnet" in str(error) for error in found] == [True] * wrong
    assert all("did you mean physnet1?" in str(error) for error in found)
    # Of one host nothing is known; or one is connected.
    assert bridge_mappings.unconnected_networks(DESIRED, nobody, ["node1", "node2", "node3"], changes) == []
    assert bridge_mappings.unconnected_networks(DESIRED, {**nobody, "node3": HAS}, ["node1", "node2"], changes) == []
    assert bridge_mappings.unconnected_networks(DESIRED, {}, [], changes) == []


def test_hosts_that_somebody_named_and_that_can_not_are_a_warning() -> None:
    hosts = {"node1": HAS_NOT, "node2": HAS, "node3": HAS}
    assert bridge_mappings.warnings(DESIRED, hosts, {}) == []
    named = replace(DESIRED, routers=(replace(EDGE, gateway=replace(GATEWAY, named=True)),))
    (warning,) = bridge_mappings.warnings(named, hosts, {})
    assert "router edge: gateway on node1: no bridge mapping for physical_network physnet" in warning
    (warning,) = bridge_mappings.warnings(
        DESIRED, {**dict.fromkeys(("node1", "node2", "node3"), HAS_NOT), "x": HAS}, {}
    )
    assert "gateway on node1, node2, node3" in warning and "nothing of it goes outside" in warning


def test_machines_whose_own_host_is_not_connected_are_a_warning() -> None:
    hosts = {"node1": HAS_NOT, "node2": HAS, "node3": HAS}
    floating = (FloatingAddress("192.0.2.20", "p1", distributed=True), FloatingAddress("192.0.2.21", "p1"))
    there = replace(DESIRED, ports=(WEB, MAIL), routers=(replace(EDGE, floating=floating),))
    first, second = bridge_mappings.warnings(there, hosts, {"p1": "node1", "p3": "node1"})
    assert "NIC of mail, NIC 0 in network public: host node1 has no bridge mapping" in first
    assert "floating address 192.0.2.20 of web, NIC 0" in second
    assert bridge_mappings.warnings(there, hosts, {"p1": "node2", "p3": "node3"}) == []
