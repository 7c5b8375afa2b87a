# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a node, and that polling it changes nothing."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.network import links


@pytest.mark.parametrize("check", [True, False])
def test_a_poll_tells_what_is_there_and_changes_nothing(deploy, still, tmp_path, check):
    still.states = {3: "RUNNING"}
    result = deploy(check)
    assert not result.changed
    assert "outcomes" not in result.payload
    observed = result.payload["observed"]
    assert {key: observed[key] for key in ("host", "hypervisor", "reached", "memory", "cpu", "inventory")} == {
        "host": "node1",
        "hypervisor": "kvm",
        "reached": True,
        "memory": 4096,
        "cpu": 8.0,
        "inventory": None,
    }
    assert [(vm["vm_id"], vm["state"]) for vm in observed["vms"]] == [(3, "RUNNING")]
    assert json.loads(json.dumps(result.payload)) == result.payload
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("state", ["polled", "audited", "compared"])
def test_in_check_mode_nothing_tells_of_bridges_that_would_have_been_made(deploy, plan, still, monkeypatch, state):
    monkeypatch.setattr(links, "networks_here", lambda _catalog: ("ours",))
    given = {"plan": plan()} if state == "compared" else {}
    told = [deploy(check, state=state, **given).payload["observed"]["networks"] for check in (True, False)]
    assert told == [None, ["ours"]]


def test_a_hypervisor_that_does_not_answer_is_an_error_where_it_has_to(deploy, still):
    still.answers = False
    with pytest.raises(HypervisorError, match="it does not answer"):
        deploy(False)
    with pytest.raises(HypervisorError):
        deploy(True, state="audited")
    # An earlier task would have started it.
    assert deploy(True).payload["observed"]["vms"] == []
