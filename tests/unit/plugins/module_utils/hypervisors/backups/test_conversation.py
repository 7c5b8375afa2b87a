# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words between a host and the front-end; whole conversations are in test_giving.py."""

from __future__ import annotations

import pytest
from move_pairs import PATIENCE, channels

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    OtherHostFailed,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.conversation import (
    DONE,
    GIVEN,
    answer,
    refuse,
    token_of,
)


def test_tokens_name_machines_and_disks_of_one_run() -> None:
    assert len({"r", token_of("r", 1), token_of("r", 1, 0), token_of("r", 10), token_of("r", 1, 1)}) == 5


def test_an_answer_is_what_was_asked_for() -> None:
    with channels() as (left, right):
        right.send(**{GIVEN: {"a": 1}})
        assert answer(left, GIVEN, "node1", PATIENCE) == {"a": 1}
        right.send(**{DONE: True})
        with pytest.raises(OtherHostFailed, match="it answers something else"):
            answer(left, GIVEN, "node1", PATIENCE)


def test_a_refusal_has_the_other_ones_words() -> None:
    with channels() as (left, right):
        refuse(right, WrongState("backup of web", "it is off", "Start it"))
        with pytest.raises(HypervisorError, match=r"backup of web \(host node1\): it is off. Start it"):
            answer(left, GIVEN, "node1", PATIENCE)
        refuse(right, OtherHostFailed("a", "b"))
        with pytest.raises(OtherHostFailed):
            answer(left, GIVEN, "node1", PATIENCE)
