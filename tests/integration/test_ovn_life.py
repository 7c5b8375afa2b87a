# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVN while time passes: certificates end, hosts reboot, daemons are killed, and others have been there before."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.ovn_hosts import (
    CATALOG,
    ROOT,
    age_certificates,
    nbctl,
    net,
    pings,
    set_up,
    steady_pings,
    two_machines,
    underlay,
    until,
)

OTHER_CATALOG = "aaaaaaaa-0000-4000-8000-000000000002"


@in_bare_world
def test_a_certificate_is_renewed_without_a_cut():
    with net() as made:
        results = set_up(made, made.nodes[:2])
        machines = two_machines(made, results, *made.nodes[:2])
        age_certificates(made)
        node = made.nodes[0]
        with steady_pings(machines[0], "10.0.0.2") as lost:
            before = (node.root / "ovn/host/southbound.pem").read_text()
            controller = (node.directory / "ovn_run/ovn-controller.pid").read_text()
            again = set_up(made, made.nodes[:2])
            assert again["signed"]["changed"]
            assert again["hosts"]["node1"]["changed"]
            assert (node.root / "ovn/host/southbound.pem").read_text() != before
            assert (node.directory / "ovn_run/ovn-controller.pid").read_text() == controller
        assert lost == [False]

        # Servers and hosts have taken the new ones up: the old ones of the other side are not needed any more.
        shown = made.central.run(
            *("openssl", "s_client", "-connect", f"{made.central.address}:6642", "-showcerts"), input="", check=False
        ).stdout
        served = (made.central.root / "ovn/central/southbound.pem").read_text().strip()
        assert served in shown, shown
        node.run("ovn-appctl", "-t", "ovn-controller", "exit", "--restart")
        assert set_up(made, made.nodes[:1])["hosts"]["node1"]["host"]["connected"]
        assert not set_up(made, made.nodes[:2])["signed"]["changed"]


@in_bare_world
def test_what_somebody_else_has_set_up_is_refused_and_stays():
    with net() as made:
        node = made.nodes[0]
        results = set_up(made, made.nodes[1:2])
        south = results["central"]["connections"]["southbound"]
        wanted = {"southbound": south, "datapath": "netdev", "bridge_mappings": underlay(node)}
        script = "/usr/share/openvswitch/scripts/ovs-ctl"
        node.run(script, "--system-id=random", "--no-record-hostname", "--no-mlockall", "start")
        found = node.vsctl("get", "Open_vSwitch", ".", "external_ids:system-id").strip('"')

        def configured():
            """Without what ovs-vswitchd writes down of itself while it runs."""
            tables = {"Open_vSwitch": "bridges,external_ids,ssl", "Bridge": "name,ports,external_ids,other_config"}
            rows = [node.vsctl(f"--columns={columns}", "list", table) for table, columns in tables.items()]
            # The kernel looks for a while whether an address of IPv6 is somebody else's.
            return [*rows, node.vsctl("list", "SSL"), node.run("ip", "address").replace("tentative ", "")]

        def kept(message, **params):
            before = configured()
            assert message in node.refused("host", **{**wanted, **params})
            after = configured()
            assert after == before, [pair for pair in zip(before, after) if pair[0] != pair[1]]

        node.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=tcp:192.0.2.77:6642")
        kept("external-ids:ovn-remote is tcp:192.0.2.77:6642, set by somebody else")
        foretold = node.module("host", check=True, **{**wanted, "catalog": ""})
        assert "ovn-remote is tcp:192.0.2.77:6642, set by somebody else" in foretold["msg"]
        assert "ovn-remote" in node.refused("host", state="requested")
        node.vsctl("remove", "Open_vSwitch", ".", "external_ids", "ovn-remote")
        node.vsctl("set", "Open_vSwitch", ".", "external_ids:system-id=theirs")
        kept("external-ids:system-id is theirs, set by somebody else")
        node.vsctl("set", "Open_vSwitch", ".", f"external_ids:system-id={found}")
        node.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
        kept("bridge br-int of host node1: the bridge of that name was made by somebody else")
        node.vsctl("del-br", "br-int")
        node.vsctl("add-br", "br-phy", "--", "set", "Bridge", "br-phy", "datapath_type=netdev")
        kept("bridge br-phy of host node1")
        node.vsctl("del-br", "br-phy")
        node.vsctl("set", "Open_vSwitch", ".", f"external_ids:nebula-catalog={OTHER_CATALOG}")
        kept(f"carries the mark of catalog {OTHER_CATALOG}")
        node.vsctl("remove", "Open_vSwitch", ".", "external_ids", "nebula-catalog")

        node.run("ip", "route", "add", "default", "via", "192.0.2.1")
        kept("the host's default route leads over it")
        node.run("ip", "route", "delete", "default")
        kept("there is no such interface", bridge_mappings=[{"bridge": "br-ex", "interface": "eth7"}])
        kept("has the addresses", bridge_mappings=[{"bridge": "br-phy", "interface": "eth0"}])
        kept("its kernel has no module openvswitch", datapath="system")
        kept("has no such address", encap_ip="192.0.2.200")
        result = node.module("host", **wanted)
        assert "southbound-authority.pem" in result.get("msg", "") or "key.pem" in result["msg"]

        # A bridge that is no longer wanted gives its address back.
        node.run("ip", "link", "add", "spare", "type", "veth", "peer", "spare-peer")
        node.run("ip", "address", "add", "198.51.100.1/24", "dev", "spare")
        more = [{"bridge": "br-ex", "network": "physnet1", "interface": "spare", "address": "198.51.100.1/24"}]
        set_up(made, made.nodes[:1], bridge_mappings=[*underlay(node), *more])
        assert "198.51.100.1" in node.run("ip", "-4", "address", "show", "br-ex")
        assert "198.51.100.1" not in node.run("ip", "-4", "address", "show", "spare")
        ids = node.vsctl("get", "Open_vSwitch", ".", "external_ids:ovn-bridge-mappings")
        assert ids == '"physnet1:br-ex"'
        set_up(made, made.nodes[:1])
        assert "198.51.100.1" in node.run("ip", "-4", "address", "show", "spare")
        assert not set_up(made, made.nodes[:1])["hosts"]["node1"]["changed"]
        node.ok("host", state="absent")
        node.run("ip", "link", "delete", "spare")

        # A bridge of theirs, and their identity, come through our whole life.
        node.vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
        # What has no mark is not that of a catalog that is not there.
        assert not node.ok("host", state="absent", catalog="")["changed"]
        assert node.vsctl("list-br") == "theirs"
        assert set_up(made, made.nodes[:1])["hosts"]["node1"]["changed"]
        assert node.vsctl("get", "Open_vSwitch", ".", "external_ids:system-id").strip('"') == "node1"
        node.ok("host", state="absent")
        assert node.vsctl("list-br") == "theirs"
        assert node.vsctl("get", "Open_vSwitch", ".", "external_ids:system-id").strip('"') == found
        ids = node.vsctl("get", "Open_vSwitch", ".", "external_ids")
        assert set(re.findall(r"([\w-]+)=", ids)) == {"rundir", "system-id"}
        assert (node.directory / "configuration/openvswitch/system-id.conf").read_text().strip() == found
        assert node.vsctl("list", "SSL") == ""

        # Somebody has set it up for the very OVN that is to be used: it is used as it is.
        node.vsctl("add-br", "br-int", "--", "set", "Open_vSwitch", ".", f'external_ids:ovn-remote="{south}"')
        used = node.ok("host", **wanted)
        assert not used["changed"]
        assert not used["host"]["managed"]


