# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts as they are installed, with a wire between them: a tenant's network of OVN, which the kernel carries by
geneve, and a link network by VXLAN. Each host has a container in both. What one announces as a router on OVN, the other
does not hear."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from emulated_host import linked
from stock_host import FullStockHost

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.stock_site import StockSite

# Of the hosts on their wire, and of the containers by NIC.
UNDERLAY = ("10.78.0.1", "10.78.0.2")
OVN, VXLAN = ("192.168.0.10", "192.168.0.11"), ("10.66.0.10", "10.66.0.11")
# What geneve leaves of the wire's 1500.
MTU = 1442
WIRE = """[Match]
Name=eth1
[Link]
MACAddress=52:54:00:78:00:0{number}
[Network]
Address={address}/24
LinkLocalAddressing=no
"""
NETWORKS = [
    {
        "name": "Tenant",
        "vn_mad": "ovn",
        "network_address": "192.168.0.0/24",
        "guest_mtu": MTU,
        "dhcp": True,
        "address_ranges": [{"type": "IP4_6", "ip": OVN[0], "global_prefix": "2001:db8:0:7::", "size": 8}],
    },
    {
        "name": "Overlay",
        "vn_mad": "vxlan",
        "phydev": "eth1",
        "vlan_id": 7,
        "bridge": "nbr0",
        "network_address": "10.66.0.0",
        "network_mask": "255.255.255.0",
        "address_ranges": [{"type": "IP4", "ip": VXLAN[0], "size": 8}],
    },
]
TEMPLATE = """
CPU = 0.1
MEMORY = 64
DISK = [ IMAGE = "demo" ]
NIC = [ NETWORK = "Tenant" ]
NIC = [ NETWORK = "Overlay" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""
# Pings of packets of this size, which nobody may take apart: how many were answered, and of the last one that was not,
# why.
PING = """
import socket, struct, sys
address, size, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
client.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
client.settimeout(3)
answered, wrong = 0, ""
for number in range(times):
    # Its checksum: all the rest is zero.
    request = struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800 - number, 0, number) + bytes(size - 28)
    try:
        client.sendto(request, (address, 0))
        answer = client.recv(65536)
        while (answer[20], answer[26:28], len(answer)) != (0, request[6:8], size):
            answer = client.recv(65536)
        answered += 1
    except OSError as error:
        wrong = str(error)
print(answered, wrong)
"""
# What a router announces, and a question to everybody beside it, five times.
ANNOUNCE = """
import socket, struct
client = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
for number in range(5):
    client.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0))
    client.sendto(struct.pack("!BBHHH", 128, 0, 0, 7, number), ("ff02::1", 0))
