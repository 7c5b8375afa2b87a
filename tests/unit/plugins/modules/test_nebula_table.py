# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module is its action plugin: it prints rows as a table, and returns what it printed."""

from __future__ import annotations

from functools import partial

import pytest
import yaml
from ansible.errors import AnsibleActionFail

from ansible_collections.nebula.provision.plugins.action.nebula_table import ActionModule
from ansible_collections.nebula.provision.plugins.modules import nebula_table
from ansible_collections.nebula.provision.tests.unit.plugins.modules.conftest import check_documented, run_alone


@pytest.fixture
def run():
    return partial(run_alone, ActionModule)


def test_options_are_documented_as_the_plugin_takes_them():
    check_documented(nebula_table, ActionModule)


ROWS = [
    {"id": 0, "name": "web", "console_log": "/a/b", "ips": ["10.0.0.1", "fd00::1"], "ok": True},
    {"id": 12, "name": "a\nb\x1b[31m", "console_log": "", "ips": [], "ok": False},
]


@pytest.mark.parametrize("check", [True, False])
def test_rows_are_aligned_with_numbers_to_the_right(run, capsys, check):
    told = run(check, rows=ROWS, columns=["id", "name", "console_log=LOG", "ips", "ok", "none_such"])
    assert told["lines"] == [
        "ID  NAME         LOG   IPS               OK   NONE SUCH",
        " 0  web          /a/b  10.0.0.1,fd00::1  yes          -",
        r"12  a b\x1b[31m  -     -                 no           -",
    ]
    assert told["changed"] is False
    assert capsys.readouterr().out.splitlines() == ["", *told["lines"]]


def test_title_and_notes_stand_around_it(run, capsys):
    told = run(title="Machines", rows=ROWS[:1], columns=["name"], notes=["One more", 5])
    assert told["lines"] == ["NAME", "web"]
    assert capsys.readouterr().out.splitlines() == ["", "Machines", "NAME", "web", "One more", "5"]


@pytest.mark.parametrize(("given", "line"), [({}, "none"), ({"empty": "no machines"}, "no machines")])
def test_without_rows_that_is_said(run, given, line):
    assert run(columns=["name"], rows=[], **given)["lines"] == [line]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rows": {"a": 1}, "columns": ["a"]}, "rows: it is a dict. Give a list"),
        ({"rows": ROWS, "columns": "id"}, "columns: it is a str. Give a list"),
    ],
)
def test_what_is_no_list_is_refused(run, wrong, told):
    with pytest.raises(AnsibleActionFail, match=told):
        run(**wrong)


def test_what_is_returned_is_documented(run):
    documented = yaml.safe_load(nebula_table.RETURN)
    assert set(documented) == set(run(columns=["a"])) - {"changed"}
