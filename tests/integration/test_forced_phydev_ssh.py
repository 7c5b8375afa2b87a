# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role network makes the interface a port of a bridge by which it comes to the node itself, by ssh: once so that it is
kept, and once so that nobody can connect anew."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_world import in_nodes
from nodes import Node, nodes

from ansible_collections.nebula.provision.tests.integration.site_runs import ROOT

pytestmark = pytest.mark.root

PLACE = "/run/nebula-provision-moves"
LAN = {"name": "Lan", "bridge": "nbr0", "phydev": "eth0", "phydev_forced": True, "node_access": ["all"]}
# The node's own firewall, which takes new connections of ssh by eth0 alone.
FIREWALL = """
table inet own {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname != "eth0" tcp dport 22 ct state new drop
    }
}
"""


def role(*networks: dict[str, object]) -> tuple[int, int, str]:
    """The role for node1: its code, how many tasks changed anything, and what it says."""
    place = Path(os.environ["NEBULA_WORLD"])
    play = {"hosts": "nebula_nodes", "gather_facts": False, "roles": ["nebula.provision.network"]}
    (place / "forced.json").write_text(json.dumps([play]))
    variables = {"nebula_networks": networks, "nebula_root": str(place / "nebula-forced")}
    (place / "nebula-forced").mkdir(exist_ok=True)
    argv = [Path(sys.executable).parent / "ansible-playbook", "-i", os.environ["NEBULA_INVENTORY"], "-l", "node1"]
    done = subprocess.run(
        [*argv, "-e", json.dumps(variables), place / "forced.json"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = done.stdout + done.stderr
    changed = re.findall(r"node1 .*changed=(\d+)", output.rpartition("PLAY RECAP")[2])
    return done.returncode, int((changed or ["-1"])[0]), output


def places(node: Node) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """The node's addresses by interface, its routes, and what waits to put them back."""
    links = json.loads(node.run("ip", "-json", "address", "show").stdout)
    addresses = {
        link["ifname"]: sorted(a["local"] for a in link["addr_info"] if a["family"] == "inet") for link in links
    }
    routes = sorted(line.strip() for line in node.run("ip", "-4", "route", "show", "table", "all").stdout.splitlines())
    waiting = [line for line in node.run("ps", "-eo", "args").stdout.splitlines() if PLACE in line]
    return addresses, routes, waiting


@in_nodes(3)
def test_moved_and_kept_or_put_back() -> None:
    node = nodes()[0]
    before = places(node)
    assert node.address in before[0]["eth0"] and any(line.startswith("default") for line in before[1])
    code, changed, output = role(LAN)
    assert (code, changed) == (0, 2), output
    addresses, routes, waiting = places(node)
    assert addresses["nbr0"] == before[0]["eth0"] and addresses["eth0"] == [] and not waiting
    assert routes == sorted(line.replace("dev eth0", "dev nbr0") for line in before[1]), f"{before[1]}\n{routes}"
    assert node.run("ls", PLACE).stdout == ""
    assert role(LAN)[:2] == (0, 0)
    code, changed, output = role({"name": "Lan", "state": "absent"})
    assert (code, changed) == (0, 2), output
    assert places(node) == before

    node.run("nft", "-f", "-", input=FIREWALL)
    begun = time.monotonic()
    code, _changed, output = role(LAN)
    seconds = time.monotonic() - begun
    assert code != 0 and "no second word came within 60 s by a new connection" in output, output
    assert "no node of this run can have it as the list says: it is not kept in the catalog" in output, output
    assert 55 < seconds < 150, output
    # By itself, and nothing of it stays.
    assert places(node) == before
    assert node.run("ls", PLACE).stdout == ""
    node.run("nft", "delete", "table", "inet", "own")
    assert "nebula" not in node.run("nft", "list", "ruleset").stdout
