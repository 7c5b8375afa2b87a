# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people type becomes numbers, lists and truth values, or an error that says what to type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.survey_answers import (
    TYPES,
    BadAnswer,
    answer_of,
    convert_answer,
    item_of,
)


@pytest.mark.parametrize(
    ("kind", "answer", "value"),
    [
        ("str", " web ", "web"),
        ("str", 7, "7"),
        ("str", "two\nlines  \n", "two\nlines  "),
        ("str", "{{ not }} $a template", "{{ not }} $a template"),
        ("int", "10240", 10240),
        ("int", " 7 ", 7),
        ("int", "-1", -1),
        ("int", 0, 0),
        ("int", "08", 8),
        ("float", "0.5", 0.5),
        ("float", 2, 2.0),
        ("bool", "yes", True),
        ("bool", " No ", False),
        ("bool", False, False),
        ("bool", "1", True),
        ("list", "web, db\n\n cache ,", ["web", "db", "cache"]),
        ("list", ["a", " b "], ["a", "b"]),
        ("yaml", "{a: 1}", {"a": 1}),
        ("yaml", "- a\n- b", ["a", "b"]),
        ("yaml", {"a": 1}, {"a": 1}),
    ],
)
def test_an_answer_gets_the_type_that_is_wanted(kind, answer, value):
    found = convert_answer("answer_x", answer, kind)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("blank", [None, "", "  ", "\n", []])
def test_what_is_blank_was_not_answered(kind, blank):
    assert convert_answer("answer_x", blank, kind) is None
    assert convert_answer("answer_x", blank, kind, 5) == 5


@pytest.mark.parametrize("answer", [0, False, "0"])
def test_nothing_is_an_answer_if_it_is_a_number_or_no(answer):
    assert convert_answer("answer_x", answer, "int" if answer is not False else "bool", 5) == 0


@pytest.mark.parametrize(
    ("kind", "answer", "text"),
    [
        ("int", "many", "answer_x: 'many' is not a whole number. Type digits only, such as 10240"),
        ("int", "1_000", "'1_000' is not a whole number"),
        ("int", "1.5", "'1.5' is not a whole number"),
        ("int", "٣", "is not a whole number"),
        ("int", "9" * 5000, "is not a whole number"),
        ("float", "٣", "'٣' is not a number"),
        ("float", "9" * 400, "is not a number"),
        ("int", True, "'True' is not a whole number"),
        ("float", "0,5", "'0,5' is not a number. Type it with a point, such as 0.5"),
        ("float", "nan", "'nan' is not a number"),
        ("float", "1_0", "'1_0' is not a number"),
        ("bool", "perhaps", "'perhaps' is neither yes nor no"),
        ("yaml", "a: [", "the answer is no YAML in line 1"),
        ("text", "x", "type text is none of str, int"),
    ],
)
def test_what_can_not_be_meant_is_an_error(kind, answer, text):
    with pytest.raises(BadAnswer) as error:
        convert_answer("answer_x", answer, kind)
    assert text in str(error.value)


def test_an_error_shows_the_begin_of_a_long_answer_only():
    with pytest.raises(BadAnswer) as error:
        convert_answer("answer_x", "9" * 50 + "x", "int")
    assert "9" * 40 + "…" in str(error.value) and "9" * 41 not in str(error.value)


@given(st.sampled_from(TYPES), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
def test_there_is_a_value_or_an_error_that_names_the_answer(kind, answer):
    try:
        convert_answer("answer_x", answer, kind)
    except BadAnswer as error:
        assert str(error).startswith("answer_x: ")


def test_an_item_has_the_keys_that_were_answered():
    answers = {
        "answer_images_name": "small",
        "answer_images_size": "2",
        "answer_images_path": " ",
        "answer_vms_name": "x",
    }
    keys = {"name": "str", "size": "int", "path": "str", "persistent": "bool"}
    assert item_of(answers, "answer_images_", keys) == {"name": "small", "size": 2}
    assert item_of({}, "answer_images_", keys) == {}


def test_a_blank_key_is_what_the_job_template_has_for_it():
    answers = {"answer_blanks": {"answer_vms_memory": 1024}, "answer_vms_name": "web", "answer_vms_memory": ""}
    assert item_of(answers, "answer_vms_", {"name": "str", "memory": "int"}) == {"name": "web", "memory": 1024}
    assert answer_of(answers, "answer_vms_memory", "int") == 1024
    assert answer_of(answers, "answer_vms_memory", "int", 7) == 7
