# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml over a front-end and three nodes that do not see its datastores, from bare hosts to bare hosts, in short:
images are sent, and what a guest wrote comes back. test_role_transfer_life.py has the rest of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from auditor import assert_consistent
from in_world import in_nodes
from nodes import Node, nodes

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import (
    IMAGE,
    Sent,
    hosts,
    root_of,
    state_of,
    wrote,
)
from ansible_collections.nebula.provision.tests.integration.site_runs import NETWORK, changed_tasks


def flow(site: Sent, first: Node, second: Node) -> None:
    output = site.done("site.yml", "--diff")
    assert "Send images to nodes that lack them" in changed_tasks(output)
    again = site.done("site.yml")
    assert changed_tasks(again) == [], again

    data, base = site.image("data"), site.image("base")
    assert (data["state"], base["state"]) == ("USED_PERS", "USED")
    # Each node has what its machines need, once, and no more; none sees the front-end's.
    own = root_of(first) / f"cache/own-{data['uuid']}-0"
    assert [path.name for path in (root_of(first) / "cache").iterdir()] == [own.name]
    assert [path.name for path in (root_of(second) / "cache").iterdir()] == [f"{base['uuid']}-0"]
    assert not (root_of(first) / "datastores/1").exists()
    wait_for(lambda: wrote(own), "the guest writes to its disk")
    shared = root_of(second) / f"cache/{base['uuid']}-0"
    assert shared.read_bytes() == IMAGE and shared.stat().st_mode & 0o222 == 0
    assert not wrote(Path(data["source"]))

    # What the front-end's key lets in can do nothing but that.
    shell = ["ssh", "-i", str(site.root / "ssh/id_ed25519"), "-o", f"UserKnownHostsFile={first.world / 'known_hosts'}"]
    told = subprocess.run(
        [*shell, f"nebula@{first.address}", "id"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert told.returncode != 0 and "uid=" not in told.stdout

    ended = [{"name": name, "state": "absent", "hard": True} for name in ("own", "shared-0", "shared-1")]
    output = site.done("site.yml", nebula_vms=ended)
    assert "Fetch what machines wrote" in changed_tasks(output)
    data = site.image("data")
    assert (data["state"], data["generation"]) == ("READY", 1) and wrote(Path(data["source"]))
    assert list((root_of(first) / "transfer/out").iterdir()) == list((root_of(first) / "transfer/in").iterdir()) == []
    assert not own.exists()
    assert_consistent(site)

    site.done("playbooks/teardown.yml", nebula_teardown_persistent=True)
    assert not site.root.exists(), list(site.root.rglob("*"))


@pytest.mark.timeout(900)
@in_nodes(3)
def test_images_are_sent_to_nodes_and_come_back() -> None:
    site = Sent()
    site.nodes = nodes()
    site.variables["nebula_networks"] = [NETWORK]
    netted = {"name": "netted", "template": "base", "host": "node3", "nics": [{"NETWORK": "Public"}]}
    site.variables["nebula_vms"].append(netted)
    before = [state_of(node) for node in site.nodes]
    with hosts(site):
        flow(site, *site.nodes[:2])
        assert [state_of(node) for node in site.nodes] == before
