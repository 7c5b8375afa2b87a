# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that several nodes have: the real module with the real `ip` and `nft`, in network namespaces made here.

Each node has eth1, and eth2, to a switch of its own; machines hang on the nodes' bridges as virtual machines would. No
packet leaves them. What this kernel may lack, VLANs, is tried on a host of its own (test_stock_host.py)."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.nebula.provision.tests.integration.node_namespaces import (
    CATALOG,
    OTHER_CATALOG,
    heard,
    network,
    wire,
)

pytestmark = pytest.mark.root

PRIVATE = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0"}


def bridged(number=1, phydev="eth1", **attributes):
    return network(f"Net{number}", number, f"nbr{number}", attributes={**PRIVATE, "PHYDEV": phydev, **attributes})


def vxlan(number=1, vni=7, phydev="eth1", **attributes):
    values = {**PRIVATE, "PHYDEV": phydev, "VLAN_ID": str(vni), "GUEST_MTU": "1450", **attributes}
    return network(f"Net{number}", number, f"nbr{number}", vn_mad="vxlan", attributes=values)


def kernel_has(kind):
    name = f"nebtest{kind[:6]}"
    parent = ["link", "lo"] if kind == "vlan" else []
    made = subprocess.run(
        ["ip", "link", "add", *parent, "name", name, "type", kind, "id", "7"], check=False, capture_output=True
    )
    subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
    return made.returncode == 0


@pytest.fixture
def site(namespaces):
    """Two nodes, and what a node's eth1 and eth2 are plugged into."""
    switch = namespaces()
    nodes = [namespaces() for _number in range(2)]
    for eth in ("eth1", "eth2"):
        switch.run("ip", "link", "add", eth, "type", "bridge")
        switch.run("ip", "link", "set", eth, "up")
        for number, node in enumerate(nodes):
            wire(switch, f"{eth}-{number}", node, eth)
            switch.run("ip", "link", "set", f"{eth}-{number}", "master", eth)
    for number, node in enumerate(nodes, 1):
        node.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", "eth2")
        # The router of the network would give the node an address, by IPv6.
        node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth1/disable_ipv6")
    made = iter(range(9))

    def machine(node, bridge, address, mtu=1500):
        guest, number = namespaces(), next(made)
        wire(node, f"one-{number}-0", guest, "eth0")
        node.run("ip", "link", "set", f"one-{number}-0", "master", bridge)
        guest.run("ip", "link", "set", "eth0", "mtu", str(mtu))
        guest.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        return guest

    nodes[0].machine = machine
    return nodes


def reaches(one, other, address="10.66.0.12", source="10.66.0.11"):
    return heard(other, address, one, address, source) == source


def pings(guest, address, size=56):
    """Whether a packet of that size gets through, whole."""
    words = ("ping", "-M", "do", "-c", "1", "-W", "2", "-s", str(size), address)
    return subprocess.run(guest.command(*words), capture_output=True, timeout=60, check=False).returncode == 0


def test_a_physical_device_in_the_bridge_joins_the_nodes(site):
    one, two = site
    before = one.snapshot()
    predicted = one.ok(bridged(), check=True)
    made = one.ok(bridged())
    assert predicted["diff"] == made["diff"] and made["changed"]
    assert one.link("nbr1")["ifalias"].endswith("::eth1") and one.link("eth1")["master"] == "nbr1"
    again = one.ok(bridged())
    assert not again["changed"]
    two.ok(bridged())
    guests = [one.machine(node, "nbr1", f"10.66.0.1{n}") for n, node in enumerate(site, 1)]
    assert reaches(*guests) and pings(guests[0], "10.66.0.12", 1472)
    # The node is no member of the network, although its addresses may well be those of its own.
    assert not pings(guests[0], "192.0.2.1")
    refusal = one.module(state="absent")
    assert "one-0-0" in refusal["msg"] and "eth1" not in refusal["msg"]
    one.run("ip", "link", "delete", "one-0-0")
    one.ok(state="absent")
    assert one.snapshot() == before
    assert not one.ok(state="absent")["changed"]


