# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three central hosts of OVN, as a cluster: it grows out of one, loses its leader and a member, and is given back."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys
import time

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.ovn_hosts import (
    age_certificates,
    changed,
    left,
    nbctl,
    net,
    pings,
    set_up,
    set_up_cluster,
    steady_pings,
    two_machines,
    until,
)
from ansible_collections.nebula.provision.tests.integration.test_role_ovn import Playbook

DATABASES = {"northbound": ("ovnnb_db", "OVN_Northbound"), "southbound": ("ovnsb_db", "OVN_Southbound")}
CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)"


def status(member, which):
    name, database = DATABASES[which]
    return member.run(
        "ovn-appctl", "-t", str(member.directory / f"ovn_run/{name}.ctl"), "cluster/status", database, check=False
    ).stdout


def leads(member, which):
    return "Role: leader" in status(member, which)


def led(members):
    """Whether one of these leads, of each database."""
    return all(any(leads(member, which) for member in members) for which in DATABASES)


def whole(members):
    """Whether each member knows three, of each database."""
    known = [len(re.findall(" at ssl:", status(member, which))) for which in DATABASES for member in members]
    return known == [3] * 6


def kill(member):
    """All central daemons at once, as a host that dies."""
    for name in ("ovnnb_db", "ovnsb_db", "ovn-northd"):
        os.kill(int((member.directory / f"ovn_run/{name}.pid").read_text()), signal.SIGKILL)


def add_port(made, results, port, address):
    """A further machine's port. It is in the southbound database, by northd, and at the hosts when this returns."""
    words = ["lsp-add", "private", port, "--", "lsp-set-addresses", port, f"02:00:0a:00:00:{port[1:]:0>2} {address}"]
    nbctl(made, results, "--wait=hv", *words)


def reaches(node, member, port):
    return node.run(sys.executable, "-c", CONNECT, member.address, str(port), check=False).returncode == 0


@in_bare_world
def test_a_cluster_grows_out_of_one_host_and_outlives_its_leader():
    with net() as made:
        members, hosts = [made.central, *made.nodes[1:]], made.nodes[:2]
        machines = two_machines(made, set_up(made, hosts), *hosts)

        with steady_pings(machines[0], "10.0.0.2") as lost:
            results = set_up_cluster(made, members, hosts)
        assert lost == [False]
        assert "private" in nbctl(made, results, "ls-list")
        remote = hosts[0].vsctl("get", "Open_vSwitch", ".", "external_ids:ovn-remote")
        assert remote == '"ssl:192.0.2.1:6642,ssl:192.0.2.12:6642,ssl:192.0.2.13:6642"'
        assert whole(members)
        assert changed(set_up_cluster(made, members, hosts)) == []
        assert changed(set_up_cluster(made, members, hosts, check=True)) == []

        # A node's certificate is of the southbound database's authority: it must not get at the cluster's port.
        assert reaches(hosts[0], members[2], 6642)
        assert not reaches(hosts[0], members[2], 6644)
        assert reaches(members[1], members[2], 6644)
        members[2].run("nft", "delete", "table", "inet", "nebula_ovn_cluster")
        assert reaches(hosts[0], members[2], 6644)
        assert changed(set_up_cluster(made, members, hosts)) == ["node3"]
        assert not reaches(hosts[0], members[2], 6644)
        # What it may write is as little at a member that does not lead.
        place = hosts[0].root / "ovn/host"
        files = [f"--private-key={place}/key.pem", f"--certificate={place}/southbound.pem", "--timeout=3"]
        files += [f"--ca-cert={place}/southbound-authority.pem", "--no-leader-only"]
        for member in members:
            by_node = ("ovn-sbctl", *files, f"--db=ssl:{member.address}:6642", "set", "Chassis")
            assert hosts[0].run(*by_node, "node1", "external_ids:a=1", check=False).returncode == 0
            done = hosts[0].run(*by_node, "node2", "external_ids:a=1", check=False)
            assert "permission error" in done.stderr

        for round_number, which in enumerate(DATABASES):
            leader = next(member for member in members if leads(member, which))
            with steady_pings(machines[0], "10.0.0.2") as lost:
                kill(leader)
                begun = time.monotonic()
                until(functools.partial(led, [member for member in members if member is not leader]), "no leader")
                add_port(made, results, f"p{5 + round_number}", f"10.0.0.{5 + round_number}")
                print(f"{which}: {time.monotonic() - begun:.1f} s")
            assert lost == [False]
            assert changed(set_up_cluster(made, members, hosts)) == [leader.name]
            assert changed(set_up_cluster(made, members, hosts)) == []

        # All of them at once.
        for member in members:
            kill(member)
        results = set_up_cluster(made, members, hosts)
        assert results["central"]["majority"]
        add_port(made, results, "p7", "10.0.0.7")
        assert changed(set_up_cluster(made, members, hosts)) == []
        assert pings(machines[0], "10.0.0.2")


