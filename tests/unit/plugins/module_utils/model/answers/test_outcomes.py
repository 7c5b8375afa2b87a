# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says it did: all that a real one says is read, and nothing else."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import outcomes
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import TaskOutcome, VmOutcome

REAL = VmOutcome(0, 1, "RUNNING", True, {"asked": "x"}, ("line",), (TaskOutcome("1.0", 5, "qcow2"),), True)


def test_what_a_node_did_is_read():
    assert outcomes.read("node1", {"outcomes": [to_plain(REAL)], "changed": True}) == [REAL]
    assert outcomes.read("node1", {"unreachable": True}) is None
    assert outcomes.read("node1", {"error": {"kind": "StalePlan"}}) == []


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
        {"mood": 1},
    ],
)
def test_what_no_node_says_is_refused_with_its_name(said):
    with pytest.raises(InvalidValue, match="host node1: what it says it did"):
        outcomes.read("node1", {"outcomes": [{**to_plain(REAL), **said}]})


def test_a_number_of_a_plan_is_bounded():
    assert outcomes.done_number("node1", {"observed": {"done_number": 7}}) == 7
    assert outcomes.done_number("node1", {"observed": {"done_number": True}}) == 0
    with pytest.raises(InvalidValue, match="host node1"):
        outcomes.done_number("node1", {"observed": {"done_number": 1 << 60}})