def test_another_device_or_none_takes_the_place_of_the_first(site):
    one, _two = site
    one.run("ip", "address", "flush", "dev", "eth2")
    one.ok(bridged())
    changed = one.ok(bridged(phydev="eth2"), check=True)
    assert one.ok(bridged(phydev="eth2"))["diff"] == changed["diff"]
    assert (one.link("eth1").get("master"), one.link("eth2").get("master")) == (None, "nbr1")
    assert one.ok(network("Net1", 1, "nbr1", attributes=PRIVATE))["changed"]
    assert one.link("eth2").get("master") is None
    # What somebody else makes a port of the bridge stays one.
    one.run("ip", "link", "set", "eth2", "master", "nbr1")
    assert not one.ok(network("Net1", 1, "nbr1", attributes=PRIVATE))["changed"]
    assert one.link("eth2")["master"] == "nbr1"


def test_a_device_that_was_down_is_down_again_when_no_network_has_it(site):
    one, _two = site
    one.run("ip", "address", "flush", "dev", "eth2")
    one.run("ip", "link", "set", "eth2", "down")
    before = one.snapshot()

    def is_up(name):
        return "UP" in one.link(name)["flags"]

    # It goes from bridge to bridge and from network to network, and what it was is remembered.
    for wanted in (
        [bridged(phydev="eth2")],
        [{**bridged(phydev="eth2"), "bridge": "nbr9"}],
        [bridged(1, "eth1"), bridged(2, "eth2")],
        [bridged(1, "eth2"), bridged(2, "eth1")],
    ):
        known = [each["uuid"] for each in wanted]
        predicted = one.ok(*wanted, known=known, check=True)
        assert one.ok(*wanted, known=known)["diff"] == predicted["diff"]
        assert not one.ok(*wanted, known=known)["changed"]
        (bridge,) = [each["bridge"] for each in wanted if each["attributes"]["PHYDEV"] == "eth2"]
        assert one.link(bridge)["ifalias"].endswith("::eth2:down") and is_up("eth2")
    one.ok(network("Net1", 1, "nbr1", attributes=PRIVATE))
    assert not is_up("eth2")
    one.ok(bridged(phydev="eth2"))
    one.ok(state="absent")
    assert one.snapshot() == before and not is_up("eth2")
    # One from a version that did not remember it stays as it is, and so does an interface that was up.
    one.ok(bridged(phydev="eth2"))
    one.run("ip", "link", "set", "nbr1", "alias", one.link("nbr1")["ifalias"].removesuffix(":down"))
    assert not one.ok(bridged(phydev="eth2"))["changed"]
    one.ok(state="absent")
    assert is_up("eth2")


def test_vxlan_keeps_networks_apart_that_have_the_same_addresses(site):
    one, two = site
    both = [vxlan(1, 7, "eth2"), vxlan(2, 8, "eth2")]
    before = one.snapshot()
    predicted = one.ok(*both, check=True)
    assert one.ok(*both)["diff"] == predicted["diff"]
    assert not one.ok(*both)["changed"]
    two.ok(*both)
    device = one.link("eth2.7")
    data = device["linkinfo"]["info_data"]
    assert (data["id"], data["group"], data["port"], device["mtu"]) == (7, "239.0.0.7", 8472, 1450)
    assert one.run("cat", "/proc/sys/net/ipv6/conf/eth2.7/disable_ipv6") == "1\n"
    guests = [one.machine(node, "nbr1", f"10.66.0.1{n}", 1450) for n, node in enumerate(site, 1)]
    tenant = one.machine(two, "nbr2", "10.66.0.13", 1450)
    assert reaches(*guests) and pings(guests[0], "10.66.0.12", 1422)
    assert not pings(guests[0], "10.66.0.13") and not pings(tenant, "10.66.0.11")
    assert not pings(guests[0], "192.0.2.1")
    # Another number: the bridge stays, and the machines on it.
    one.ok(vxlan(1, 9, "eth2"), both[1])
    assert one.link("eth2.7") is None and one.link("eth2.9")["master"] == "nbr1" and one.link("one-0-0")
    assert not pings(guests[0], "10.66.0.12")
    one.run("ip", "link", "delete", "one-0-0")
    one.ok(state="absent")
    assert one.snapshot() == before


