# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks whose machines are told an MTU above 1500: real bridges, and frames of that size between them, in network
namespaces made here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ansible_collections.nebula.provision.tests.integration import test_boot
from ansible_collections.nebula.provision.tests.integration.node_namespaces import network, wire
from ansible_collections.nebula.provision.tests.integration.test_network_uplinks import kernel_has

pytestmark = pytest.mark.root

JUMBO = 9000


def jumbo(mtu=JUMBO, **values):
    made = network(**values)
    return {**made, "attributes": {**made["attributes"], "GUEST_MTU": str(mtu)}}


PLAIN = network()
files = test_boot.files

# Says how long the datagram is that comes; "nothing" if none does.
HEAR = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("", 8000))
    server.settimeout(2)
    print("listening", flush=True)
    try:
        print(len(server.recv(65535)), flush=True)
    except TimeoutError:
        print("nothing", flush=True)
"""
# One frame of that many bytes of IPv4, which nobody may take apart.
SAY = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
    speaker.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
    speaker.sendto(b"." * (int(sys.argv[2]) - 28), (sys.argv[1], 8000))
"""


def machine(namespaces, node, number, host_mtu=JUMBO):
    """A machine whose guest has been told the MTU. host_mtu: of its interface on the node, by its hypervisor."""
    made = namespaces()
    port = f"one-{number}-0"
    wire(node, port, made, "eth0")
    node.run("ip", "link", "set", port, "mtu", str(host_mtu))
    node.run("ip", "link", "set", port, "master", "nbr0")
    made.run("ip", "link", "set", "eth0", "mtu", str(JUMBO))
    made.run("ip", "address", "add", f"10.66.0.{10 + number}/24", "dev", "eth0")
    return made


