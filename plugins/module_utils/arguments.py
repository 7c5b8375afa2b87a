# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs that modules share, by name; the documentation fragments of the same names describe them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from .errors import InvalidValue
from .model import defaults
from .model.dataclass_json import json_value
from .model.item_reader import check_keys, duplicate_error
from .sync import Item

ROOT: dict[str, Any] = {"root": {"type": "path", "default": defaults.ROOT}}
# Every module of the action group takes both, so that module_defaults may set them for a whole play.
ENGINE: dict[str, Any] = {"engine": {"type": "str", "default": "embedded", "choices": ["embedded"]}, **ROOT}
# Characters of an option: a plan of ten thousand machines has a tenth of it.
LONGEST_JSON = 256 * 1024 * 1024
# Where a module writes how far it is, for the action plugin that started it. Not an option for users.
PROGRESS: dict[str, Any] = {"_progress_file": {"type": "path"}}


def items_of(
    params: Mapping[str, Any],
    plural: str,
    single: Collection[str],
    kind: str,
    defaults: Mapping[str, Any] | None = None,
    once: bool = False,
) -> tuple[list[dict[str, Any]], list[Item]]:
    """Return the items of the plural list, or the one item that the module's own options describe, and the refused
    items.

    Refused, each with its error, are entries of the list that are no items of that kind, and with `once` those of whose
    name there are two. The others go on.
    plural: the option that takes the list.
    single: the keys that an item may have.
    kind: what errors call an item ("VM", "image" …).
    defaults: values of keys that an item of the list does not have.
    once: refuse names that are there twice here, before anything is done with either; lists that are decided as a whole
    do it themselves."""
    given = params.get(plural)
    if given is None:
        return [{key: params.get(key) for key in single}], []
    if isinstance(given, str):
        given = parse_json(given, plural)
    if not isinstance(given, list):
        raise InvalidValue(f"option {plural}", f"it is a {type(given).__name__}", "Give a list of dicts")
    items: list[dict[str, Any]] = []
    refused: list[Item] = []
    names = Counter(item["name"] for item in given if isinstance(item, Mapping) and isinstance(item.get("name"), str))
    for index, item in enumerate(given):
        name = str(item.get("name") or "") if isinstance(item, Mapping) else ""
        try:
            check_keys(item, single, f"{kind} {name}" if name else f"{plural}[{index}]")
            if once and name and item.get("name") == name and names[name] > 1:
                raise duplicate_error(f"{kind} {name}")
        except InvalidValue as error:
            refused.append(Item(name or f"{plural}[{index}]", error=error, changed=False))
            continue
        items.append({key: item.get(key, (defaults or {}).get(key)) for key in single})
    return items, refused


def parse_json(text: str, option: str) -> Any:
    """Return what the JSON text says. Raise InvalidValue for what is no JSON, or none that could mean anything here.

    The text may hold secrets: errors name the place, never the text."""
    if len(text) > LONGEST_JSON:
        raise InvalidValue(
            f"option {option}", f"it has {len(text)} characters, the limit is {LONGEST_JSON}", "Give it in parts"
        )
    try:
        return json_value(text)
    except ValueError as error:
        place = f"character {error.pos} of {len(text)}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InvalidValue(f"option {option}", f"it is not JSON ({place})", "Give a list, or its JSON") from None