def test_what_was_changed_by_hand_is_made_again(site):
    one, _two = site
    wanted = vxlan(1, 7, "eth2", MTU="1400", GUEST_MTU="1400")
    one.ok(wanted)
    for command in (
        "ip link set eth2.7 nomaster",
        "ip link set eth2.7 down",
        "ip link set eth2.7 mtu 1300",
        "ip link delete eth2.7",
    ):
        one.run("sh", "-c", command)
        predicted = one.ok(wanted, check=True)
        assert one.ok(wanted)["diff"] == predicted["diff"] and predicted["changed"], command
        device = one.link("eth2.7")
        assert (device["master"], device["mtu"], "UP" in device["flags"]) == ("nbr1", 1400, True), command
        assert not one.ok(wanted)["changed"], command
    # The bridge too: then the device is there, and attached again.
    one.run("ip", "link", "delete", "nbr1")
    one.ok(wanted)
    assert one.link("eth2.7")["master"] == "nbr1"


def test_what_a_node_can_not_have_is_refused_before_anything_is_made(site):
    one, _two = site
    message = one.refused(bridged(phydev="eth9"))
    assert "network Net1: eth9: there is no interface eth9 on this host" in message
    message = one.refused(bridged(phydev="eth2"))
    assert "192.0.2.1/24" in message and "no ssh connection" in message and "vn_mad 802.1Q" in message
    message = one.refused(vxlan())
    assert "VXLAN 7 on eth1: eth1 has no IPv4 address" in message
    message = one.refused(vxlan(phydev="eth2", GUEST_MTU="1500"))
    assert "frames of 1500 bytes" in message and "leaves 1450" in message and "Set it to 1550" in message
    message = one.refused(bridged(phydev="eth1", MTU="9000"))
    assert "frames of 9000 bytes" in message and "MTU of eth1 is 1500" in message
    one.run("ip", "link", "add", "their", "type", "bridge")
    assert "their is a bridge" in one.refused(bridged(phydev="their"))
    one.run("ip", "link", "set", "eth1", "master", "their")
    assert "it is a port of their already" in one.refused(bridged())
    one.run("ip", "link", "set", "eth1", "nomaster")
    one.run("ip", "link", "add", "eth2.7", "type", "dummy") if kernel_has("dummy") else one.run(
        "ip", "link", "add", "eth2.7", "type", "bridge"
    )
    message = one.refused(vxlan(phydev="eth2"))
    assert "there is an interface eth2.7 on this host, which was not made by this collection" in message
    one.run("ip", "link", "set", "eth2.7", "alias", f"nebula:{OTHER_CATALOG}:x")
    assert f"carries the mark of catalog {OTHER_CATALOG}" in one.refused(vxlan(phydev="eth2"))
    one.run("ip", "link", "set", "eth2.7", "alias", f"nebula:{CATALOG}:x")
    assert "was made for another network, x, of this catalog" in one.refused(vxlan(phydev="eth2"))


def test_two_hundred_at_once(site):
    one, _two = site
    many = [
        network(f"Net{n}", n, f"nbr{n}", vn_mad="vxlan", attributes={"PHYDEV": "eth2", "VLAN_ID": str(n)})
        for n in range(1, 201)
    ]
    assert len(one.ok(*many)["links"]) == 200
    assert not one.ok(*many)["changed"]


