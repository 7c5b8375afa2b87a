# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines for `ip` by which bridges are joined with other nodes', and what is refused before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.uplink import Uplink
from ansible_collections.nebula.provision.plugins.module_utils.network import uplinks
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link, Mark

MARK = Mark("cat", "net")
ETH1 = Link("eth1", up=True, mtu=1500, addresses=("192.0.2.1/24",))
FREE = replace(ETH1, addresses=())
PORT = Uplink("bridge", "eth1", "eth1")
VLAN = Uplink("802.1Q", "eth1", "eth1.5", 5)
VXLAN = Uplink("vxlan", "eth1", "eth1.7", 7, cost=50)
OF_VLAN = Link("eth1.5", "vlan", str(MARK), True, mtu=1500, bridge="nbr0", parent="eth1", number=5)
OF_VXLAN = Link("eth1.7", "vxlan", str(MARK), True, mtu=1450, bridge="nbr0", parent="eth1", number=7, group="239.0.0.7")


def of(*links):
    return {link.name: link for link in links}


@pytest.mark.parametrize(
    ("uplink", "links", "lines"),
    [
        (VLAN, of(ETH1), ["link add link eth1 name eth1.5 type vlan id 5", "link set dev eth1.5 alias nebula:cat:net"]),
        (
            replace(VXLAN, mtu=1400),
            of(ETH1),
            [
                "link add name eth1.7 mtu 1400 type vxlan id 7 group 239.0.0.7 dev eth1 ttl 16 dstport 8472",
                "link set dev eth1.7 alias nebula:cat:net",
            ],
        ),
        (VLAN, of(ETH1, OF_VLAN), []),
        (VXLAN, of(ETH1, OF_VXLAN), []),
        (PORT, of(ETH1), []),
    ],
)
def test_a_device_is_made_once(uplink, links, lines):
    assert uplinks.device_making_lines(uplink, MARK, links) == lines


def test_a_device_of_ours_that_is_another_is_made_anew():
    lines = uplinks.device_making_lines(VLAN, MARK, of(ETH1, replace(OF_VLAN, number=6)))
    assert lines[:2] == ["link delete dev eth1.5", "link add link eth1 name eth1.5 type vlan id 5"]


@pytest.mark.parametrize(
    ("uplink", "links", "lines"),
    [
        (PORT, of(FREE), ["link set dev eth1 master nbr0"]),
        (PORT, of(replace(FREE, up=False)), ["link set dev eth1 master nbr0", "link set dev eth1 up"]),
        (PORT, of(replace(FREE, bridge="nbr0")), []),
        (VLAN, of(ETH1), ["link set dev eth1.5 master nbr0", "link set dev eth1.5 up"]),
        (VLAN, of(ETH1, OF_VLAN), []),
        (replace(VLAN, mtu=1400), of(ETH1, OF_VLAN), ["link set dev eth1.5 mtu 1400"]),
        (replace(VXLAN, needed=8950), of(replace(ETH1, mtu=9000), OF_VXLAN), ["link set dev eth1.7 mtu 8950"]),
        (VXLAN, of(ETH1, replace(OF_VXLAN, up=False)), ["link set dev eth1.7 up"]),
    ],
)
def test_it_is_attached_as_far_as_it_is_not(uplink, links, lines):
    assert uplinks.attach_lines(uplink, "nbr0", links) == lines


def test_what_joined_the_bridge_before_is_ended():
    bridge = Link("nbr0", "bridge", str(replace(MARK, port="eth2")), ports=("eth1.5", "eth2", "one-1-0"))
    links = of(ETH1, OF_VLAN, bridge)
    assert uplinks.ports(bridge, links) == ["eth1.5", "eth2"]
    assert uplinks.removal_lines(VLAN, bridge, MARK, links) == ["link set dev eth2 nomaster"]
    assert uplinks.removal_lines(None, bridge, MARK, links) == ["link set dev eth2 nomaster", "link delete dev eth1.5"]
    assert uplinks.removal_lines(VXLAN, None, replace(MARK, network=""), links) == []
    assert uplinks.devices("net", "cat", links) == ["eth1.5"] and uplinks.devices("net", "other", links) == []


