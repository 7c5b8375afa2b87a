# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site with OVN looks before its roles, too: where nothing differs next to nothing is asked, however many networks
and routers there are, and whatever differs is found and mended."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.tests.integration.sent_site import hosts, root_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import (
    EXTERNAL,
    Tenants,
    machine,
    router,
    tenant,
)

SIGN, START, SET_UP = "Sign their certificates on the front-end", "Start the databases", "Set each host up"
LIST, TELL = "Keep the networks in the catalog", "Tell OVN what the catalog has"
# The roles alone have some hundred.
MOST_TASKS = 25
# With the process that would start it again.
KILL = """pid=$(cat /run/ovn/$1.pid); parent=$(ps -o ppid= -p $pid)
[ $parent -le 1 ] || kill -9 $parent; kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.05; done"""


def told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Site(Tenants):
    def __init__(self, image: str) -> None:
        super().__init__(image)
        self.third = self.nodes.pop()
        self.variables["nebula_security_groups"] = [{"name": "pings", "rules": [{"rule_type": "outbound"}]}]

    @property
    def first(self) -> Node:
        return self.by_name["node1"]

    @property
    def second(self) -> Node:
        return self.by_name["node2"]

    def many(self, networks: int, routers: int) -> None:
        """The external network, so many others, and routers between it and as many of these."""
        names = [f"net{number}" for number in range(networks)]
        self.variables["nebula_networks"] = [EXTERNAL, *(tenant(name, security_groups=["pings"]) for name in names)]
        self.variables["nebula_routers"] = [router(name) for name in names[:routers]]

    def end_certificate(self, host: str) -> None:
        """As if it were a year later for it."""
        path = self.root / "ovn/authority/issued.json"
        issued = json.loads(path.read_text())
        for entry in issued["certificates"][host].values():
            entry["until"] = entry["since"] + 1
        path.write_text(json.dumps(issued))


def rows(table: str) -> list[str]:
    """Of the northbound database, those with this catalog's mark."""
    words = ("--bare", "--columns=_uuid,external_ids", "--format=csv", "list", table)
    listed = told("ovn-nbctl", *words).splitlines()
    return sorted(line.partition(",")[0] for line in listed if "nebula-catalog" in line)


# What happens, and which tasks then change something, of the role alone.
def drifts(site: Site) -> dict[str, tuple[Callable[[], Any], dict[str, Any], list[str]]]:
    first, second = site.first, site.second
    address = f"10.78.0.{second.number}/24"
    certificate = root_of(first) / "ovn/host/southbound.pem"
    key = ("set", "Open_vSwitch", ".", "external_ids:ovn-encap-type=vxlan")
    return {
        "ovn-controller is gone": (lambda: first.run("sh", "-c", KILL, "sh", "ovn-controller"), {}, [SET_UP]),
        "a bridge has no address": (lambda: second.run("ip", "address", "del", address, "dev", "br-phy"), {}, [SET_UP]),
        "a bridge is down": (lambda: second.run("ip", "link", "set", "br-ex", "down"), {}, [SET_UP]),
        "tunnels are of another kind": (lambda: first.run("ovs-vsctl", *key), {}, [SET_UP]),
        "a node has no certificate": (certificate.unlink, {}, [SET_UP]),
        "a certificate is due": (lambda: site.end_certificate("host:node2"), {}, [SIGN, SET_UP]),
        "that of the databases is due": (lambda: site.end_certificate("central:front"), {}, [SIGN, START]),
        "northd is gone": (lambda: told("sh", "-c", KILL, "sh", "ovn-northd"), {}, [START]),
        "a switch is gone": (lambda: told("ovn-nbctl", "ls-del", rows("Logical_Switch")[0]), {}, [TELL]),
        "a rule has another priority": (
            lambda: told("ovn-nbctl", "set", "ACL", rows("ACL")[0], "priority=7"),
            {},
            [TELL],
        ),
        "the tunnels are to be of another kind": (lambda: None, {"nebula_ovn_encap_type": "vxlan"}, [SET_UP]),
    }