"""
# What of it comes to a container.
HEARD = """
add table ip6 heard
delete table ip6 heard
table ip6 heard {
    chain input {
        type filter hook input priority 0
        icmpv6 type nd-router-advert counter comment "announced"
        icmpv6 type echo-request counter comment "asked"
    }
}
"""
# In the network of a container, as its host sees that.
INSIDE = 'exec nsenter --net --target "$(pgrep --parent "$(cat "/run/libvirt/lxc/one-$0.pid")")" -- "$@"'
# What comes by the wire, before anything takes it apart.
COUNT = """
table netdev seen {
    chain arriving {
        type filter hook ingress device eth1 priority 0
        ip saddr OTHER udp dport 6081 counter comment "geneve"
        ip saddr OTHER udp dport { 4789, 8472 } counter comment "vxlan"
    }
}
"""

pytestmark = [pytest.mark.root, pytest.mark.timeout(5400)]


class Tunnels(StockSite):
    """Machine 0 is on the first host, which is the front-end and OVN's central host, machine 1 on the second one."""

    seconds = 2700

    def __init__(self, hosts: Sequence[FullStockHost], place: Path, **variables: Any) -> None:
        super().__init__(hosts[0], place, **variables)
        self.hosts = hosts

    def inventory(self, **changes: Any) -> Path:
        nodes = {}
        for number, (host, address) in enumerate(zip(self.hosts, UNDERLAY), 1):
            reached = {"nebula_transfer_address": address, "nebula_transfer_port": 22, "nebula_ovn_address": address}
            nodes[f"node{number}"] = {**host.inventory(), **reached, **self.variables, **changes}
        inventory = self.directory / "hosts.yml"
        groups = {"nebula_frontend": {"hosts": {"node1": {}}}, "nebula_nodes": {"hosts": nodes}}
        inventory.write_text(json.dumps(groups))
        return inventory

    def on(self, number: int, *argv: str) -> str:
        """What a command on that host prints, whatever its code."""
        return self.hosts[number].sudo(argv, check=False).stdout.strip()

    def inside(self, number: int, *argv: str) -> str:
        """What a command of its host prints in the network of that container."""
        return self.on(number, "sh", "-c", INSIDE, str(number), *argv)

    def pings(self, number: int, addresses: Sequence[str], size: int = 100, times: int = 1) -> str:
        """How many pings of that container are answered by the other one's of these addresses, and why others were
        not."""
        return self.inside(number, "python3", "-c", PING, addresses[1 - number], str(size), str(times))

    def all_reach(self, seconds: float) -> None:
        for addresses in (OVN, VXLAN):
            for number in (0, 1):
                what = f"{addresses[1 - number]} from {addresses[number]}"
                wait_for(lambda number=number, these=addresses: self.pings(number, these) == "1", what, seconds)

    def arrived(self, number: int, what: str) -> int:
        """How many packets of that tunnel have come to that host by the wire."""
        return counted(self.on(number, "nft", "--json", "list", "table", "netdev", "seen"), what)

    def hears_of_router(self, number: int) -> int:
        """How often that container hears what the other one announces as a router."""
        self.inside(number, "nft", HEARD)
        listed = ("nft", "--json", "list", "table", "ip6", "heard")
        self.inside(1 - number, "python3", "-c", ANNOUNCE)
        wait_for(lambda: counted(self.inside(number, *listed), "asked") == 5, "what is sent beside it", 60)
        return counted(self.inside(number, *listed), "announced")

    def state(self, number: int) -> dict[str, str]:
        """What a teardown has to leave as it was."""
        return {
            # ovn-controller makes a bridge when its package is installed, which goes with the rest.
            "links": " ".join(sorted({*self.on(number, "ls", "/sys/class/net").split()} - {"br-int", "ovs-system"})),
            "ovs": self.on(number, "ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids"),
            "nft": self.on(number, "nft", "list", "ruleset"),
            "files": self.on(number, "find", "/etc", "/var/lib", "-name", "*nebula*"),
            "users": self.on(number, "cat", "/etc/passwd"),
        }


def counted(listed: str, what: str) -> int:
    """The packets of the rule with that comment."""
    rule = next(each["rule"] for each in json.loads(listed)["nftables"] if each.get("rule", {}).get("comment") == what)
    return int(next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnels]:
    place = tmp_path_factory.mktemp("stock")
    image = place / "demo.tar"
    image.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
    with linked(FullStockHost, place) as hosts:
        for number, (host, address) in enumerate(zip(hosts, UNDERLAY), 1):
            identify(host, number, address)
        yield Tunnels(
            hosts,
            place,
            nebula_hypervisor="lxc",
            nebula_ovn=True,
            nebula_images=[{"name": "demo", "path": str(image), "format": "tar"}],
            nebula_networks=NETWORKS,
            nebula_templates=[{"name": "web", "template": TEMPLATE}],
            nebula_vms=[{"name": f"web-{number}", "template": "web", "host": f"node{number + 1}"} for number in (0, 1)],
        )


def identify(host: FullStockHost, number: int, address: str) -> None:
    """Each goes on from the memory of one and the same host."""
    host.sudo(["tee", "/etc/systemd/network/eth1.network"], stdin=WIRE.format(number=number, address=address))
    commands = (
        f"hostnamectl set-hostname stock-{number}",
        # As a boot does.
        f"ovs-vsctl set Open_vSwitch . external_ids:hostname=stock-{number}",
        f"echo 127.0.1.1 stock-{number} >> /etc/hosts",
        "rm -f /etc/machine-id && systemd-machine-id-setup",
        "networkctl reload",
        "networkctl reconfigure eth1",
    )
    host.sudo(["sh", "-ec", "\n".join(commands)])


def count(site: Tunnels) -> None:
    for number, host in enumerate(site.hosts):
        host.sudo(["nft", "-f", "-"], stdin=COUNT.replace("OTHER", UNDERLAY[1 - number]))


