# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer to a look that is none differs, so that the roles ask again."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.answers import looks


def test_what_each_call_answered():
    given = {"differs": "", "answers": {"a": {"changed": False}, "b": {}, "c": {}}}
    assert looks.read(given, ["a", "b"]) == ({"a": {"changed": False}, "b": {}}, "")


def test_what_differs_before_all_calls_were_made():
    assert looks.read({"differs": "b: x", "answers": {"a": {}}}, ["a", "b", "c"]) == ({"a": {}}, "b: x")


@pytest.mark.parametrize(
    ("result", "differs"),
    [
        ({"msg": "no route to host"}, "no route to host"),
        ({"msg": ["x"]}, "the module did not answer"),
        ({}, "the module did not answer"),
        ("x", "the module did not answer"),
        ({"differs": None}, "the module did not answer"),
        ({"differs": 0, "answers": {"a": {}}}, looks.NO_ANSWER),
        ({"differs": False, "answers": {"a": {}}}, looks.NO_ANSWER),
        ({"differs": "", "answers": [1]}, looks.NO_ANSWER),
        ({"differs": "", "answers": {"a": 5}}, looks.NO_ANSWER),
        ({"differs": "", "answers": {}}, looks.NO_ANSWER),
        ({"differs": ""}, looks.NO_ANSWER),
    ],
)
def test_what_is_no_answer(result, differs):
    assert looks.read(result, ["a"]) == ({}, differs)
