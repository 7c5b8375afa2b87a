# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides where further disks of a container are mounted in it, and where an empty one is not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...dataclass import replace
from ...errors import InvalidValue
from .. import disk_targets
from ..disk import TAR
from ..disk_targets import Place
from ..image import Image

# Where a system has what it starts from.
_SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "sbin", "usr")
_SYSTEM_BELOW = ("bin", "lib", "lib32", "lib64", "sbin")


def with_mount_points(places: Sequence[Place], ids: Sequence[int], images: Mapping[int, Image]) -> list[Place]:
    """Return the places, in which disks beside the root have a path: their own, or one by their id."""
    found = list(places)
    for index, disk_id in enumerate(ids):
        image = images.get(index)
        if (image is None or image.format != TAR) and not disk_targets.is_path(found[index].target):
            found[index] = replace(found[index], target=f"{disk_targets.MEDIA}{disk_id}")
    return found


def refuse_hidden_system(target: str, where: str) -> None:
    """Raise InvalidValue if an empty file system would hide what a container is started from."""
    words = target.split("/")[1:]
    top = words[0] if len(words) == 1 else ""
    if top in _SYSTEM or (words[:1] == ["usr"] and len(words) == 2 and words[1] in _SYSTEM_BELOW):
        raise InvalidValue(
            f"{where}: TARGET = {target}",
            "the disk is empty, and it would hide what the container is started from",
            "Use another path, such as /srv; or an IMAGE that has these files",
        )
