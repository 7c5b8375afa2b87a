# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_security_group takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, items_of
from ..engines.registry import open_engine
from ..model.specification import argument_spec
from ..model.specifications.security_group import KEYS
from ..reconcile.security_groups import apply
from ..runner import closing
from ..sync import Result, doubts_of_names

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(argument_spec(KEYS), security_groups={"type": "list", "elements": "raw"}, **ENGINE),
    "required_one_of": [("name", "security_groups")],
    "mutually_exclusive": [("name", "security_groups")],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    items, refused = items_of(params, "security_groups", KEYS, "security group", once=True)
    with closing(open_engine(params, check_mode, create=True)) as engine:
        with engine.session():
            done = [apply(engine, item) for item in items]
        if check_mode:
            # In check mode the ids are rolled back, so they are not reported.
            for item in done:
                if item.before is None and item.after is not None:
                    item.after = {**item.after, "id": None, "uuid": None}
        result = Result([*refused, *done], warnings=doubts_of_names("security group", done))
        views = [item.after for item in done if item.after is not None and item.error is None]
        result.payload = {"security_groups": views, "catalog": engine.catalog()}
    if params["security_groups"] is None and views:
        result.payload["security_group"] = views[0]
    return result
