# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_template takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..model.specifications.template import KEYS
from ..object_lists import ObjectList
from ..reconcile.templates import apply_all
from ..sync import Result

if TYPE_CHECKING:
    from ..engines.shipped import hosts, templates

    # Of the engine it uses these.
    SHIPPED = (hosts, templates)

UNKNOWN = {"id": None, "registered": 0}
TEMPLATES = ObjectList("template", "templates", KEYS, UNKNOWN, is_packed=True, names_catalog=False)
ARGUMENTS = {
    **TEMPLATES.arguments(),
    "required_one_of": [("name", "template", "template_file", "templates")],
    "mutually_exclusive": [
        ("name", "templates"),
        ("template", "templates"),
        ("template_file", "templates"),
        ("template", "template_file"),
    ],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    return TEMPLATES.run(params, check_mode, apply_all)