@pytest.mark.timeout(1800)
@in_nodes(3)
def test_with_ovn_what_differs_is_found_and_what_does_not_is_not_asked(written_image: str) -> None:
    site = Site(written_image)
    with hosts(site):
        site.many(1, 1)
        site.done("site.yml")
        few = idle(site)
        assert idle(site, "--check") == few <= MOST_TASKS
        assert idle(site, "--limit", "node2") <= few
        # What others have beside ours is no difference.
        told("ovn-nbctl", "ls-add", "theirs")
        assert idle(site) == few
        for name, (happens, asked, expected) in drifts(site).items():
            happens()
            site.variables |= asked
            changed = changed_tasks(site.done("site.yml"))
            assert sorted(set(changed)) == sorted(expected), f"{name}: {changed}"
            assert idle(site) == few, name
        # In check mode the same is found, with nothing done.
        certificate = root_of(site.first) / "ovn/host/southbound.pem"
        certificate.unlink()
        site.many(12, 4)
        # Of networks that the catalog would have OVN is not told yet.
        assert set(changed_tasks(site.done("site.yml", "--check"))) == {SET_UP, LIST}
        assert not certificate.exists()
        assert set(changed_tasks(site.done("site.yml"))) == {SET_UP, LIST, TELL}
        assert idle(site) == few
        site.nodes.append(site.third)
        output = site.done("site.yml")
        assert "changed: [node3]" in output and set(changed_tasks(output)) >= {SIGN, SET_UP}
        assert idle(site) == few
        told("ovn-nbctl", "ls-del", "theirs")
        site.done("playbooks/teardown.yml")


# --- a rule of a security group -----------------------------------------------------------------------------------
def web(port: str) -> dict[str, Any]:
    """A group of which one rule is another, by its port."""
    rules = [{"rule_type": "inbound", "protocol": "TCP", "range": port}, {"rule_type": "inbound", "protocol": "ICMP"}]
    return {"name": "web", "rules": [*rules, {"rule_type": "outbound"}]}


def a_rule_is_changed(site: Site) -> None:
    """No row is touched but those of the rule, and what others send goes on, and so does what other rules of the group
    let through. The machines stay off: namespaces have their places, and their addresses."""
    first, (pings,) = site.first, site.variables["nebula_security_groups"]
    open_to_all = {**pings, "rules": [{"rule_type": "inbound"}, {"rule_type": "outbound"}]}
    site.variables |= {
        "nebula_security_groups": [open_to_all, web("80")],
        "nebula_networks": [*site.variables["nebula_networks"], tenant("shop", security_groups=["web"])],
        "nebula_vms": [
            machine(f"{network}-{host}", host, state="poweroff")
            for network in ("net0", "shop")
            for host in ("node1", "node2")
        ],
    }
    site.done("site.yml")
    machines = {vm["name"]: vm for vm in site.info("vms")["vms"]}
    with contextlib.ExitStack() as running:
        for name, vm in machines.items():
            running.enter_context(in_its_place(site.by_name[vm["host"]], name, vm))
        lost = [
            running.enter_context(steady_pings(first, f"{network}-node1", machines[f"{network}-node2"]["ip"]))
            for network in ("net0", "shop")
        ]
        versions = all_rows()
        site.variables["nebula_security_groups"] = [open_to_all, web("8080")]
        assert changed_tasks(site.done("site.yml")) == [LIST, TELL]
        now = all_rows()
        touched = {table: set(found.items()) ^ set(now[table].items()) for table, found in versions.items()}
        tables = {table: {uuid for uuid, _version in found} for table, found in touched.items() if found}
        # The rule that is gone, the one that came, and the ports' group that has them. NB_Global: who waited for hosts.
        assert {table: len(uuids) for table, uuids in tables.items() if table != "NB_Global"} == {
            "ACL": 2,
            "Port_Group": 1,
        }
        assert group_with("tcp.dst == 8080") == tables["Port_Group"]
        for stop in lost:
            assert stop() == 0


