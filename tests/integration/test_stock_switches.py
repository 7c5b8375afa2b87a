# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where systemd is process 1: OVN by its packages' units, with the first member of a cluster of its databases,
bridges of Open vSwitch, and an interface that has moved into a bridge. What a power cut leaves of each, and what is
given back. The kernel passes the packets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from stock_host import FullStockHost

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.test_node_network import CATALOG, network
from ansible_collections.nebula.provision.tests.integration.test_stock_host import ASK, VETH, Managed

# The host's, by the emulator's DHCP, and those of the cluster's other members, which never come.
ADDRESS = "10.0.2.15"
OTHERS = (("node2", "10.0.2.101"), ("node3", "10.0.2.102"))
EXTERNAL = "203.0.113.1/24"
OVN_UNIT, NETWORK_UNIT = f"nebula-ovn-{CATALOG}.service", f"nebula-network-{CATALOG}.service"
MAPPINGS = [{"network": "physnet1", "bridge": "br-ex", "interface": "eth1", "address": EXTERNAL}]
SWITCH = network(
    "Switched", 3, "ovsbr0", vn_mad="ovswitch", attributes={"PHYDEV": "uplink0", "VLAN_ID": "100"}, address_ranges=[]
)
# An interface with an address that neither systemd-networkd nor NetworkManager has given it.
LAN = """[Unit]
Description=Addresses of this host
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link add lan0 type veth peer name lanfar0
ExecStart=ip link set lanfar0 up
ExecStart=ip link set lan0 up
ExecStart=ip address add 192.0.2.9/24 dev lan0
[Install]
WantedBy=multi-user.target
"""
FORCED = network(
    "Lan", 4, "nbf0", attributes={"PHYDEV": "lan0", "PHYDEV_FORCED": "YES", "NODE_ACCESS": "all"}, address_ranges=[]
)
# Nobody can connect anew for as long as the bridge is there.
CUT_OFF = """
until [ -e /sys/class/net/nbf0 ]; do sleep 0.05; done
nft add table inet cut
nft add chain inet cut input '{ type filter hook input priority filter; policy accept; }'
nft add rule inet cut input tcp dport 22 ct state new drop
while [ -e /sys/class/net/nbf0 ]; do sleep 0.05; done
nft delete table inet cut
"""
# Two machines, as OVN sees them.
LOGICAL = """
ovn-nbctl --no-leader-only ls-add ends
for n in 1 2; do
    ovn-nbctl --no-leader-only lsp-add ends end$n -- lsp-set-addresses end$n "02:00:0a:4d:00:0$n 10.77.0.$n"
done
"""
ENDPOINTS = """
for n in 1 2; do
    ip netns add end$n
    ip link add one-9-$n type veth peer name eth0 netns end$n
    ip -n end$n link set eth0 address 02:00:0a:4d:00:0$n
    ip -n end$n address add 10.77.0.$n/24 dev eth0
    ip -n end$n link set eth0 up
    ip link set one-9-$n up
    ovs-vsctl --may-exist add-port br-int one-9-$n -- set Interface one-9-$n external_ids:iface-id=end$n
done
"""

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]


class Switched(Managed):
    def central(self, **given: Any) -> dict[str, Any]:
        return self.done("nebula_ovn_central", name="node1", **given)

    def node(self, **given: Any) -> dict[str, Any]:
        return self.done("nebula_ovn_host", name="node1", **given)

    def done(self, name: str, /, **given: Any) -> dict[str, Any]:
        result = self.module(name, catalog=CATALOG, **given)
        # Whatever failed says why.
        assert "msg" not in result, result
        return result

    def set_up(self) -> list[bool]:
        """What role ovn does with the first host of three, before others have joined; which of it changed anything."""
        asked = self.central(state="requested", address=ADDRESS)
        host = self.node(state="requested")
        signed = self.central(state="signed", requests=[asked["request"], host["request"]])
        members = [asked["member"], *({"name": name, "address": address} for name, address in OTHERS)]
        central = self.central(address=ADDRESS, cluster=members, certificates=signed["certificates"]["central:node1"])
        made = self.node(
            southbound=central["connections"]["southbound"],
            certificates=signed["certificates"]["host:node1"],
            bridge_mappings=MAPPINGS,
        )
        return [each["changed"] for each in (asked, host, signed, central, made)]

    def addresses(self, name: str) -> list[str]:
        link = json.loads(self.says("ip", "-json", "address", "show", "dev", name) or "[{}]")[0]
        return [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if a["family"] == "inet"]

    def is_up(self, name: str) -> bool:
        return "UP" in json.loads(self.says("ip", "-json", "link", "show", "dev", name))[0]["flags"]

    def check_ovn(self) -> None:
        """The northbound database leads to northd, to the southbound one, and by TLS to the controller; and to
        packets."""
        sync = ("ovn-nbctl", "--no-leader-only", "--timeout=60", "--wait=hv", "sync")
        wait_for(lambda: self.host.sudo(sync, check=False).returncode == 0, "OVN", 300)
        self.host.sudo(["sh", "-euc", ENDPOINTS])
        ask = ("ip", "netns", "exec", "end1", "python3", "-c", ASK, "10.77.0.2")
        wait_for(lambda: self.says(*ask) == "reached", "packets by OVN", 60)
        assert "ssl:" in self.says("ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:ovn-remote")
        assert self.addresses("br-ex") == [EXTERNAL] and self.is_up("br-ex") and self.is_up("eth1")


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switched]:
    place = tmp_path_factory.mktemp("stock")
    with FullStockHost(place / "host") as host:
        host.sudo(["tee", "/etc/systemd/network/uplink0.netdev"], stdin=VETH)
        host.sudo(["tee", "/etc/systemd/system/lan.service"], stdin=LAN)
        host.sudo(["systemctl", "enable", "--now", "lan.service"])
        host.sudo(["networkctl", "reload"])
        yield Switched(host, place)


