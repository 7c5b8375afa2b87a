# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module is its action plugin: it says what another task did, and does nothing itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.action.nebula_changes import ActionModule
from ansible_collections.nebula.provision.plugins.modules import nebula_changes


@pytest.fixture
def run():
    """The plugin with a task's arguments; nothing else of a play is asked for."""

    def called(check=False, **arguments):
        task = SimpleNamespace(args=arguments, async_val=0, check_mode=check, action="nebula_changes")
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        plugin = ActionModule(task, connection, SimpleNamespace(), None, None, None)
        return plugin.run(None, {})

    return called


def test_options_are_documented_as_the_plugin_takes_them():
    documented = yaml.safe_load(nebula_changes.DOCUMENTATION)
    assert documented["module"] == "nebula_changes"
    assert set(documented["options"]) == set(ActionModule._VALID_ARGS)
    tasks = [each.get("nebula.provision.nebula_changes") for each in yaml.safe_load(nebula_changes.EXAMPLES)]
    assert any(tasks)
    assert all(set(task) <= set(documented["options"]) for task in tasks if task)


def test_what_the_other_task_did_is_said(run):
    diff = [{"before": "a", "after": "b"}]
    told = run(changed=True, diff=diff, warnings=["careful", 5])
    assert (told["changed"], told["diff"], told["warnings"]) == (True, diff, ["careful", "5"])


@pytest.mark.parametrize(
    ("word", "changed"), [(True, True), ("yes", True), ("True", True), (1, True), (False, False), ("no", False)]
)
def test_changed_is_read_in_all_words_for_it(run, word, changed):
    assert run(changed=word)["changed"] is changed


@pytest.mark.parametrize("check", [True, False])
def test_of_a_task_that_did_nothing_nothing_is_said(run, check):
    told = run(check, diff=[], warnings=[])
    assert told["changed"] is False
    assert "diff" not in told
    assert "warnings" not in told
