# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node gets of networks: the real module with the real `ip` and `nft`, in network namespaces made here.

node has an uplink to world; machine hangs on node's bridge as a virtual machine would. No packet leaves them."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.tests.integration.node_namespaces import (
    CATALOG,
    OTHER_CATALOG,
    TABLE,
    heard,
    network,
    wire,
)

pytestmark = pytest.mark.root


def elsewhere(**values):
    addresses = {"NETWORK_ADDRESS": "10.67.0.0", "NETWORK_MASK": "255.255.0.0", "GATEWAY": "10.67.0.1"}
    return network(
        **{"name": "Other", "number": 2, "bridge": "nbr1", "attributes": addresses, "address_ranges": [], **values}
    )


PRIVATE, WITH_NAT = network(), network(nat=True)
WITH_GATEWAY = network(attributes={**PRIVATE["attributes"], "GATEWAY_ON_BRIDGE": "YES"})


@pytest.fixture
def machine(namespaces, node):
    """attach() puts it on the node's bridge."""
    made = namespaces()

    def attach():
        wire(node, "vnet0", made, "eth0")
        node.run("ip", "link", "set", "vnet0", "master", "nbr0")
        made.run("ip", "address", "add", "10.66.0.10/24", "dev", "eth0")
        made.run("ip", "route", "add", "default", "via", "10.66.0.1")

    made.attach = attach
    return made


# What a machine tries: each address in turn, by TCP.
SERVE = """
import socket
servers = [socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)]
print("listening", flush=True)
while True:
    servers[0].accept()[0].close()
"""
TRY = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(address):
    host, port = address.rsplit("/", 1)
    try:
        socket.create_connection((host, int(port)), timeout=0.8).close()
    except OSError:
        return ""
    return address

print(*ThreadPoolExecutor().map(reached, sys.argv[1:]))
"""
# Says whose datagram came first.
HEAR = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("", 8000))
    print("listening", flush=True)
    print(server.recv(64).decode(), flush=True)
"""
SAY = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
    speaker.sendto(sys.argv[2].encode(), (sys.argv[1], 8000))
"""
PING = """
import socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as pinger:
    pinger.settimeout(0.8)
    for address in sys.argv[1:]:
        head = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
        low, high = sum(struct.unpack("!4H", head)) & 0xFFFF, sum(struct.unpack("!4H", head)) >> 16
        pinger.sendto(struct.pack("!BBHHH", 8, 0, ~(low + high) & 0xFFFF, 7, 1), (address, 0))
        try:
            while pinger.recv(1024)[20] != 0:
                pass
            print(address)
        except TimeoutError:
            pass
