# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks how large an answer of a node may be, before anything of it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from typing import Any

from ...errors import InvalidValue

# An audit of a thousand machines has some hundred thousand values, nested seven deep.
MOST_VALUES = 2_000_000
DEEPEST = 24
LONGEST_TEXT = 1 << 16
MOST_TEXT = 1 << 27
# The largest number that SQLite holds and all readers of JSON agree on.
LARGEST_NUMBER = 1 << 53
# The last second, since 1970, that clocks of 32 bits have. What is later is no time that a host has.
LATEST = (1 << 32) - 1
REMEDY = (
    "This host counts as one that did not answer. Run the same version of nebula.provision on every host; if it "
    "does, find out who else has power over this one"
)


def check_size(value: Any, what: str, finite: bool = True) -> None:
    """Raise InvalidValue for an answer that is nested too deeply, has too many values or too much text, numbers beyond
    all measure, or anything that JSON has not.
    what: names the answer in the error.
    finite: whether NaN and infinities are refused, too; False where the caller itself names the value that is one."""
    values = texts = 0
    level: list[Any] = [value]
    for depth in range(DEEPEST + 1):
        if not level:
            return
        if depth == DEEPEST:
            break
        below: list[Any] = []
        values += len(level)
        if values > MOST_VALUES:
            raise refusal(what, f"it has more than {MOST_VALUES} values")
        for each in level:
            if isinstance(each, str):
                texts += len(each)
                _check_text(each, what)
            elif isinstance(each, Mapping):
                if values + len(below) + len(each) > MOST_VALUES:
                    raise refusal(what, f"it has more than {MOST_VALUES} values")
                for key in each:
                    if not isinstance(key, str):
                        raise refusal(what, f"it has a key that is a {type(key).__name__}")
                    texts += len(key)
                    _check_text(key, what)
                below.extend(each.values())
            elif isinstance(each, (list, tuple)):
                below.extend(each)
            elif isinstance(each, float):
                if finite and not math.isfinite(each):
                    raise refusal(what, "it has a number that is not finite")
            elif isinstance(each, bool) or each is None:
                continue
            elif isinstance(each, int):
                if not -LARGEST_NUMBER <= each <= LARGEST_NUMBER:
                    raise refusal(what, "it has a number that is too large")
            else:
                raise refusal(what, f"it has a {type(each).__name__}")
        if texts > MOST_TEXT:
            raise refusal(what, f"it has more than {MOST_TEXT} characters")
        level = below
    raise refusal(what, f"it is nested more than {DEEPEST} deep")


def _check_text(text: str, what: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise refusal(what, f"it has a text of {len(text)} characters, and {LONGEST_TEXT} are allowed")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise refusal(what, "it has a text with half of a surrogate pair")


def refusal(what: str, found: str) -> InvalidValue:
    """Return the error for an answer that no node can mean."""
    return InvalidValue(what, found, REMEDY)


def check_count(found: Sized, most: int, what: str, words: str) -> None:
    """Raise InvalidValue for more than is allowed. words: what the answer has, with {} for how many."""
    if len(found) > most:
        raise refusal(what, f"{words.format(len(found))}, and {most} are allowed")


def check_number(value: float, least: int, most: int, what: str, name: str) -> None:
    if not least <= value <= most:
        raise refusal(what, f"{name} is {value}, and can be {least} to {most}")
