# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs that modules share, by name; the documentation fragments of the same names describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import InvalidValue
from .model import defaults
from .model.flags import flag
from .model.names import nearest
from .model.numbers import whole
from .model.plain import json_value
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


def typed(item: Mapping[str, Any], spec: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """An item of a list with the types that a module's own options of that spec have; InvalidValue names the key.

    Ansible's own validator tells neither the item nor what to write instead.
    """
    result: dict[str, Any] = {key: option.get("default") for key, option in spec.items()}
    for key, given in item.items():
        if given is None:
            continue
        option = spec[key]
        wanted, choices = option["type"], option.get("choices")
        value = result[key] = _READERS[wanted](given, f"{where}: {key}")
        if choices and value not in choices:
            near = nearest(str(value), choices)
            raise InvalidValue(
                f"{where}: {key} {value!r}",
                f"there is no such {key}",
                f"Did you mean {near!r}? " * bool(near) + "Known are " + ", ".join(choices),
            )
        if wanted == "list" and option.get("elements") == "str":
            result[key] = [_text(each, f"{where}: {key}") for each in value]
        elif "options" in option:
            parts = [f"{where}: {key}[{index}]" for index in range(len(value))]
            for each, part in zip(value, parts):
                check_keys(each, list(option["options"]), part)
            result[key] = [typed(each, option["options"], part) for each, part in zip(value, parts)]
    return result


def _text(value: Any, where: str) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise InvalidValue(where, f"it is a {type(value).__name__}", "Give text, in quotes")


def _whole(value: Any, where: str) -> int:
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    sign = -1 if text.startswith("-") else 1
    number = whole(text[1:] if sign < 0 else text)
    if number is not None:
        return sign * number
    raise InvalidValue(f"{where} {value!r}", "it is not a whole number", "Write digits only")


def _as_it_is(value: Any, _where: str) -> Any:
    return value


def _list(value: Any, where: str) -> list[Any]:
    if isinstance(value, str):
        return value.split(",") if value else []
    if isinstance(value, (list, tuple)):
        return list(value)
    raise InvalidValue(where, f"it is a {type(value).__name__}", "Give a list")


def _dict(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise InvalidValue(where, f"it is a {type(value).__name__}", "Give a dict")


_READERS: dict[str, Any] = {"str": _text, "int": _whole, "bool": flag, "list": _list, "dict": _dict, "raw": _as_it_is}


def parse_json(text: str, option: str) -> Any:
    """What the JSON text says; InvalidValue for what is no JSON, or none that could mean anything here. The text may
    hold secrets: errors name the place, never the text."""
    if len(text) > LONGEST_JSON:
        raise InvalidValue(
            f"option {option}", f"it has {len(text)} characters, the limit is {LONGEST_JSON}", "Give it in parts"
        )
    try:
        return json_value(text)
    except ValueError as error:
        place = f"character {error.pos} of {len(text)}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InvalidValue(f"option {option}", f"it is not JSON ({place})", "Give a list, or its JSON") from None
