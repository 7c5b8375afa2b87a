# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in a place. tests/integration/test_backup_place.py has which directory may be one, and what lies there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_manifests import ID
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import MachineDirectory, Place

CATALOG = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001"


@pytest.fixture
def directory(tmp_path: Path) -> MachineDirectory:
    return MachineDirectory(str(tmp_path), 7, CATALOG, CATALOG)


def test_ids_are_of_their_time(directory: MachineDirectory) -> None:
    found = {directory.new_id(1767225600) for _turn in range(20)}
    assert len(found) == 20 and all(re.fullmatch(ID, id) and id.startswith("20260101T000000Z-") for id in found)
    assert re.fullmatch(ID, directory.new_id())


def test_names_are_of_backups(directory: MachineDirectory) -> None:
    id = directory.new_id()
    for name in (f"{id}.disk.0.qcow2", f"{id}.root.12.tar.zst", f"{id}.nvram", f"{id}.json"):
        assert directory.path(name) == f"{directory.directory}/{name}"
    for name in ("x", "../x", f"../{id}.nvram", f"{id}.a/b", f"{id}.", id, f".{id}.nvram", f"{id}.nvram\n"):
        with pytest.raises(InvalidValue):
            directory.path(name)
    with pytest.raises(InvalidValue):
        directory.discard("")
    with pytest.raises(InvalidValue):
        directory.discard("../x")


def test_disks_on_the_same_file_system_are_named_by_the_directory_of_them_all(tmp_path: Path) -> None:
    disks = tmp_path / "datastores/0"
    for number in ("0", "1"):
        (disks / number).mkdir(parents=True)
    place = Place.open(str(tmp_path / "b"), CATALOG, True, disks_of=[str(disks / "0"), str(disks / "1")])
    (warning,) = place.warnings
    assert f"the machines' disks in {disks}: what destroys" in warning
