# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each change of docs/changes.md on a container of LXC that runs: what the page says becomes of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from changes_of_machines import OPERATIONS
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.storage import mounted_disks
from ansible_collections.nebula.provision.tests.integration.lxc_node import LxcNode, a_container_node
from ansible_collections.nebula.provision.tests.integration.real_changes import Tried, a_site, named, text_of
from ansible_collections.nebula.provision.tests.integration.test_switches import host

# It is a node, not its hypervisor, that filters (test_node_filters.py); and the kernel of a test machine has no
# scheduler of packets.
NOT_HERE = ("`SECURITY_GROUPS`", "limits of a NIC")
HERE = [each.what for each in OPERATIONS if each.containers and not each.what.startswith(NOT_HERE)]
# What a running definition does not show.
UNSEEN = ("`context`",)


def files(node: LxcNode) -> dict[str, str]:
    data = Path(node.root) / "datastores/1/data"
    data.parent.mkdir(parents=True)
    data.touch()
    subprocess.run(["truncate", "--size", "8M", str(data)], check=True)
    subprocess.run(["mkfs.ext4", "-q", str(data)], check=True)
    return {"os": node.base, "data": str(data)}


def shown(node: LxcNode) -> str:
    """What runs, and what is mounted for it."""
    domain = ET.fromstring(node.domain(node.vm(0)).XMLDesc(0))
    points = [each for each in mounted_disks.points(domain.findtext("uuid") or "") if mounted_disks.is_mounted(each)]
    if domain.findtext("cputune/quota") == "-1":
        # What libvirt shows only once it was asked to set it.
        tune = domain.find("cputune")
        assert tune is not None
        for name in ("quota", "period"):
            for each in tune.findall(name):
                tune.remove(each)
    return "\n".join([text_of(domain), *map(str, sorted(points))])


@in_world
@pytest.mark.parametrize("state", ["POWEROFF", "SUSPENDED"])
@pytest.mark.parametrize("what", HERE)
def test_a_change_of_a_container_that_does_not_run(what: str, state: str) -> None:
    with host() as switch, a_container_node() as node, a_site(node, switch, "lxc", files(node), node.size) as site:
        tried = Tried(node, site, {}, lambda: shown(node))
        tried.bring(state="running", **named(what).before)
        node.wait_for_line(node.vm(0), "nebula-guest: ready")
        tried.change_at_rest(named(what), state)
        tried.bring(state="absent", hard=True)


@in_world
@pytest.mark.parametrize("what", HERE)
def test_a_change(what: str) -> None:
    with host() as switch, a_container_node() as node, a_site(node, switch, "lxc", files(node), node.size) as site:
        tried = Tried(node, site, {}, lambda: shown(node))
        tried.bring(state="running", **named(what).before)
        node.wait_for_line(node.vm(0), "nebula-guest: ready")
        tried.change(named(what), not what.startswith(UNSEEN))
        tried.bring(state="absent", hard=True)
