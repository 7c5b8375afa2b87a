# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_datastore takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, items_of
from ..engines.registry import open_engine
from ..model.specification import argument_spec
from ..model.specifications.datastore import KEYS
from ..reconcile.datastores import apply
from ..runner import closing
from ..storage import datastore
from ..sync import Result, doubts_of_names

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(argument_spec(KEYS), datastores={"type": "list", "elements": "raw"}, **ENGINE),
    "required_one_of": [("name", "datastores")],
    "mutually_exclusive": [("name", "datastores")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    items, refused = items_of(params, "datastores", KEYS, "datastore", once=True)
    if not check_mode:
        datastore.prepare_root(params["root"])
    with closing(open_engine(params, check_mode, create=True)) as engine:
        with engine.session():
            done = [apply(engine, item, params["root"], check_mode) for item in items]
        if check_mode:
            # In check mode the id is rolled back, so it is not reported.
            for item in done:
                if item.before is None and item.after is not None:
                    item.after = {**item.after, "id": None, "path": "", "free": None, "total": None}
        result = Result([*refused, *done], warnings=doubts_of_names("datastore", done))
        views = [item.after for item in done if item.after is not None]
        result.payload = {"datastores": views, "catalog": engine.catalog()}
    if params["datastores"] is None and views:
        result.payload["datastore"] = views[0]
    return result
