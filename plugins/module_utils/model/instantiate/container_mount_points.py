# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides where further disks of a container are mounted in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .. import disk_targets
from ..disk import TAR
from ..disk_targets import Place
from ..image import Image


def with_mount_points(places: Sequence[Place], ids: Sequence[int], images: Mapping[int, Image]) -> list[Place]:
    """Return the places, in which disks beside the root have a path: their own, or one by their id."""
    found = list(places)
    for index, disk_id in enumerate(ids):
        image = images.get(index)
        if (image is None or image.format != TAR) and not disk_targets.is_path(found[index].target):
            found[index] = replace(found[index], target=f"{disk_targets.MEDIA}{disk_id}")
    return found
