# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_context_iso takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE, items_of
from ..context import nocloud_and_configdrive
from ..deps import respawn_if_missing
from ..reconcile import isos
from ..sync import Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "dest": {"type": "path"},
        "context": {"type": "json", "no_log": True},
        "files": {"type": "list", "elements": "raw"},
        "format": {
            "type": "str",
            "choices": list(nocloud_and_configdrive.FORMATS),
            "default": nocloud_and_configdrive.DEFAULT,
        },
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "raw", "default": "0640"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "isos": {"type": "json", "no_log": True},
        **ENGINE,
    },
    "required_one_of": [("dest", "isos")],
    "mutually_exclusive": [("dest", "isos"), ("context", "isos"), ("files", "isos")],
}


def libraries(_params: Mapping[str, Any]) -> list[str]:
    return ["pycdlib"]


respawn = respawn_if_missing


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    defaults = {key: params[key] for key in ("format", "owner", "group", "mode", "state")}
    items, refused = items_of(params, "isos", isos.KEYS, "ISO", defaults)
    isos.refuse_twins(items)
    warnings: list[str] = []
    done = [isos.apply(item, check_mode, warnings) for item in items]
    views = [isos.view(item) for item in done]
    payload = {"iso": views[0]} if params["isos"] is None else {"isos": views}
    return Result([*refused, *done], payload, warnings)
