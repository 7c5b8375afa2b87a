# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused of a host, and what it says of itself; tests/integration/test_ovn.py has real ones."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ForeignObject,
    InvalidValue,
    MissingDependency,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.network import host_routes
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import ovn_host_setup
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.openvswitch_settings import (
    Bridge,
    BridgeMapping,
    Switch,
    Wanted,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.ovn_host_setup import Host
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import Places

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(host_routes, "observe", list)
    return Host(str(tmp_path), Places(configuration=str(tmp_path)), CATALOG, "node1", act=False)


def wanted(*mappings):
    return Wanted("node1", CATALOG, "ssl:192.0.2.1:6642", "geneve", "192.0.2.11", "system", mappings)


def test_an_open_vswitch_that_nobody_uses_is_taken(node):
    node.refuse_foreign(Switch())
    node.refuse_foreign(Switch(True, {"system-id": "11111111-0000-4000-8000-000000000001"}))
    node.refuse_foreign(Switch(True, {"system-id": "node1", "hostname": "x"}))
    node.refuse_foreign(Switch(True, {"nebula-catalog": CATALOG, "ovn-remote": "x"}))


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ({"ovn-remote": "tcp:192.0.2.9:6642"}, "ovn-remote is tcp:192.0.2.9:6642"),
        ({"system-id": "theirs"}, "system-id is theirs"),
        ({"nebula-catalog": OTHER}, OTHER),
    ],
)
def test_one_of_somebody_else_is_named(node, ids, told):
    with pytest.raises(ForeignObject, match=told):
        node.refuse_foreign(Switch(True, ids))


def test_an_interface_that_is_free_is_taken_with_its_address(node):
    mapping = BridgeMapping("br-ex", "physnet1", "eth1", "198.51.100.1/24")
    present = {"eth1": Link("eth1", addresses=("198.51.100.1/24",))}
    node.refuse_bridges(Switch(True), wanted(mapping), present)


@pytest.mark.parametrize(
    ("found", "present", "told"),
    [
        ({"br-ex": Bridge("br-ex")}, {}, "was made by somebody else"),
        ({"br-ex": Bridge("br-ex", {"nebula-catalog": OTHER})}, {}, OTHER),
        ({}, {"br-ex": Link("br-ex")}, "an interface of that name"),
        ({"b": Bridge("b", ports={"eth1": ""})}, {"eth1": Link("eth1")}, "a port of bridge b already"),
        ({}, {"eth1": Link("eth1"), "b": Link("b", ports=("eth1",))}, "it is a port of b"),
        ({}, {"eth1": Link("eth1", addresses=("203.0.113.1/24",))}, "203.0.113.1/24"),
    ],
)
def test_bridges_and_interfaces_of_others_are_named(node, found, present, told):
    mapping = BridgeMapping("br-ex", "physnet1", "eth1")
    with pytest.raises((ForeignObject, Conflict), match=told):
        node.refuse_bridges(Switch(True, {}, found), wanted(mapping), present)


MADE = Bridge("br-int", {"ct-zone-x": "1"}, "system", "secure")


@pytest.mark.parametrize(
    ("bridge", "running", "taken"),
    [
        (MADE, True, True),
        # Nobody runs that would have made it, or it is in use, or not as ovn-controller makes it.
        (MADE, False, False),
        (replace(MADE, ports={"tap0": ""}), True, False),
        (replace(MADE, fail_mode="standalone"), True, False),
        (replace(MADE, external_ids={"nebula-catalog": OTHER}), True, False),
    ],
)
def test_the_bridge_that_the_package_makes_when_it_is_installed_is_taken(node, monkeypatch, bridge, running, taken):
    monkeypatch.setattr(ovn_host_setup.Daemons, "running", lambda _daemons, which: running and which == "controller")
    if taken:
        node.refuse_bridges(Switch(True, {}, {"br-int": bridge}), wanted(), {})
        return
    with pytest.raises(ForeignObject, match="bridge br-int of host node1"):
        node.refuse_bridges(Switch(True, {}, {"br-int": bridge}), wanted(), {})


