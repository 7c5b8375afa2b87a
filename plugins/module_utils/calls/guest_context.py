# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_guest_context takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, items_of
from ..model.specification import argument_spec
from ..model.specifications.guest_image import KEYS
from ..reconcile import guest_images
from ..sync import Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "program": {"type": "str", "required": True},
        **argument_spec(KEYS),
        "images": {"type": "list", "elements": "raw"},
        **ENGINE,
    },
    "required_one_of": [("path", "images")],
    "mutually_exclusive": [("path", "images")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    defaults = {key: params[key] for key in ("format", "trusted", "via")}
    items, refused = items_of(params, "images", KEYS, "image", defaults)
    guest_images.refuse_twins(items)
    warnings: list[str] = []
    done = [guest_images.apply(item, params["program"], check_mode, warnings) for item in items]
    views = [guest_images.view(item) for item in done]
    payload = {"image": views[0]} if params["images"] is None else {"images": views}
    return Result([*refused, *done], payload, warnings)
