# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taken back is what this run has changed and each node that answered has refused."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.refused_everywhere import refused_everywhere

OLD = {"name": "b", "nat": False}
MADE = {"networks": [{"name": "a"}, {"name": "b", "nat": True}, {"name": "c"}], "earlier": {"a": None, "b": OLD}}
SILENT = {"unreachable": True, "msg": "no route to host"}
BROKEN = {"msg": "iproute2 is missing"}


@pytest.mark.parametrize(
    ("answers", "names"),
    [
        ([["a", "b", "c"]], ["a", "b"]),
        ([["a", "b"], ["b", "c"]], ["b"]),
        ([["a"], []], []),
        ([["a"], SILENT, {}, BROKEN, {"skipped": True}], ["a"]),
        ([SILENT, {}], []),
        ([], []),
        ([["c"]], []),
    ],
)
def test_by_what_nodes_answer(answers, names):
    nodes = [{"refused": answer, "links": []} if isinstance(answer, list) else answer for answer in answers]
    found = refused_everywhere(MADE, nodes)
    assert [each["network"]["name"] for each in found] == names


@pytest.mark.parametrize("said", ["ab", 5, None, [["a"]], [{"a": 1}], {"a": 1}])
def test_a_node_that_says_it_in_no_form_did_not_answer(said):
    found = refused_everywhere(MADE, [{"refused": said}, {"refused": ["a"]}])
    assert [each["network"]["name"] for each in found] == ["a"]
    assert refused_everywhere(MADE, [{"refused": said}]) == []


def test_with_what_it_was_before():
    assert refused_everywhere(MADE, [{"refused": ["a", "b"]}]) == [
        {"network": {"name": "a"}, "earlier": None},
        {"network": {"name": "b", "nat": True}, "earlier": OLD},
    ]


def test_of_a_task_without_an_answer_nothing_is_taken_back():
    assert refused_everywhere({"msg": "the catalog is locked"}, [{"refused": []}]) == []
