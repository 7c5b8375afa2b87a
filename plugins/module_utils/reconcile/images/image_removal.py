# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the files of an image from the front-end."""

from __future__ import annotations

import contextlib
import os

from ...errors import TimedOut
from ...guest_disk.open import image_overlay
from ...host import files
from ...model.image import Image
from ...storage import final_names, image_files


def remove_half_made(image: Image) -> None:
    """Remove what a run left that was killed when the image was in the catalog already."""
    if os.path.lexists(image.source + final_names.PART):
        with contextlib.suppress(TimedOut), final_names.locked_destination(image.source, 0):
            pass


def remove_files(image: Image) -> None:
    """Remove all files of an image, its own file last."""
    # What a run was about to put into it may be secret.
    image_overlay.discard(image_overlay.locate_catalogued(image.source, image.format, f"image {image.name}"))
    image_files.remove_additions(image.source + final_names.NEW)
    for end in (image_files.WORK, final_names.NEW + ".raw", ""):
        files.remove_file(image.source + end, sync=True)
