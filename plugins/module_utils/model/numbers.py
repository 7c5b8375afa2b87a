# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole numbers as users write them."""

from __future__ import annotations

from typing import Any, Optional

# More digits than any size, count or port has; Python takes very long to read thousands of them, or refuses.
MOST_DIGITS = 18


def whole(value: Any) -> Optional[int]:
    """The number that `value` is or says in plain digits, 0 or more; None if it is none, or larger than anything is."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    if isinstance(value, int):
        return value if 0 <= value < 10**MOST_DIGITS else None
    digits = value.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS else None
