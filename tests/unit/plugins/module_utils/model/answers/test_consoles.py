# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is believed of what its own machines have written, and of nothing else."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import consoles


def test_what_its_machines_have_written():
    assert consoles.read("node1", {"heard": {"a": "x" * 100_000, "b": ""}}, {"a", "b", "c"}) == {
        "a": "x" * 100_000,
        "b": "",
    }


@pytest.mark.parametrize("answer", [None, "x", 5, {}, {"msg": "no route to host"}])
def test_a_host_without_an_answer_tells_nothing(answer):
    assert consoles.read("node1", answer, {"a"}) == {}


@pytest.mark.parametrize(
    "heard", [5, "a", ["a"], {"a": 5}, {"a": None}, {"b": "x"}, {"a": "x", "b": ""}, {"a": "\ud800"}, {5: "x"}]
)
def test_what_no_node_answers(heard):
    with pytest.raises(InvalidValue, match="host node1: what it answered of consoles"):
        consoles.read("node1", {"heard": heard}, {"a"})


def test_one_that_is_longer_than_any():
    with pytest.raises(InvalidValue, match="longer than"):
        consoles.read("node1", {"heard": {"a": "x" * ((4 << 20) + 1)}}, {"a"})
