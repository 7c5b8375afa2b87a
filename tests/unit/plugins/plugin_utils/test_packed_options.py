# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user wrote in YAML, as the one JSON string that reaches the module."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction, pack

LISTS = {
    "- {a: 1, b: [x, 2.5, true, null]}": [{"a": 1, "b": ["x", 2.5, True, None]}],
    "- {day: 2026-11-20}": [{"day": "2026-11-20"}],
    "- {5: a, yes: b}": [{"5": "a", "true": "b"}],
    '- "{{ braces }} é 日 😀 \\n \\t \\" \\\\"': ['{{ braces }} é 日 😀 \n \t " \\'],
    "[]": [],
    "{}": {},
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_and_dicts_become_json(text):
    assert json.loads(pack(yaml.safe_load(text), "vms")) == LISTS[text]


@pytest.mark.parametrize("value", [[], {}, "[]", " {} "])
def test_what_is_empty_is_no_part_of_any_plan(value):
    """Ansible would put asterisks in its place there, as what an option without log holds."""
    text = pack(value, "vms")
    assert not json.loads(text)
    assert text not in json.dumps({"vms": [], "sources": {}}, separators=(",", ":"))
    assert text not in json.dumps({"vms": [], "sources": {}})


def test_characters_stay_as_they_are():
    assert pack(["😀"], "vms") == '["😀"]'


def test_text_and_nothing_stay():
    assert pack("CPU = 1", "template") == "CPU = 1"
    assert pack(None, "template") is None


@pytest.mark.parametrize("given", [[], {}, "[]", " {} "])
def test_what_is_empty_takes_nothing_out_of_a_modules_answer(given):
    """As Ansible does with what a no_log option says: [] and {} stand in every plan."""
    text = pack(given, "vms")
    assert json.loads(text) in ([], {})
    result = ArgumentSpecValidator({"vms": {"type": "json", "no_log": True}}).validate({"vms": text})
    assert result.error_messages == [] and json.loads(result.validated_parameters["vms"]) in ([], {})
    plan = json.dumps({"disks": [], "features": {}, "name": "a"}, separators=(",", ":"))
    answer = {"plans": {"node1": plan}, "diff": "[] {}"}
    assert remove_values(answer, result._no_log_values) == answer


def test_marked_values_become_plain():
    class Marked(str):
        __slots__ = ()

    class Lazy(dict):
        pass

    assert pack(Lazy(a=Marked("x")), "vms") == '{"a": "x"}'


@pytest.mark.parametrize(
    ("text", "place"), [("[{a: {b: 2026-11-20 10:00:00}}]", "vms[0].a.b"), ("[!!binary aGk=]", "vms[0]")]
)
def test_what_json_cannot_say_is_refused_by_its_place(text, place):
    with pytest.raises(AnsibleError, match="Write it in quotes") as caught:
        pack(yaml.safe_load(text), "vms")
    assert str(caught.value).startswith(f"{place}: ")


def test_only_the_packed_options_are_packed():
    class Action(PackingAction):
        PACKED = ("vms",)

        def __init__(self):
            self._task = SimpleNamespace(args={"vms": [1], "hosts": ["a"], "name": "x"})

    assert Action().packed_arguments() == {"vms": "[1]", "hosts": ["a"], "name": "x"}
