# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of Open vSwitch; with the real one, tests/integration/test_switches.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model import vlan_trunks
from ansible_collections.nebula.provision.plugins.module_utils.network import openvswitch_state
from ansible_collections.nebula.provision.plugins.module_utils.network.openvswitch_state import (
    SwitchPort,
    bridges_of_catalog,
    observe,
    port_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import ovsdb_client
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import Places

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"


def uuid(name):
    return ["uuid", name]


def port(name, tag=(), numbers=(), mode=()):
    tag = tag or ["set", []]
    row = {"_uuid": uuid(f"p-{name}"), "interfaces": uuid(f"i-{name}"), "tag": tag, "trunks": ["set", list(numbers)]}
    return {**row, "vlan_mode": mode or ["set", []], "external_ids": ["map", []]}


def interface(name, kind="", error=()):
    return {"_uuid": uuid(f"i-{name}"), "name": name, "type": kind, "error": error or ["set", []]}


ROWS = {
    "Open_vSwitch": [{"external_ids": ["map", [["system-id", "x"]]]}],
    "Bridge": [
        {
            "name": "ovsbr0",
            "ports": ["set", [uuid("p-ovsbr0"), uuid("p-eth1"), uuid("p-one-0-0")]],
            "external_ids": ["map", [["nebula-switch", CATALOG], ["nebula-networks", "a,b"], ["nebula-port", "eth1"]]],
            "datapath_type": "netdev",
        },
        {"name": "br-int", "ports": uuid("p-br-int"), "external_ids": ["map", []], "datapath_type": ""},
    ],
    "Port": [*(port("ovsbr0"), port("eth1"), port("br-int")), port("one-0-0", 10, [10, 30], "native-untagged")],
    "Interface": [
        *(interface("ovsbr0", "internal"), interface("eth1", error="it is away"), interface("br-int", "internal")),
        interface("one-0-0"),
    ],
}


@pytest.fixture
def host(monkeypatch, tmp_path):
    """What runs on it, and how often its database was read."""
    running = {"ovsdb-server", "ovs-vswitchd"}
    reads = []
    monkeypatch.setattr(openvswitch_state, "is_installed", lambda _which: True)
    monkeypatch.setattr(openvswitch_state, "pid_of", lambda _directory, name, _program: int(name in running))

    def select(_where, _database, tables, _columns=None):
        reads.append(tables)
        return {table: ROWS[table] for table in tables}

    monkeypatch.setattr(ovsdb_client, "select", select)
    monkeypatch.setattr(ovsdb_client, "select_file", select)
    return running, reads, Places(ovs_database=str(tmp_path))


def test_bridges_are_read_with_their_marks_and_ports(host):
    found = observe(host[2])
    assert found.there and found.running
    assert list(found.ours(CATALOG)) == ["ovsbr0"] and not found.ours("") and not found.ours("other")
    bridge = found.bridges["ovsbr0"]
    assert (bridge.networks, bridge.port, bridge.datapath) == (("a", "b"), "eth1", "netdev")
    assert bridge.ports["eth1"] == SwitchPort(error="it is away") and bridge.ports["eth1"].everything
    assert str(bridge.ports["one-0-0"]) == "VLAN 10, trunk 10,30 (native-untagged)"
    assert found.bridges["br-int"].ports == {} and found.bridges["br-int"].mark == ""


def test_without_its_server_the_database_is_read_from_its_file_where_there_is_one(host, tmp_path, monkeypatch):
    running, reads, places = host
    running.clear()
    assert observe(places) == openvswitch_state.Switches() and not reads
    (tmp_path / "conf.db").touch()
    assert observe(places).there and not observe(places).running
    # What a removed package has left is nobody's.
    monkeypatch.setattr(openvswitch_state, "is_installed", lambda _which: False)
    assert observe(places) == openvswitch_state.Switches()


def test_the_networks_of_a_switch_that_does_not_run_are_not_here(monkeypatch, host):
    monkeypatch.setattr(openvswitch_state, "bridges_of_catalog", bridges_of_catalog)
    assert openvswitch_state.networks_here(CATALOG) == ("a", "b")
    assert host[1] == [("Bridge",)]
    host[0].discard("ovs-vswitchd")
    assert openvswitch_state.networks_here(CATALOG) == ()


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        (vlan_trunks.Port(10), SwitchPort(10)),
        (vlan_trunks.Port(), SwitchPort(None, (0,))),
        (vlan_trunks.Port(0, (20,)), SwitchPort(None, (0, 20))),
        (vlan_trunks.Port(10, (20, 30)), SwitchPort(10, (10, 20, 30), "native-untagged")),
    ],
)
def test_no_port_of_a_machine_is_in_all_vlans(wanted, made):
    assert port_of(wanted) == made
    assert not made.everything


@pytest.mark.parametrize(
    ("ids", "down"),
    [
        ({openvswitch_state.PORT: "eth1", openvswitch_state.PORT_DOWN: "true"}, True),
        ({openvswitch_state.PORT: "eth1"}, False),
        ({openvswitch_state.PORT_DOWN: "true"}, False),
    ],
)
def test_a_bridge_remembers_that_its_interface_was_down(ids, down):
    assert openvswitch_state.SwitchBridge("ovsbr0", ids).port_was_down == down
