# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests are waited for by a job that shows its progress, and their list, which may hold secrets, goes as text."""

from __future__ import annotations

import json

import pytest
from action_stand_in import made

from ansible_collections.nebula.provision.plugins.action.nebula_verify import ActionModule

VMS = [{"name": "web", "pattern": "s3cret"}]


def ran(**options):
    action = made(ActionModule, {"vms": VMS, "timeout": 5}, **options)
    assert action.run(task_vars={"inventory_hostname": "node1"}) == {"changed": True}
    (found,) = action.ran
    assert json.loads(found["module_args"]["vms"]) == VMS and found["module_args"]["timeout"] == 5
    return found


def test_waiting_shows_its_progress():
    found = ran()
    assert found["module_name"] == "nebula.provision.nebula_verify"
    assert found["module_args"]["_progress_file"].endswith("/progress")


@pytest.mark.parametrize("options", [{"check_mode": True}, {"async_val": 60}])
def test_check_mode_and_async_are_plain_runs(options):
    found = ran(**options)
    assert "_progress_file" not in found["module_args"] and found["wrap_async"] == options.get("async_val", 0)
