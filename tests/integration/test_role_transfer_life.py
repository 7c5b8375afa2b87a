# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on nodes that do not see the front-end's datastores: what check mode foresees, a disk that is saved while its
machine runs, a node that vanishes with what a machine wrote. test_role_transfer.py has the life in short."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditor import assert_consistent
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import Sent, hosts, root_of, wrote
from ansible_collections.nebula.provision.tests.integration.site_runs import ONLY_REAL, changed_tasks


def flow(site: Sent, first: Node, second: Node) -> None:
    checked = site.done("site.yml", "--check", "--diff")
    assert not site.root.exists() and not root_of(first).exists(), "check mode did something"
    output = site.done("site.yml", "--diff")
    # What only follows from what the nodes did is not foreseen.
    assert set(changed_tasks(output)) - ONLY_REAL == set(changed_tasks(checked)), (checked, output)
    data = site.image("data")
    own = root_of(first) / f"cache/own-{data['uuid']}-0"
    wait_for(lambda: wrote(own), "the guest writes to its disk")
    assert_consistent(site)

    # What a machine that runs has on its disk becomes an image of the front-end.
    saving = {"disk": 0, "image": "saved", "consistency": "crash"}
    output = site.done("site.yml", nebula_vms=[{**site.variables["nebula_vms"][0], "save_as": [saving]}])
    assert "Fetch what machines wrote" in changed_tasks(output)
    saved = site.image("saved")
    assert (saved["state"], saved["format"]) == ("READY", "raw") and wrote(Path(saved["source"]))
    assert list((root_of(first) / "transfer/out").iterdir()) == []

    ended = [{"name": name, "state": "absent", "hard": True} for name in ("own", "shared-0", "shared-1")]
    output = site.done("site.yml", nebula_vms=ended)
    assert "Fetch what machines wrote" in changed_tasks(output)
    data = site.image("data")
    assert (data["state"], data["generation"]) == ("READY", 1) and wrote(Path(data["source"]))
    assert list((root_of(first) / "transfer/out").iterdir()) == list((root_of(first) / "transfer/in").iterdir()) == []
    assert not own.exists()
    assert changed_tasks(site.done("site.yml", nebula_vms=ended)) == []
    assert_consistent(site)

    # A node that vanishes with what a machine wrote: nothing is lost, and the image is nobody's until that is back.
    site.done("site.yml", nebula_vms=[site.variables["nebula_vms"][0]])
    assert wrote(root_of(first) / f"cache/own-{data['uuid']}-1")
    gone = {"nebula_transfer_port": 1}
    code, output = site.run("site.yml", nebula_vms=ended[:1], **gone)
    assert code != 0 and "nebula_transfer_port" in output and "image data" in output, output
    assert site.image("data")["state"] == "LOCKED_USED_PERS"
    code, output = site.run("site.yml", nebula_vms=[{"name": "next", "template": "data", "host": "node2"}], **gone)
    assert code != 0 and "is on host node1, and has not come back yet" in output, output
    # The next run fetches it, and from then on the image is anybody's, on any node.
    site.done("site.yml", nebula_vms=[])
    data = site.image("data")
    assert (data["state"], data["generation"]) == ("READY", 2) and wrote(Path(data["source"]))
    site.done("site.yml", nebula_vms=[{"name": "next", "template": "data", "host": "node2"}])
    assert site.image("data")["state"] == "USED_PERS"

    site.done("playbooks/teardown.yml", nebula_teardown_persistent=True)
    for root in (site.root, root_of(first), root_of(second)):
        assert not root.exists(), list(root.rglob("*"))
    users = first.path("/etc/passwd").read_text()
    assert "nebula:" not in users


@pytest.mark.timeout(900)
@in_nodes(3)
def test_what_becomes_of_images_on_nodes() -> None:
    site = Sent()
    with hosts(site):
        flow(site, *site.nodes)
