# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reaches the run of two answers: names of packages that the task has asked for, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from action_stand_in import made

from ansible_collections.nebula.provision.plugins.action.nebula_packages import ActionModule

ASKED = {"names": ["a", "b"], "others": ["c"], "cache_seconds": 60}


def answering(action: Any, *answers: dict[str, Any]) -> Any:
    waiting = list(answers)

    def execute(**options: Any) -> dict[str, Any]:
        action.ran.append(options)
        return waiting.pop(0)

    action._execute_module = execute
    return action


def test_what_is_there_is_left() -> None:
    action = answering(made(ActionModule, ASKED), {"installed": ["a", "b", "forged"], "missing": ["forged"], "x": 1})
    assert action.run() == {"changed": False, "installed": ["a", "b"], "missing": []}
    assert len(action.ran) == 1


def test_what_is_missing_is_installed_by_apt() -> None:
    action = answering(made(ActionModule, ASKED), {"installed": ["a", "c"]}, {"changed": True, "stdout": "long"})
    assert action.run() == {"changed": True, "installed": ["a", "c", "b"], "missing": ["b"]}
    asked = action.ran[1]
    assert asked["module_name"] == "ansible.builtin.apt"
    assert asked["module_args"]["name"] == ["b"] and asked["module_args"]["cache_valid_time"] == 60
    assert asked["module_args"]["install_recommends"] is False


def test_in_check_mode_nothing_is_installed() -> None:
    action = answering(made(ActionModule, ASKED, check_mode=True), {"installed": []})
    forecast = {"changed": True, "installed": [], "missing": ["a", "b"]}
    assert action.run() == {**forecast, "diff": [{"prepared": "Would be installed: a, b\n"}]}


@pytest.mark.parametrize("failure", [{"failed": True, "msg": "no"}, {"unreachable": True, "msg": "no"}])
def test_a_failure_of_either_is_the_tasks(failure: dict[str, Any]) -> None:
    assert answering(made(ActionModule, ASKED), failure).run()["msg"] == "no"
    action = answering(made(ActionModule, ASKED), {"installed": []}, {**failure, "ansible_facts": {"x": 1}})
    assert action.run() == {"changed": False, **failure}
