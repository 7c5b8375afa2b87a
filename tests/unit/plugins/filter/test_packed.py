# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list becomes JSON text by the filter, and what JSON can't say is an error of a filter."""

from __future__ import annotations

import datetime
import json

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined, UndefinedError

from ansible_collections.nebula.provision.plugins.filter.packed import FilterModule

packed = FilterModule().filters()["packed"]
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(plain, max_size=3))
@settings(max_examples=50, deadline=None)
def test_what_json_can_say_comes_back(value):
    assert json.loads(packed(value)) == value


def test_characters_stay_as_they_are():
    assert packed([{"a": "é 日 {{ b }}"}]) == '[{"a": "é 日 {{ b }}"}]'


def test_a_day_stays_as_it_was_written():
    assert packed([datetime.date(2026, 1, 2)]) == '["2026-01-02"]'


def test_text_is_json_already():
    assert packed('[{"a": 1}]') == '[{"a": 1}]'


class Failing(dict):
    """As ansible-core gives what is filled in when it is looked at."""

    def items(self):
        raise self["error"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Failing(error=UndefinedError("'vault_word' is undefined")), "packed: variable vault_word is undefined"),
        (Failing(error=ValueError("no int: 's3cret'")), "packed: a template in it can't be filled in (ValueError)"),
        (StrictUndefined(name="nebula_vms"), "packed: variable nebula_vms is undefined"),
    ],
)
def test_what_can_not_be_filled_in_is_told_by_its_name_alone(value, said):
    with pytest.raises(AnsibleFilterError) as caught:
        packed(value)
    assert str(caught.value) == said
    # What Ansible prints of a chain of errors has the lines around each.
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or caught.value.__context__ is None)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"at": datetime.datetime(2026, 11, 20, 10, 0)}], "packed[0].at: YAML read the value as a datetime."),  # noqa: DTZ001
        ({"a": [b"x"]}, "packed.a[0]: YAML read the value as a bytes."),
    ],
)
def test_a_time_of_day_is_refused_with_its_place(value, said):
    with pytest.raises(AnsibleFilterError, match="Write it in quotes") as caught:
        packed(value)
    assert said in str(caught.value)
