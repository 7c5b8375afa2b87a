# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where systemd is process 1: what is switched on and given back, and what a boot brings back. Modules by Ansible over
ssh, as a login that is not root; the flow as a whole is molecule's scenario `stock`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stock_host import StockHost

from ansible_collections.nebula.provision.tests.integration.test_node_network import (
    CATALOG,
    TABLE,
    WITH_NAT,
    elsewhere,
    network,
)

ROOT = Path(__file__).resolve().parents[2]
UNIT = f"nebula-network-{CATALOG}.service"
# libvirt as one switches it off who does not want it.
LIBVIRT = ("libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "virtlogd.socket")
FOREIGN = "[NetDev]\nName=nbr0\nKind=bridge\nMACAddress=06:11:22:33:44:55\n"

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]


class Managed:
    """A stock host, and Ansible's modules on it."""

    def __init__(self, host: StockHost, place: Path) -> None:
        self.host = host
        self.place = place

    def module(self, name: str, /, check: bool = False, **arguments: Any) -> dict[str, Any]:
        inventory = self.place / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"stock": self.host.inventory()}}}))
        ansible = str(Path(sys.executable).parent / "ansible")
        command = [
            ansible,
            "stock",
            "-i",
            str(inventory),
            "-m",
            f"nebula.provision.{name}",
            "-a",
            json.dumps(arguments),
        ]
        done = subprocess.run(
            [*command, "-o", *(["--check"] if check else [])],
            cwd=ROOT,
            env={
                **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "HOME": str(self.place),
                "ANSIBLE_NOCOLOR": "1",
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            timeout=1500,
        )
        answer = re.search(r"^stock \| \S+ => (\{.*\})$", done.stdout, re.MULTILINE)
        assert answer is not None, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(answer[1])
        return result

    def says(self, *argv: str) -> str:
        return self.host.sudo(argv, check=False).stdout.strip()

    def services(self) -> tuple[str, str, str]:
        """What runs, what starts with the host, and all links that say so."""
        return (
            self.says("systemctl", "list-units", "--state=active", "--plain", "--no-legend", "libvirtd*", "virtlog*"),
            self.says("systemctl", "list-unit-files", "--no-legend", "*virt*", "nebula*"),
            self.says("find", "/etc/systemd/system", "-printf", "%y %p -> %l\n"),
        )


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    place = tmp_path_factory.mktemp("stock")
    with StockHost(place / "host") as host:
        yield Managed(host, place)


def test_it_is_what_it_says(managed: Managed) -> None:
    assert managed.says("systemctl", "is-system-running") == "running"
    assert managed.says("aa-enabled") == "Yes"
    assert managed.host.ssh(["id", "-un"]).stdout.strip() == "admin"
    assert managed.host.ssh(["virsh", "-c", "qemu:///system", "list"], check=False).returncode != 0
    changed = managed.says("dpkg", "--verify", "libvirt-daemon-system", "apparmor").splitlines()
    # Its documentation was left out.
    assert [line for line in changed if " /usr/share/" not in line] == []
    assert managed.host.ssh(["test", "-e", "/dev/kvm"], check=False).returncode == 1


def test_libvirt_that_was_switched_off_is_switched_on_and_off_again(managed: Managed) -> None:
    managed.says("systemctl", "disable", "--now", *LIBVIRT)
    before = managed.services()
    assert "libvirtd.service" not in before[0]
    foreseen = managed.module("nebula_node", check=True, accelerator="qemu")
    assert foreseen["changed"]
    assert managed.services() == before
    made = managed.module("nebula_node", accelerator="qemu")
    assert made["node"]["started"] == ["virtlogd", "libvirtd"], made
    assert managed.says("systemctl", "is-active", "libvirtd.socket") == "active"
    assert managed.says("systemctl", "is-enabled", "libvirtd.service") == "enabled"
    again = managed.module("nebula_node", accelerator="qemu")
    assert (again["changed"], again["node"]["started"]) == (False, [])
    gone = managed.module("nebula_node", state="absent")
    assert gone["changed"], gone
    assert managed.services() == before
    assert not managed.module("nebula_node", state="absent")["changed"]


def test_networks_come_back_with_the_host_and_what_is_foreign_stays(managed: Managed) -> None:
    host = managed.host
    networks = [WITH_NAT, elsewhere(nat=True)]
    # As packaged: what the test before switched off starts with the host again.
    managed.says("systemctl", "enable", "--now", *LIBVIRT)
    foreseen = managed.module("nebula_node_network", check=True, networks=networks, catalog=CATALOG)
    assert foreseen["changed"]
    made = managed.module("nebula_node_network", networks=networks, catalog=CATALOG)
    assert made["changed"], made
    assert not managed.module("nebula_node_network", networks=networks, catalog=CATALOG)["changed"]
    rules, links = listed(managed)
    assert TABLE in rules

    host.power_cut()
    assert managed.says("systemctl", "is-active", UNIT) == "active", managed.says("journalctl", "-b", "-u", UNIT)
    assert listed(managed) == (rules, links)
    assert managed.says("cat", "/proc/sys/net/ipv4/ip_forward") == "1"
    assert not managed.module("nebula_node_network", networks=networks, catalog=CATALOG)["changed"]

    # Somebody makes a bridge of that name at boot, before us.
    host.sudo(["tee", "/etc/systemd/network/nbr0.netdev"], stdin=FOREIGN)
    host.reboot()
    assert managed.says("systemctl", "is-active", UNIT) == "failed"
    said = managed.says("journalctl", "-b", "--no-pager", "-o", "cat", "-u", UNIT)
    assert f"bridge nbr0: an interface of that name that is not of catalog {CATALOG} is there: it is left alone" in said
    nbr0 = json.loads(managed.says("ip", "-json", "address", "show", "nbr0"))[0]
    assert (nbr0["address"], [a for a in nbr0["addr_info"] if a["family"] == "inet"]) == ("06:11:22:33:44:55", [])
    assert "10.67.0.1/16" in managed.says("ip", "-brief", "address", "show", "nbr1")
    assert '"nbr0"' not in listed(managed)[0]
    assert '"nbr1"' in listed(managed)[0]
    assert managed.says("virsh", "-c", "qemu:///system", "list", "--name") == ""
    refused = managed.module("nebula_node_network", networks=networks, catalog=CATALOG)
    assert "bridge nbr0" in refused["msg"], refused

    gone = managed.module("nebula_node_network", state="absent", catalog=CATALOG)
    assert gone["changed"], gone
    assert managed.says("find", "/etc/systemd", "/var/lib/nebula/boot", "-name", "*nebula*") == ""
    assert managed.says("systemctl", "list-units", "--all", "--plain", "--no-legend", "nebula*") == ""
    assert managed.says("nft", "list", "ruleset") == ""
    assert managed.says("ip", "-brief", "link", "show", "nbr0") != ""


VETH = "[NetDev]\nName=uplink0\nKind=veth\n\n[Peer]\nName=far0\n"
# Another host, with the addresses of two VLANs on the other end of the wire, and a machine on this host's bridge.
OTHER = """
ip link set uplink0 up
ip netns add other
ip link set far0 netns other
ip -n other link set far0 up
# Each VLAN answers for its own address alone.
ip netns exec other sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore'
for vlan in 100 101; do
    ip -n other link add link far0 name far0.$vlan type vlan id $vlan
    ip -n other address add 10.68.0.$vlan/24 dev far0.$vlan
    ip -n other link set far0.$vlan up
done
"""
MACHINE = """
ip netns add machine
ip link add one-9-0 type veth peer name eth0 netns machine
ip link set one-9-0 master nbr5 up
ip -n machine address add 10.68.0.1/24 dev eth0
ip -n machine link set eth0 up
"""
# Who refuses a connection was reached.
ASK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 3)
except ConnectionRefusedError:
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""


