# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VLAN ids and VXLAN network identifiers: chosen where none is given, and never in two networks."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.networks import vlan_numbers
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network


def network(number, vn_mad="802.1Q", phydev="eth1", **attributes):
    return Network(
        number, f"n{number}", vn_mad=vn_mad, bridge=f"br{number}", attributes={"PHYDEV": phydev, **attributes}
    )


def test_the_first_number_that_is_tried_follows_from_the_networks_id():
    assert vlan_numbers.numbered(network(0), []).attributes["VLAN_ID"] == "2"
    assert vlan_numbers.numbered(network(7), []).attributes["VLAN_ID"] == "9"
    taken = [network(1, VLAN_ID="9"), network(2, VLAN_ID="10")]
    assert vlan_numbers.numbered(network(7), taken).attributes["VLAN_ID"] == "11"
    # On another device, or in a tunnel, it is another network.
    others = [network(1, phydev="eth2", VLAN_ID="9"), network(2, "vxlan", VLAN_ID="9")]
    assert vlan_numbers.numbered(network(7), others).attributes["VLAN_ID"] == "9"


def test_it_is_one_of_the_range_and_none_if_that_is_used_up():
    wanted = network(7, VLAN_IDS="100-101")
    assert vlan_numbers.numbered(wanted, []).attributes["VLAN_ID"] == "101"
    assert vlan_numbers.numbered(wanted, [network(1, VLAN_ID="101")]).attributes["VLAN_ID"] == "100"
    with pytest.raises(Conflict, match=r"n7: a number of 100-101 for 802.1Q: other networks have all 2"):
        vlan_numbers.numbered(wanted, [network(1, VLAN_ID="101"), network(2, VLAN_ID="100")])


@pytest.mark.parametrize(
    ("one", "other", "parts"),
    [
        (network(1, VLAN_ID="5"), network(2, VLAN_ID="5"), ["n1: VLAN_ID = 5 on eth1", "network n2 (id 2)"]),
        (
            network(1, "vxlan", VLAN_ID="5"),
            network(2, "vxlan", "eth2", VLAN_ID="5"),
            ["VLAN_ID = 5 on eth1", "each VNI once"],
        ),
        (network(1, VLAN_ID="5"), network(2, "vxlan", VLAN_ID="5"), ["device eth1.5"]),
        (network(1, "bridge"), network(2, "bridge"), ["device eth1", "a port of one bridge"]),
        (network(1, "ovswitch"), network(2, "ovswitch"), ["device eth1", "give bridge: br2"]),
        (network(1, "ovswitch"), network(2, "bridge"), ["device eth1"]),
    ],
)
def test_two_networks_never_have_the_same(one, other, parts):
    with pytest.raises(Conflict) as error:
        vlan_numbers.refuse_shared(one, [other])
    for part in parts:
        assert part in str(error.value)


def test_what_is_apart_is_not_refused():
    others = [network(2, VLAN_ID="6"), network(3, phydev="eth2", VLAN_ID="5"), network(4, "bridge"), Network(5, "n5")]
    vlan_numbers.refuse_shared(network(1, VLAN_ID="5"), others)
    vlan_numbers.refuse_shared(Network(1, "n1"), others)


def test_runs_at_the_same_time_choose_different_numbers(tmp_path):
    EmbeddedEngine(str(tmp_path), create=True).close()

    def made(run):
        with contextlib.closing(EmbeddedEngine(str(tmp_path))) as engine:
            for number in range(5):
                values = {"PHYDEV": "eth1", "VLAN_IDS": "10-30"}
                with engine.session():
                    engine.networks.allocate(Network(None, f"net-{run}-{number}", vn_mad="802.1Q", attributes=values))

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(made, range(4))) == [None] * 4
    with contextlib.closing(EmbeddedEngine(str(tmp_path))) as engine, engine.session():
        taken = [network.attributes["VLAN_ID"] for network in engine.networks.pool()]
    assert len(set(taken)) == len(taken) == 20
