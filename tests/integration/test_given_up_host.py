# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is cut off, given up, and comes back with its machine: nobody got its address meanwhile, it is named, and
ended only where that is wanted."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.model.move import HAS_LEFT, LIVE
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.tests.integration.sent_site import TEMPLATE, Sent, hosts, root_of

NETWORK = {
    "name": "net",
    "bridge": "nbr0",
    "vn_mad": "bridge",
    "address_ranges": [{"type": "IP4", "ip": "10.88.0.10", "size": 8}],
}
FIRST, SECOND = "10.88.0.10", "10.88.0.11"


def machines(site: Sent, node: Node) -> dict[int, str]:
    """What the node says that it has."""
    code, output = site.execute(
        [
            str(site.programs / "ansible"), "-i", str(site.inventory()), node.name, "-m",
            "nebula.provision.nebula_deploy", "-a", f"host={node.name} root={site.root}",
        ]
    )  # fmt: skip
    assert code == 0, output
    told = json.loads(output[output.index("{") :])
    return {vm["vm_id"]: vm["state"] for vm in told["observed"]["vms"]}


def wanted(name: str, host: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "template": "base", "host": host, **more}


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_a_host_that_was_given_up_comes_back_with_its_machine() -> None:
    site = Sent()
    site.variables["nebula_networks"] = [NETWORK]
    template = TEMPLATE.format(image="base", prefix="vd") + 'NIC = [ NETWORK = "net" ]\n'
    site.variables["nebula_templates"] = [{"name": "base", "template": template}]
    site.variables["nebula_images"] = site.variables["nebula_images"][1:]
    with hosts(site):
        first, second = site.nodes
        assert FIRST in site.done("site.yml", nebula_vms=[wanted("old", "node1")])

        # Nobody reaches the first any more.
        site.nodes = [second]
        output = site.done("playbooks/forget_host.yml", "-e", "nebula_lost_host=node1")
        assert "Their addresses are held until the host is seen without them" in output, output
        output = site.done("site.yml", nebula_vms=[wanted("new", "node2")])
        assert SECOND in output and FIRST not in output, output

        # It is back, and its machine was never gone.
        site.nodes = [first, second]
        output = site.done("site.yml", nebula_vms=[])
        assert "Host node1 has VM old (id 0), RUNNING, which was given up: it is left as it is." in output, output
        assert machines(site, first) == {0: "RUNNING"}
        asked = wanted("next", "node2", nics=[{"NETWORK": "net", "IP": FIRST}])
        code, output = site.run("site.yml", nebula_vms=[asked])
        assert code != 0 and "VM old (id 0), given up with host node1, has it" in output, output

        disk = root_of(first) / "datastores/0/0/disk.0"
        assert disk.exists()
        site.done("site.yml", nebula_vms=[], nebula_end_given_up=True)
        assert machines(site, first) == {0: "POWEROFF"} and disk.exists()
        output = site.done("site.yml", nebula_vms=[asked])
        assert FIRST in output and "given up" not in output, output
        assert sorted(machines(site, second).values()) == ["RUNNING", "RUNNING"]


def leave(site: Sent) -> None:
    """Have the catalog believe that machine 0 has left the first node for the second, which has said nothing of it."""
    engine = open_engine({"engine": "embedded", "root": str(site.root)}, False)
    with engine.session():
        generation = engine.vms.move(0, "node2", LIVE).generation
        engine.vms.record("node1", [VmOutcome(0, generation, "UNKNOWN", True, moved=HAS_LEFT)])


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_machines_that_are_taken_back_are_not_told_as_forgotten() -> None:
    """One has left for a host, and was not found there before that is given up: its disks are where it was."""
    site = Sent()
    site.variables["nebula_networks"] = []
    site.variables["nebula_images"] = site.variables["nebula_images"][1:]
    site.variables["nebula_templates"] = site.variables["nebula_templates"][1:]
    with hosts(site):
        site.done("site.yml", nebula_vms=[wanted("back", "node1"), wanted("gone", "node2")])
        leave(site)
        site.nodes = site.nodes[:1]
        output = site.done(
            "playbooks/forget_host.yml", "-e", "nebula_lost_host=node2", "-e", "nebula_lost_host_gone=true"
        )
        table = output[output.index("Forgotten with host node2") :]
        assert re.search(r"^\s*1 +gone ", table, re.MULTILINE), table
        assert not re.search(r"^\s*0 +back ", table, re.MULTILINE), table
        assert "since other hosts have them by their moves: back" in table, table
        assert machines(site, site.nodes[0]) == {0: "RUNNING"}
