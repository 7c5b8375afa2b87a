# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module is its action plugin: it says what another task did, and does nothing itself."""

from __future__ import annotations

from functools import partial

import pytest

from ansible_collections.nebula.provision.plugins.action.nebula_changes import ActionModule
from ansible_collections.nebula.provision.plugins.modules import nebula_changes
from ansible_collections.nebula.provision.tests.unit.plugins.modules.conftest import check_documented, run_alone


@pytest.fixture
def run():
    return partial(run_alone, ActionModule)


def test_options_are_documented_as_the_plugin_takes_them():
    check_documented(nebula_changes, ActionModule)


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
