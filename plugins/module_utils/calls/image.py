# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_image takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import PROGRESS
from ..host.restricted_directories import RESTRICTED
from ..model import defaults
from ..model.specifications.image import KEYS
from ..object_lists import ObjectList
from ..reconcile.images import image_list
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import datastores, images, templates

    # Of the engine it uses these.
    SHIPPED = (datastores, images, templates)

IMAGES = ObjectList("image", "images", KEYS, unknown={}, is_packed=True)
ARGUMENTS = {
    **IMAGES.arguments(
        validate_certs={"type": "bool", "default": True},
        timeout={"type": "int", "default": defaults.DOWNLOAD_STALL_SECONDS},
        min_speed={"type": "int", "default": defaults.DOWNLOAD_MIN_KIB_PER_SECOND},
        wait_timeout={"type": "int", "default": defaults.IMAGE_WAIT_SECONDS},
        declared={"type": "dict"},
        max_size={"type": "int", "default": defaults.IMAGE_MAX_SIZE},
        safe_dirs={"type": "list", "elements": "path", "default": []},
        restricted_dirs={"type": "list", "elements": "path", "default": [*RESTRICTED]},
        # Between the action plugin and this module: {ask: …}, {identity, offset, chunk} or {use: …}.
        _upload={"type": "json"},
        **PROGRESS,
    ),
    "required_one_of": [("name", "images", "_upload")],
    "mutually_exclusive": [("name", "images"), ("path", "clone_of", "from")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    return image_list.reconcile(IMAGES, params, check_mode)
