# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registered results become one answer for each host, also for a host that gave none."""

from __future__ import annotations

from collections import UserDict

import pytest

from ansible_collections.nebula.provision.plugins.filter.observed import FilterModule

observed = FilterModule().filters()["observed"]
ANSWER = {"host": "as it calls itself", "reached": True, "vms": []}


def test_an_answer_is_told_under_the_name_of_the_inventory():
    assert observed([{"observed": ANSWER, "changed": False}], ["node1"]) == [dict(ANSWER, host="node1")]
    assert ANSWER["host"] == "as it calls itself"


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({"unreachable": True, "msg": " no route to host\n"}, "no route to host"),
        ({"failed": True, "msg": "x", "observed": None}, "x"),
        ({"failed": True, "msg": "x", "observed": {}}, "x"),
    ],
)
def test_a_host_without_an_answer_was_not_reached_and_says_why(result, problem):
    assert observed([result], ["node1"]) == [{"host": "node1", "reached": False, "facts": {"problem": problem}}]


@pytest.mark.parametrize("result", [{}, {"msg": ""}, {"msg": None}, {"skipped": True}, None, "", "undefined"])
def test_where_nothing_is_known_no_reason_is_made_up(result):
    assert observed([result], ["node1"]) == [{"host": "node1", "reached": False}]


@pytest.mark.parametrize("answer", ["x", 5, [1], True])
def test_an_answer_of_no_form_is_its_hosts_alone(answer):
    first, second = observed([{"observed": answer}, {"observed": ANSWER}], ["node1", "node2"])
    assert not first["reached"] and "host node1" in first["facts"]["problem"]
    assert second == dict(ANSWER, host="node2")


@pytest.mark.parametrize("said", [["x"], {"a": 1}, 5, "x" * 100_000])
def test_a_message_of_any_form(said):
    (found,) = observed([{"failed": True, "msg": said}], ["node1"])
    assert not found["reached"] and len(str(found)) < 5000


def test_answers_come_in_the_order_of_the_hosts():
    found = observed([{"observed": ANSWER}, {"msg": "x"}, {"observed": ANSWER}], ["c", "a", "b"])
    assert [(each["host"], each["reached"]) for each in found] == [("c", True), ("a", False), ("b", True)]


def test_a_result_may_be_of_a_type_of_ansibles_own():
    assert observed([UserDict(observed=ANSWER)], ["node1"])[0]["reached"]
