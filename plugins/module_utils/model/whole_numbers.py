# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads whole numbers and modes of files as users write them, and ids in names."""

from __future__ import annotations

import re
from typing import Any

# More digits than any size, count or port has; Python takes very long to read thousands of them, or refuses.
MOST_DIGITS = 18
_ID = re.compile(rf"0|[1-9]\d{{0,{MOST_DIGITS - 1}}}", re.ASCII)
_MODE = re.compile(r"(0o)?[0-7]{1,5}")


def whole(value: Any) -> int | None:
    """Return the number that `value` is or says in plain digits, 0 or more; None if it is none or too large."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    if isinstance(value, int):
        return value if 0 <= value < 10**MOST_DIGITS else None
    digits = value.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS else None


def id_in(name: str) -> int | None:
    """Return the id that is all of a name; None if it is no id as this collection writes one. Names are anybody's, and
    Python takes digits of all scripts for some, which it can't all read."""
    return int(name) if _ID.fullmatch(name) else None


def file_mode(value: Any, largest: int = 0o7777) -> int | None:
    """Return the mode that `value` says in octal digits, or is: YAML reads 0644 without quotes as a number. None if it
    is no mode, or above `largest`."""
    if isinstance(value, str):
        digits = value.strip()
        number = int(digits, 8) if _MODE.fullmatch(digits) else -1
    else:
        number = value if isinstance(value, int) and not isinstance(value, bool) else -1
    return number if 0 <= number <= largest else None