@in_bare_world
def test_an_ovn_that_is_there_is_used_by_its_name_and_files():
    with net() as made:
        node = made.nodes[0]
        results = set_up(made, [])
        asked = node.ok("host", state="requested")["request"]
        signed = made.central.ok("central", state="signed", requests=[asked])["certificates"]["host:node1"][
            "southbound"
        ]
        given = {key: str(node.directory / key) for key in ("private_key", "certificate", "ca_certificate")}
        Path(given["private_key"]).write_text((node.root / "ovn/host/key.pem").read_text())
        Path(given["certificate"]).write_text(signed["certificate"])
        wanted = {
            "southbound": results["central"]["connections"]["southbound"],
            "datapath": "netdev",
            "bridge_mappings": underlay(node),
            "encap_type": "vxlan",
            "mtu": 1500,
        }
        message = node.module("host", **wanted, **given)["msg"]
        assert f"ca_certificate {given['ca_certificate']}: No such file" in message
        Path(given["ca_certificate"]).write_text(signed["authority"])
        used = node.ok("host", **wanted, **given)
        assert used["host"]["connected"]
        assert used["host"]["inner_mtu"] == 1450
        assert "vxlan leaves 1450" in json.dumps(used["warnings"]), used["warnings"]
        assert not node.ok("host", **wanted, **given)["changed"]
        node.ok("host", state="absent")
        assert Path(given["private_key"]).exists()


@in_bare_world
def test_a_reboot_and_killed_daemons_are_mended_by_the_next_run():
    with net() as made:
        results = set_up(made, made.nodes[:2])
        machines = two_machines(made, results, *made.nodes[:2])
        node = made.nodes[0]
        # What a reboot leaves of a bridge: it is there, down and without its address.
        script, file = node.directory / "bridges.sh", node.directory / "bridges.list"
        boot = load_boot()
        mapping = [boot.BridgeMapping(bridge="br-phy", interface="eth0", address=f"{node.address}/24")]
        for path, name in ((script, boot.SCRIPT), (file, boot.LIST)):
            path.write_text(boot.desired_files(mapping)[name])
        node.run("ip", "address", "flush", "dev", "br-phy")
        node.run("ip", "link", "set", "br-phy", "down")
        node.run("ip", "link", "set", "eth0", "down")
        assert node.run("sh", str(script), str(file), OTHER_CATALOG, check=False).returncode == 1
        assert not pings(node.namespace, made.central.address)
        node.run("sh", str(script), str(file), CATALOG)
        until(lambda: pings(machines[0], "10.0.0.2"), "no traffic after the script")
        assert not set_up(made, made.nodes[:2])["hosts"]["node1"]["changed"]

        for each in ("ovs_run/ovs-vswitchd.pid", "ovs_run/ovsdb-server.pid", "ovn_run/ovn-controller.pid"):
            kill(node, each)
        assert set_up(made, made.nodes[:2])["hosts"]["node1"]["changed"]
        until(lambda: pings(machines[0], "10.0.0.2"), "no traffic after the daemons were killed")
        for each in ("ovn_run/ovn-northd.pid", "ovn_run/ovnsb_db.pid", "ovn_run/ovnnb_db.pid"):
            kill(made.central, each)
        assert pings(machines[0], "10.0.0.2")
        assert set_up(made, made.nodes[:2])["central"]["changed"]
        assert nbctl(made, results, "ls-list").split()[1] == "(private)"


def load_boot():
    sys.path.insert(0, str(ROOT / "collections"))
    from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import bridges_at_boot

    return bridges_at_boot


def kill(node, file):
    """The daemon and the process that would start it again."""
    pid = int((node.directory / file).read_text())
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    for each in (parent, pid):
        if each > 1:
            os.kill(each, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon lives on")