def test_a_vlan_joins_this_host_with_others_and_comes_back_with_it(managed: Managed) -> None:
    host = managed.host
    host.sudo(["tee", "/etc/systemd/network/uplink0.netdev"], stdin=VETH)
    host.reboot()
    host.sudo(["sh", "-euc", OTHER])
    attributes = {
        "NETWORK_ADDRESS": "10.68.0.0",
        "NETWORK_MASK": "255.255.255.0",
        "PHYDEV": "uplink0",
        "VLAN_ID": "100",
    }
    networks = [network("Vlan", 5, "nbr5", vn_mad="802.1Q", attributes=attributes, address_ranges=[])]
    foreseen = managed.module("nebula_node_network", check=True, networks=networks, catalog=CATALOG)
    made = managed.module("nebula_node_network", networks=networks, catalog=CATALOG)
    assert foreseen["changed"] and made["changed"], made
    assert not managed.module("nebula_node_network", networks=networks, catalog=CATALOG)["changed"]
    host.sudo(["sh", "-euc", MACHINE])
    # The machine's frames have a tag on the wire, and those of another VLAN are not for it.
    inside = ("ip", "netns", "exec", "machine", "python3", "-c", ASK)
    assert managed.says(*inside, "10.68.0.100") == "reached"
    assert managed.says(*inside, "10.68.0.101") != "reached"

    host.power_cut()
    assert managed.says("systemctl", "is-active", UNIT) == "active", managed.says("journalctl", "-b", "-u", UNIT)
    device = json.loads(managed.says("ip", "-json", "-details", "link", "show", "uplink0.100"))[0]
    assert (device["master"], device["linkinfo"]["info_data"]["id"], device["link"]) == ("nbr5", 100, "uplink0")
    assert not managed.module("nebula_node_network", networks=networks, catalog=CATALOG)["changed"]
    assert managed.module("nebula_node_network", state="absent", catalog=CATALOG)["changed"]
    links = managed.says("ip", "-brief", "link", "show")
    assert "uplink0" in links and "uplink0.100" not in links and "nbr5" not in links


def listed(managed: Managed) -> tuple[str, str]:
    """Rules and bridges, less what the kernel counts or numbers by itself."""
    links = json.loads(managed.says("ip", "-json", "-details", "address", "show", "type", "bridge"))
    kept = [
        (link["ifname"], link.get("ifalias", ""), link["address"])
        + tuple(a["local"] for a in link["addr_info"] if a["family"] == "inet")
        for link in links
    ]
    return managed.says("nft", "--stateless", "list", "ruleset"), json.dumps(sorted(kept))
