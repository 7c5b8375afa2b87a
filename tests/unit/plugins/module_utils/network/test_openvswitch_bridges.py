# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about bridges of Open vSwitch; that it is done, in tests/integration/test_switches.py."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.network import links, openvswitch_bridges
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link
from ansible_collections.nebula.provision.plugins.module_utils.network.openvswitch_bridges import SwitchNode
from ansible_collections.nebula.provision.plugins.module_utils.network.openvswitch_state import (
    SwitchBridge,
    Switches,
    SwitchPort,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import Places

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
A, B, C = (f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in "abc")
ETH = {name: Link(name, up=True, mtu=1500) for name in ("eth1", "eth2")}


def network(uuid, bridge="ovsbr0", phydev="eth1", vlan="10"):
    values = {"PHYDEV": phydev, "VLAN_ID": vlan}
    values = {key: value for key, value in values.items() if value}
    return Network(1, f"net-{uuid[-1]}", uuid, "ovswitch", bridge, attributes=values)


def bridge(name, *uuids, port="eth1", others=(), catalog=CATALOG):
    ids = {"nebula-switch": catalog, "nebula-networks": ",".join(uuids), **({"nebula-port": port} if port else {})}
    ports = {each: SwitchPort() for each in ([port] if port else []) + list(others)}
    return SwitchBridge(name, ids, "netdev", ports)


class Host:
    """Open vSwitch with these bridges; what is done is kept as words and lines."""

    def __init__(self, monkeypatch, *bridges, after=None):
        self.words, self.lines = [], []
        before = Switches(True, True, {}, {each.name: each for each in bridges})
        states = [before, after or before]
        monkeypatch.setattr(
            openvswitch_bridges, "observe", lambda _places: states.pop(0) if len(states) > 1 else states[0]
        )
        monkeypatch.setattr(openvswitch_bridges, "has_kernel_datapath", lambda: False)
        monkeypatch.setattr(openvswitch_bridges.daemons, "is_installed", lambda _which: True)
        monkeypatch.setattr(openvswitch_bridges.Daemons, "starts_with_host", lambda _self, _which: True)
        monkeypatch.setattr(SwitchNode, "_vsctl", lambda _self, words: self.words.append(" ".join(words)))
        monkeypatch.setattr(links, "run_batch", self.lines.extend)
        monkeypatch.setattr(links, "observe", lambda: ETH)
        self.node = SwitchNode(CATALOG, act=True)


def test_a_bridge_is_made_with_its_networks_and_its_port_in_one_transaction(monkeypatch):
    made = Switches(True, True, {}, {"ovsbr0": bridge("ovsbr0", A, B)})
    host = Host(monkeypatch, after=made)
    (one, two) = host.node.ensure([network(B), network(A, vlan="20")], [A, B], ETH)
    assert (one.error, one.before, two.error) == (None, None, None)
    assert one.after["uplink"] == {"eth1": {"up": True, "carries": "all VLANs"}} and one.after["up"] is False
    (words,) = host.words
    assert words.startswith("add-br ovsbr0 -- set Bridge ovsbr0 external_ids:nebula-switch=" + CATALOG)
    assert f'external_ids:nebula-networks="{A},{B}"' in words and "datapath_type=netdev" in words
    assert "--may-exist add-port ovsbr0 eth1" in words


def test_a_network_that_goes_to_another_bridge_takes_its_device_along(monkeypatch):
    there = bridge("ovsbr1", A)
    host = Host(monkeypatch, bridge("ovsbr0", A), after=Switches(True, True, {}, {"ovsbr1": there}))
    (change,) = host.node.ensure([network(A, "ovsbr1")], [A], ETH)
    assert change.error is None
    (words,) = host.words
    assert words.index("del-br ovsbr0") < words.index("add-br ovsbr1") < words.index("add-port ovsbr1 eth1")


def test_a_bridge_that_others_of_the_catalog_still_have_keeps_its_device(monkeypatch):
    host = Host(monkeypatch, bridge("ovsbr0", A, B))
    (change,) = host.node.ensure([network(A, "ovsbr1")], [A, B], ETH)
    assert "it is a port of bridge ovsbr0 of Open vSwitch already" in str(change.error)
    assert not host.words
    # Without its device it leaves alone, and the other stays.
    there = Switches(True, True, {}, {"ovsbr1": bridge("ovsbr1", A, port="")})
    host = Host(monkeypatch, bridge("ovsbr0", A, B), after=there)
    (change,) = host.node.ensure([network(A, "ovsbr1", phydev="")], [A, B], ETH)
    assert change.error is None
    assert f'set Bridge ovsbr0 external_ids:nebula-networks="{B}"' in host.words[0]
    assert "del-br" not in host.words[0]


def test_another_device_takes_the_place_of_the_first(monkeypatch):
    host = Host(monkeypatch, bridge("ovsbr0", A), after=Switches(True, True, {}, {"ovsbr0": bridge("ovsbr0", A)}))
    host.node.ensure([network(A, phydev="")], [A], ETH)
    assert "del-port ovsbr0 eth1 -- remove Bridge ovsbr0 external_ids nebula-port" in host.words[0]
    there = Switches(True, True, {}, {"ovsbr0": bridge("ovsbr0", A, port="eth2")})
    host = Host(monkeypatch, bridge("ovsbr0", A), after=there)
    host.node.ensure([network(A, phydev="eth2")], [A], ETH)
    assert host.words[0].index("del-port ovsbr0 eth1") < host.words[0].index("add-port ovsbr0 eth2")
    assert "external_ids:nebula-port=eth2" in host.words[0]


def test_a_device_that_open_vswitch_can_not_use_makes_no_bridge(monkeypatch):
    broken = bridge("ovsbr0", A)
    broken = SwitchBridge("ovsbr0", broken.external_ids, "netdev", {"eth1": SwitchPort(error="no such device")})
    host = Host(monkeypatch, after=Switches(True, True, {}, {"ovsbr0": broken}))
    (change,) = host.node.ensure([network(A)], [A], ETH)
    assert "Open vSwitch can't use it: no such device" in str(change.error) and change.after is None
    assert host.words[-1] == "--if-exists del-br ovsbr0"


@pytest.mark.parametrize(
    ("there", "present", "words"),
    [
        (bridge("ovsbr0", A, catalog=B), ETH, f"carries the mark of catalog {B}"),
        (SwitchBridge("ovsbr0"), ETH, "was not made by this collection"),
        (SwitchBridge("theirs", ports={"eth1": SwitchPort()}), ETH, "it is a port of bridge theirs of Open vSwitch"),
        (SwitchBridge("theirs"), {**ETH, "ovsbr0": Link("ovsbr0", "bridge")}, "there is an interface of that name"),
        (SwitchBridge("theirs"), {"eth2": ETH["eth2"]}, "there is no interface eth1 on this host"),
        (
            SwitchBridge("theirs"),
            {"eth1": Link("eth1", up=True, mtu=1500, addresses=("192.0.2.1/24",))},
            "has the addresses 192.0.2.1/24",
        ),
    ],
)
def test_what_is_not_ours_is_refused_and_stays(monkeypatch, there, present, words):
    host = Host(monkeypatch, there)
    (change,) = host.node.ensure([network(A)], [A], present)
    assert words in str(change.error)
    assert not host.words and not host.lines


def test_a_bridge_goes_with_its_last_network_and_not_with_machines_on_it(monkeypatch):
    machine = {**ETH, "one-0-0": Link("one-0-0")}
    host = Host(monkeypatch, bridge("ovsbr0", A, B, others=["one-0-0"]))
    (change,) = host.node.remove([A], machine)
    assert change.error is None and host.words == [f'set Bridge ovsbr0 external_ids:nebula-networks="{B}"']
    host = Host(monkeypatch, bridge("ovsbr0", B, others=["one-0-0"]))
    (change,) = host.node.remove([A, B], machine)
    assert "attached to ovsbr0 are one-0-0" in str(change.error) and not host.words
    # That of a machine that went with the power is in the database alone.
    (change,) = host.node.remove([B], ETH)
    assert change.error is None and host.words == ["--if-exists del-br ovsbr0"]


@pytest.mark.parametrize(
    ("made", "others", "words", "undone"),
    [
        (CATALOG, (), ["remove Open_vSwitch . external_ids nebula-switch-made"], ["database"]),
        (f"{CATALOG}:unit", (), ["remove Open_vSwitch . external_ids nebula-switch-made"], ["unit"]),
        # Somebody has a bridge there now.
        (f"{CATALOG}:unit", (SwitchBridge("theirs"),), ["remove Open_vSwitch . external_ids nebula-switch-made"], []),
        (f"{A}:unit", (), [], []),
        ("", (), [], []),
    ],
)
def test_what_was_switched_on_for_bridges_is_switched_off_after_them(
    monkeypatch, tmp_path, made, others, words, undone
):
    done = []
    left = Switches(True, True, {"nebula-switch-made": made}, {each.name: each for each in others})
    host = Host(monkeypatch, bridge("ovsbr0", A, port=""), after=left)
    host.node.places = Places(configuration=str(tmp_path))
    monkeypatch.setattr(openvswitch_bridges.Daemons, "switch_off", lambda _self, what: done.append(what))
    (change,) = host.node.remove([A], {})
    assert change.error is None and host.words == ["--if-exists del-br ovsbr0", *words] and done == undone


@pytest.mark.parametrize(("what", "value"), [("database", CATALOG), ("boot", f"{CATALOG}:boot"), ("", None)])
def test_what_is_switched_on_for_bridges_is_written_down(monkeypatch, what, value):
    host = Host(monkeypatch, after=Switches(True, True, {}, {"ovsbr0": bridge("ovsbr0", A)}))
    monkeypatch.setattr(openvswitch_bridges.Daemons, "starts_with_host", lambda _self, _which: False)
    monkeypatch.setattr(openvswitch_bridges.Daemons, "what_start_changes", lambda _self, _there: what)
    monkeypatch.setattr(openvswitch_bridges.Daemons, "start", lambda _self, _which: None)
    host.node.ensure([network(A)], [A], ETH)
    written = [words for words in host.words if "nebula-switch-made" in words]
    assert written == ([f'set Open_vSwitch . external_ids:nebula-switch-made="{value}"'] if value else [])
