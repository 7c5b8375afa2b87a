# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's root has no path, and each further disk has its own, or one by its id."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.disk_targets import Place
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.container_mount_points import (
    with_mount_points,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType


def test_further_disks_are_mounted_at_their_path_or_at_one_by_their_id():
    places = [Place("DISK", "disk", target) for target in ("", "", "/srv/data", "vdb")]
    images = {0: Image(0, "root", type=ImageType.OS, format="tar"), 1: Image(1, "data", type=ImageType.DATABLOCK)}
    found = with_mount_points(places, [0, 1, 2, 7], images)
    assert [place.target for place in found] == ["", "/media/one-disk.1", "/srv/data", "/media/one-disk.7"]