@pytest.mark.skipif(not kernel_has("vlan"), reason="this kernel has no VLANs")
def test_a_vlan_of_each_network(site):
    one, two = site
    for node in site:
        vlan = network("Net1", 1, "nbr1", vn_mad="802.1Q", attributes={**PRIVATE, "PHYDEV": "eth1", "VLAN_ID": "100"})
        node.ok(vlan)
        assert not node.ok(vlan)["changed"]
    guests = [one.machine(node, "nbr1", f"10.66.0.1{n}") for n, node in enumerate((one, two), 1)]
    assert reaches(*guests)


def test_what_goes_from_one_network_to_another_goes_in_one_run(site):
    """A node that was away for a while has them crosswise, and any order has to do."""
    one, _two = site
    one.run("ip", "link", "add", "eth3", "type", "veth", "peer", "name", "eth4")
    one.run("ip", "link", "set", "eth3", "up")
    for first, then in (
        # VNIs: a free one, passed on, and crosswise.
        ([vxlan(1, 7, "eth2"), vxlan(2, 8, "eth2")], [vxlan(1, 8, "eth2"), vxlan(2, 9, "eth2")]),
        ([vxlan(1, 7, "eth2"), vxlan(2, 8, "eth2")], [vxlan(1, 8, "eth2"), vxlan(2, 7, "eth2")]),
        ([bridged(1, "eth1"), bridged(2, "eth3")], [bridged(1, "eth3"), bridged(2, "eth1")]),
        # A network is gone, and a new one has what it had.
        ([vxlan(1, 7, "eth2")], [vxlan(2, 7, "eth2")]),
        ([bridged(1, "eth1")], [bridged(2, "eth1")]),
    ):
        before = one.snapshot()
        one.ok(*first)
        known = [each["uuid"] for each in then]
        predicted = one.ok(*then, known=known, check=True)
        made = one.ok(*then, known=known)
        assert predicted["diff"] == made["diff"]
        again = one.ok(*then, known=known)
        assert not again["changed"], again["diff"]
        for each in then:
            name = each["attributes"]["PHYDEV"] + (
                f".{each['attributes']['VLAN_ID']}" if each["vn_mad"] != "bridge" else ""
            )
            link = one.link(name)
            assert link["master"] == each["bridge"], name
            if each["vn_mad"] != "bridge":
                assert each["uuid"] in link["ifalias"]
                assert link["linkinfo"]["info_data"]["id"] == int(each["attributes"]["VLAN_ID"])
        one.ok(state="absent")
        assert one.snapshot() == before


def test_an_interface_that_carries_a_connection_by_ipv6_is_no_port(site):
    one, _two = site
    one.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth1/disable_ipv6")
    # As a router advertisement gives it.
    one.run("ip", "address", "add", "2001:db8::5/64", "dev", "eth1", "valid_lft", "3000", "preferred_lft", "2000")
    assert "has the addresses 2001:db8::5/64" in one.refused(bridged())


def test_a_part_of_a_bond_is_no_physical_device(site):
    one, _two = site
    made = one.run("ip", "link", "add", "bond1", "type", "bond", check=False)
    if one.link("bond1") is None:
        pytest.skip(f"this kernel has no bonds: {made}")
    one.run("ip", "link", "set", "eth1", "down")
    one.run("ip", "link", "set", "eth1", "master", "bond1")
    for wanted in (bridged(), vxlan(phydev="eth1"), vlan()):
        assert "eth1 is a part of bond1 (bond). Give phydev: bond1" in one.refused(wanted)


def vlan(number=1, tag=7, phydev="eth1", **attributes):
    values = {**PRIVATE, "PHYDEV": phydev, "VLAN_ID": str(tag), **attributes}
    return network(f"Net{number}", number, f"nbr{number}", vn_mad="802.1Q", attributes=values)


def test_the_loopback_interface_leads_to_nobody(site):
    assert "lo is the loopback interface" in site[0].refused(vlan(phydev="lo"))
    assert "lo is the loopback interface" in site[0].refused(bridged(phydev="lo"))
