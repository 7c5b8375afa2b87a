# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run changed, how its diff is shown, and what is said of all that failed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.sync import (
    SHOWN,
    Item,
    Result,
    as_text,
    differences,
    summary,
)

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
VIEWS = st.dictionaries(st.text(max_size=5), SCALARS, max_size=5)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (None, None, False),
        (None, {"a": 1}, True),
        ({"a": 1}, None, True),
        ({"a": 1}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"a": 1}, {"a": 2}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, True),
    ],
)
def test_an_item_is_changed_where_it_looks_another(before: Any, after: Any, changed: bool) -> None:
    assert Item("x", before, after).is_changed is changed


@pytest.mark.parametrize("said", [True, False])
def test_what_is_said_of_an_item_goes_before_how_it_looks(said: bool) -> None:
    assert Item("x", {"a": 1}, {"a": 1}, changed=said).is_changed is said
    assert Item("x", {"a": 1}, {"a": 2}, changed=said).is_changed is said


def test_a_result_is_changed_where_any_item_is() -> None:
    same, other = Item("a", {"x": 1}, {"x": 1}), Item("b", {"x": 1}, {"x": 2})
    assert not Result().changed
    assert not Result([same, same]).changed
    assert Result([same, other]).changed


def test_a_result_names_the_items_that_failed_in_their_order() -> None:
    first, second = Item("a", error=NotFound("a", "b")), Item("c", error=Conflict("c", "d"))
    assert Result([first, Item("b", {}, {}), second]).errors == [first, second]


def test_the_diff_shows_only_what_is_changed_and_names_it_on_both_sides() -> None:
    result = Result([Item("same", {"x": 1}, {"x": 1}), Item("new", None, {"b": "ü", "a": 1}), Item("gone", {"a": 1})])
    assert result.diff() == [
        {"before_header": "new", "after_header": "new", "before": "", "after": '{\n  "a": 1,\n  "b": "ü"\n}\n'},
        {"before_header": "gone", "after_header": "gone", "before": '{\n  "a": 1\n}\n', "after": ""},
    ]


def test_the_diff_of_what_json_has_no_form_for_is_its_text() -> None:
    assert json.loads(as_text({"when": complex(1, 2)})) == {"when": "(1+2j)"}
    assert as_text({}) == as_text(None) == ""


@given(VIEWS)
@settings(max_examples=50)
def test_the_diff_of_equal_objects_is_the_same_text_in_whatever_order_they_were_made(view: dict[str, Any]) -> None:
    turned = dict(reversed(list(view.items())))
    assert as_text(view) == as_text(turned)
    assert as_text(view) == "" if not view else json.loads(as_text(view)) == view


@pytest.mark.parametrize(
    ("current", "desired", "found"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": 1, "b": 2}, {"b": 2}, {}),
        ({}, {"a": 0}, {"a": 0}),
        ({"a": 1}, {"a": ""}, {"a": ""}),
        ({"a": None}, {"a": False}, {"a": False}),
    ],
)
def test_only_what_the_user_set_can_differ(current: Any, desired: Any, found: Any) -> None:
    assert differences(current, desired) == found


@given(VIEWS, VIEWS)
@settings(max_examples=50)
def test_nothing_differs_once_the_differences_are_applied(current: dict[str, Any], desired: dict[str, Any]) -> None:
    found = differences(current, desired)
    assert differences({**current, **found}, desired) == {}


def failed(count: int) -> list[Item]:
    return [Item(f"i{number}", error=NotFound(f"i{number}", "there is none", "Make it")) for number in range(count)]


def test_one_failure_is_told_as_it_is() -> None:
    assert summary(failed(1)) == "i0: there is none. Make it"


def test_several_failures_are_counted_and_listed() -> None:
    assert summary(failed(2)) == "2 failed:\n- i0: there is none. Make it\n- i1: there is none. Make it"


def test_of_very_many_failures_the_first_are_told_and_the_rest_counted() -> None:
    text = summary(failed(SHOWN + 3))
    assert text.startswith(f"{SHOWN + 3} failed:\n- i0: ")
    assert text.endswith(f"- i{SHOWN - 1}: there is none. Make it\n… and 3 more")
    assert "more" not in summary(failed(SHOWN))
