# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions become surveys that AWX takes, and variables that the lists take; what is wrong is reported before."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.surveys import questions
from ansible_collections.nebula.provision.tests.integration.awx_runs import role_data

NAME = {"variable": "nebula_images[].name", "ask": "Name", "required": True}
SIZE = {"variable": "nebula_images[].size", "ask": "Size in MB", "type": "integer", "min": 1}
KEEP = {"variable": "nebula_backup_keep", "ask": "How many", "type": "integer", "default": 10}
SURE = {"variable": "nebula_audit_deep", "ask": "Deep?", "type": "yes_no", "default": "no"}


def test_a_survey_has_what_awx_wants_of_each_question():
    survey = questions.survey("upload", [NAME, SIZE, SURE])
    assert (survey["name"], survey["description"]) == ("upload", "")
    name, size, sure = survey["spec"]
    assert (name["type"], name["variable"], name["required"], name["default"]) == (
        "text",
        "answer_images_name",
        True,
        "",
    )
    assert (name["min"], name["max"]) == (0, 1024)
    assert (size["type"], size["variable"], size["required"], size["min"]) == (
        "integer",
        "answer_images_size",
        False,
        1,
    )
    assert (sure["type"], sure["choices"], sure["default"]) == ("multiplechoice", ["yes", "no"], "no")
    assert {question["new_question"] for question in survey["spec"]} == {False}


def test_without_questions_there_is_no_survey():
    assert questions.survey("status", []) == {} and questions.variables([]) == {}


def test_defaults_of_several_choices_are_lines():
    question = {
        "variable": "nebula_x",
        "ask": "?",
        "type": "choices",
        "choices": ["a", "b", "c"],
        "default": ["a", "c"],
    }
    assert questions.survey("x", [question])["spec"][0]["default"] == "a\nc"


def test_an_answer_becomes_a_variable_or_a_key_of_the_one_item():
    assert questions.variables([NAME, SIZE, KEEP, SURE]) == {
        "nebula_backup_keep": "{{ lookup('nebula.provision.answer', 'answer_backup_keep', type='int') }}",
        "nebula_audit_deep": "{{ lookup('nebula.provision.answer', 'answer_audit_deep', type='bool') }}",
        "answer_blanks": {"answer_backup_keep": 10, "answer_audit_deep": False},
        "nebula_images": [
            "{{ lookup('nebula.provision.answer', 'answer_images_', keys={'name': 'str', 'size': 'int'}) }}"
        ],
    }


@pytest.mark.parametrize("blank", ['it\'s "a"\n{{ b }}\\', ["a"], 0, True, {"a": 1}])
def test_what_is_left_blank_is_what_the_question_says(blank):
    kind = "yaml" if not isinstance(blank, str) else "text"
    question = {"variable": "nebula_x[].y", "ask": "?", "type": kind, "blank": blank}
    assert questions.problems("here", [question]) == []
    assert questions.variables([question])["answer_blanks"] == {"answer_x_y": blank}


def test_a_default_is_what_a_blank_answer_means():
    for kind, default, shown, blank in (
        ("list", ["a", "b"], "a\nb", ["a", "b"]),
        ("yaml", {"a": [1]}, "a:\n- 1", {"a": [1]}),
        ("yaml", "[1]", "[1]", [1]),
        ("choice", "b", "b", "b"),
        ("float", 0.5, 0.5, 0.5),
    ):
        question = {"variable": "nebula_x", "ask": "?", "type": kind, "default": default}
        question |= {"choices": ["a", "b"]} if kind == "choice" else {}
        assert questions.problems("here", [question]) == []
        assert questions.survey("x", [question])["spec"][0]["default"] == shown
        assert questions.variables([question])["answer_blanks"] == {"answer_x": blank}


def test_what_is_asked_of_nobody_is_in_the_item():
    (item,) = questions.variables([NAME], {"nebula_images[].type": "OS"})["nebula_images"]
    assert (
        item
        == "{{ lookup('nebula.provision.answer', 'answer_images_', keys={'name': 'str'}) | combine({'type': 'OS'}) }}"
    )


