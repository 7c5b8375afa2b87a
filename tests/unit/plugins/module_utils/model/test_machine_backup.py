# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of backups is asked for travels as data, and shows no key."""

from __future__ import annotations

import json
from dataclasses import replace

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    BackupPassage,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

MACHINE = MachineToBackUp(Vm(1, "u", "web", "kvm", cpu=1.0, memory=1), 2, "node1", secrets={"A": "hidden"})
PASSAGE = BackupPassage("t", True, "front", key="hidden")
REQUEST = BackupRequest("c", "/b", "frontend", (MACHINE,), key="hidden", passage=PASSAGE)


def test_it_comes_back_as_it_was() -> None:
    assert from_plain(BackupRequest, json.loads(json.dumps(to_plain(REQUEST)))) == REQUEST


def test_neither_keys_nor_secrets_are_shown() -> None:
    assert "hidden" not in repr(REQUEST)


def test_a_host_is_asked_for_what_is_encrypted_elsewhere() -> None:
    assert REQUEST.is_encrypted
    bare = replace(REQUEST, key="")
    assert not bare.is_encrypted and not replace(bare, passage=None).is_encrypted
    assert replace(bare, passage=replace(PASSAGE, encrypted=True)).is_encrypted