@pytest.fixture(scope="module")
def before(site: Tunnels) -> list[dict[str, str]]:
    return [site.state(number) for number in (0, 1)]


def test_two_hosts_share_networks_by_tunnels_of_the_kernel(site: Tunnels, before: list[dict[str, str]]) -> None:
    assert [each["links"] for each in before] == ["eth0 eth1 lo"] * 2
    site.done("site.yml")
    again = site.done("site.yml")
    assert changed_tasks(again) == [], again
    site.all_reach(120)
    for number in (0, 1):
        tunnel = json.loads(site.on(number, "ip", "-json", "-details", "link", "show", "genev_sys_6081"))[0]
        assert tunnel["linkinfo"]["info_kind"] == "geneve", tunnel
        assert site.on(number, "ovs-vsctl", "get", "Bridge", "br-int", "datapath_type") in ("system", '""')
        assert "genev_sys_6081 (geneve" in site.on(number, "ovs-dpctl", "show")


def test_packets_are_on_the_wire_in_their_tunnels(site: Tunnels) -> None:
    count(site)
    for addresses, mine, other in ((OVN, "geneve", "vxlan"), (VXLAN, "vxlan", "geneve")):
        before = [(site.arrived(number, mine), site.arrived(number, other)) for number in (0, 1)]
        for number in (0, 1):
            assert site.pings(number, addresses, times=20) == "20"
        for number in (0, 1):
            # A question or an answer each time.
            assert site.arrived(number, mine) - before[number][0] >= 40
            assert site.arrived(number, other) - before[number][1] < 20


def test_what_the_tunnel_leaves_passes_and_no_more(site: Tunnels) -> None:
    for number in (0, 1):
        assert json.loads(site.inside(number, "ip", "-json", "link", "show", "eth0"))[0]["mtu"] == MTU
        assert site.pings(number, OVN, MTU) == "1"
        # Its own network card refuses what is larger.
        assert "Message too long" in site.pings(number, OVN, MTU + 1)
    # And if both ends of its card let it through, the tunnel does not.
    site.inside(0, "ip", "link", "set", "eth0", "mtu", "1500")
    site.on(0, "ip", "link", "set", "one-0-0", "mtu", "1500")
    try:
        assert site.pings(0, OVN, MTU) == "1"
        assert site.pings(0, OVN, MTU + 1, times=3).startswith("0 ")
    finally:
        site.inside(0, "ip", "link", "set", "eth0", "mtu", str(MTU))
    assert site.pings(0, OVN, MTU) == "1"


def test_nobody_hears_what_a_machine_announces_as_a_router(site: Tunnels) -> None:
    assert [site.hears_of_router(number) for number in (0, 1)] == [0, 0]
    # OVN itself lets it pass.
    (table,) = (
        line.split()[-1]
        for line in site.on(0, "nft", "list", "tables").splitlines()
        if "nebula_" in line and "netdev" in line
    )
    site.on(0, "nft", "delete", "table", "netdev", table)
    assert site.hears_of_router(1) == 5
    # Somebody starts the machine by other means than ours: its interface is another one.
    virsh = ("virsh", "--connect", "lxc:///system")
    site.on(0, *virsh, "destroy", "one-0")
    site.on(0, *virsh, "start", "one-0")
    site.all_reach(120)
    assert site.hears_of_router(1) == 0


def test_all_comes_back_after_a_power_cut_and_a_reboot(site: Tunnels) -> None:
    site.on(1, "sync")
    site.hosts[1].power_cut()
    site.all_reach(600)
    site.hosts[0].reboot()
    site.all_reach(600)
    assert [site.hears_of_router(number) for number in (0, 1)] == [0, 0]
    again = site.done("site.yml")
    assert changed_tasks(again) == [], again
    assert "genev_sys_6081 (geneve" in site.on(0, "ovs-dpctl", "show")


def test_nothing_of_it_stays(site: Tunnels, before: list[dict[str, str]]) -> None:
    for number in (0, 1):
        site.on(number, "nft", "delete", "table", "netdev", "seen")
    site.done("playbooks/teardown.yml")
    assert [site.state(number) for number in (0, 1)] == before
    assert [site.on(number, "ovs-vsctl", "list-br") for number in (0, 1)] == ["", ""]
