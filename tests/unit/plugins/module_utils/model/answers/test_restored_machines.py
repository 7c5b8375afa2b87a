# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may answer of restores; mutations of answers are in tests/unit/test_answers.py."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.restored_machines import (
    ListedBackup,
    read_listed,
    read_restored,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineRestored


def test_what_a_host_has_and_what_it_restored() -> None:
    row = {"machine": "web", "vm_id": 1, "id": "x", "kind": "incremental", "size": 3, "encrypted": True}
    assert read_listed("node1", {"backups": [row]}) == (ListedBackup(**row),)
    assert read_listed("node1", {"msg": "it failed"}) is None and read_listed("node1", "x") is None
    done = {"vm_id": 1, "name": "web", "backup": "x", "disks": [0, 2], "files": ["tpm"], "warnings": []}
    assert read_restored("node1", {"restored": done}) == MachineRestored(1, "web", "x", (0, 2), ("tpm",))
    assert read_restored("node1", {"skipped": True}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vm_id": -1}, "the id of a machine is -1"),
        ({"vm_id": "1"}, "vm_id"),
        ({"size": 1 << 40}, "size is"),
        ({"kind": "half"}, "a kind of backup that there is not"),
        ({"place": "x" * 5000}, "more than 4000 characters"),
        ({"encrypted": "no"}, "encrypted"),
        ({"other": 1}, "other"),
    ],
)
def test_backups_that_no_host_has(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        read_listed("node1", {"backups": [{"machine": "web", "vm_id": 1, "id": "x", **changes}]})
    with pytest.raises(InvalidValue, match="it is a dict, and not a list"):
        read_listed("node1", {"backups": {}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vm_id": -1}, "the id of a machine is -1"),
        ({"disks": [-1]}, "the id of a disk is -1"),
        ({"files": ["x"] * 2000}, "it tells 2000 things"),
        ({"warnings": ["x" * 5000]}, "more than 4000 characters"),
        ({"other": 1}, "other"),
    ],
)
def test_restores_that_no_host_makes(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        read_restored("node1", {"restored": {"vm_id": 1, "name": "web", "backup": "x", **changes}})
    with pytest.raises(InvalidValue):
        read_restored("node1", {"restored": []})
