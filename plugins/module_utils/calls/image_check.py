# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_image_check takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import ENGINE, items_of
from ..model.specification import argument_spec
from ..model.specifications.image_check import KEYS
from ..reconcile.images import check_image
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import images

    # Of the engine it uses these.
    SHIPPED = (images,)

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **argument_spec(KEYS),
        "images": {"type": "list", "elements": "raw"},
        "mode": {"type": "str", "choices": list(check_image.MODES), "default": "offline"},
        "said": {"type": "dict", "default": {}},
        "listen": {"type": "dict"},
        "report": {"type": "path"},
        **ENGINE,
    },
    "required_one_of": [("name", "path", "images", "listen")],
    "mutually_exclusive": [("name", "path", "images", "listen")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    if params["listen"] is not None:
        return Result(payload={"heard": check_image.console_texts(params["listen"])})
    defaults = {key: params[key] for key in ("format", "trusted", "timezone", "os")}
    items, refused = items_of(params, "images", KEYS, "image", defaults)
    check_image.refuse_twins(items)
    with check_image.catalog_of(items, params, check_mode=True) as engine:
        done = [check_image.check(engine, item, params["mode"], params["said"], check_mode) for item in items]
    views = [view for _item, view in done]
    results = [*refused, *(item for item, _view in done)]
    if params["report"]:
        results.append(check_image.write_report(params["report"], views, check_mode))
    return Result(results, {"image": views[0]} if params["images"] is None else {"images": views})
