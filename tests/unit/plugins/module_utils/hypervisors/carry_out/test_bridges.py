# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine starts on the bridges of its own networks only."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.bridges import Bridges
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.network import links, openvswitch_state

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
NETWORK = "aaaaaaaa-0000-4000-8000-000000000001"
OURS = links.Link("nbr0", "bridge", f"nebula:{CATALOG}:{NETWORK}:10.66.0.1/24")


def machine(*bridges):
    nics = tuple(Nic(number, 0, "Public", bridge, f"02:00:00:00:00:0{number}") for number, bridge in enumerate(bridges))
    return Vm(0, "u", "web", "kvm", 1.0, 64, nics=nics)


@pytest.fixture
def require(monkeypatch):
    """Ask for a machine on a node with these interfaces; how often they were looked at."""
    looks = []

    def ask(vm, *there, bridges=None):
        def observe(with_settings):
            assert not with_settings, "each of them is a file"
            looks.append(1)
            return {link.name: link for link in there}

        monkeypatch.setattr(links, "observe", observe)
        found = Bridges(Plan(CATALOG, 1, "node1", bridges={"nbr0": NETWORK} if bridges is None else bridges))
        found.require(vm)
        found.require(vm)
        return len(looks)

    return ask


def test_those_of_its_networks_are_taken_and_looked_at_once(require):
    assert require(machine("nbr0", "nbr0"), OURS) == 1


def test_a_bridge_of_several_networks_is_of_each_of_them(require):
    other = "aaaaaaaa-0000-4000-8000-000000000002"
    shared = links.Link("nbr0", "bridge", str(links.Mark(CATALOG, NETWORK, "10.66.0.1/24,10.67.0.1/24", shared="+")))
    for both in (f"{NETWORK},{other}", f"{other},{NETWORK}"):
        require(machine("nbr0"), shared, bridges={"nbr0": both})
    with pytest.raises(ForeignObject):
        require(machine("nbr0"), shared, bridges={"nbr0": other})


def test_bridges_of_the_hosts_own_are_nobodys_business(require):
    assert require(machine("br0", ""), bridges={"nbr0": NETWORK}) == 0


@pytest.mark.parametrize(
    ("there", "error", "told"),
    [
        ((), NotFound, "network Public: bridge nbr0: there is none on this host"),
        ((links.Link("nbr0", "bridge"),), ForeignObject, "was not made by this collection"),
        ((links.Link("nbr0", "bridge", f"nebula:{CATALOG}:other"),), ForeignObject, "carries the mark nebula:"),
        ((links.Link("nbr0", "bridge", f"nebula:other:{NETWORK}"),), ForeignObject, "carries the mark nebula:other:"),
    ],
)
def test_what_is_missing_or_somebody_elses_is_refused(require, there, error, told):
    with pytest.raises(error, match=r"nebula\.provision\.site") as caught:
        require(machine("nbr0"), *there)
    assert told in str(caught.value)


def switched(network_id=4):
    values = {"VN_MAD": "ovswitch", "VLAN_ID": "10"}
    nic = Nic(0, network_id, "Ten", "ovsbr0", "02:00:00:00:00:00", network_values=values)
    return Vm(0, "u", "web", "kvm", 1.0, 64, nics=(nic,))


def switch(**ids):
    bridge = openvswitch_state.SwitchBridge(
        "ovsbr0", {"nebula-switch": CATALOG, "nebula-networks": f"other,{NETWORK}", **ids}
    )
    return openvswitch_state.Switches(True, True, {}, {"ovsbr0": bridge})


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (switch(), None, ""),
        (openvswitch_state.Switches(), NotFound, "network Ten: bridge ovsbr0: Open vSwitch does not run on this host"),
        (openvswitch_state.Switches(True, True), NotFound, "Open vSwitch of this host has none"),
        (switch(**{"nebula-networks": "other"}), ForeignObject, "was made for other networks"),
        (switch(**{"nebula-switch": "other"}), ForeignObject, "is of catalog other"),
        (switch(**{"nebula-switch": ""}), ForeignObject, "was not made by this collection"),
    ],
)
def test_a_bridge_of_open_vswitch_is_its_networks(monkeypatch, found, error, words):
    monkeypatch.setattr(openvswitch_state, "observe", lambda: found)
    bridges = Bridges(Plan(CATALOG, 1, "node1", switches={"4": NETWORK}))
    if error is None:
        bridges.require(switched())
        return
    with pytest.raises(error, match=words):
        bridges.require(switched())
