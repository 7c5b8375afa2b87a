# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an item of a list by the table of its keys (specifications/), with one wording for each mistake.

Mistakes are a key or a word that is not known, a value of another type, and two items of one name."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..errors import InvalidValue
from .flags import flag
from .object_names import did_you_mean, known_are, nearest_word
from .specification import Key
from .whole_numbers import MOST_DIGITS, whole

# A whole number as filters of Jinja give one: 3277.0.
_POINT = re.compile(r"\.0*\Z")


def check_keys(item: Any, known: Collection[str], where: str) -> None:
    """Raise InvalidValue if the item is no dict, or has a key that is not known.
    known: names, or a table of keys, which also has the words by which users mean another key.
    where: names the item in errors."""
    if not isinstance(item, Mapping):
        raise InvalidValue(where, f"it is a {type(item).__name__}", "Give a dict with " + ", ".join(known))
    for key in item:
        if key not in known:
            near = _key_meant_by(str(key), known) or nearest_word(str(key), known)
            remedy = did_you_mean(near) + "Known are " + ", ".join(sorted(known))
            raise InvalidValue(f"{where}: key {key!r}", "no such key", remedy)


def _key_meant_by(word: str, known: Collection[str]) -> str:
    """Return the key of the table that has the word among those by which it is meant, or ""."""
    if not isinstance(known, Mapping):
        return ""
    return next((name for name, key in known.items() if isinstance(key, Key) and word.lower() in key.near), "")


def duplicate_error(where: str) -> InvalidValue:
    """Return the error for an item of a list whose name an earlier one has."""
    return InvalidValue(where, "the list has it twice", "Keep one of the two")


def check_choice(word: Any, choices: Sequence[str], where: str, key: str, given: Any = None) -> str:
    """Return the word, if it is one of the choices; else raise InvalidValue, which names the item, the key and the
    word. given: the word as the user wrote it, where it was brought into another case since."""
    if word in choices:
        return str(word)
    shown = word if given is None else given
    raise InvalidValue(f"{where}: {key} {shown!r}", f"there is no such {key}", known_are(str(word), choices))


def read_item(
    item: Mapping[str, Any],
    keys: Mapping[str, Key],
    where: str,
    as_given: Collection[str] = (),
    removal: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """Return an item of a list with the types that its table says, and its defaults; raise InvalidValue, which names
    the item and the key. Ansible's own validator tells neither the item nor what to write instead.
    as_given: keys that have a reader of their own, to which their values go as they are.
    removal: by each state that removes the object, the keys that are read then. What else such an item says does not
    matter, and may be what was wrong with the object."""
    result: dict[str, Any] = {name: key.default for name, key in keys.items()}
    state = item.get("state")
    needed = (removal or {}).get(state) if isinstance(state, str) else None
    for name, given in item.items():
        if given is not None and (needed is None or name in needed):
            if name not in as_given:
                result[name] = value_of(given, keys[name], where, name)
                continue
            if isinstance(given, str):
                _refuse_unwritable(given, f"{where}: {name}")
            result[name] = given
    return result


def value_of(given: Any, key: Key, where: str, name: str) -> Any:
    """Return one value of an item, with the type of its key."""
    place = f"{where}: {name}"
    if key.empty and given == "":
        return given
    if key.secret and (not isinstance(given, str) or not given or "\0" in given):
        raise InvalidValue(place, "it is empty, or not text", "Give text, in quotes")
    if key.type == "int":
        return _whole(given, place, key)
    if key.type == "float":
        return _number(given, place, key)
    if key.type == "list":
        value: Any = _list(given, place, key)
    else:
        value = _READERS[key.type](given, place)
    if key.case:
        value = value.upper() if key.case == "upper" else value.lower()
    if key.choices:
        return check_choice(value, key.choices, where, name, given)
    if key.type == "list" and key.elements == "str":
        return [_text(each, place) for each in value]
    if key.type == "dict" and key.options is not None and isinstance(value, Mapping):
        check_keys(value, key.options, f"{where}: {name}")
        return read_item(value, key.options, f"{where}: {name}")
    if key.type == "list" and key.options is not None:
        parts = [f"{place}[{index}]" for index in range(len(value))]
        for each, part in zip(value, parts):
            check_keys(each, key.options, part)
        return [read_item(each, key.options, part) for each, part in zip(value, parts)]
    return value


def _text(value: Any, where: str) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        text = str(value)
        _refuse_unwritable(text, where)
        return text
    raise InvalidValue(where, f"it is a {type(value).__name__}", "Give text, in quotes")


def _refuse_unwritable(text: str, where: str) -> None:
    """Raise InvalidValue for text that no file, program or database takes."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidValue(where, "it holds a NUL character, or half of a surrogate pair", "Write it without")


def _whole(value: Any, where: str, key: Key) -> int:
    text = str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    sign = -1 if text.startswith("-") else 1
    digits = _POINT.sub("", text[1:] if sign < 0 else text)
    number = whole(digits)
    if number is not None and _is_within(sign * number, key):
        return sign * number
    if digits.isascii() and digits.isdigit() and number is None:
        raise InvalidValue(where, f"it has {len(digits)} digits", f"Write a number of at most {MOST_DIGITS} digits")
    raise InvalidValue(f"{where} {value!r}", _not_a("whole number", key), "Write digits only")


def _not_a(kind: str, key: Key) -> str:
    found = f"it is not a {kind}" + (f" of {key.unit}" if key.unit else "")
    if key.least is None and key.most is None:
        return found
    most = f" to {key.most}" if key.most is not None else " or more"
    return f"{found}, {key.least or 0}{most}"


def _is_within(number: float, key: Key) -> bool:
    return (key.least is None or number >= key.least) and (key.most is None or number <= key.most)


def _number(value: Any, where: str, key: Key) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number) and _is_within(number, key):
        return number
    raise InvalidValue(f"{where} {value!r}", _not_a("number", key), "Write digits, with a point where there is one")


def _list(value: Any, where: str, key: Key) -> list[Any]:
    if isinstance(value, str) and key.split and (key.elements != "dict" or not value):
        return value.split(",") if value else []
    if isinstance(value, (list, tuple)):
        return list(value)
    kind = "list of dicts" if key.elements == "dict" else "list"
    raise InvalidValue(where, f"it is a {type(value).__name__}", f"Give a {kind}")


def _dict(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise InvalidValue(where, f"it is a {type(value).__name__}", "Give a dict")


_READERS: dict[str, Any] = {
    "str": _text, "path": _text, "bool": flag, "dict": _dict, "raw": lambda value, _where: value,
}  # fmt: skip
