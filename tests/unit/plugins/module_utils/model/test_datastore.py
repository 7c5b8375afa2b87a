# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where images of each type lie, with OpenNebula's numbers."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model import datastore
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import (
    Datastore,
    DatastoreType,
    default_datastore,
    type_for,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType


def test_types_and_ids_are_opennebulas() -> None:
    assert {each.name: each.value for each in DatastoreType} == {"IMAGE": 0, "SYSTEM": 1, "FILE": 2}
    assert (datastore.SYSTEM, datastore.DEFAULT, datastore.FILES, datastore.FIRST) == (0, 1, 2, 100)


@pytest.mark.parametrize("kind", [ImageType.KERNEL, ImageType.RAMDISK, ImageType.CONTEXT])
def test_files_lie_in_the_datastore_of_files(kind: ImageType) -> None:
    assert (type_for(kind), default_datastore(kind)) == (DatastoreType.FILE, datastore.FILES)


@pytest.mark.parametrize("kind", [kind for kind in ImageType if kind not in datastore.FILE_TYPES])
def test_disks_lie_in_the_default_datastore(kind: ImageType) -> None:
    assert (type_for(kind), default_datastore(kind)) == (DatastoreType.IMAGE, datastore.DEFAULT)


def test_a_new_datastore_is_for_images_and_looks_for_room() -> None:
    assert Datastore(None, "fast") == Datastore(None, "fast", DatastoreType.IMAGE, capacity_check=True)
