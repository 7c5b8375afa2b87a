# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frozen dataclasses to plain JSON values and back, the same way for every object of the model."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import InvalidValue

T = TypeVar("T")
_HINTS: dict[type, dict[str, Any]] = {}
_BARE = frozenset((str, int, float, bool, type(None)))


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples, mappings and enums as dicts, lists and numbers that JSON can carry."""
    # Most values are bare already, and a plan of a thousand machines has some hundred thousand of them.
    if type(value) in _BARE:
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    return value


def from_plain(cls: type[T], data: Mapping[str, Any]) -> T:
    """The dataclass that to_plain() turned into data; unknown or missing keys raise InvalidValue."""
    hints = _HINTS.get(cls)
    if hints is None:
        hints = _HINTS[cls] = typing.get_type_hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise InvalidValue(
            f"{cls.__name__}: key {unknown[0]!r}",
            "not known to this version of the collection",
            "Run the same version of nebula.provision on every host",
        )
    values = {name: _coerce(hints[name], value) for name, value in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise InvalidValue(f"{cls.__name__} from plain data", str(error)) from error


def _coerce(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is typing.Union:
        if value is None:
            return None
        return _coerce(next(a for a in typing.get_args(hint) if a is not type(None)), value)
    if origin is tuple:
        inner = typing.get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_coerce(inner[0], v) for v in value)
        return tuple(_coerce(i, v) for i, v in zip(inner, value))
    if isinstance(hint, type):
        if dataclasses.is_dataclass(hint):
            return from_plain(hint, value)
        if issubclass(hint, enum.Enum):
            return hint(value)
    return value
