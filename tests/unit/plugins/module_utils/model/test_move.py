# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a machine is follows from what either host says of its move, and neither can speak for the other."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    ANSWERS,
    ANSWERS_OF,
    LIVE,
    ROLES,
    SOURCE,
    TARGET,
    Move,
    PlannedMove,
    is_answer_of,
    owner_after,
)


@pytest.mark.parametrize(
    ("answer", "role", "owner"),
    [
        ("stayed", SOURCE, SOURCE),
        ("left", SOURCE, TARGET),
        ("arrived", TARGET, TARGET),
        ("absent", TARGET, SOURCE),
    ],
)
def test_each_answer_is_one_hosts_and_tells_whose_the_machine_is(answer, role, owner):
    assert [each for each in ROLES if is_answer_of(each, answer)] == [role]
    assert owner_after(answer) == owner


def test_a_host_that_does_not_know_says_nothing_of_whose_it_is():
    assert all(is_answer_of(role, "") for role in ROLES)
    assert owner_after("") is None
    assert {"", *(answer for role in ROLES for answer in ANSWERS_OF[role])} == set(ANSWERS)
    assert not is_answer_of("", "left")


def test_a_move_is_kept_and_planned_as_json():
    kept = Move("f" * 32, "node1", "node2", LIVE, 7, True, 5901, 40, "node1")
    assert from_plain(Move, json.loads(json.dumps(to_plain(kept)))) == kept
    planned = PlannedMove("f" * 32, TARGET, LIVE, "node1")
    assert from_plain(PlannedMove, json.loads(json.dumps(to_plain(planned)))) == planned
    # What a plan does not say is a move that is carried out, at the target, which listens on all addresses.
    assert (planned.asks, planned.address) == (False, "")
