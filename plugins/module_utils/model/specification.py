# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a key of an item of a list, as the tables in specifications/ have it, each made from the YAML beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..dataclass import dataclass

# When a key of an object that is there may change: at any time, while no machine uses it, while no machine uses it by
# its file being written anew, or not at all.
ALWAYS, UNUSED, REWRITE, NEVER = "always", "unused", "rewrite", "never"


@dataclass(frozen=True)
class Key:
    """Describes what an item may say under one key; tests/tools/specifications.py explains the fields."""

    type: str = "str"
    elements: str = ""
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = False
    options: Optional[Mapping[str, Key]] = None
    case: str = ""
    empty: bool = False
    unit: str = ""
    least: Optional[int] = None
    most: Optional[int] = None
    split: bool = True
    secret: bool = False
    packed: bool = False
    changes: str = ""
    attribute: str = ""
    near: tuple[str, ...] = ()
    option: Mapping[str, Any] = field(default_factory=dict)


def argument_spec(keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the options by which a module takes one item, as AnsibleModule wants them."""
    return {name: _option(key) for name, key in keys.items()}


def _option(key: Key, inner: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = {"type": key.type}
    # Of an item itself the module says what is required: a list may be given in its place.
    if key.required and inner:
        result["required"] = True
    if key.choices:
        result["choices"] = list(key.choices)
    if key.default is not None:
        result["default"] = key.default
    if key.option.get("type", key.type) == "list":
        result["elements"] = key.elements
        if key.options is not None:
            result["options"] = {name: _option(part, inner=True) for name, part in key.options.items()}
    elif key.type == "dict" and key.options is not None:
        result["options"] = {name: _option(part, inner=True) for name, part in key.options.items()}
    result.update(key.option)
    return result