@in_bare_world
def test_a_lost_member_joins_anew_and_all_of_it_is_given_back():
    with net() as made:
        members, hosts = [made.central, *made.nodes[1:]], made.nodes[:1]
        results = set_up_cluster(made, members, hosts, check=True)
        assert set(results["centrals"]) <= set(changed(results))
        assert left(made) == []
        results = set_up_cluster(made, members, hosts)
        nbctl(made, results, "ls-add", "kept")

        lost = members[2]
        kill(lost)
        for path in (*(lost.directory / "ovn_database").iterdir(), *(lost.root / "ovn/central").iterdir()):
            path.unlink()
        lost.run("nft", "delete", "table", "inet", "nebula_ovn_cluster")
        again = set_up_cluster(made, members, hosts)
        assert lost.name in changed(again)
        until(lambda: whole(members), "what the member was before is still there")
        assert changed(set_up_cluster(made, members, hosts)) == []
        shown = lost.run(
            "ovn-nbctl", "--no-leader-only", f"--db=unix:{lost.directory}/ovn_run/ovnnb_db.sock", "ls-list"
        )
        assert "kept" in shown

        # With one of three nothing can be written; what is there is still told.
        for member in members[:2]:
            kill(member)
        until(lambda: "Leader: unknown" in status(lost, "northbound"), "it still has a leader")
        group = sorted((each["member"] for each in results["asked"]), key=lambda each: each["rank"])
        certificates = again["signed"]["certificates"][f"central:{lost.name}"]
        alone = lost.ok("central", cluster=group, certificates=certificates, address=lost.address)
        assert not alone["majority"]
        assert set_up_cluster(made, members, hosts)["central"]["majority"]

        # Back to one, with another address or with two: refused.
        signed = again["signed"]["certificates"]["central:central"]
        message = made.central.refused("central", certificates=signed, address=made.central.address)
        assert "this host is a member of its cluster, at ssl:192.0.2.1:6643" in message
        moved = [{**each, "address": "192.0.2.99"} if each["name"] == "central" else each for each in group]
        message = made.central.refused("central", certificates=signed, cluster=moved, address="192.0.2.99")
        assert "the cluster knows this member as ssl:192.0.2.1:6643" in message
        message = made.central.refused("central", certificates=signed, cluster=group[:2], address="192.0.2.1")
        assert "these are 2 hosts" in message

        # New certificates are used by all daemons, also by northd, whose connection is the servers' own.
        age_certificates(made)
        northd = (lost.directory / "ovn_run/ovn-northd.pid").read_text()
        assert {each.name for each in members} < set(changed(set_up_cluster(made, members, hosts)))
        assert (lost.directory / "ovn_run/ovn-northd.pid").read_text() != northd
        for which, port in (("northbound", 6641), ("southbound", 6644)):
            served = (lost.root / f"ovn/central/{which}.pem").read_text().strip()
            shown = (
                members[1]
                .run("openssl", "s_client", "-connect", f"{lost.address}:{port}", "-showcerts", input="", check=False)
                .stdout
            )
            assert served in shown, shown
        add_switch = nbctl(made, results, "--wait=sb", "ls-add", "later")
        assert add_switch == ""

        hosts[0].ok("host", state="absent")
        for member in members:
            assert "Logical_Switch kept" in member.refused("central", state="absent")
        nbctl(made, results, "ls-del", "kept", "--", "ls-del", "later")
        for check in (True, False):
            assert all(member.ok("central", state="absent", check=check)["changed"] for member in members)
        assert left(made) == []
        for member in members:
            assert "nebula" not in member.run("nft", "list", "ruleset")
            assert list((member.directory / "ovn_database").iterdir()) == []
            assert not member.ok("central", state="absent")["changed"]


