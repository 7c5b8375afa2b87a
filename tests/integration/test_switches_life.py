# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node can not have of networks of Open vSwitch, and what of others it keeps: the real module and the real Open
vSwitch."""

from __future__ import annotations

import subprocess
from pathlib import Path

from frames import Cable
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.network import openvswitch_state
from ansible_collections.nebula.provision.tests.integration.test_switches import (
    BRIDGE,
    CATALOG,
    OTHER_CATALOG,
    host,
    network,
)


@in_world
def test_what_a_node_can_not_have_is_refused_before_anything_is_made():
    with host() as node:
        wire = Cable("eth1")
        try:
            networks = [network(1, 10)]
            node.ok(*networks)
            node.vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
            by_hand(node, [network(1, 10), network(2, 20)])
            refusals(node, networks)
            node.ok(state="absent")
            node.vsctl("del-br", "theirs")
            another_driver(node, networks[0])
            deleted_by_hand(node, networks)
            node.vsctl("del-br", "theirs")
            a_device_that_was_down(node)
        finally:
            wire.close()


def refusals(node, networks):
    assert "the bridge of that name in Open vSwitch was not made by this collection" in node.refused(
        network(7, 70, bridge="theirs", phydev="")
    )
    node.run("ip", "link", "add", "plainbr", "type", "bridge")
    assert "there is an interface of that name" in node.refused(network(7, 70, bridge="plainbr", phydev=""))
    assert "there is no interface eth9" in node.refused(network(7, 70, bridge="ovsbr7", phydev="eth9"))
    message = node.refused(network(7, 70, bridge="ovsbr7"))
    assert f"it is a port of bridge {BRIDGE} of Open vSwitch already" in message
    node.run("ip", "link", "add", "eth2", "type", "veth", "peer", "name", "eth2w")
    node.run("ip", "address", "add", "192.0.2.1/24", "dev", "eth2")
    assert "192.0.2.1/24" in node.refused(network(7, 70, bridge="ovsbr7", phydev="eth2"))
    node.run("ip", "address", "flush", "dev", "eth2")
    node.run("ip", "link", "set", "eth2", "master", "plainbr")
    assert "it is a port of plainbr already" in node.refused(network(7, 70, bridge="ovsbr7", phydev="eth2"))
    node.run("ip", "link", "set", "eth2", "nomaster")
    message = node.refused(network(7, 70, bridge="ovsbr7", phydev="eth2", MTU="9000"))
    assert "frames of 9000 bytes" in message and "MTU of eth2 is 1500" in message
    assert f"carries the mark of catalog {CATALOG}" in node.refused(networks[0], catalog=OTHER_CATALOG)
    for name in ("eth2", "plainbr"):
        node.run("ip", "link", "delete", name)


def by_hand(node, networks):
    node.ok(*networks)
    # What was changed by hand is made again.
    for words in (
        ["set", "Port", "eth1", "tag=10"],
        ["del-port", BRIDGE, "eth1"],
        ["remove", "Bridge", BRIDGE, "external_ids", "nebula-networks"],
    ):
        node.vsctl(*words)
        predicted = node.ok(*networks, check=True)
        assert predicted["changed"] and node.ok(*networks)["diff"] == predicted["diff"], words
        assert not node.ok(*networks)["changed"], words
    node.run("ip", "link", "set", BRIDGE, "up")
    assert node.ok(*networks)["changed"] and "UP" not in node.link(BRIDGE)["flags"]


def deleted_by_hand(node, networks):
    """What was made for the bridges goes, although they are gone already; whoever has a bridge there keeps it."""
    subprocess.run(["/usr/share/openvswitch/scripts/ovs-ctl", "stop"], check=True, capture_output=True)
    Path("/etc/openvswitch/conf.db").unlink()
    node.ok(*networks)
    node.vsctl("del-br", BRIDGE)
    predicted = node.ok(state="absent", check=True)
    assert node.ok(state="absent")["diff"] == predicted["diff"] and predicted["changed"]
    assert not openvswitch_state.observe().there and not openvswitch_state.observe().running
    assert not node.ok(state="absent")["changed"]
    node.ok(*networks)
    node.vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
    node.ok(state="absent")
    assert openvswitch_state.observe().running and list(openvswitch_state.observe().bridges) == ["theirs"]
    assert "nebula-switch-made" not in openvswitch_state.observe().external_ids


def a_device_that_was_down(node):
    """It is down again when no bridge has it, whichever had it last."""
    for first, then in (("down", False), ("up", True)):
        node.run("ip", "link", "set", "eth1", first)
        for wanted in ([network(1, 10)], [network(1, 10, bridge="ovsbr7")], [network(1, 10), network(2, 20)]):
            known = [each["uuid"] for each in wanted]
            predicted = node.ok(*wanted, known=known, check=True)
            assert node.ok(*wanted, known=known)["diff"] == predicted["diff"]
            assert not node.ok(*wanted, known=known)["changed"]
            assert "UP" in node.link("eth1")["flags"]
        node.ok(network(1, 10, phydev=""))
        node.ok(network(1, 10, phydev=""), known=[network(1, 10)["uuid"]])
        assert ("UP" in node.link("eth1")["flags"]) == then
        node.ok(network(1, 10))
        node.ok(state="absent")
        assert ("UP" in node.link("eth1")["flags"]) == then


def another_driver(node, switched):
    """What a network had with its former driver goes, and its device goes over to what it has now."""
    linked = {**switched, "vn_mad": "bridge"}
    for wanted, is_linux in ((linked, True), (switched, False), (linked, True)):
        predicted = node.ok(wanted, known=[wanted["uuid"]], check=True)
        assert node.ok(wanted, known=[wanted["uuid"]])["diff"] == predicted["diff"]
        assert not node.ok(wanted, known=[wanted["uuid"]])["changed"]
        assert (node.link(BRIDGE)["linkinfo"]["info_kind"] == "bridge") == is_linux
        assert (BRIDGE in openvswitch_state.observe().bridges) != is_linux
        assert (node.link("eth1").get("master") == BRIDGE) == is_linux
    node.ok(state="absent")
