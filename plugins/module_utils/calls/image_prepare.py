# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_image_prepare takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE, items_of, parse_json
from ..model import defaults
from ..model.specification import argument_spec
from ..model.specifications.image_prepare import KEYS
from ..reconcile.images import check_image, prepare_image
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import images

    # Of the engine it uses these.
    SHIPPED = (images,)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **argument_spec(KEYS),
        "program": {"type": "str", "default": ""},
        "images": {"type": "json", "no_log": True},
        "wait_timeout": {"type": "int", "default": defaults.PREPARE_WAIT_SECONDS},
        **ENGINE,
    },
    "required_one_of": [("name", "path", "images")],
    "mutually_exclusive": [("name", "path", "images")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    given = {**params, "files": parse_json(params["files"], "files") if params["files"] else []}
    shared = {key: given[key] for key in ("format", "trusted", "steps", "timezone", "files", "via")}
    items, refused = items_of(given, "images", KEYS, "image", shared)
    check_image.refuse_twins(items)
    settings = prepare_image.Settings(params["program"], params["wait_timeout"], check_mode)
    warnings: list[str] = []
    with check_image.catalog_of(items, params, check_mode) as engine:
        done = [prepare_image.apply(engine, item, settings, warnings) for item in items]
    views = [prepare_image.view(item, stated) for item, stated in zip(done, items)]
    payload = {"image": views[0]} if params["images"] is None else {"images": views}
    return Result([*refused, *done], payload, warnings)
