# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.states import FAILURES, LcmState, vm_state_name


@pytest.mark.parametrize(
    ("state", "lcm_state", "name"),
    [
        (3, 3, "RUNNING"),
        (3, 36, "BOOT_FAILURE"),
        (3, 61, "PROLOG_MIGRATE_UNKNOWN_FAILURE"),
        (3, 71, "RESTORE"),
        (5, 0, "SUSPENDED"),
        (8, 36, "POWEROFF"),
        (3, 13, "13"),
        (3, 999, "999"),
        (7, 3, "7"),
    ],
)
def test_one_word_for_both_numbers(state: int, lcm_state: int, name: str) -> None:
    assert vm_state_name(state, lcm_state) == name


def test_all_numbers_but_those_not_in_use() -> None:
    assert set(range(72)) - {int(state) for state in LcmState} == {13, 14, 55, 58}


def test_failures() -> None:
    assert {int(state) for state in FAILURES} == {36, 37, 38, 39, 40, 41, 42, 44, 46, 47, 48, 49, 50, 61}
