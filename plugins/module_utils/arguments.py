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
from .sync import Item

ROOT: dict[str, Any] = {"root": {"type": "path", "default": "/var/lib/nebula"}}
ENGINE: dict[str, Any] = {"engine": {"type": "str", "default": "embedded", "choices": ["embedded"]}, **ROOT}
# What earlier tasks of the same run would have created, as their results show it. Read in check mode only.
DECLARED: dict[str, Any] = {"declared": {"type": "dict"}}
# Where a module writes how far it is, for the action plugin that started it. Not an option for users.
PROGRESS: dict[str, Any] = {"_progress_file": {"type": "path"}}


def items_of(
    params: Mapping[str, Any],
    plural: str,
    single: Sequence[str],
    kind: str,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], list[Item]]:
    """The plural list, or the one item that the module's own options describe; and those of the list that are no items
    of that kind ("VM", "image" …), each with its error: the others are to go on."""
    given = params.get(plural)
    if given is None:
        return [{key: params.get(key) for key in single}], []
    if isinstance(given, str):
        given = parse_json(given, plural)
    if not isinstance(given, list):
        raise InvalidValue(f"option {plural}", f"it is a {type(given).__name__}", "Give a list of dicts")
    items: list[dict[str, Any]] = []
    refused: list[Item] = []
    for index, item in enumerate(given):
        name = str(item.get("name") or "") if isinstance(item, Mapping) else ""
        try:
            check_keys(item, single, f"{kind} {name}" if name else f"{plural}[{index}]")
        except InvalidValue as error:
            refused.append(Item(name or f"{plural}[{index}]", error=error, changed=False))
            continue
        items.append({key: item.get(key, (defaults or {}).get(key)) for key in single})
    return items, refused


def check_keys(item: Any, known: Sequence[str], where: str) -> None:
    """InvalidValue if it is no dict, or has a key that is not known. where: names it in errors."""
    if not isinstance(item, Mapping):
        raise InvalidValue(where, f"it is a {type(item).__name__}", "Give a dict with " + ", ".join(known))
    for key in item:
        if key not in known:
            near = nearest(str(key), known)
            raise InvalidValue(
                f"{where}: key {key!r}",
                "no such key",
                f"Did you mean {near!r}? " * bool(near) + "Known are " + ", ".join(sorted(known)),
            )


def parse_json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        # The text may hold secrets: the error names the place, never the text.
        position = getattr(error, "pos", 0)
        raise InvalidValue(
            f"option {option}", f"it is not JSON (character {position} of {len(text)})", "Give a list, or its JSON"
        ) from None
