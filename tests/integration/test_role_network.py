# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role network as a playbook runs it: catalog and bridges, in a network namespace made here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {
    "name": "Public",
    "bridge": "nbr0",
    "network_address": "10.66.0.0",
    "network_mask": "255.255.255.0",
    "gateway": "10.66.0.1",
    "nat": True,
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 100}],
}

pytestmark = pytest.mark.root


@pytest.fixture
def namespace():
    name = f"nebrole-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=60)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True, timeout=60)


@pytest.fixture
def second(role, namespace, tmp_path):
    """A node more, with a network namespace of its own: its name."""
    name = f"{namespace}-2"
    interpreter = tmp_path / "python3"
    interpreter.write_text(f'#!/bin/sh\nexec ip netns exec {name} /usr/bin/python3 "$@"\n')
    interpreter.chmod(0o755)
    (tmp_path / "second").mkdir()
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(interpreter),
        "nebula_root": str(tmp_path / "second"),
    }
    inventory = json.loads((tmp_path / "hosts.json").read_text())
    inventory["all"]["children"]["nebula_nodes"]["hosts"]["there"] = host
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=60)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True, timeout=60)


@pytest.fixture
def role(namespace, tmp_path):
    """Run the role for these networks; the code, and the counts of its last line."""
    host = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    groups = {"nebula_frontend": {"hosts": {"here": None}}, "nebula_nodes": {"hosts": {"here": host}}}
    variables = {"nebula_root": str(tmp_path / "nebula")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": groups, "vars": variables}}))
    play = {"hosts": "nebula_nodes", "gather_facts": False, "roles": ["nebula.provision.network"]}
    (tmp_path / "play.json").write_text(json.dumps([play]))

    def run(*networks, check=False):
        variables = {"nebula_networks": networks}
        (tmp_path / "nebula").mkdir(exist_ok=True)
        playbook = Path(sys.executable).parent / "ansible-playbook"
        arguments = ["-i", tmp_path / "hosts.json", "-e", json.dumps(variables), "--diff", *["--check"] * check]
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, playbook, *arguments, tmp_path / "play.json"],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"),
                "ANSIBLE_NOCOLOR": "1",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        output = done.stdout + done.stderr
        counts = dict(re.findall(r"(\w+)=(\d+)", output.rpartition("PLAY RECAP")[2]))
        return done.returncode, int(counts.get("changed", -1)), output

    return run


def bridges(namespace):
    command = ["ip", "-n", namespace, "-json", "link", "show", "type", "bridge"]
    links = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout or "[]")
    return [link["ifname"] for link in links if link]


def test_from_a_bare_host_to_none_as_predicted(role, namespace):
    for networks, changed, there in (
        ([PUBLIC, {"name": "Private"}], 2, ["nbr0", "onebr1"]),
        ([PUBLIC, {"name": "Private"}], 0, ["nbr0", "onebr1"]),
        # What is taken out of the list is left alone.
        ([{**PUBLIC, "address_ranges": [{"ip": "10.66.0.10", "size": 120}]}], 1, ["nbr0", "onebr1"]),
        ([{"name": "Private", "state": "absent"}], 2, ["nbr0"]),
        ([{"name": "Private", "state": "absent"}, {"name": "Public", "state": "absent"}], 2, []),
        ([{"name": "Public", "state": "absent"}], 0, []),
    ):
        before = bridges(namespace)
        code, predicted, output = role(*networks, check=True)
        assert code == 0, output
        assert bridges(namespace) == before
        code, real, output = role(*networks)
        assert code == 0, output
        assert (predicted, real) == (changed, changed), output
        assert sorted(bridges(namespace)) == there


def test_what_cannot_be_is_said_and_the_rest_is_there(role):
    wrong = {"name": "Wrong", "bridge": "nbr1", "address_ranges": [{"ip": "10.66.0.300", "size": 5}]}
    code, _changed, output = role(wrong, PUBLIC)
    assert code != 0
    assert "IP = '10.66.0.300': not an IPv4 address" in output
    # Its bridge was made beside the one that can't be.
    assert role(PUBLIC)[:2] == (0, 0)