def test_tls_of_somebody_else_is_named(node):
    found = Switch(True, {}, {}, {"private_key": "/k", "certificate": "/theirs", "ca_certificate": "/a"})
    node.refuse_bridges(found, wanted(), {})
    whole = Wanted(
        "node1", CATALOG, "ssl:x:1", "geneve", "192.0.2.1", "system", (), ovn_host_setup.certificates.Files("", "", "")
    )
    with pytest.raises(ForeignObject, match="/theirs"):
        node.refuse_bridges(found, whole, {})


def test_a_kernel_without_the_module_is_told(node, monkeypatch):
    monkeypatch.setattr(ovn_host_setup, "has_kernel_datapath", lambda: False)
    node.refuse_datapath("netdev", Switch())
    with pytest.raises(Unsupported, match="nebula_ovn_datapath: netdev"):
        node.refuse_datapath("system", Switch())


def test_the_interface_that_carries_the_host_is_refused(monkeypatch):
    route = host_routes.Route(host_routes.ip_network("0.0.0.0/0"), "eth0", "192.0.2.254")
    monkeypatch.setattr(host_routes, "observe", lambda: [route])
    assert "default route" in ovn_host_setup.carries_host(Link("eth0"))
    assert ovn_host_setup.carries_host(Link("eth1")) == ""
    monkeypatch.setattr(ovn_host_setup, "ssh_addresses", lambda: {"192.0.2.11"})
    assert "192.0.2.11" in ovn_host_setup.carries_host(Link("eth1", addresses=("192.0.2.11/24",)))


def test_addresses_of_the_kernels_table_are_read():
    assert ovn_host_setup._read_address("0100007F", socket.AF_INET) == "127.0.0.1"
    assert ovn_host_setup._read_address("0000000000000000FFFF00000B0200C0", socket.AF_INET6) == "192.0.2.11"
    assert ovn_host_setup._read_address("B80D01200000000000000000" + "01000000", socket.AF_INET6) == "2001:db8::1"


def test_the_tunnels_address_is_the_way_to_the_database():
    assert ovn_host_setup.encap_ip("ssl:127.0.0.1:6642") == "127.0.0.1"
    with pytest.raises(InvalidValue, match="nebula_ovn_encap_ip"):
        ovn_host_setup.encap_ip("ssl:nonsense..:6642")


def test_what_the_tunnels_leave_is_told(node, monkeypatch):
    monkeypatch.setattr(ovn_host_setup, "mtu_of", lambda _name: 1500)
    present = {"eth0": Link("eth0", addresses=("192.0.2.11/24",))}
    outcome = ovn_host_setup.Outcome([], [])
    node._check_tunnel(wanted(), present, 1442, outcome)
    assert (outcome.inner_mtu, outcome.warnings) == (1442, [])
    node._check_tunnel(wanted(), present, 1500, outcome)
    assert "leaves 1442" in outcome.warnings[0]
    assert "an MTU of 1558" in outcome.warnings[0]
    with pytest.raises(InvalidValue, match="has no such address"):
        node._check_tunnel(wanted(), {}, 1442, outcome)


def test_it_is_told_too_where_packages_are_still_to_come(node, monkeypatch):
    monkeypatch.setattr(ovn_host_setup, "mtu_of", lambda _name: 1450)
    monkeypatch.setattr(ovn_host_setup.daemons, "is_installed", lambda _which: False)
    monkeypatch.setattr(ovn_host_setup.links, "observe", lambda: {"eth0": Link("eth0", addresses=("192.0.2.11/24",))})
    outcome = node.ensure(wanted(), 1392, restart=False)
    assert (outcome.items[0].before, outcome.inner_mtu, outcome.warnings) == (None, 1392, [])

    def no_program():
        raise MissingDependency("ip", "it is not on this host", "Install the package iproute2")

    monkeypatch.setattr(ovn_host_setup.links, "observe", no_program)
    assert node.ensure(wanted(), 1392, restart=False).inner_mtu == 0
