# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups run as a job that shows its progress; what is chosen or foretold runs as any module does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from action_stand_in import made

from ansible_collections.nebula.provision.plugins.action.nebula_machine_backup import ActionModule

REQUESTS = [{"key": "s3cret"}]


def ran(arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    action = made(ActionModule, arguments, **options)
    assert action.run(task_vars={"inventory_hostname": "node1"}) == {"changed": True}
    (found,) = action.ran
    return found


@pytest.mark.parametrize("requests", [REQUESTS, json.dumps(REQUESTS)])
@pytest.mark.parametrize("state", [{}, {"state": "verified"}])
def test_machines_are_backed_up_with_progress(requests: Any, state: dict[str, str]) -> None:
    found = ran({"requests": requests, **state})
    assert json.loads(found["module_args"]["requests"]) == REQUESTS
    assert found["module_args"]["_progress_file"] == "$NEBULA_JOB/progress"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({"state": "chosen"}, {}),
        ({"requests": []}, {}),
        ({"requests": "no json"}, {}),
        ({"requests": REQUESTS}, {"check_mode": True}),
    ],
)
def test_what_takes_no_time_is_a_plain_run(arguments: dict[str, Any], options: dict[str, Any]) -> None:
    assert "_progress_file" not in ran(arguments, **options)["module_args"]