def catalog(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "nebula" / "nebula.db")) as database:
        return database.execute("SELECT name, nat FROM networks").fetchall()


def test_what_one_of_two_nodes_can_have_is_kept_and_what_none_can_is_not(role, namespace, second, tmp_path):
    def refused(*networks, **how):
        """The nodes that refuse the bridge, and what becomes of the network."""
        code, _changed, output = role(*networks, **how)
        assert code != 0, output
        assert "network Public: bridge nbr0: there is a bridge interface of that name" in output
        became = re.search("no node of this run can have it as the list says: it is (.*)", output)
        return set(re.findall(r"fatal: \[(\w+)\]", output)), became and became[1]

    for node in (namespace, second):
        subprocess.run(["ip", "-n", node, "link", "add", "name", "nbr0", "type", "bridge"], check=True)
    private = {"name": "Private", "bridge": "nbr1"}
    for check in (True, False):
        assert refused(PUBLIC, private, check=check) == ({"here", "there"}, "not kept in the catalog")
    assert catalog(tmp_path) == [("Private", 0)]
    subprocess.run(["ip", "-n", second, "link", "delete", "nbr0"], check=True)
    assert refused(PUBLIC) == ({"here"}, None)
    assert catalog(tmp_path) == [("Private", 0), ("Public", 1)]
    # A change that none of them can have leaves the catalog as it was.
    subprocess.run(["ip", "-n", second, "link", "set", "dev", "nbr0", "alias", ""], check=True)
    assert refused({**PUBLIC, "nat": False}) == ({"here", "there"}, "in the catalog as it was before")
    assert catalog(tmp_path) == [("Private", 0), ("Public", 1)]
    assert sorted(bridges(namespace)) == sorted(bridges(second)) == ["nbr0", "nbr1"]


def test_two_networks_on_one_bridge_and_a_list_of_one_of_them_alone(role, namespace, tmp_path):
    private = {
        "name": "Private",
        "bridge": "nbr0",
        "network_address": "10.67.0.0/24",
        "gateway": "10.67.0.1",
        "nat": True,
        "guest_mtu": 9000,
        "address_ranges": [{"ip": "10.67.0.10", "size": 100}],
    }

    def addresses():
        command = ["ip", "-n", namespace, "-json", "address", "show", "dev", "nbr0"]
        (link,) = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
        return sorted(each["local"] for each in link["addr_info"] if each["family"] == "inet"), link["mtu"]

    one, other = "10.66.0.1", "10.67.0.1"
    for networks, changed, there in (
        ([PUBLIC], 2, ([one], 1500)),
        # The one that comes is the only one of its list.
        ([private], 2, ([one, other], 9000)),
        ([PUBLIC, private], 0, ([one, other], 9000)),
        ([PUBLIC], 0, ([one, other], 9000)),
        ([{"name": "Public", "state": "absent"}], 2, ([other], 9000)),
        ([private], 0, ([other], 9000)),
        ([PUBLIC, {**private, "guest_mtu": 1500}], 2, ([one, other], 1500)),
        ([{"name": "Private", "state": "absent"}, PUBLIC], 2, ([one], 1500)),
    ):
        code, predicted, output = role(*networks, check=True)
        assert code == 0, output
        code, real, output = role(*networks)
        assert code == 0, output
        assert (predicted, real) == (changed, changed), output
        assert addresses() == there
    for check in (True, False):
        code, _changed, output = role(PUBLIC, {**private, "nat": False, "phydev": "eth1"}, check=check)
        assert code != 0 and "network Private: BRIDGE = nbr0, PHYDEV = eth1" in output
        assert "it is the bridge of network Public (id 2) too" in output
    # What no node can have is not kept, and the other one stays.
    add = ["ip", "-n", namespace, "route", "add", "blackhole", "10.67.0.0/16"]
    subprocess.run(add, check=True, timeout=60)
    code, _changed, output = role(PUBLIC, private)
    assert code != 0 and "network Private: no node of this run can have it" in output
    assert catalog(tmp_path) == [("Public", 1)]
    assert addresses() == ([one], 1500)
