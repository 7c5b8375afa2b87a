# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_router takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, items_of
from ..engines.registry import open_engine
from ..model.specification import argument_spec
from ..model.specifications.router import KEYS
from ..reconcile.routers import apply
from ..runner import closing
from ..sync import Result, doubts_of_names

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(argument_spec(KEYS), routers={"type": "list", "elements": "raw"}, **ENGINE),
    "required_one_of": [("name", "routers")],
    "mutually_exclusive": [("name", "routers")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    items, refused = items_of(params, "routers", KEYS, "router", once=True)
    with closing(open_engine(params, check_mode, create=True)) as engine:
        with engine.session():
            done = [apply(engine, item) for item in items]
        if check_mode:
            # In check mode the ids are rolled back, so they are not reported.
            for item in done:
                if item.before is None and item.after is not None:
                    item.after = {**item.after, "id": None, "uuid": None}
        result = Result([*refused, *done], warnings=doubts_of_names("router", done))
        views = [item.after for item in done if item.after is not None and item.error is None]
        result.payload = {"routers": views, "catalog": engine.catalog()}
    if params["routers"] is None and views:
        result.payload["router"] = views[0]
    return result
