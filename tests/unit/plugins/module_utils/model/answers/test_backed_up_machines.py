# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may answer of backups; mutations of answers are in tests/unit/test_answers.py."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.backed_up_machines import BackedUp, read


def test_what_was_backed_up() -> None:
    (found,) = read("node1", {"backups": [{"vm_id": 1, "kind": "full", "removed": ["a"]}]}) or ()
    assert found == BackedUp(1, kind="full", removed=("a",))
    assert read("node1", {"msg": "it failed"}) is None
    assert read("node1", {"backups": []}) == ()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "it is a dict, and not a list"),
        ([{"name": "x"}], "vm_id"),
        ([{"vm_id": -1}], "the id of a machine is -1"),
        ([{"vm_id": 1, "stored": -1}], "stored is -1"),
        ([{"vm_id": 1, "seconds": 1e9}], "seconds is"),
        ([{"vm_id": 1, "kind": "half"}], "a kind of backup that there is not"),
        ([{"vm_id": 1, "catalog": "../x"}], "a catalog that has no UUID"),
        ([{"vm_id": 1, "error": "x" * 5000}], "more than 4000 characters"),
        ([{"vm_id": 1, "warnings": ["x"] * 2000}], "it tells 2000 things"),
        ([{"vm_id": 1, "other": 1}], "other"),
    ],
)
def test_what_no_host_means(answer: Any, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        read("node1", {"backups": answer})
