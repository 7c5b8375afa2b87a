# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns frozen dataclasses into plain JSON values and back, the same way for every object of the model."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Callable, TypeVar

from ..errors import InvalidValue

T = TypeVar("T")
# Of each dataclass: the names of its fields, and what reads a value of each.
_FIELDS: dict[type, tuple[str, ...]] = {}
_READERS: dict[type, dict[str, Callable[[Any], Any]]] = {}
_REQUIRED: dict[type, tuple[str, ...]] = {}
_BARE = frozenset((str, int, float, bool, type(None)))
_MISSING = dataclasses.MISSING
# SQLite and libvirt hold smaller numbers only.
_LARGEST = 1 << 63
_MOST_DIGITS = 4300


def to_plain(value: Any) -> Any:
    """Return dataclasses, tuples, mappings and enums as dicts, lists and numbers that JSON can carry."""
    # Most values are bare already, and a plan of a thousand machines has some hundred thousand of them.
    kind = type(value)
    if kind in _BARE:
        return value
    names = _FIELDS.get(kind)
    if names is None and dataclasses.is_dataclass(kind):
        names = _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(kind))
    if names is not None:
        return {name: each if type(each := getattr(value, name)) in _BARE else to_plain(each) for name in names}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): v if type(v) in _BARE else to_plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    return value


def from_plain(cls: type[T], data: Mapping[str, Any]) -> T:
    """Return the dataclass that to_plain() turned into data. Raise InvalidValue for unknown or missing keys, and values
    of another type than the field's: what comes from a file or another host may be anything."""
    readers = _READERS.get(cls)
    if readers is None:
        hints, fields = typing.get_type_hints(cls), dataclasses.fields(cls)  # type: ignore[arg-type]
        # A class variable has a hint, too, and is no field.
        readers = {field.name: _reader(hints[field.name]) for field in fields}
        _REQUIRED[cls] = tuple(
            field.name for field in fields if field.default is _MISSING and field.default_factory is _MISSING
        )
        _READERS[cls] = readers
    if not isinstance(data, Mapping):
        raise _refusal(cls.__name__, f"it is a {type(data).__name__}, not a dict")
    unknown = sorted(str(key) for key in data if key not in readers)
    if unknown:
        raise _refusal(f"{cls.__name__}: key {unknown[0][:80]!r}", "not known to this version of the collection")
    values: dict[str, Any] = {}
    for name, value in data.items():
        try:
            values[name] = readers[name](value)
        except (TypeError, ValueError) as error:
            raise _refusal(f"{cls.__name__}: {name}", str(error)) from None
    missing = [name for name in _REQUIRED[cls] if name not in values]
    if missing:
        raise _refusal(f"{cls.__name__}: {', '.join(missing)}", "missing")
    return cls(**values)


def _refusal(asked: str, found: str) -> InvalidValue:
    return InvalidValue(asked, found, "Run the same version of nebula.provision on every host")


def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return what returns a value as a field of that type has it; it raises TypeError or ValueError without the value,
    which may be secret."""
    if hint in _BARE:
        return functools.partial(_read_bare, hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        read = _reader(next(each for each in inner if each is not type(None)))
        return lambda value: None if value is None else read(value)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        read_each = _reader(inner[0])
        return lambda value: tuple([read_each(each) for each in _listed(value)])
    if origin is tuple:
        return functools.partial(_read_tuple, [_reader(each) for each in inner])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return functools.partial(_read_mapping, *map(_reader, inner))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return functools.partial(from_plain, hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    return lambda value: value


def _read_bare(hint: Any, value: Any) -> Any:
    kind = type(value)
    # On a control node strings are of Ansible's own kinds.
    if kind is hint or (isinstance(value, hint) and (hint is not int or not isinstance(value, bool))):
        if hint is str and "\0" in value:
            raise ValueError("it holds a NUL character")
        if hint is int and not -_LARGEST < value < _LARGEST:
            raise ValueError("it is too large")
        if hint is float and not math.isfinite(value):
            raise ValueError("it is not a finite number")
        return value
    # JSON has one kind of number: 2.0 may be written as 2.
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return value
    raise TypeError(f"it is a {type(value).__name__}, not a {hint.__name__}")


def _listed(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"it is a {type(value).__name__}, not a list")
    return value


def _read_tuple(readers: Sequence[Callable[[Any], Any]], value: Any) -> tuple[Any, ...]:
    if len(_listed(value)) != len(readers):
        raise ValueError(f"it has {len(value)} entries, not {len(readers)}")
    return tuple([read(each) for read, each in zip(readers, value)])


def _read_mapping(read_key: Callable[[Any], Any], read_value: Callable[[Any], Any], value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it is a {type(value).__name__}, not a dict")
    return {read_key(key): read_value(each) for key, each in value.items()}


def json_value(text: str) -> Any:
    """Return what a JSON text says; raise ValueError for all that is no JSON, and for what Python alone reads: NaN and
    infinities, halves of surrogate pairs, which no file can hold. Of equal keys the last counts."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_bounded_int)
        # Only an escape can hide one from this, and then the text tells.
        text.encode()
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a surrogate pair") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _bounded_int(text: str) -> int:
    # Reading takes time by the square of the length; newer Pythons have the same limit.
    if len(text) > _MOST_DIGITS:
        raise ValueError("it holds a number that is too large")
    return int(text)


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it holds a number that is too large")
    return number
