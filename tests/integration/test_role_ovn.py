# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ovn as a playbook runs it: the front-end with the databases and two nodes, in one world."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.ovn_hosts import ROOT, net, underlay

# One asks for more than tunnels leave here, one for nothing.
NETWORKS = [{"name": "wide", "vn_mad": "ovn", "guest_mtu": 1500}, {"name": "fits", "vn_mad": "ovn"}]
UNADDRESSED = "address of OVN's databases on host central"
LEAST = "OVN's tunnels leave 1392 bytes for the machines' packets on host node2, the least of all"


class Playbook:
    """Of role ovn. Modules of each host run in its namespace, by an interpreter of its own."""

    def __init__(self, made, centrals=()):
        self.place = made.directory
        hosts = {}
        for node in made.names.values():
            interpreter = node.directory / "python3"
            interpreter.write_text(f'#!/bin/sh\nexec ip netns exec {node.namespace} /usr/bin/python3 "$@"\n')
            interpreter.chmod(0o755)
            hosts[node.name] = {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(interpreter),
                "nebula_root": str(node.root),
                "nebula_ovn_directories": node.directories,
                "nebula_ovn_bridge_mappings": underlay(node),
            }
        for name in centrals or ["central"]:
            hosts[name].update(nebula_ovn_address=made.names[name].address)
        nodes = {node.name: hosts[node.name] for node in made.nodes[:2]}
        groups = {"nebula_frontend": {"hosts": {"central": hosts["central"]}}, "nebula_nodes": {"hosts": nodes}}
        if centrals:
            groups["nebula_ovn_central"] = {"hosts": {name: hosts[name] for name in centrals}}
        (self.place / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
        play = {"hosts": "nebula_nodes", "gather_facts": False, "roles": ["nebula.provision.ovn"]}
        (self.place / "play.json").write_text(json.dumps([play]))
        play["roles"] = ["nebula.provision.ovn", "nebula.provision.network"]
        (self.place / "networks.json").write_text(json.dumps([play]))
        begin = {"hosts": "nebula_frontend", "gather_facts": False, "roles": ["nebula.provision.frontend"]}
        (self.place / "begin.json").write_text(json.dumps([begin]))

    def __call__(self, *arguments, play="play.json", **variables):
        """The code, the number of changed tasks, all that was printed."""
        # Directories of a host are its own, also where the other one's role runs a task on it.
        variables = {"nebula_ovn": True, "nebula_ovn_datapath": "netdev", "nebula_manage_packages": False, **variables}
        playbook = Path(sys.executable).parent / "ansible-playbook"
        done = subprocess.run(
            [
                *(playbook, "-i", self.place / "hosts.json", "-e", json.dumps(variables), "--diff", *arguments),
                self.place / play,
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_REMOTE_TMP": str(self.place / "remote"),
                "ANSIBLE_NOCOLOR": "1",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        output = done.stdout + done.stderr
        recap = output.rpartition("PLAY RECAP")[2]
        return done.returncode, sum(map(int, re.findall(r"changed=(\d+)", recap))), output


@in_bare_world
def test_ovn_comes_and_goes_by_one_variable():
    with net() as made:
        playbook = Playbook(made)
        code, _changed, output = playbook(play="begin.json")
        assert code == 0, output

        code, changed, output = playbook(nebula_ovn=False)
        assert (code, changed) == (0, 0), output

        address = f"{made.central.address}/24"
        made.central.run("ip", "address", "del", address, "dev", "eth0")
        for arguments in (("--check",), ()):
            code, changed, output = playbook(*arguments, nebula_ovn_address="")
            assert (code != 0, changed) == (True, 0)
            assert f"{UNADDRESSED}: nebula_ovn_address is not set for it, and it has no default route" in output
            assert "Install what is missing" not in output
            assert not [node.name for node in made.names.values() if (node.root / "ovn").exists()]
        made.central.run("ip", "address", "add", address, "dev", "eth0")

        code, changed, output = playbook("--check")
        assert code == 0, output
        assert changed > 0
        assert not (made.central.root / "ovn").exists()

        code, changed, output = playbook()
        assert code == 0, output
        # Keys and configuration of two nodes, keys and databases of the central one, certificates.
        assert changed == 7
        assert "PRIVATE KEY" not in output
        for node in made.nodes[:2]:
            assert node.run("ovn-appctl", "-t", "ovn-controller", "connection-status").strip() == "connected"

        for arguments in ((), ("--check",), ("--limit", "node2")):
            code, changed, output = playbook(*arguments)
            assert (code, changed) == (0, 0), output

        # The second node's interface carries less than the other one's.
        made.nodes[1].run("ip", "link", "set", "eth0", "mtu", "1450")
        code, _changed, output = playbook("--check", play="networks.json", nebula_networks=NETWORKS)
        assert code != 0
        assert f"network wide: GUEST_MTU = 1500: {LEAST}" in output and "by 108 on node2, by 58 on node1" in output
        assert "network fits" not in output and '"GUEST_MTU": "1392"' in output
        made.nodes[1].run("ip", "link", "set", "eth0", "mtu", "1500")

        code, changed, output = playbook("--limit", "node1", nebula_ovn_state="absent")
        assert code != 0
        assert "node2 did not answer, was not in this run" in output
        code, _changed, output = playbook(nebula_ovn_state="absent")
        assert code == 0, output
        for node in (made.central, *made.nodes[:2]):
            assert not (node.root / "ovn").exists()
        code, changed, output = playbook(nebula_ovn_state="absent")
        assert (code, changed) == (0, 0), output


# In place of a node's interpreter: it answers with what somebody has put there for its module.
FORGER = """#!/usr/bin/python3
import json, subprocess, sys
done = subprocess.run(["ip", "netns", "exec", "{namespace}", "/usr/bin/python3", *sys.argv[1:]], stdout=subprocess.PIPE)
text = done.stdout.decode()
begin = text.find("{{")
try:
    answer = json.loads(text[begin:]) if begin >= 0 else {{}}
except ValueError:
    answer = {{}}
if isinstance(answer.get("request"), dict):
    answer["request"].update(json.load(open("{forged}")))
    text = json.dumps(answer)
sys.stdout.write(text)
sys.exit(done.returncode)
"""


def served(made):
    """The certificate that the southbound database shows."""
    argv = ["openssl", "s_client", "-connect", f"{made.central.address}:6642", "-showcerts"]
    return made.central.run(*argv, check=False, input="").stdout


@in_bare_world
def test_a_node_that_forges_its_answer_gets_no_certificate_but_its_own():
    with net() as made:
        playbook = Playbook(made)
        assert playbook(play="begin.json")[0] == 0
        node, authority = made.nodes[1], made.central.root / "ovn/authority/issued.json"
        forged = node.directory / "forged.json"
        interpreter = node.directory / "python3"
        interpreter.write_text(FORGER.format(namespace=node.namespace, forged=forged))
        mine = node.directory / "mine.key"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(mine)]
        requests = {
            name: node.run("openssl", "req", "-new", *curve, "-subj", f"/CN={name}") for name in ("central", "node1")
        }

        # Other names alone change nothing: it is who was asked.
        forged.write_text(json.dumps({"name": "central", "kind": "central"}))
        code, _changed, output = playbook()
        assert code == 0, output
        issued = json.loads(authority.read_text())["certificates"]
        assert set(issued) == {"central:central", "client:central", "host:node1", "host:node2"}

        for kind in ("central", "client", "host"):
            for name, request in requests.items():
                forged.write_text(json.dumps({"name": name, "kind": kind, "request": request}))
                code, _changed, output = playbook()
                assert code != 0
                assert "certificate of host node2: its request is not for the subject CN=node2" in output
                assert re.search(r"node1 .*failed=0", output) and re.search(r"node2 .*failed=1", output)
                assert json.loads(authority.read_text())["certificates"] == issued
                break
        forged.write_text(json.dumps({"request": "R" * 2_000_000, "installed": ["x"], "kind": 7}))
        code, _changed, output = playbook("--check")
        assert code != 0 and "certificate of host node2: its request has 4097 characters" in output
        assert json.loads(authority.read_text())["certificates"] == issued
        assert "BEGIN CERTIFICATE" in served(made)
        forged.write_text("{}")
        code, changed, output = playbook()
        assert (code, changed) == (0, 0), output


def renamed(playbook, former, name):
    """The inventory has the node by another name from now on."""
    path = playbook.place / "hosts.json"
    inventory = json.loads(path.read_text())
    nodes = inventory["all"]["children"]["nebula_nodes"]["hosts"]
    nodes[name] = nodes.pop(former)
    path.write_text(json.dumps(inventory))


@contextlib.contextmanager
def set_up_by_role():
    """Yield hosts on which the role has run, its playbook, and a function that lists their chassis."""
    with net() as made:
        playbook = Playbook(made)
        assert playbook(play="begin.json")[0] == 0
        code, _changed, output = playbook()
        assert code == 0, output
        listing = ["ovn-sbctl", "--bare", "--columns=name", "list", "Chassis"]
        yield made, playbook, lambda: sorted(made.central.run(*listing).split())


@in_bare_world
def test_a_host_that_comes_back_under_another_name_takes_its_place():
    with set_up_by_role() as (made, playbook, chassis):
        assert chassis() == ["node1", "node2"]
        renamed(playbook, "node2", "other")
        code, _changed, output = playbook()
        assert code == 0, output
        assert chassis() == ["node1", "other"]
        assert sorted(made.central.run("ovn-sbctl", "--bare", "--columns=name", "list", "Chassis_Private").split()) == [
            "node1",
            "other",
        ]
        code, changed, output = playbook()
        assert (code, changed) == (0, 0), output


@in_bare_world
def test_a_host_that_was_forgotten_leaves_no_chassis_and_one_that_is_silent_does():
    with set_up_by_role() as (made, playbook, chassis):

        def forgotten(name, *more, **variables):
            return playbook(*more, play="forget.json", nebula_lost_host=name, **variables)

        roles = [{"name": "nebula.provision.ovn", "tasks_from": "forgotten"}]
        tasks = [
            {"ansible.builtin.include_role": roles[0]},
            {"ansible.builtin.debug": {"msg": "{{ __nebula_ovn_left }}"}},
        ]
        play = {"hosts": "nebula_frontend", "gather_facts": False, "tasks": tasks}
        (playbook.place / "forget.json").write_text(json.dumps([play]))
        # It does not answer Ansible, and its ovn-controller lives.
        code, changed, output = forgotten("node2")
        assert (code, changed) == (0, 0) and "chassis node2 stays, as it is alive" in output, output
        assert "ovn-sbctl chassis-del node2" in output and chassis() == ["node1", "node2"]
        made.nodes[1].run("/usr/share/ovn/scripts/ovn-ctl", "stop_controller", "--restart")
        code, _changed, output = forgotten("node2", "--check")
        assert code == 0 and chassis() == ["node1", "node2"], output
        code, changed, output = forgotten("node2")
        assert (code, changed) == (0, 1) and chassis() == ["node1"], output
        assert "chassis-del" not in output
        code, changed, output = forgotten("node2")
        assert (code, changed) == (0, 0), output
        # Somebody else's OVN is left alone.
        theirs = {"northbound": "ssl:192.0.2.1:6641", "southbound": "ssl:192.0.2.1:6642"}
        code, changed, output = forgotten("node1", nebula_ovn_remote=theirs)
        assert (code, changed) == (0, 0) and "in the OVN of somebody else" in output, output
        assert "ovn-sbctl chassis-del node1" in output and chassis() == ["node1"]
