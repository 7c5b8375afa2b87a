# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says it did: all that a real one says is read, and nothing else."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InvalidValue, StalePlan
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import outcomes
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import TaskOutcome, VmOutcome

REAL = VmOutcome(0, 1, "RUNNING", True, {"asked": "x"}, ("line",), (TaskOutcome("1.0", 5, "qcow2"),), True)


def test_what_a_node_did_is_read():
    assert outcomes.read("node1", {"outcomes": [to_plain(REAL)], "changed": True}) == [REAL]
    assert outcomes.read("node1", {"outcomes": []}) == []


@pytest.mark.parametrize("moved", ["", "stayed", "left", "arrived", "absent"])
def test_what_became_of_a_move_is_read(moved):
    (found,) = outcomes.read("node1", {"outcomes": [{**to_plain(REAL), "moved": moved}]})
    assert found.moved == moved


@pytest.mark.parametrize("answer", [{}, {"unreachable": True}, {"outcomes": None}, {"outcomes": ()}, None])
def test_an_answer_without_outcomes_is_none(answer):
    assert outcomes.read("", answer) is None


def test_a_node_that_follows_a_newer_plan_has_answered():
    stale = StalePlan("plan 1", "this node has accepted plan 2 already").as_dict()
    assert outcomes.read("", {"failed": True, "error": stale}) == []
    for other in (Conflict("plan 1", "x").as_dict(), "StalePlan"):
        assert outcomes.read("", {"failed": True, "error": other}) is None


@pytest.mark.parametrize(("answer", "kind"), [("x", "str"), ([1], "list"), ({"outcomes": "x"}, "str"), (5, "int")])
def test_what_are_no_outcomes_are_refused(answer, kind):
    with pytest.raises(InvalidValue) as caught:
        outcomes.read("", answer)
    assert f"the outcomes of a node: it is a {kind}. Give the registered result of nebula_deploy" in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        {"state": "NONSENSE"},
        {"state": "PROLOG"},
        {"state": 3},
        {"vm_id": "0"},
        {"vm_id": -1},
        {"generation": 1 << 60},
        {"error": "x"},
        {"error": {"asked": 1}},
        {"log": "x"},
        {"tasks": [{"token": "x", "size": -1}]},
        {"tasks": [{"token": "x", "format": "vmdk"}]},
        {"moved": "away"},
        {"moved": None},
        {"mood": 1},
    ],
)
def test_what_no_node_says_is_refused_with_its_name(said):
    with pytest.raises(InvalidValue, match="host node1: what it says it did"):
        outcomes.read("node1", {"outcomes": [{**to_plain(REAL), **said}]})


def test_a_number_of_a_plan_is_bounded():
    assert outcomes.done_number("node1", {"observed": {"done_number": 7}}) == 7
    nothing = [{"observed": {"done_number": number}} for number in (True, "7")]
    for answer in (*nothing, {"observed": {}}, {"observed": None}, {}, None, "x"):
        assert outcomes.done_number("node1", answer) == 0
    with pytest.raises(InvalidValue, match="host node1"):
        outcomes.done_number("node1", {"observed": {"done_number": 1 << 60}})
