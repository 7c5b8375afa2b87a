# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs that modules share, by name; the documentation fragments of the same names describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import InvalidValue
from .model.names import nearest

ROOT: dict[str, Any] = {"root": {"type": "path", "default": "/var/lib/nebula"}}
ENGINE: dict[str, Any] = {"engine": {"type": "str", "default": "embedded", "choices": ["embedded"]}, **ROOT}
# What earlier tasks of the same run would have created, as their results show it. Read in check mode only.
DECLARED: dict[str, Any] = {"declared": {"type": "dict"}}
# Where a module writes how far it is, for the action plugin that started it. Not an option for users.
PROGRESS: dict[str, Any] = {"_progress_file": {"type": "path"}}


def items_of(
    params: Mapping[str, Any], plural: str, single: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The plural list, or the one item that the module's own options describe.

    Items of the plural list are plain dicts: unknown keys and missing names raise InvalidValue with a near miss.
    """
    given = params.get(plural)
    if given is None:
        return [{key: params.get(key) for key in single}]
    if isinstance(given, str):
        given = parse_json(given, plural)
    if not isinstance(given, list):
        raise InvalidValue(f"option {plural}", f"it is a {type(given).__name__}", "Give a list of dicts")
    items = []
    for index, item in enumerate(given):
        if not isinstance(item, Mapping):
            raise InvalidValue(f"option {plural}, item {index}", f"it is a {type(item).__name__}", "Give a dict")
        where = f"{plural}[{index}]" + (f" ({item['name']})" if item.get("name") else "")
        for key in item:
            if key not in single:
                near = nearest(str(key), single)
                raise InvalidValue(
                    f"{where}: key {key!r}",
                    "no such key",
                    f"Did you mean {near!r}? " * bool(near) + "Known are " + ", ".join(sorted(single)),
                )
        items.append({key: item.get(key, (defaults or {}).get(key)) for key in single})
    return items


def parse_json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        # The text may hold secrets: the error names the place, never the text.
        position = getattr(error, "pos", 0)
        raise InvalidValue(
            f"option {option}", f"it is not JSON (character {position} of {len(text)})", "Give a list, or its JSON"
        ) from None
