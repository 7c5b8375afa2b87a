# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer of any size or depth is refused before anything of it is read."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import answer_bounds


def nested(depth):
    value = []
    for _each in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [{}, [], "x", None, 1, 1.5, True, {"a": [{"b": "c"}]}, nested(20), 1 << 53])
def test_what_a_node_may_say(value):
    answer_bounds.check_size(value, "x")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (nested(25), "nested more than"),
        (nested(100_000), "nested more than"),
        ([0] * (answer_bounds.MOST_VALUES + 1), "values"),
        ([[0] * 1000] * 3000, "values"),
        ("x" * (answer_bounds.LONGEST_TEXT + 1), "characters"),
        ({"x" * (answer_bounds.LONGEST_TEXT + 1): 1}, "characters"),
        (["x" * answer_bounds.LONGEST_TEXT] * 2049, "characters"),
        ((1 << 53) + 1, "too large"),
        (float("nan"), "not finite"),
        ([{"a": float("-inf")}], "not finite"),
        ("\ud800", "surrogate"),
        ({1: 2}, "a key that is a int"),
        (object(), "it has a object"),
    ],
)
def test_what_no_node_says(value, found):
    with pytest.raises(InvalidValue, match=found) as caught:
        answer_bounds.check_size(value, "host node1: answer")
    assert str(caught.value).startswith("host node1: answer: ")


def test_a_number_beyond_its_bounds():
    answer_bounds.check_number(3, 0, 3, "x", "y")
    with pytest.raises(InvalidValue, match="y is 4, and can be 0 to 3"):
        answer_bounds.check_number(4, 0, 3, "x", "y")