def arrives(speaker, listener, address, size=JUMBO):
    server = subprocess.Popen(listener.command(sys.executable, "-c", HEAR), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "listening\n"
        speaker.python(SAY, address, str(size))
        return server.stdout.readline().strip() == str(size - 28)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def mtus(node, *names):
    return [node.link(name)["mtu"] for name in names]


def as_predicted(node, *networks, **params):
    predicted = node.ok(*networks, check=True, **params)
    real = node.ok(*networks, **params)
    assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"])
    assert not node.ok(*networks, **params)["changed"]
    return real


def test_frames_of_that_size_pass_between_machines_and_the_node(namespaces, node):
    wanted = jumbo(nat=True)
    as_predicted(node, wanted)
    assert mtus(node, "nbr0") == [JUMBO]
    one, two = (machine(namespaces, node, number) for number in (0, 1))
    assert arrives(one, two, "10.66.0.11")
    assert arrives(one, node, "10.66.0.1")
    assert not node.ok(wanted)["changed"]


def test_machines_that_were_there_before_get_them_too(namespaces, node):
    """Of a site that an earlier version made: the guests are told 9000, and all on the node has 1500."""
    node.ok(PLAIN)
    one, two = (machine(namespaces, node, number, host_mtu=1500) for number in (0, 1))
    assert not arrives(one, two, "10.66.0.11")
    assert as_predicted(node, jumbo())["changed"]
    assert mtus(node, "nbr0", "one-0-0", "one-1-0") == [JUMBO] * 3
    assert arrives(one, two, "10.66.0.11")


def test_a_bridge_that_nobody_asks_that_of_any_more_has_its_own_again(node):
    node.ok(jumbo())
    as_predicted(node, jumbo(4000))
    assert mtus(node, "nbr0") == [4000]
    as_predicted(node, PLAIN)
    assert mtus(node, "nbr0") == [1500]


@pytest.mark.parametrize("guest", [0, 1400, 1500])
def test_what_an_interface_has_by_itself_is_not_touched(node, guest):
    """Neither its mark nor what somebody set by hand: the site is as earlier versions left it."""
    wanted = jumbo(guest) if guest else PLAIN
    node.ok(wanted)
    assert node.link("nbr0")["ifalias"].count(":") == 2
    node.run("ip", "link", "set", "nbr0", "mtu", "9000")
    assert not node.ok(wanted)["changed"]
    assert mtus(node, "nbr0") == [9000]


def test_a_bridge_that_has_enough_already_is_left_as_it_is(node):
    """Somebody has made up by hand for what earlier versions did not do."""
    node.ok(PLAIN)
    node.run("ip", "link", "set", "nbr0", "mtu", "9000")
    assert not node.ok(jumbo())["changed"]
    assert not node.ok(PLAIN)["changed"]
    assert mtus(node, "nbr0") == [9000]


def test_the_interface_to_other_nodes_has_to_carry_them(namespaces, node):
    other = namespaces()
    wire(node, "eth7", other, "far")
    wanted = jumbo()
    wanted["attributes"]["PHYDEV"] = "eth7"
    said = node.refused(wanted)
    assert "the MTU of eth7 is 1500" in said and "Set it to 9000" in said
    for namespace, name in ((node, "eth7"), (other, "far")):
        namespace.run("ip", "link", "set", name, "mtu", str(JUMBO))
    other.run("ip", "address", "add", "10.66.0.99/24", "dev", "far")
    as_predicted(node, wanted)
    assert mtus(node, "nbr0", "eth7") == [JUMBO, JUMBO]
    assert arrives(machine(namespaces, node, 0), other, "10.66.0.99")


NO_VLANS = pytest.mark.skipif(not kernel_has("vlan"), reason="this kernel has no VLANs")


def test_of_networks_on_one_bridge_one_that_its_port_does_not_carry_is_left_out(namespaces, node):
    wire(node, "eth7", namespaces(), "far")
    one = {**PLAIN, "attributes": {**PLAIN["attributes"], "PHYDEV": "eth7"}}
    node.ok(one)
    addresses = {"NETWORK_ADDRESS": "10.67.0.0", "NETWORK_MASK": "255.255.255.0", "PHYDEV": "eth7"}
    other = network("Other", 2, attributes={**addresses, "GUEST_MTU": "9000"}, address_ranges=[])
    for networks in ([one, other], [other, one]):
        said = node.refused(*networks)
        assert "network Other: eth7: frames of 9000 bytes" in said and "network Public" not in said
        assert node.module(*networks)["refused"] == ["Other"]


@pytest.mark.parametrize("driver", [pytest.param("802.1Q", marks=NO_VLANS), "vxlan"])
def test_a_bridge_with_a_device_of_ours_has_what_that_has(namespaces, node, driver):
    other = namespaces()
    wire(node, "eth7", other, "far")
    node.run("ip", "link", "set", "eth7", "mtu", str(JUMBO + 50))
    node.run("ip", "address", "add", "192.0.2.1/24", "dev", "eth7")
    wanted = jumbo(vn_mad=driver)
    wanted["attributes"].update(PHYDEV="eth7", VLAN_ID="7")
    as_predicted(node, wanted)
    assert mtus(node, "nbr0")[0] >= JUMBO
    one, two = (machine(namespaces, node, number, host_mtu=1500) for number in (0, 1))
    assert not arrives(one, two, "10.66.0.11")
    as_predicted(node, wanted)
    assert arrives(one, two, "10.66.0.11")


def test_of_networks_on_one_bridge_the_largest_counts(namespaces, node):
    addresses = {"NETWORK_ADDRESS": "10.67.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.67.0.1"}
    other = network("Other", 2, attributes={**addresses, "GUEST_MTU": "4000"}, address_ranges=[])
    as_predicted(node, other, jumbo())
    assert mtus(node, "nbr0") == [JUMBO]
    as_predicted(node, other, {**jumbo(), "state": "DONE"})
    assert mtus(node, "nbr0") == [4000]


def test_a_bridge_of_the_hosts_own_is_left_and_what_it_loses_is_said(node):
    node.run("ip", "link", "add", "nbr0", "type", "bridge")
    done = node.ok(jumbo(vn_mad="dummy"))
    assert not done["changed"] and mtus(node, "nbr0") == [1500]
    said = str(done["warnings"])
    assert "network Public" in said and "nbr0 (1500)" in said and "guest_mtu 1500 or less" in said
    node.run("ip", "link", "set", "nbr0", "mtu", str(JUMBO))
    assert "MTU" not in str(node.ok(jumbo(vn_mad="dummy")).get("warnings"))


def test_it_comes_back_when_the_host_boots(node, files):
    node.ok(jumbo())
    files.keep()
    files.lose_everything()
    assert files.boot().returncode == 0
    assert mtus(node, "nbr0") == [JUMBO]
    assert not node.ok(jumbo())["changed"]