@pytest.mark.parametrize(
    ("uplink", "links", "parts"),
    [
        (PORT, of(), ["net Office: eth1", "no interface eth1"]),
        (PORT, of(ETH1), ["192.0.2.1/24", "no ssh connection", "802.1Q"]),
        (PORT, of(replace(FREE, addresses6=("2001:db8::1/64",))), ["2001:db8::1/64"]),
        (PORT, of(replace(FREE, bridge="br0")), ["a port of br0 already"]),
        (PORT, of(replace(FREE, kind="bridge")), ["is a bridge"]),
        (replace(PORT, needed=9000), of(FREE), ["frames of 9000 bytes", "MTU of eth1 is 1500", "guest_mtu 1500"]),
        (VXLAN, of(FREE), ["no IPv4 address"]),
        (replace(VXLAN, needed=1500), of(ETH1), ["leaves 1450", "Set it to 1550"]),
        (VLAN, of(ETH1, Link("eth1.5", "vlan")), ["was not made by this collection", "ip link delete eth1.5"]),
        (VLAN, of(ETH1, replace(OF_VLAN, alias="nebula:x:net")), ["the mark of catalog x"]),
        (VLAN, of(ETH1, replace(OF_VLAN, alias="nebula:cat:x")), ["another network, x,"]),
    ],
)
def test_what_a_host_can_not_have(uplink, links, parts):
    with pytest.raises(NebulaError) as error:
        uplinks.refuse("Office", uplink, "nbr0", MARK, links)
    for part in parts:
        assert part in f"{error.value}".replace("network Office", "net Office")


@pytest.mark.parametrize("links", [of(ETH1), of(ETH1, OF_VLAN)])
def test_it_may_be_there_already(links):
    uplinks.refuse("Office", VLAN, "nbr0", MARK, links)
    uplinks.refuse("Office", PORT, "nbr0", MARK, of(replace(ETH1, bridge="nbr0")))


def test_what_is_shown_before_and_after_is_the_same_where_nothing_changes():
    bridge = Link("nbr0", "bridge", str(MARK), ports=("eth1.7", "one-1-0"))
    links = of(ETH1, OF_VXLAN, bridge)
    shown = {"eth1.7": {"up": True, "phydev": "eth1", "vlan_id": 7, "mtu": 1450}}
    assert uplinks.view(bridge, links) == uplinks.desired_view(VXLAN, links) == shown
    assert uplinks.expected_device(VXLAN, bridge, links) == OF_VXLAN
    assert uplinks.desired_view(None, links) == {} and uplinks.describe(OF_VXLAN) == "VXLAN 7 on eth1"


def test_it_comes_back_at_boot_as_it_was():
    assert uplinks.device_lines(OF_VLAN)[0] == "link add link eth1 name eth1.5 mtu 1500 type vlan id 5"
    assert uplinks.at_boot(OF_VLAN, "nbr0") == [
        "link set dev eth1.5 master nbr0",
        "link set dev eth1 up",
        "link set dev eth1.5 up",
    ]
    assert uplinks.at_boot(FREE, "nbr0") == ["link set dev eth1 master nbr0", "link set dev eth1 up"]


BOND = Link("bond0", "bond", up=True, mtu=1500)


@pytest.mark.parametrize(
    ("uplink", "links", "part"),
    [
        *((each, of(BOND, replace(FREE, bridge="bond0")), "Give phydev: bond0") for each in (PORT, VLAN, VXLAN)),
        (PORT, of(replace(FREE, dynamic6=("2001:db8::5/64",))), "has the addresses 2001:db8::5/64"),
        (replace(VLAN, phydev="lo"), of(Link("lo", mtu=65536)), "loopback"),
    ],
)
def test_what_would_carry_nothing_or_cut_a_connection(uplink, links, part):
    with pytest.raises(NebulaError, match=part):
        uplinks.refuse("Net", uplink, "nbr0", MARK, links)


