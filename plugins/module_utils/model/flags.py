# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what people write for yes and no: in the keys of an item by flag(), in templates by OpenNebula's words."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidValue

# In upper case.
TRUE, FALSE = ("YES", "TRUE", "ON", "1"), ("NO", "FALSE", "OFF", "0", "")


def flag(value: Any, where: str) -> bool:
    """Return the value as true or false; raise InvalidValue, which names the key by where, for anything else."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("yes", "true", "on", "1", "y"):
        return True
    if word in ("no", "false", "off", "0", "n"):
        return False
    raise InvalidValue(f"{where} {value!r}", "it is neither true nor false", "Give true or false")
