# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an earlier task changed is told as it was said, and nothing else."""

from __future__ import annotations

import pytest
from action_stand_in import made
from ansible.errors import AnsibleActionFail

from ansible_collections.nebula.provision.plugins.action.nebula_changes import ActionModule


@pytest.mark.parametrize(
    ("said", "changed"),
    [(True, True), ("yes", True), ("true", True), (1, True), (False, False), ("no", False), (0, False)],
)
def test_whether_something_changed(said, changed):
    assert made(ActionModule, {"changed": said}).run()["changed"] is changed


def test_nothing_said_is_nothing_changed():
    assert made(ActionModule, {}).run() == {"changed": False}


def test_what_is_no_truth_is_refused():
    with pytest.raises(TypeError, match="perhaps"):
        made(ActionModule, {"changed": "perhaps"}).run()


@pytest.mark.parametrize("diff", [{"before": "a", "after": "b"}, [{"before": "a", "after": "b"}]])
def test_differences_and_warnings_are_those_of_the_task(diff):
    found = made(ActionModule, {"changed": True, "diff": diff, "warnings": ["one", 2]}).run()
    assert found == {"changed": True, "diff": diff, "warnings": ["one", "2"]}


@pytest.mark.parametrize("empty", [None, "", []])
def test_what_is_empty_is_not_told(empty):
    assert made(ActionModule, {"changed": False, "diff": empty, "warnings": empty}).run() == {"changed": False}


@pytest.mark.parametrize(
    ("errors", "message"), [(["a"], "a"), (["a", "b"], "- a\n- b"), (["a\nok: [host]"], "a\n    ok: [host]")]
)
def test_errors_are_why_it_fails(errors, message):
    found = made(ActionModule, {"errors": errors, "warnings": ["c"]}).run()
    assert found == {"changed": False, "failed": True, "msg": message, "warnings": ["c"]}


def test_an_argument_that_there_is_not_is_refused():
    with pytest.raises(AnsibleActionFail, match="vms"):
        made(ActionModule, {"vms": []}).run()


def test_it_tells_the_same_in_check_mode():
    assert made(ActionModule, {"changed": True}, check_mode=True).run()["changed"] is True
