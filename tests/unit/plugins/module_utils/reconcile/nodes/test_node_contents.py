# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is on a node, and how it differs from a plan."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError


def test_an_audit_tells_all_that_is_here(deploy, still):
    for check in (True, False):
        inventory = deploy(check, state="audited").payload["observed"]["inventory"]
        assert inventory["foreign"] == ["somebodys"]


@pytest.mark.parametrize("check", [True, False])
def test_what_is_to_be_adopted_is_compared_and_nothing_is_done(deploy, plan, still, tmp_path, check):
    still.states = {0: "RUNNING"}
    text = plan("RUNNING", "RUNNING").replace('"operation": ""', '"operation": "adopt"', 1)
    result = deploy(check, state="compared", plan=text)
    assert not result.changed and "outcomes" not in result.payload and list(tmp_path.iterdir()) == []
    (compared,) = result.payload["observed"]["compared"]
    assert compared["vm_id"] == 0 and "vm.json is not its" in compared["differences"][0]
    assert result.payload["observed"]["inventory"] is not None
    with pytest.raises(HypervisorError):
        still.answers = False
        deploy(check, state="compared", plan=text)