NETWORKS = [{"name": name, "vn_mad": "ovn", "network_address": "10.0.0.0/24"} for name in ("first", "second")]
# What role network does for OVN, once the catalog has changed.
TELL = [
    {"nebula.provision.nebula_network": {"root": "{{ nebula_root }}", "networks": "{{ nebula_networks }}"}},
    {"ansible.builtin.include_role": {"name": "nebula.provision.network", "tasks_from": "ovn"}},
    {
        "ansible.builtin.fail": {"msg": "{{ __nebula_ovn_told }}"},
        "when": "__nebula_ovn_told is nebula.provision.gone_wrong",
    },
]


def looked(made, playbook):
    """What an audit sees: the states of the central hosts, and what differs."""
    there = made.directory / "looked.json"
    look = {"ansible.builtin.include_role": {"name": "nebula.provision.ovn", "tasks_from": "audited"}}
    keep = {"content": "{{ __nebula_ovn_found | to_json }}", "dest": str(there)}
    play = {
        "hosts": "nebula_nodes",
        "gather_facts": False,
        "tasks": [look, {"ansible.builtin.copy": keep, "run_once": True}],
    }
    (made.directory / "look.json").write_text(json.dumps([play]))
    code, _changed, output = playbook(play="look.json")
    assert code == 0, output
    found = json.loads(there.read_text())
    assert all(part["state"] == "connected" for part in found["parts"] if part["part"] == "node")
    states = {part["host"]: part["state"] for part in found["parts"] if part["part"] == "central"}
    return states, [each["sentence"] for each in found["consistency"]]


@in_bare_world
def test_the_role_makes_a_cluster_of_three_hosts_that_takes_changes_without_one():
    with net() as made:
        playbook = Playbook(made, ["central", "node2"])
        code, _changed, output = playbook(play="begin.json")
        assert code == 0, output
        code, changes, output = playbook()
        assert code != 0
        assert "group nebula_ovn_central has 2 hosts (central, node2)" in output
        assert changes == 0

        playbook = Playbook(made, ["central", "node2", "node3"])
        play = {"hosts": "nebula_frontend", "gather_facts": False, "tasks": TELL}
        (made.directory / "tell.json").write_text(json.dumps([play]))
        code, _changed, output = playbook()
        assert code == 0, output
        remote = made.nodes[0].vsctl("get", "Open_vSwitch", ".", "external_ids:ovn-remote")
        assert remote.count("ssl:") == 3
        for words in ((), ("--check",)):
            code, changes, output = playbook(*words)
            assert (code, changes) == (0, 0), output
        code, changes, output = playbook(play="tell.json", nebula_networks=NETWORKS[:1])
        assert code == 0, output
        assert looked(made, playbook) == ({"central": "running", "node2": "running", "node3": "running"}, [])

        members = [made.central, *made.nodes[1:]]
        leader = next(member for member in members if leads(member, "northbound"))
        kill(leader)
        code, changes, output = playbook(play="tell.json", nebula_networks=NETWORKS)
        assert (code, changes) == (0, 2), output
        states, (finding,) = looked(made, playbook)
        assert {name for name, state in states.items() if state != "running"} == {leader.name}, states
        assert finding.startswith(f"host {leader.name}: OVN's databases and northd: ") and "running is False" in finding
        others = [member for member in members if member is not leader]
        socket = f"--db=unix:{others[0].directory}/ovn_run/ovnnb_db.sock"
        assert others[0].run("ovn-nbctl", "--no-leader-only", socket, "ls-list").count("(") == 2
        code, changes, output = playbook()
        # Of one member.
        assert (code, changes) == (0, 1), output
        code, changes, output = playbook()
        assert (code, changes) == (0, 0), output

        tell = {**play, "vars": {"__nebula_ovn_state": "absent"}, "tasks": TELL[1:]}
        (made.directory / "tell.json").write_text(json.dumps([tell]))
        code, _changed, output = playbook(play="tell.json")
        assert code == 0, output
        code, _changed, output = playbook(nebula_ovn_state="absent")
        assert code == 0, output
        for node in made.names.values():
            assert not (node.root / "ovn").exists()
            assert "nebula" not in node.run("nft", "list", "ruleset")
        code, changes, output = playbook(nebula_ovn_state="absent")
        assert (code, changes) == (0, 0), output
