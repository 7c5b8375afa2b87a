# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.vm import KEYS
from ansible_collections.nebula.provision.plugins.plugin_utils import chosen_machines as machines

VMS = [{"name": name} for name in ("web-0", "web-1", "web-10", "db", "a[1]")]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web-0", ["web-0"]),
        ("web-*", ["web-0", "web-1", "web-10"]),
        ("web-?", ["web-0", "web-1"]),
        ("db,web-0", ["db", "web-0"]),
        (" db , web-*,web-0\n", ["db", "web-0", "web-1", "web-10"]),
        (["web-[01]", "db"], ["web-0", "web-1", "db"]),
        ("*", ["web-0", "web-1", "web-10", "db", "a[1]"]),
    ],
)
def test_names_and_patterns(pattern, names):
    assert machines.machines_named(VMS, pattern) == (names, "")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "No machine is named"),
        (" , ", "No machine is named"),
        (None, "vm None: the catalog has no machine of that name"),
        ("wbe-0", "Did you mean 'web-0'? There are: web-0, web-1, web-10, db, a[1]. Nothing was changed"),
        ("web-0,nobody", "vm nobody: "),
        ("WEB-0", "vm WEB-0: "),
    ],
)
def test_one_name_that_is_unknown_and_nothing_is_done(pattern, words):
    names, problem = machines.machines_named(VMS, pattern)
    assert names == [] and words in problem


def test_few_of_many_are_listed():
    _names, problem = machines.machines_named([{"name": f"vm{number}"} for number in range(100)], "x")
    assert "vm19 and 80 more" in problem
    assert "There are: none" in machines.machines_named([], "x")[1]


@pytest.mark.parametrize("word", machines.WORDS)
def test_each_word_is_an_item_that_module_vm_knows(word):
    assert machines.problem_of_word(word) == ""
    if word == machines.CONSOLE:
        return
    (item,) = machines.items(["web-0"], word)
    assert item["name"] == "web-0" and set(item) <= set(KEYS)
    assert item["state"] in KEYS["state"].choices


@pytest.mark.parametrize(
    ("word", "near"),
    [("destroy", "poweroff"), ("Shutdown", "stop"), ("resume", "start"), ("restart", "reboot"), ("strat", "start")],
)
def test_what_people_say_elsewhere(word, near):
    assert f"Did you mean {near!r}? Known are start, stop, poweroff" in machines.problem_of_word(word)


@pytest.mark.parametrize("word", ["", None])
def test_nothing_is_asked(word):
    assert machines.problem_of_word(word).startswith("Nothing is asked for")


LISTED = [
    {"name": "web-%i", "count": 3},
    {"name": "db", "state": "poweroff"},
    {"name": "once", "state": "absent"},
    "no item",
]


@pytest.mark.parametrize(
    ("names", "word", "said"),
    [
        (["web-0", "web-12"], "stop", [("running", "web-0, web-12")]),
        (["web-0"], "start", []),
        (["db", "web-0"], "start", [("poweroff", "db")]),
        (["db", "web-0"], "suspend", [("running", "web-0"), ("poweroff", "db")]),
        (["web-0"], "reboot", []),
        (["other", "once", "web-x", "xweb-0"], "stop", []),
    ],
)
def test_what_the_lists_will_make_undone_is_said(names, word, said):
    found = machines.changed_back_by_lists(names, word, LISTED)
    assert sorted(found) == sorted(
        f"The lists of the inventory say {state} of {those}: the next run of playbook nebula.provision.site makes it "
        "so again, unless nebula_vms says otherwise by then"
        for state, those in said
    )


@pytest.mark.parametrize("listed", [None, {}, "x", [None, 5]])
def test_lists_that_are_none_say_nothing(listed):
    assert machines.changed_back_by_lists(["web-0"], "stop", listed) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("web server", ["web server"]),
        ("db[1]", ["db[1]"]),
        ("a,b", ["a,b"]),
        ("db[1], web server", ["db[1]", "web server"]),
        ("web-0 web server,a", ["web-0", "web", "server", "a"]),
        ("web *", ["web server", "web other"]),
        ("db[12]", ["db1"]),
        ("*", ["web-0", "web", "server", "web server", "web other", "db[1]", "db1", "a", "b", "a,b", "-x", "ü"]),
        ("a b,ü", ["a", "b", "ü"]),
        ("-x", ["-x"]),
        (["web server", "a,b"], ["web server", "a,b"]),
    ],
)
def test_names_may_hold_blanks_commas_and_what_the_shell_reads(pattern, found):
    names = ["web-0", "web", "server", "web server", "web other", "db[1]", "db1", "a", "b", "a,b", "-x", "ü"]
    assert machines.machines_named([{"name": name} for name in names], pattern) == (found, "")