def test_northd_of_a_single_central_host_ends_without_the_databases(managed: Switched) -> None:
    asked = managed.central(state="requested", address=ADDRESS)
    signed = managed.central(state="signed", requests=[asked["request"]])
    single = {"address": ADDRESS, "certificates": signed["certificates"]["central:node1"]}
    assert managed.central(**single)["changed"] and not managed.central(**single)["changed"]
    files = [f"/run/ovn/{name}.pid" for name in ("ovnnb_db", "ovnsb_db")]
    servers = managed.says("cat", *files)
    managed.host.sudo(["sh", "-c", "kill $(cat /run/ovn/ovn-northd.pid)"])
    wait_for(lambda: managed.says("systemctl", "is-active", "ovn-northd") == "inactive", "the end of northd", 60)
    assert managed.says("cat", *files) == servers
    assert managed.central(**single)["changed"] and managed.says("systemctl", "is-active", "ovn-northd") == "active"
    assert managed.says("cat", *files) == servers
    managed.central(state="absent")
    assert managed.says("find", "/etc/systemd", "/var/lib/nebula", "-name", "*nebula?*") == ""


def test_ovn_is_set_up_by_its_units(managed: Switched) -> None:
    assert all(managed.set_up())
    managed.host.sudo(["sh", "-euc", LOGICAL])
    managed.check_ovn()
    for unit in ("ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb", "ovn-northd", "ovn-controller"):
        assert "nebula.conf" in managed.says("systemctl", "cat", unit), unit
        assert managed.says("systemctl", "is-active", unit) == "active", unit
    assert "Status: cluster member" in managed.says(
        "ovn-appctl", "-t", "/run/ovn/ovnsb_db.ctl", "cluster/status", "OVN_Southbound"
    )
    assert not any(managed.set_up())


def test_addresses_go_back_by_themselves_where_nobody_connects_anew(managed: Switched) -> None:
    managed.host.sudo(["systemd-run", "--quiet", "--collect", "sh", "-euc", CUT_OFF])
    result = managed.module("nebula_node_network", catalog=CATALOG, networks=[FORCED])
    assert "no second word came within 60 s by a new connection" in result["msg"], result
    assert managed.addresses("lan0") == ["192.0.2.9/24"]
    # The unit of systemd that put them back is gone, and so is the bridge.
    assert managed.says("systemctl", "list-units", "--all", "--plain", "--no-legend", "nebula-move*") == ""
    assert managed.host.sudo(["ip", "link", "show", "dev", "nbf0"], check=False).returncode != 0


def test_addresses_move_with_their_interface_and_a_new_connection_keeps_them(managed: Switched) -> None:
    assert managed.done("nebula_node_network", networks=[FORCED])["changed"]
    assert (managed.addresses("nbf0"), managed.addresses("lan0")) == (["192.0.2.9/24"], [])
    # What would have put them back has ended, since nobody was cut off.
    assert managed.says("systemctl", "list-units", "--all", "--plain", "--no-legend", "nebula-move*") == ""


def test_all_is_back_after_a_power_cut(managed: Switched) -> None:
    networks = [SWITCH, FORCED]
    managed.done("nebula_node_network", networks=networks)
    assert not managed.done("nebula_node_network", networks=networks)["changed"]
    managed.says("sync")
    managed.host.power_cut()
    wait_for(lambda: managed.says("systemctl", "is-system-running") in ("running", "degraded"), "the host", 300)
    for unit in (OVN_UNIT, NETWORK_UNIT):
        assert managed.says("systemctl", "is-active", unit) == "active", managed.says("journalctl", "-b", "-u", unit)
    managed.check_ovn()
    assert managed.says("ovs-vsctl", "iface-to-br", "uplink0") == "ovsbr0" and managed.is_up("uplink0")
    # Its addresses are where the host's own configuration puts them, and the next run moves them again.
    assert managed.addresses("lan0") == ["192.0.2.9/24"] and managed.addresses("nbf0") == []
    assert not any(managed.set_up())
    assert managed.done("nebula_node_network", networks=networks)["changed"]
    assert (managed.addresses("nbf0"), managed.addresses("lan0")) == (["192.0.2.9/24"], [])
    assert not managed.done("nebula_node_network", networks=networks)["changed"]


def test_all_of_it_is_given_back(managed: Switched) -> None:
    managed.host.sudo(["sh", "-c", "for n in 1 2; do ovs-vsctl del-port one-9-$n; ip link delete one-9-$n; done"])
    managed.says("ovn-nbctl", "--no-leader-only", "ls-del", "ends")
    managed.done("nebula_node_network", state="absent")
    managed.node(state="absent")
    managed.central(state="absent")
    assert managed.says("find", "/etc/systemd", "/var/lib/nebula", "-name", "*nebula?*") == ""
    assert managed.says("ovs-vsctl", "list-br") == "" and managed.says("nft", "list", "ruleset") == ""
    assert managed.addresses("lan0") == ["192.0.2.9/24"]