def group_with(rule: str) -> set[str]:
    """The groups of ports that have a rule with this text."""
    lines = {table: told("ovn-nbctl", "--format=csv", "list", table).splitlines() for table in ("ACL", "Port_Group")}
    (acl,) = [line.partition(",")[0] for line in lines["ACL"] if rule in line]
    return {line.partition(",")[0] for line in lines["Port_Group"] if acl in line}


def port_of(name: str) -> str:
    """The logical port of the machine of this name. Another tenant's may have the same addresses."""
    lines = told("ovn-nbctl", "--format=csv", "--columns=name,options", "list", "Logical_Switch_Port").splitlines()
    (port,) = [line.partition(",")[0].strip('"') for line in lines if name in line]
    return port


def all_rows() -> dict[str, dict[str, str]]:
    """Of the northbound database: by table and UUID the version, which is another one whenever a row is changed."""
    server, database = "unix:/run/ovn/ovnnb_db.sock", "OVN_Northbound"
    tables = told("ovsdb-client", "list-tables", server, database).split()[2:]
    select = [{"op": "select", "table": table, "where": [], "columns": ["_uuid", "_version"]} for table in tables]
    answers = json.loads(told("ovsdb-client", "query", server, json.dumps([database, *select])))
    return {
        table: {row["_uuid"][1]: row["_version"][1] for row in answer["rows"]} for table, answer in zip(tables, answers)
    }


@contextlib.contextmanager
def in_its_place(node: Node, name: str, vm: dict[str, Any]) -> Iterator[None]:
    """A namespace on the node that is the machine as far as OVN sees it."""
    device = f"tap{vm['id']}"
    node.run("ip", "netns", "add", name)
    node.run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
    node.run("ip", "-n", name, "link", "set", "eth0", "address", vm["mac"], "up")
    node.run("ip", "-n", name, "address", "add", f"{vm['ip']}/24", "dev", "eth0")
    node.run("ip", "link", "set", device, "up")
    identity = ("--", "set", "Interface", device, f"external_ids:iface-id={port_of(name)}")
    node.run("ovs-vsctl", "add-port", "br-int", device, *identity)
    try:
        yield
    finally:
        node.run("ovs-vsctl", "--if-exists", "del-port", "br-int", device)
        node.run("ip", "netns", "delete", name)


@contextlib.contextmanager
def steady_pings(node: Node, name: str, address: str) -> Iterator[Callable[[], int]]:
    """Twenty a second, from the first answer on, until the function is called, which says how many were lost."""
    inside = ("ip", "netns", "exec", name)
    node.run(*inside, "timeout", "120", "sh", "-c", f"until ping -c 1 -W 1 {address}; do :; done")
    program = f"echo $$ >/run/{name}.pid; exec {' '.join(inside)} ping -i 0.05 -W 1 {address}"
    # Not a pipe, which would be full after a minute.
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(node.within("sh", "-c", program), stdout=output) as process,
    ):

        def stop() -> int:
            # What is on its way is waited for.
            node.run(*inside, "ping", "-c", "1", "-W", "5", address)
            node.run("sh", "-c", f"kill -INT $(cat /run/{name}.pid)")
            process.wait(timeout=30)
            output.seek(0)
            text = output.read()
            answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", text)}
            assert len(answered) > 20, text
            # Those behind the last answer were on their way.
            return max(answered) - len(answered)

        try:
            yield stop
        finally:
            if process.poll() is None:
                node.run("sh", "-c", f"kill -KILL $(cat /run/{name}.pid)", check=False)


def idle(site: Site, *arguments: str) -> int:
    """How many tasks a run with nothing to do has."""
    output = site.done("site.yml", *arguments)
    assert changed_tasks(output) == [] and SET_UP not in output and LIST not in output, output
    return output.count("TASK [")


@pytest.mark.timeout(1800)
@in_nodes(3)
def test_a_changed_rule_touches_its_own_rows_and_no_traffic_of_others(written_image: str) -> None:
    site = Site(written_image)
    with hosts(site):
        site.many(1, 1)
        a_rule_is_changed(site)
        site.done("playbooks/teardown.yml")
