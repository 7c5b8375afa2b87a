# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key of an item of a list, as the tables in specifications/ have it; each is made from the YAML file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

# When a key of an object that is there may change: at any time, while no machine uses it, while no machine uses it by
# its file being written anew, or not at all.
ALWAYS, UNUSED, REWRITE, NEVER = "always", "unused", "rewrite", "never"


@dataclass(frozen=True)
class Key:
    """What an item may say under one key.

    type, elements, choices, default, required and options mean what they mean in an argument_spec of Ansible. case:
    "upper" or "lower" for choices that are taken in any case. empty: whether "" is taken besides the choices. unit,
    least and most: of a whole number. split: whether text is taken for a
    list, with commas between. secret: no error shows its value. packed: a module that is given this key outside
    of a list gets it as part of the list, which is not logged. changes: when it may change on an object that is there.
    attribute: the attribute of the object in which the catalog keeps it. near: other words by which users mean it.
    option: where the module's own option differs from the key of an item.
    """

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
    """The options by which a module takes one item, as AnsibleModule wants them."""
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
    result.update(key.option)
    return result
