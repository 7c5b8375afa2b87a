# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows become an aligned table, whatever they hold, and the result has its lines."""

from __future__ import annotations

import pytest
from action_stand_in import made
from ansible.errors import AnsibleActionFail
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.action import nebula_table
from ansible_collections.nebula.provision.plugins.action.nebula_table import ActionModule, cell, table

ROWS = [{"name": "web", "memory": 1024, "run": True}, {"name": "database", "memory": None, "run": False}]


@pytest.fixture
def shown(monkeypatch):
    """What the terminal gets is written down."""
    lines = []
    monkeypatch.setattr(nebula_table.display, "display", lines.append)
    return lines


def test_columns_are_as_wide_as_their_longest_cell_and_numbers_go_to_the_right():
    assert table(ROWS, ["name", "memory=MIB", "run", "last_seen"]) == [
        "NAME       MIB  RUN  LAST SEEN",
        "web       1024  yes          -",
        "database     -  no           -",
    ]


def test_truth_is_no_number():
    assert table([{"a": True, "b": "x"}], ["a=LONG HEADING", "b"])[1] == "yes           x"


def test_a_heading_may_hold_an_equals_sign():
    assert table([{"a": 1}], ["a=b=c"]) == ["b=c", "  1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (0, "0"),
        (False, "no"),
        (True, "yes"),
        (["a", 1, None, True], "a,1,-,yes"),
        (("a", ["b", "c"]), "a,b,c"),
        ("a\nb\x1b[31m", r"a b\x1b[31m"),
        (2.5, "2.5"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_a_value_is_one_line(value, text):
    assert cell(value) == text


values = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=3)


@given(st.lists(st.fixed_dictionaries({}, optional={"a": values, "b": values}), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_rows_are_as_many_lines_that_print(rows):
    lines = table(rows, ["a", "b=B"])
    assert len(lines) == len(rows) + 1 and all(line.isprintable() and line == line.rstrip() for line in lines)


def test_a_table_is_shown_and_returned_and_changes_nothing(shown):
    result = made(ActionModule, {"title": "Machines", "columns": ["name"], "rows": ROWS, "notes": ["two", 2]}).run()
    assert (result["changed"], result["lines"]) == (False, ["NAME", "web", "database"])
    assert shown == ["\nMachines", "NAME", "web", "database", "two", "2"]


@pytest.mark.parametrize(("empty", "line"), [({"empty": "no machines"}, "no machines"), ({}, "none")])
@pytest.mark.parametrize("rows", [{"rows": []}, {"rows": None}, {}])
def test_no_rows_are_told_in_words(shown, empty, line, rows):
    assert made(ActionModule, {"columns": ["name"], **empty, **rows}).run()["lines"] == [line]
    assert shown == ["", line]


@pytest.mark.parametrize("arguments", [{"rows": "web", "columns": ["a"]}, {"rows": [{}], "columns": "a"}])
def test_what_is_no_list_is_refused(shown, arguments):
    with pytest.raises(AnsibleActionFail, match=r"nebula_table: (rows|columns): it is a str\. Give a list"):
        made(ActionModule, arguments).run()


@pytest.mark.parametrize("columns", [{}, {"columns": None}, {"columns": []}])
@pytest.mark.parametrize("rows", [ROWS, []])
def test_a_table_without_columns_is_refused(shown, columns, rows):
    with pytest.raises(AnsibleActionFail, match=r"nebula_table: columns: there are none\. Give keys of the rows"):
        made(ActionModule, {"rows": rows, **columns}).run()
    assert shown == []


def test_a_row_that_is_no_dict_is_refused(shown):
    with pytest.raises(AnsibleActionFail, match=r"nebula_table: rows\[1\]: it is a str\. Give a dict"):
        made(ActionModule, {"columns": ["name"], "rows": [{}, "web"]}).run()
    assert shown == []


def test_an_argument_that_there_is_not_is_refused(shown):
    with pytest.raises(AnsibleActionFail, match="tittle"):
        made(ActionModule, {"tittle": "x"}).run()


def test_it_is_shown_in_check_mode_too(shown):
    assert made(ActionModule, {"columns": ["name"], "rows": ROWS}, check_mode=True).run()["lines"] and shown