def test_a_device_on_a_port_of_a_bridge_is_well():
    """Frames with a tag are the device's before they are the bridge's."""
    uplinks.refuse("Net", VLAN, "nbr0", MARK, of(Link("br0", "bridge"), replace(FREE, bridge="br0")))


OTHER = Mark("cat", "other", port="eth1")


@pytest.mark.parametrize(
    ("wanted", "known", "found"),
    [
        ({"net": VLAN}, None, set()),
        ({"net": VLAN}, ["net", "other"], set()),
        ({"net": None}, None, {"eth1.5"}),
        ({"net": replace(VLAN, device="eth1.6", number=6)}, None, {"eth1.5"}),
        # Nobody knows what a network that is not in the run is to have, while the catalog has it.
        ({}, ["net", "other"], set()),
        ({}, ["other"], {"eth1.5"}),
        ({"net": VLAN}, ["net"], {"eth1"}),
        ({"net": VLAN, "other": VXLAN}, None, {"eth1"}),
    ],
)
def test_what_its_network_is_to_have_no_more(wanted, known, found):
    links = of(replace(FREE, bridge="nbr1"), OF_VLAN, Link("nbr1", "bridge", str(OTHER), ports=("eth1",)))
    assert uplinks.no_longer_wanted(wanted, "cat", links, known) == found
    assert uplinks.no_longer_wanted(wanted, "nobody", links, known) == set()
    lines = uplinks.release_lines(sorted(found), links)
    assert lines == [
        *["link delete dev eth1.5"] * ("eth1.5" in found),
        *["link set dev eth1 nomaster"] * ("eth1" in found),
    ]
    left = uplinks.after_release(found, links)
    assert ("eth1.5" in left, bool(left["eth1"].bridge)) == ("eth1.5" not in found, "eth1" not in found)


HAD = replace(MARK, port="eth1", down="down")
BRIDGE = Link("nbr0", "bridge", str(HAD), up=True, ports=("eth1",))


@pytest.mark.parametrize(
    ("bridge", "there", "lines"),
    [
        (BRIDGE, "nbr0", ["link set dev eth1 nomaster", "link set dev eth1 down"]),
        (replace(BRIDGE, alias=str(replace(HAD, down=""))), "nbr0", ["link set dev eth1 nomaster"]),
        # Another network has it by now.
        (BRIDGE, "nbr1", ["link set dev eth1 nomaster"]),
        # Somebody has taken it out.
        (replace(BRIDGE, ports=()), "", []),
        (replace(BRIDGE, alias=""), "nbr0", []),
    ],
)
def test_an_interface_is_given_back_as_it_was(bridge, there, lines):
    assert uplinks.detach_lines(bridge, of(bridge, replace(FREE, bridge=there))) == lines


def test_who_has_an_interface_after_another_network_knows_whether_it_was_down():
    down = replace(FREE, up=False)
    assert uplinks.was_down(PORT, "cat", of(down), of(down))
    assert not uplinks.was_down(PORT, "cat", of(FREE), of(FREE))
    assert not uplinks.was_down(VLAN, "cat", of(down), of(down)) and not uplinks.was_down(None, "cat", {}, {})
    here = of(BRIDGE, replace(FREE, bridge="nbr0"))
    assert uplinks.was_down(PORT, "cat", here, of(FREE))
    assert not uplinks.was_down(PORT, "other", here, of(FREE))
    assert uplinks.after_detaching([BRIDGE], here) == {"eth1": down}


@pytest.mark.parametrize(
    ("uplink", "told", "warned"),
    [
        (PORT, 1500, ""),
        (PORT, 9000, "told an MTU of 9000, and eth1 here leaves 1500: larger packets are lost"),
        (VXLAN, 1450, ""),
        (VXLAN, 1451, "leaves 1450: larger packets are lost between hosts. Give the range guest_mtu 1450 or less"),
        (VXLAN, 9000, "or set the MTU of eth1 to 9050 here and on all that is between the nodes"),
    ],
)
def test_an_address_range_whose_machines_send_more_than_the_uplink_carries_is_told(uplink, told, warned):
    found = uplinks.doubts("Public", uplink, told, of(ETH1))
    assert [warned in text for text in found] == [True] * bool(warned)