"""
# A machine that says that it is a router of 2001:db8:bad::/64, again and again, on each of its interfaces: as routers
# do, and in frames that a bridge does not forward, but hands to its host.
ADVERTISE = """
import itertools, socket, struct, sys, time
head = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + bytes.fromhex("20010db80bad" + "00" * 10)
source, everybody = (socket.inet_pton(socket.AF_INET6, text) for text in ("fe80::bad", "ff02::1"))
pseudo = source + everybody + struct.pack("!II", len(head + prefix), 58)
total = sum(struct.unpack("!%dH" % (len(pseudo + head + prefix) // 2), pseudo + head + prefix))
checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
packet = struct.pack("!IHBB", 0x60000000, len(head + prefix), 58, 255) + source + everybody
packet += head[:2] + struct.pack("!H", checksum) + head[4:] + prefix
router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
print("begun", flush=True)
for name in itertools.cycle(sys.argv[1:]):
    router.sendto(head + prefix, ("ff02::1", 0, 0, socket.if_nametoindex(name)))
    for kept in range(16):
        frame = bytes.fromhex("0180c20000%02x" % kept + "020000000bad" + "86dd") + packet
        frames.sendto(frame, (name, 0x86DD))
    time.sleep(0.05)
"""


@contextlib.contextmanager
def at_work(namespace, code, *arguments):
    process = subprocess.Popen(
        namespace.command(sys.executable, "-c", code, *arguments), stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def reached(speaker, *addresses):
    """Those of these addresses, each with its port, that take a connection."""
    return speaker.python(TRY, *addresses).split()


# -- bridges


@pytest.mark.parametrize(
    ("wanted", "address", "forwarding"),
    [(PRIVATE, [], "0"), (WITH_GATEWAY, ["10.66.0.1/24"], "0"), (WITH_NAT, ["10.66.0.1/24"], "1")],
)
def test_made_again_absent_and_absent_again_as_predicted(node, wanted, address, forwarding):
    bare = node.snapshot()
    for state, changes in (("present", True), ("present", False), ("absent", True), ("absent", False)):
        before = node.snapshot()
        predicted = node.ok(wanted, state=state, check=True)
        assert node.snapshot() == before
        real = node.ok(wanted, state=state)
        assert (predicted["changed"], real["changed"]) == (changes, changes)
        assert (predicted["diff"], predicted["links"]) == (real["diff"], real["links"])
        if state == "present":
            link = node.link("nbr0")
            assert link["ifalias"].startswith(f"nebula:{CATALOG}:{wanted['uuid']}")
            assert "UP" in link["flags"]
            bridge = link["linkinfo"]["info_data"]
            assert (bridge["stp_state"], bridge["forward_delay"]) == (0, 0)
            assert node.addresses("nbr0") == address
            assert node.forwarding() == forwarding
            assert real["links"][0]["address"] == "".join(address)
            assert real["links"][0]["created"] is changes
    assert node.snapshot() == bare


def test_the_bridge_keeps_its_mac_when_ports_come(node):
    node.ok(PRIVATE)
    mac = node.link("nbr0")["address"]
    node.port()
    node.run("ip", "link", "set", "vnet0", "address", "02:00:00:00:00:01")
    assert node.link("nbr0")["address"] == mac
    assert not node.ok(PRIVATE)["changed"]


@pytest.mark.parametrize("kind", [["bridge"], ["veth", "peer", "name", "other"]])
def test_an_interface_of_others_is_left_alone(node, kind):
    node.run("ip", "link", "add", "nbr0", "type", *kind)
    said = node.refused(WITH_NAT)
    assert "network Public: bridge nbr0" in said
    assert f"a {kind[0]} interface of that name that this collection did not make" in said
    assert "vn_mad: dummy" in said
    assert not node.ok(WITH_NAT, state="absent")["changed"]


def test_a_bridge_of_another_catalog_is_left_alone(node):
    node.ok(PRIVATE, catalog=OTHER_CATALOG)
    said = node.refused(PRIVATE)
    assert f"mark of catalog {OTHER_CATALOG}, and this is catalog {CATALOG}" in said
    assert not node.ok(state="absent")["changed"]
    assert not node.ok(PRIVATE, state="absent")["changed"]
    assert node.link("nbr0")


def test_two_networks_on_one_bridge(node):
    node.ok(PRIVATE)
    said = node.refused(elsewhere(bridge="nbr0"))
    assert "network Other: bridge nbr0" in said
    assert PRIVATE["uuid"] in said


def test_the_others_go_on_when_one_cannot_be(node):
    node.run("ip", "link", "add", "nbr0", "type", "bridge")
    result = node.module(PRIVATE, elsewhere())
    assert result["failed"]
    assert result["changed"]
    assert [error["name"] for error in result["errors"]] == ["Public: nbr0"]
    assert result["refused"] == ["Public"]
    assert node.link("nbr1")["ifalias"]
    assert node.module(PRIVATE, elsewhere(), check=True)["refused"] == ["Public"]


@pytest.mark.parametrize("wanted", [PRIVATE, WITH_NAT])
def test_of_a_network_that_can_be_made_by_half_only_nothing_stays(node, tmp_path, wanted):
    """The bridge is there when nft refuses what keeps its machines from the node."""
    real = Path(shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")).resolve()
    copy, broken = tmp_path / "nft", tmp_path / "broken"
    shutil.copy(real, copy)
    broken.write_text(f'#!/bin/sh\ncase "$*" in *-f*) echo "no room" >&2; exit 1;; esac\nexec {copy} "$@"\n')
    broken.chmod(0o755)
    bare = node.snapshot()
    result = node.module(wanted, instead={real: broken})
    assert result["failed"] and result["refused"] == ["Public"]
    assert "no room" in result["msg"]
    assert node.snapshot() == bare
    node.ok(wanted)


def test_what_was_broken_is_mended(node):
    node.ok(WITH_GATEWAY)
    for broken in (
        ["ip", "link", "set", "nbr0", "down"],
        ["ip", "address", "flush", "dev", "nbr0"],
        ["ip", "link", "set", "nbr0", "type", "bridge", "stp_state", "1"],
        ["ip", "link", "set", "nbr0", "type", "bridge", "forward_delay", "1500"],
    ):
        node.run(*broken)
        assert node.ok(WITH_GATEWAY, check=True)["changed"], broken
        assert node.ok(WITH_GATEWAY)["changed"], broken
        assert not node.ok(WITH_GATEWAY)["changed"], broken
        assert node.addresses("nbr0") == ["10.66.0.1/24"]


def test_another_gateway_takes_ours_away_and_no_other_address(node):
    node.ok(WITH_GATEWAY)
    node.run("ip", "address", "add", "198.51.100.1/24", "dev", "nbr0")
    attributes = {**WITH_GATEWAY["attributes"], "GATEWAY": "10.66.0.254"}
    assert node.ok(network(attributes=attributes))["changed"]
    assert sorted(node.addresses("nbr0")) == ["10.66.0.254/24", "198.51.100.1/24"]
    assert node.ok(PRIVATE)["changed"]
    assert node.addresses("nbr0") == ["198.51.100.1/24"]


def test_another_bridge_for_a_network(node):
    node.ok(PRIVATE)
    renamed = network(bridge="nbr9")
    node.port()
    assert "attached to nbr0 are vnet0" in node.refused(renamed)
    node.run("ip", "link", "delete", "vnet0")
    assert node.ok(renamed)["changed"]
    assert not node.link("nbr0")
    assert node.link("nbr9")


def test_a_bridge_with_ports_stays(node):
    node.ok(WITH_NAT)
    node.port()
    assert "remove bridge nbr0: attached to nbr0 are vnet0" in node.refused(WITH_NAT, state="absent")
    assert "vnet0" in node.refused(state="absent")
    node.run("ip", "link", "delete", "vnet0")
    assert node.ok(state="absent")["links"][0]["removed"]


def test_a_driver_that_makes_no_bridge(node):
    office = network(vn_mad="dummy", bridge="br0")
    result = node.ok(office)
    assert not result["changed"]
    assert "there is no bridge br0 on this host" in str(result["warnings"])
    node.run("ip", "link", "add", "br0", "type", "bridge")
    before = node.snapshot()
    result = node.ok(office)
    assert not result["changed"] and node.snapshot() == before
    told = str(result["warnings"])
    assert "network Public: bridge br0 is this host's own and is left as it is" in told
    for command in re.findall(r"sysctl -w [^ '\"\\]+", told):
        node.run(*command.split())
    assert "warnings" not in node.ok(office)


# -- what machines do to the node


@pytest.mark.parametrize("wanted", [PRIVATE, WITH_GATEWAY, WITH_NAT], ids=["plain", "gateway", "nat"])
def test_a_machine_that_says_it_is_a_router_is_not_believed(node, machine, wanted):
    """Beside a bridge with the kernel's defaults, of which the same packets make the node a member."""
    node.ok(wanted)
    machine.attach()
    node.run("ip", "link", "add", "open0", "type", "bridge")
    node.run("ip", "link", "set", "open0", "up")
    wire(node, "vnet1", machine, "eth1")
    node.run("ip", "link", "set", "vnet1", "master", "open0")
    for name in ("eth0", "eth1"):
        machine.run("ip", "address", "add", "fe80::bad/64", "dev", name, "nodad")
    until = time.monotonic() + 20
    with at_work(machine, ADVERTISE, "eth0", "eth1"):
        while "2001:db8:bad:" not in node.run("ip", "-6", "address", "show", "dev", "open0"):
            assert time.monotonic() < until, "the advertisements reach nobody"
    assert "default" in node.run("ip", "-6", "route", "show", "dev", "open0")
    assert node.run("ip", "-6", "address", "show", "dev", "nbr0") == ""
    assert "nbr0" not in node.run("ip", "-6", "route", "show", "table", "all")
    # Nor by the machine's own interface on the bridge.
    assert "2001:db8:bad:" not in node.run("ip", "-6", "address", "show", "dev", "vnet0")


def eui64(mac):
    parts = [int(part, 16) for part in mac.split(":")]
    parts = [parts[0] ^ 2, *parts[1:3], 0xFF, 0xFE, *parts[3:]]
    return "fe80::" + ":".join(f"{parts[n] << 8 | parts[n + 1]:x}" for n in range(0, 8, 2))


def test_a_machine_on_a_bridge_without_the_gateway_reaches_nothing_of_the_node(node, world, machine):
    """Neither with its link-local address, nor with ARP entries of its own for the node's other addresses."""
    node.ok(PRIVATE)
    node.forwarding(1)
    machine.attach()
    mac = node.link("nbr0")["address"]
    machine.run("ip", "route", "del", "default")
    for address in ("192.0.2.1", "192.0.2.2"):
        machine.run("ip", "neigh", "add", address, "lladdr", mac, "dev", "eth0")
        machine.run("ip", "route", "add", address, "dev", "eth0")
    for there, address in ((node, "192.0.2.1"), (world, "192.0.2.2")):
        with at_work(there, HEAR) as process:
            machine.python(SAY, address, "machine")
            node.python(SAY, address, "node")
            assert process.stdout.readline() == "node\n"
    with at_work(node, SERVE):
        assert reached(node, "192.0.2.1/8000") == ["192.0.2.1/8000"]
        assert reached(machine, f"{eui64(mac)}%eth0/8000") == []
    # Nor does the node answer who asks for them.
    machine.run("ip", "neigh", "del", "192.0.2.1", "dev", "eth0")
    assert reached(machine, "192.0.2.1/8000") == []
    assert mac not in machine.run("ip", "neigh", "show", "192.0.2.1")


@pytest.mark.parametrize(
    ("access", "ports", "pings"),
    [
        ("all", [8000, 8080], ["10.66.0.1", "192.0.2.1"]),
        ("none", [], ["10.66.0.1"]),
        ("icmp tcp/7990-8005", [8000], ["10.66.0.1", "192.0.2.1"]),
        ("tcp/22 tcp/8080 udp/8000", [8080], ["10.66.0.1"]),
    ],
)
def test_what_a_machine_reaches_on_its_node_is_what_its_network_says(node, world, machine, access, ports, pings):
    wanted = network(nat="icmp" in access, attributes={**WITH_GATEWAY["attributes"], "NODE_ACCESS": access})
    node.ok(wanted)
    assert not node.ok(wanted)["changed"]
    machine.attach()
    node.forwarding(1)
    # One that is translated to a host beyond, as Docker does for its containers.
    node.run("nft", "add table ip pub; add chain ip pub pre { type nat hook prerouting priority dstnat; }")
    node.run("nft", "add rule ip pub pre ip daddr 192.0.2.1 tcp dport 8080 dnat to 192.0.2.2:8000")
    with at_work(node, SERVE), at_work(world, SERVE):
        asked = ["10.66.0.1/8000", "192.0.2.1/8000", "192.0.2.1/8080"]
        expected = [each for each in asked if int(each.rpartition("/")[2]) in ports]
        assert reached(machine, *asked) == expected
    assert machine.python(PING, "10.66.0.1", "192.0.2.1").split() == pings
    # What the node begins is answered.
    assert heard(machine, "10.66.0.10", node, "10.66.0.10") == "10.66.0.1"


@pytest.mark.parametrize(
    "wanted", [PRIVATE, network(nat=True, attributes={**PRIVATE["attributes"], "NODE_ACCESS": "none"})]
)
def test_frames_that_a_bridge_keeps_for_itself_bring_nothing_to_the_node(node, world, machine, wanted):
    """Those to 01:80:c2:00:00:0x are not bridged: the kernel takes them by the interface that they came in by."""
    node.ok(wanted)
    machine.attach()
    node.run("ip", "route", "replace", "10.66.0.0/24", "dev", "nbr0")
    for address in ("10.66.0.1", "192.0.2.1"):
        machine.run("ip", "neigh", "replace", address, "lladdr", "01:80:c2:00:00:0e", "dev", "eth0")
    machine.run("ip", "route", "add", "192.0.2.1", "dev", "eth0")
    with at_work(node, HEAR) as process:
        machine.python(SAY, "192.0.2.1", "machine")
        node.python(SAY, "192.0.2.1", "node")
        assert process.stdout.readline() == "node\n"
    with at_work(node, SERVE):
        assert reached(machine, "192.0.2.1/8000", "10.66.0.1/8000") == []


@pytest.mark.parametrize("nat", [True, False])
def test_link_local_addresses_beyond_the_node_and_on_it_are_not_for_machines(node, world, machine, nat):
    node.ok(network(nat=nat, attributes={**WITH_GATEWAY["attributes"], "NODE_ACCESS": "all"}))
    node.forwarding(1)
    machine.attach()
    world.run("ip", "address", "add", "169.254.169.254/32", "dev", "eth0")
    node.run("ip", "route", "add", "169.254.169.254", "via", "192.0.2.2")
    node.run("ip", "address", "add", "169.254.1.1/32", "dev", "lo")
    with at_work(node, SERVE), at_work(world, SERVE):
        assert len(reached(node, "169.254.169.254/8000", "169.254.1.1/8000")) == 2
        asked = ["192.0.2.2/8000", "169.254.169.254/8000", "169.254.1.1/8000"]
        assert reached(machine, *asked) == asked[:1]


def test_as_many_ports_as_may_be_said_are_taken(node):
    spans = " ".join(f"{protocol}/{port}-{port + 1}" for protocol in ("tcp", "udp") for port in range(1, 150, 3))
    wanted = network(nat=True, attributes={**PRIVATE["attributes"], "NODE_ACCESS": spans})
    assert node.ok(wanted)["changed"]
    assert not node.ok(wanted)["changed"]


def test_a_bridge_that_is_older_than_this_is_mended_once(node):
    for wanted in (WITH_NAT, PRIVATE):
        node.ok(wanted)
        before = node.run("nft", "list", "ruleset")
        for name, value in (("ipv6/conf/nbr0/disable_ipv6", 0), ("ipv6/conf/nbr0/accept_ra", 1)):
            node.run("sh", "-c", f"echo {value} > /proc/sys/net/{name}")
        node.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/nbr0/arp_ignore")
        node.run("nft", "flush", "chain", "inet", TABLE, "input")
        node.run("nft", "delete", "chain", "inet", TABLE, "input")
        predicted = node.ok(wanted, check=True)
        result = node.ok(wanted)
        assert (predicted["changed"], predicted["diff"]) == (True, result["diff"])
        assert "net.ipv6.conf.nbr0.accept_ra" in str(result["diff"])
        assert not node.ok(wanted)["changed"]
        assert sorted(node.run("nft", "list", "ruleset").splitlines()) == sorted(before.splitlines())


# -- what is left over


def test_networks_that_are_done_and_forgotten_ones_go(node):
    known = [elsewhere()["uuid"]]
    node.ok(WITH_NAT, elsewhere(nat=True))
    assert not node.ok(elsewhere(nat=True))["changed"]
    result = node.ok(elsewhere(nat=True), known=known)
    assert [(link["bridge"], link["removed"]) for link in result["links"]] == [("nbr1", False), ("nbr0", True)]
    assert not node.link("nbr0")
    assert node.forwarding() == "1"
    done = {**elsewhere(), "state": "DONE"}
    assert node.ok(done, known=[])["changed"]
    assert not node.link("nbr1")
    assert node.run("nft", "list", "ruleset") == ""
    assert node.forwarding() == "0"


def test_a_forgotten_bridge_with_ports_only_warns(node):
    node.ok(PRIVATE)
    node.port()
    result = node.ok(elsewhere(), known=[elsewhere()["uuid"]])
    assert "left over" in str(result["warnings"])
    assert "vnet0" in str(result["warnings"])
    assert node.link("nbr0")


def test_a_network_made_anew_takes_its_forgotten_bridge_over(node):
    node.ok(WITH_NAT)
    node.port()
    anew = network(number=7, nat=True)
    assert PRIVATE["uuid"] in node.refused(anew)
    assert node.ok(anew, known=[anew["uuid"]])["changed"]
    assert anew["uuid"] in node.link("nbr0")["ifalias"]
    assert not node.ok(anew, known=[anew["uuid"]])["changed"]


# -- routes


@pytest.mark.parametrize("route", ["10.66.0.0/24", "10.66.0.128/25", "10.0.0.0/8", "10.66.0.77"])
def test_a_route_that_overlaps(node, world, route):
    node.run("ip", "route", "add", route, "via", "192.0.2.2")
    for wanted in (PRIVATE, WITH_NAT):
        said = node.refused(wanted)
        assert "network Public: 10.66.0.0/24" in said
        assert f"{route}{'' if '/' in route else '/32'} via 192.0.2.2 on device uplink" in said


def test_a_blackhole_overlaps_too(node):
    node.run("ip", "route", "add", "blackhole", "10.66.0.0/16")
    assert "10.66.0.0/16 without a device" in node.refused(PRIVATE)


def test_addresses_of_ranges_count_where_the_network_has_none(node, world):
    node.run("ip", "route", "add", "10.66.0.100/30", "via", "192.0.2.2")
    assert "10.66.0.100/30" in node.refused(network(attributes={}))


def test_routes_that_do_not_overlap(node, world):
    node.run("ip", "route", "add", "default", "via", "192.0.2.2")
    for half in ("0.0.0.0/1", "128.0.0.0/1", "10.66.1.0/24"):
        node.run("ip", "route", "add", half, "via", "192.0.2.2")
    node.ok(WITH_NAT)
    # It is there: a route that comes later is no reason to fail the next run.
    node.run("ip", "route", "add", "10.66.0.128/25", "via", "192.0.2.2")
    assert not node.ok(WITH_NAT)["changed"]


OVERLAPS = {
    "another table": (["route", "add", "10.66.0.0/25", "dev", "uplink", "table", "100"], "in table 100"),
    "a local address": (["address", "add", "10.66.0.77/32", "dev", "lo"], "10.66.0.77/32 on device lo"),
    "an address elsewhere": (["address", "add", "10.66.0.9/24", "dev", "uplink"], "10.66.0.0/24 on device uplink"),
    "unreachable": (["route", "add", "unreachable", "10.66.0.0/30"], "10.66.0.0/30 without a device"),
    "a tunnel": (["route", "add", "10.66.0.0/16", "dev", "tun9"], "10.66.0.0/16 on device tun9"),
    "IPv6": (["-6", "route", "add", "2001:db8:66::/48", "dev", "uplink"], "2001:db8:66::/48 on device uplink"),
    "IPv6, one address": (["address", "add", "fd00:66::5/128", "dev", "lo", "nodad"], "fd00:66::5/128 on device lo"),
}


@pytest.mark.parametrize("name", sorted(OVERLAPS))
def test_overlaps_wherever_they_are(node, world, name):
    command, told = OVERLAPS[name]
    node.run("ip", "tuntap", "add", "dev", "tun9", "mode", "tun")
    node.run("ip", "link", "set", "tun9", "up")
    node.run("ip", *command)
    prefixes = {"type": "IP4_6", "global_prefix": "2001:db8:66:1::", "ula_prefix": "fd00:66::"}
    wanted = network(address_ranges=[{**PRIVATE["address_ranges"][0], **prefixes}])
    said = node.refused(wanted)
    assert "network Public: " in said and told in said
    assert node.link("nbr0") is None


def test_a_route_of_every_link_is_no_overlap(node, world):
    for routed in ("default dev uplink", "fd77::/64 dev lo", "throw 2001:db8:66::/48 table 9"):
        node.run("ip", "-6", "route", "add", *routed.split())
    prefixes = {"type": "IP4_6", "global_prefix": "2001:db8:66:1::", "ula_prefix": "fd00:66::"}
    wanted = network(address_ranges=[{**PRIVATE["address_ranges"][0], **prefixes}])
    assert node.ok(wanted)["changed"]
    assert not node.ok(wanted)["changed"]


def test_networks_of_one_list_that_overlap(node):
    second = elsewhere(attributes=PRIVATE["attributes"])
    predicted = node.module(WITH_GATEWAY, second, check=True)
    real = node.module(WITH_GATEWAY, second)
    assert predicted["msg"] == real["msg"]
    assert "the host has the route 10.66.0.0/24 on device nbr0" in real["msg"]
    assert not node.link("nbr1")


# -- NAT


def test_what_nat_lets_through(node, world, machine):
    """The same packets before and after, so that what does not come is kept out by our rules and nothing else."""
    node.forwarding(1)
    node.ok(WITH_GATEWAY)
    machine.attach()
    machine.run("ip", "address", "add", "10.99.0.1/32", "dev", "eth0")
    for namespace, through in ((world, "192.0.2.1"), (node, "10.66.0.10")):
        namespace.run("ip", "route", "add", "10.99.0.1", "via", through)
    assert heard(world, "192.0.2.2", machine, "192.0.2.2") == "10.66.0.10"
    assert heard(machine, "10.66.0.10", world, "10.66.0.10") == "192.0.2.2"
    assert heard(world, "192.0.2.2", machine, "192.0.2.2", "10.99.0.1") == "10.99.0.1"

    assert node.ok(WITH_NAT)["changed"]
    assert heard(world, "192.0.2.2", machine, "192.0.2.2") == "192.0.2.1"
    assert heard(machine, "10.66.0.10", world, "10.66.0.10") == "nobody"
    assert heard(world, "192.0.2.2", machine, "192.0.2.2", "10.99.0.1") == "nobody"
    # Between node and machine, both ways, with their own addresses.
    assert heard(machine, "10.66.0.10", node, "10.66.0.10") == "10.66.0.1"
    assert heard(node, "10.66.0.1", machine, "10.66.0.1") == "10.66.0.10"

    node.ok(WITH_GATEWAY)
    assert heard(world, "192.0.2.2", machine, "192.0.2.2") == "10.66.0.10"
    assert node.forwarding() == "1"


def test_nat_alone_is_enough(node, world, machine):
    node.ok(WITH_NAT)
    machine.attach()
    assert heard(world, "192.0.2.2", machine, "192.0.2.2") == "192.0.2.1"


def test_nothing_of_others_is_touched(node):
    node.run("nft", "add table inet filter; add chain inet filter forward { type filter hook forward priority 0; }")
    theirs = node.run("nft", "list", "ruleset")
    node.ok(WITH_NAT)
    assert theirs in node.run("nft", "list", "ruleset")
    node.ok(state="absent")
    assert node.run("nft", "list", "ruleset") == theirs


def test_a_table_of_our_name_without_our_mark(node):
    node.run("nft", f"add table inet {TABLE}")
    said = node.refused(WITH_NAT)
    assert f"table inet {TABLE}" in said
    assert "without this catalog's mark" in said


def test_forwarding_goes_back_with_the_last_network(node):
    node.ok(WITH_NAT, elsewhere(nat=True))
    node.ok(WITH_NAT, state="absent")
    assert node.forwarding() == "1"
    assert "10.67.0.0/16" in node.run("nft", "list", "table", "inet", TABLE)
    assert "10.66.0.0/24" not in node.run("nft", "list", "table", "inet", TABLE)
    node.ok(elsewhere())
    assert node.forwarding() == "0"
    assert "masquerade" not in node.run("nft", "list", "ruleset")
    node.ok(state="absent")
    assert node.run("nft", "list", "ruleset") == ""


@pytest.mark.parametrize("found", ["0", "1"])
def test_forwarding_goes_back_to_what_it_was(node, found):
    node.forwarding(found)
    node.ok(WITH_NAT)
    node.ok(WITH_NAT, elsewhere(nat=True))
    node.ok(state="absent")
    assert node.forwarding() == found


def test_rules_and_forwarding_that_were_taken_away_come_back(node):
    node.ok(WITH_NAT)
    right = node.run("nft", "list", "ruleset")
    for broken in (
        ["nft", "flush", "ruleset"],
        ["nft", "flush", "chain", "inet", TABLE, "postrouting"],
        ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"],
    ):
        node.run(*broken)
        assert node.ok(WITH_NAT, check=True)["changed"], broken
        assert node.ok(WITH_NAT)["changed"], broken
        assert not node.ok(WITH_NAT)["changed"], broken
        assert node.forwarding() == "1"
    assert sorted(right.splitlines())[-20:] == sorted(node.run("nft", "list", "ruleset").splitlines())[-20:]


def test_other_addresses_replace_the_rules(node):
    node.ok(WITH_NAT)
    node.ok(elsewhere(number=1, bridge="nbr0", nat=True))
    rules = node.run("nft", "list", "table", "inet", TABLE)
    assert "10.66.0.0/24" not in rules
    assert rules.count("masquerade") == 1
    assert node.addresses("nbr0") == ["10.67.0.1/16"]


# -- programs that are missing


def test_a_bare_host(node):
    both = {"hidden": ["/usr/bin/ip", "/usr/sbin/nft"]}
    predicted = node.ok(WITH_NAT, check=True, **both)
    assert predicted["changed"]
    assert "program ip" in str(predicted["warnings"])
    assert "program nft" in str(predicted["warnings"])
    real = node.module(WITH_NAT, **both)
    assert "Install the package iproute2" in real["msg"]


def test_nft_is_needed_for_every_bridge_of_ours(node):
    hidden = {"hidden": ["/usr/sbin/nft"]}
    before = node.snapshot()
    for wanted in (PRIVATE, WITH_NAT):
        result = node.module(wanted, **hidden)
        assert (
            "Install the package nftables (role nebula.provision.node does): network Public needs it" in result["msg"]
        )
        assert node.snapshot() == before
    assert not node.ok(network(vn_mad="dummy"), **hidden)["changed"]
    assert not node.ok(state="absent", **hidden)["changed"]


def test_marks_are_never_commands(node):
    for wanted in (network(uuid="x dev lo"), network(bridge="nbr0\nlink delete lo")):
        assert "network Public" in node.refused(wanted)
    assert "catalog" in node.refused(PRIVATE, catalog="x\ny")
