# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of nebula_machine_restore that may hold secrets reach the module as text, and all others as they are."""

from __future__ import annotations

import json

import pytest
import yaml
from action_stand_in import made
from ansible.errors import AnsibleError

from ansible_collections.nebula.provision.plugins.action.nebula_machine_restore import ActionModule
from ansible_collections.nebula.provision.plugins.modules import nebula_machine_restore

SECRETS = ("secrets", "item", "images", "request")
OPTIONS = yaml.safe_load(nebula_machine_restore.DOCUMENTATION)["options"]


@pytest.mark.parametrize("option", SECRETS)
@pytest.mark.parametrize("value", [[{"a": "s3cret", "b": [1, None, True]}], {"password": 's3cret "é"'}])
def test_a_list_or_dict_is_one_text(option, value):
    action = made(ActionModule, {option: value, "root": "/srv"})
    assert action.run(task_vars={"a": 1}) == {"changed": True}
    (ran,) = action.ran
    assert isinstance(ran["module_args"][option], str) and json.loads(ran["module_args"][option]) == value
    assert ran["module_args"]["root"] == "/srv" and ran["task_vars"] == {"a": 1}


@pytest.mark.parametrize("option", SECRETS)
def test_text_stays_as_it_is(option):
    action = made(ActionModule, {option: '[{"a": 1}]'})
    action.run()
    assert action.ran[0]["module_args"] == {option: '[{"a": 1}]'}


def test_another_list_stays_a_list():
    action = made(ActionModule, {"hosts": ["a"]})
    action.run()
    assert action.ran[0]["module_args"] == {"hosts": ["a"]}


@pytest.mark.parametrize("option", SECRETS)
def test_what_has_no_text_is_refused_with_its_place(option):
    with pytest.raises(AnsibleError, match=rf"{option}.a: YAML read the value as a bytes. Write it in quotes"):
        made(ActionModule, {option: {"a": b"x"}}).run()


@pytest.mark.parametrize("option", SECRETS)
def test_the_module_has_such_an_option(option):
    assert option in OPTIONS


@pytest.mark.parametrize(("check_mode", "async_val"), [(True, 0), (False, 30)])
def test_check_mode_and_async_are_the_modules(check_mode, async_val):
    action = made(ActionModule, {}, check_mode=check_mode, async_val=async_val)
    action.run()
    assert action.ran[0]["wrap_async"] == async_val
