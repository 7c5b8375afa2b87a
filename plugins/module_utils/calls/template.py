# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_template takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, items_of
from ..engines.registry import open_engine
from ..model.specification import argument_spec
from ..model.specifications.template import KEYS
from ..reconcile.templates import apply_all
from ..runner import closing
from ..sync import Result, doubts_of_names

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(argument_spec(KEYS), templates={"type": "json", "no_log": True}, **ENGINE),
    "required_one_of": [("name", "template", "template_file", "templates")],
    "mutually_exclusive": [
        ("name", "templates"),
        ("template", "templates"),
        ("template_file", "templates"),
        ("template", "template_file"),
    ],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    items, refused = items_of(params, "templates", KEYS, "template", once=True)
    with closing(open_engine(params, check_mode, create=True)) as engine, engine.session():
        done, views, warnings = apply_all(engine, items, check_mode)
    result = Result([*refused, *done], {"templates": views}, warnings + doubts_of_names("template", done))
    if params["templates"] is None and views:
        result.payload["template"] = views[0]
    return result
