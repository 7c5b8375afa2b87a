# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs a key. tests/integration/test_backup_place.py has what is found in real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    CRASH_CONSISTENT,
    FULL,
    MachineBackup,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_verification
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import MachineDirectory

CATALOG = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001"


def test_an_encrypted_one_needs_a_key(tmp_path: Path) -> None:
    backup = MachineBackup("x", "", 7, "", "", "", "kvm", 0, FULL, "", CRASH_CONSISTENT, "", (), encrypted=True)
    with pytest.raises(InvalidValue, match="none was given"):
        backup_verification.require_key(MachineDirectory(str(tmp_path), 7, CATALOG, CATALOG), backup)
    backup_verification.require_key(MachineDirectory(str(tmp_path), 7, CATALOG, CATALOG, "key"), backup)


def test_nothing_is_found_of_nothing(tmp_path: Path) -> None:
    assert backup_verification.verify(MachineDirectory(str(tmp_path), 7, CATALOG, CATALOG)) == []
