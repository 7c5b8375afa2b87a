# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVN's databases on a host that is neither front-end nor node: one of the catalog's own, which is shown and checked
with the others, and one of strangers, who have all that is theirs afterwards as they had it before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import hosts, state_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import EXTERNAL, Tenants, router, tenant

NORTH, SOUTH, HERE = "unix:/run/ovn/ovnnb_db.sock", "unix:/run/ovn/ovnsb_db.sock", "unix:/run/openvswitch/db.sock"
START, SET_UP = "Start the databases", "Set each host up"
# The roles alone have some hundred.
MOST_TASKS = 25
ANSWER_SECONDS = 30
KILL = """pid=$(cat /run/ovn/$1.pid); parent=$(ps -o ppid= -p $pid)
[ $parent -le 1 ] || kill -9 $parent; kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.05; done"""


class Site(Tenants):
    """Its third node is none, but the host with the databases. own: whether they are the catalog's."""

    def __init__(self, image: str, own: bool) -> None:
        super().__init__(image)
        self.own, self.central = own, self.nodes.pop()
        self.variables["nebula_security_groups"] = [{"name": "pings", "rules": [{"rule_type": "outbound"}]}]
        self.variables["nebula_networks"] = [EXTERNAL, tenant("blue", security_groups=["pings"])]
        self.variables["nebula_routers"] = [router("blue")]

    @property
    def all(self) -> list[Node]:
        return [*self.nodes, self.central]

    def inventory(self, **changes: Any) -> Path:
        self.nodes.append(self.central)
        path = super().inventory(**changes)
        self.nodes.pop()
        inventory = json.loads(path.read_text())
        groups = inventory["all"]["children"]
        del groups["nebula_frontend"]["hosts"]["front"]["nebula_ovn_address"]
        there = groups["nebula_nodes"]["hosts"].pop(self.central.name)
        if self.own:
            reached = {key: value for key, value in there.items() if key.startswith("ansible_")}
            groups["nebula_ovn_central"] = {
                "hosts": {self.central.name: {**reached, "nebula_ovn_address": self.central.address}}
            }
        path.write_text(json.dumps(inventory))
        return path

    def again(self) -> None:
        output = self.done("site.yml")
        assert changed_tasks(output) == [] and output.count("TASK [") <= MOST_TASKS, output

    def audit(self) -> str:
        """What it finds, empty if that is nothing."""
        code, output = self.run("playbooks/audit.yml")
        assert (code == 0) == ("nothing differs" in output), output
        return "" if code == 0 else output

    def status(self) -> dict[str, str]:
        """By host and part what its table OVN says."""
        output = self.done("playbooks/status.yml")
        states = "running|not running|connected|not connected|no answer"
        found = re.findall(rf"(node\d) +(central|node) +({states})", output)
        return {f"{host} {part}": state for host, part, state in found}


def differs(found: str, host: str, what: str) -> bool:
    return re.search(rf"host {host}: {what}", found) is not None


@pytest.mark.timeout(1800)
@in_nodes(3)
def test_a_central_host_of_its_own_is_shown_and_checked(written_image: str) -> None:
    site = Site(written_image, own=True)
    before = [state_of(node) for node in site.all]
    well = {"node1 node": "connected", "node2 node": "connected", "node3 central": "running"}
    with hosts(site):
        try:
            site.done("site.yml")
            site.again()
            assert site.audit() == ""
            assert site.status() == well
            site.central.run("sh", "-c", KILL, "sh", "ovn-northd")
            assert differs(site.audit(), "node3", "OVN's databases and northd: running is False and is to be True")
            assert site.status() == {**well, "node3 central": "not running"}
            assert changed_tasks(site.done("site.yml")) == [START]
            assert site.audit() == ""
            site.nodes[0].run("sh", "-c", KILL, "sh", "ovn-controller")
            found = site.audit()
            assert differs(found, "node1", "Open vSwitch and ovn-controller: daemons: controller is False"), found
            assert site.status() == {**well, "node1 node": "not connected"}
            assert changed_tasks(site.done("site.yml")) == [SET_UP]
            site.central.kill()
            found = site.audit()
            assert differs(found, "node3", "OVN's databases and northd: "), found
            # Where nobody says where the databases are, nodes are not asked about them.
            assert site.status() == {"node3 central": "no answer"}
            site.central.start()
            site.done("site.yml")
            assert site.audit() == "" and site.status() == well
            site.done("playbooks/teardown.yml")
            assert [state_of(node) for node in site.all] == before
        finally:
            site.central.erase()