def test_a_workflow_asks_once():
    assert questions.without_repeats([NAME, SIZE, {**NAME, "ask": "Again"}]) == [NAME, SIZE]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "password"}, "Give secrets by a credential, and use them by lookup('nebula.provision.secret', NAME)"),
        ({"type": "number"}, "type 'number' is none of text, textarea"),
        ({"asks": "?"}, "asks: no key of a question. These are: ask, blank"),
        ({"ask": " "}, "there is no question. Write it under ask"),
        ({"variable": "keep"}, "variable 'keep': name what it answers, as nebula_backup_keep or nebula_images[].path"),
        ({"variable": "nebula_images[].a.b"}, "name what it answers"),
        ({"default": 10, "max": 5}, "default 10 is not between 0 and 5"),
        ({"default": "10"}, "default '10' is no integer"),
        ({"default": True}, "default True is no integer"),
        ({"default": 7.5}, "default 7.5 is no integer"),
        ({"type": "text", "default": 5}, "default 5 is no text. Put it in quotes"),
        ({"type": "text", "default": None}, "default None is no text"),
        ({"type": "list", "default": 5}, "default 5 is no text"),
        ({"type": "yaml", "default": "2026-01-01"}, "what it is where nothing is answered can't be kept"),
        ({"type": "yaml", "default": "a: ["}, "what it is where nothing is answered can't be kept"),
        ({"blank": "abc"}, "what it is where nothing is answered can't be kept: blank: 'abc' is not a whole number"),
        ({"help": None}, "help: give a text"),
        ({"required": "false"}, "required 'false': give true or false"),
        ({"min": "1"}, "min '1': give a whole number"),
        ({"min": None}, "min None: give a whole number"),
        ({"min": 9, "max": 5}, "min 9 is more than max 5"),
        ({"type": "yes_no", "default": "no", "min": 1}, "type yes_no has no bounds"),
        ({"type": "choice", "choices": ["a", "a"], "default": "a"}, "a choice is there twice"),
        ({"default": ""}, "say under blank what it is where nothing is answered"),
        ({"choices": ["a"]}, "only types choice and choices have choices"),
        ({"type": "choice"}, "type choice wants a list of choices"),
        ({"type": "choice", "choices": "a"}, "type choice wants a list of choices"),
        ({"type": "choice", "choices": ["a"], "default": "b"}, "default 'b' is none of a"),
        ({"type": "choices", "choices": ["a"], "default": ["a", "b"]}, "default 'b' is none of a"),
        ({"type": "yes_no", "default": True}, "default True is none of yes, no"),
    ],
)
def test_what_awx_would_refuse_or_take_for_its_harm_is_reported(change, text):
    (problem,) = questions.problems("here", [{**KEEP, **change}])
    assert problem.startswith("here[0]: ") and text in problem


def test_a_question_is_asked_once():
    assert questions.problems("here", [KEEP, NAME, KEEP]) == [
        "here[2]: nebula_backup_keep is asked twice. Take one of the two out"
    ]


def test_two_questions_have_two_answers():
    one, two = {"variable": "nebula_a[].b", "ask": "?"}, {"variable": "nebula_a_b", "ask": "?"}
    (problem,) = questions.problems("here", [one, two])
    assert "nebula_a_b is asked twice, as nebula_a[].b has the same answer" in problem
    whole = {"variable": "nebula_a", "ask": "?", "type": "yaml", "blank": []}
    assert questions.problems("here", [one, whole]) == [
        "here: nebula_a: ask for the whole list, or for keys of its item"
    ]


@pytest.mark.parametrize("given", ["text", {"variable": "nebula_x"}, ["text"]])
def test_questions_are_a_list_of_dicts(given):
    assert questions.problems("here", given) == ["here: give a list of dicts"]


def test_the_questions_of_the_role_are_right():
    for item in role_data()["__nebula_awx_job_templates"]:
        assert questions.problems(item["name"], item.get("questions", [])) == []
