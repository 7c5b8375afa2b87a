# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which image is what a machine's disk was saved as, or is being saved as."""

from __future__ import annotations

from .image import Image
from .image_operations import Save
from .states import ImageState

_NOT_WHOLE = (ImageState.INIT, ImageState.ERROR, ImageState.DELETE)


def origin_of(uuid: str, disk_id: int) -> str:
    """Return where an image is from that a disk of a machine is saved as."""
    return f"vm:{uuid}/disk.{disk_id}"


def is_being_saved(image: Image, origin: str) -> bool:
    # An older version noted no operation.
    same = image.origin == origin and origin.startswith("vm:")
    return same and image.state == ImageState.LOCKED and image.operation in (None, Save(origin))


def holds_saved_disk(image: Image | None, origin: str) -> bool:
    """Return whether it holds what was saved from there, also while something is done to it that leaves it whole."""
    if image is None or image.origin != origin or image.state in _NOT_WHOLE:
        return False
    return not is_being_saved(image, origin)
