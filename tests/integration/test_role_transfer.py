# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml over a front-end and two nodes that do not see its datastores, from bare hosts to bare hosts, in short:
images are sent, and what a guest wrote comes back. test_role_transfer_life.py has the rest of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from auditor import assert_consistent
from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import IMAGE, Node, Sent, hosts, wrote
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks


@in_bare_world
def sent() -> None:
    site = Sent()
    with hosts(site):
        flow(site, *site.nodes)


def flow(site: Sent, first: Node, second: Node) -> None:
    output = site.done("site.yml", "--diff")
    assert "Send images to nodes that lack them" in changed_tasks(output)
    again = site.done("site.yml")
    assert changed_tasks(again) == [], again

    data, base = site.image("data"), site.image("base")
    assert (data["state"], base["state"]) == ("USED_PERS", "USED")
    # Each node has what its machines need, once, and no more; none sees the front-end's.
    own = first.root / f"cache/own-{data['uuid']}-0"
    assert [path.name for path in (first.root / "cache").iterdir()] == [own.name]
    assert [path.name for path in (second.root / "cache").iterdir()] == [f"{base['uuid']}-0"]
    assert not (first.root / "datastores/1").exists()
    wait_for(lambda: wrote(own), "the guest writes to its disk")
    shared = second.root / f"cache/{base['uuid']}-0"
    assert shared.read_bytes() == IMAGE and shared.stat().st_mode & 0o222 == 0
    assert not wrote(Path(data["source"]))

    # What the front-end's key lets in can do nothing but that.
    shell = ["ssh", "-i", str(site.root / "ssh/id_ed25519"), *first.host()["ansible_ssh_common_args"].split()]
    told = subprocess.run(
        [*shell, "nebula@10.77.0.2", "id"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert told.returncode != 0 and "uid=" not in told.stdout

    ended = [{"name": name, "state": "absent", "hard": True} for name in ("own", "shared-0", "shared-1")]
    output = site.done("site.yml", nebula_vms=ended)
    assert "Fetch what machines wrote" in changed_tasks(output)
    data = site.image("data")
    assert (data["state"], data["generation"]) == ("READY", 1) and wrote(Path(data["source"]))
    assert list((first.root / "transfer/out").iterdir()) == list((first.root / "transfer/in").iterdir()) == []
    assert not own.exists()
    assert_consistent(site)

    site.done("playbooks/teardown.yml", nebula_teardown_persistent=True)
    for root in (site.root, first.root, second.root):
        assert not root.exists(), list(root.rglob("*"))
    users = (first.outside.parent / "etc/passwd").read_text()
    assert "nebula:" not in users


@pytest.mark.timeout(900)
def test_images_are_sent_to_nodes_and_come_back():
    sent()