# --- strangers' ---------------------------------------------------------------------------------------------------
def theirs(site: Site) -> None:
    """An OVN of somebody else: its databases with what they have there, and a node of theirs, which is one of ours."""
    central, node = site.central, site.nodes[1]
    central.run("/usr/share/ovn/scripts/ovn-ctl", "start_northd")
    central.run("ovn-nbctl", "set-connection", "ptcp:6641")
    central.run("ovn-sbctl", "set-connection", "ptcp:6642")
    commands = (
        ("set", "NB_Global", ".", "external_ids:owner=them", "options:northd_probe_interval=7000"),
        ("ls-add", "theirs"),
        ("lsp-add", "theirs", "their-port", "--", "lsp-set-addresses", "their-port", "02:00:00:00:77:01 10.7.0.2"),
        ("lr-add", "their-router"),
        ("lrp-add", "their-router", "their-end", "02:00:00:00:77:02", "10.7.0.1/24"),
        ("lr-nat-add", "their-router", "snat", "198.51.100.9", "10.7.0.0/24"),
        ("pg-add", "their_group", "their-port"),
        ("acl-add", "their_group", "to-lport", "1001", "ip4", "drop"),
        ("create", "Address_Set", "name=their_set", "addresses=10.7.0.2"),
        ("create", "DHCP_Options", "cidr=10.7.0.0/24", "options:lease_time=77"),
    )
    for words in commands:
        central.run("ovn-nbctl", *words)
    script = "/usr/share/openvswitch/scripts/ovs-ctl"
    node.run(script, "--system-id=their-node", "--no-record-hostname", "--no-mlockall", "start")
    ids = {
        "ovn-remote": f'"tcp:{central.address}:6642"',
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": node.address,
        "ovn-bridge-datapath-type": "netdev",
    }
    node.run("ovs-vsctl", "add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
    node.run("ovs-vsctl", "set", "Open_vSwitch", ".", *(f"external_ids:{key}={value}" for key, value in ids.items()))
    node.run("/usr/share/ovn/scripts/ovn-ctl", "start_controller")
    port = (
        "add-port",
        "br-int",
        "tp",
        "--",
        "set",
        "Interface",
        "tp",
        "type=internal",
        "external_ids:iface-id=their-port",
    )
    node.run("ovs-vsctl", *port)
    central.run("ovn-nbctl", "--wait=hv", "sync")


def tables(text: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Of what ovsdb-client dumps as JSON."""
    for line in text.splitlines():
        if line:
            table = json.loads(line)
            name = table["caption"].split()[0]
            yield name, sorted((dict(zip(table["headings"], row)) for row in table["data"]), key=str)


def north(site: Site) -> dict[str, list[dict[str, Any]]]:
    """Everything but how often somebody has waited for hosts, and who is connected now."""
    found = dict(tables(site.central.run("ovsdb-client", "--format=json", "dump", NORTH, "OVN_Northbound").stdout))
    for row in [*found["NB_Global"], *found["Connection"]]:
        for key in [key for key in row if "_cfg" in key or key in ("is_connected", "status")]:
            del row[key]
    return {name: rows for name, rows in found.items() if rows}


def south(site: Site) -> dict[str, list[str]]:
    """What OVN itself has made of it."""
    columns = {"Chassis": "name,hostname", "Datapath_Binding": "_uuid,tunnel_key", "Port_Binding": "_uuid,logical_port"}
    return {
        table: sorted(
            site.central.run(
                "ovn-sbctl", "--format=csv", "--no-headings", f"--columns={names}", "list", table
            ).stdout.splitlines()
        )
        for table, names in columns.items()
    }


def switch(site: Site) -> dict[str, list[dict[str, Any]]]:
    """What their node's Open vSwitch is set to, but for what its controller notes of how often somebody has waited."""
    columns = {"Open_vSwitch": "bridges,external_ids,ssl", "Bridge": "name,ports,external_ids,other_config,fail_mode",
               "Port": "name,external_ids", "Interface": "name,type,options,external_ids"}  # fmt: skip
    found = {}
    for table, names in columns.items():
        words = ("--format=json", "dump", HERE, "Open_vSwitch", table, *names.split(","))
        found |= dict(tables(site.nodes[1].run("ovsdb-client", *words).stdout))
    for bridge in found["Bridge"]:
        bridge["external_ids"] = [pair for pair in bridge["external_ids"][1] if "nb-cfg" not in pair[0]]
    return found


@pytest.mark.timeout(1800)
@in_nodes(3)
def test_an_ovn_of_strangers_is_as_it_was_when_ours_is_taken_out_of_it(written_image: str) -> None:
    site = Site(written_image, own=False)
    where = f"tcp:{site.central.address}"
    site.variables["nebula_ovn_remote"] = {"northbound": f"{where}:6641", "southbound": f"{where}:6642"}
    bare = state_of(site.nodes[0])
    with hosts(site):
        try:
            theirs(site)
            before = north(site), south(site), switch(site)
            site.done("site.yml")
            site.again()
            assert site.audit() == ""
            assert site.status() == {"node1 node": "connected", "node2 node": "connected"}
            ours = site.central.run("ovn-nbctl", "--bare", "--columns=external_ids", "list", "Logical_Switch").stdout
            assert ours.count("nebula-catalog") == 2
            with_ours = north(site)
            for table, rows in before[0].items():
                # NB_Global carries the catalog's mark beside theirs.
                assert table == "NB_Global" or all(row in with_ours[table] for row in rows), table
            site.done("playbooks/teardown.yml", "--check")
            assert north(site) == with_ours
            site.done("playbooks/teardown.yml")
            assert north(site) == before[0]
            # Its controller takes the tunnel to our node down, and northd what it had made of our rows.
            wait_for(lambda: south(site) == before[1], "the southbound database is as before", ANSWER_SECONDS)
            wait_for(lambda: switch(site) == before[2], "the switch of their node is as before", ANSWER_SECONDS)
            assert state_of(site.nodes[0]) == bare
        finally:
            site.central.erase()
