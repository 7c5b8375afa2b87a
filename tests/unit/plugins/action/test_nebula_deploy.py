# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan with machines runs as a job that shows its progress; all else runs as any module does."""

from __future__ import annotations

import json

import pytest
from action_stand_in import made

from ansible_collections.nebula.provision.plugins.action.nebula_deploy import ActionModule

PLAN = {"vms": [{"name": "web", "context": {"PASSWORD": "s3cret"}}]}


def ran(arguments, **options):
    action = made(ActionModule, arguments, **options)
    assert action.run(task_vars={"inventory_hostname": "node1"}) == {"changed": True}
    (found,) = action.ran
    return found


@pytest.mark.parametrize("plan", [PLAN, json.dumps(PLAN)])
def test_machines_are_worked_on_with_progress(plan):
    found = ran({"state": "applied", "plan": plan})
    assert found["module_name"] == "nebula.provision.nebula_deploy"
    assert json.loads(found["module_args"]["plan"]) == PLAN and found["module_args"]["state"] == "applied"
    assert found["module_args"]["_progress_file"] == "$NEBULA_JOB/progress"


def test_machines_that_were_given_up_may_take_as_long_as_others():
    found = ran({"state": "applied", "plan": {"vms": [], "given_up": [{"vm_id": 1}]}})
    assert found["module_args"]["_progress_file"] == "$NEBULA_JOB/progress"


@pytest.mark.parametrize(
    "arguments",
    [
        {"state": "observed", "plan": PLAN},
        {"plan": PLAN},
        {"state": "applied", "plan": {"vms": []}},
        {"state": "applied", "plan": {}},
        {"state": "applied"},
        {"state": "applied", "plan": None},
        {"state": "applied", "plan": "no json"},
        {"state": "applied", "plan": "[1]"},
    ],
)
def test_what_takes_no_time_or_is_wrong_is_the_modules(arguments):
    found = ran(arguments)
    assert "_progress_file" not in found["module_args"] and "module_name" not in found


@pytest.mark.parametrize("options", [{"check_mode": True}, {"async_val": 60}])
def test_check_mode_and_async_are_plain_runs(options):
    found = ran({"state": "applied", "plan": PLAN}, **options)
    assert "_progress_file" not in found["module_args"] and found["wrap_async"] == options.get("async_val", 0)
    assert json.loads(found["module_args"]["plan"]) == PLAN
