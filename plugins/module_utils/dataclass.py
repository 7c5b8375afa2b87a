# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes dataclasses when they are first used.

Python writes and compiles the methods of a dataclass when it meets the class, which takes 0.6 ms. A module imports a
hundred of them and uses a few: that was half of the time that its imports took. Here a class becomes what Python's own
decorator makes of it with its first instance, or when it is first asked for its fields.

Python's replace() gives each field to __init__, which sets them one by one: for a machine with its thirty fields, that
takes ten times as long as copying them.
"""

from __future__ import annotations

import dataclasses
import reprlib
import threading
from typing import TYPE_CHECKING, Any, Callable

__all__ = ["dataclass", "replace"]

# Of all classes: making one makes those first of which it is a kind.
_MAKING = threading.RLock()


class _Fields:
    """Stands for a class's fields (`__dataclass_fields__`) until something asks for them."""

    def __init__(self, cls: Any, make: Callable[[], None]) -> None:
        self._cls, self._make = cls, make

    def __get__(self, _instance: Any, _owner: Any = None) -> Any:
        self._make()
        return self._cls.__dataclass_fields__


# What Python's decorator adds to a class, beside what sets and deletes attributes.
_ADDED = ("__dataclass_params__", "__eq__", "__hash__", "__match_args__", "__replace__")
# Of a class's own, what a copy of it gets by itself, or is to get from the decorator.
_NOT_COPIED = frozenset(("__dict__", "__weakref__", "__init__", "__dataclass_fields__"))


def _made_later(cls: Any, frozen: bool) -> Any:
    def make() -> None:
        with _MAKING:
            if cls.__init__ is not begin:
                return
            # Another thread may make an instance in this moment, so the class is never without an __init__. What the
            # decorator makes of a copy is given to the class, and __init__ last.
            own = {name: value for name, value in vars(cls).items() if name not in _NOT_COPIED}
            copied = type(cls)(cls.__name__, cls.__bases__, {**own, "__qualname__": cls.__qualname__})
            made = vars(dataclasses.dataclass(repr=False, frozen=frozen)(copied))
            if frozen:
                _freeze(cls)
            for name in (*_ADDED, *made["__dataclass_fields__"]):
                if name in made:
                    setattr(cls, name, made[name])
                elif name in own:
                    delattr(cls, name)
            if "__repr__" not in own:
                cls.__repr__ = _repr
            cls.__dataclass_fields__ = made["__dataclass_fields__"]
            cls.__init__ = made["__init__"]

    def begin(self: Any, *arguments: Any, **named: Any) -> None:
        make()
        cls.__init__(self, *arguments, **named)

    cls.__init__ = begin
    cls.__dataclass_fields__ = _Fields(cls, make)
    return cls


def _freeze(cls: Any) -> None:
    """Refuse what Python's decorator refuses of a frozen class. Its own methods know the copy that it was given."""

    def set_one(self: Any, name: str, value: Any) -> None:
        if self.__class__ is cls or any(name == each.name for each in dataclasses.fields(cls)):
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def delete_one(self: Any, name: str) -> None:
        if self.__class__ is cls or any(name == each.name for each in dataclasses.fields(cls)):
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    cls.__setattr__, cls.__delattr__ = set_one, delete_one


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _dataclass(cls: type | None = None, *, frozen: bool = False) -> Any:
    """Do later what `dataclasses.dataclass` does with these options. A class has no __init__ of its own."""
    if cls is None:
        return lambda given: _made_later(given, frozen)
    return _made_later(cls, frozen)


def _replace(instance: Any, **changes: Any) -> Any:
    """Return what `dataclasses.replace` returns: a copy with these values for fields."""
    cls = type(instance)
    if hasattr(cls, "__post_init__"):
        return dataclasses.replace(instance, **changes)
    values = instance.__dict__
    new = {name: values[name] for name in cls.__dataclass_fields__}
    known = len(new)
    new.update(changes)
    if len(new) != known:
        # It raises TypeError, and says which name is no field.
        return dataclasses.replace(instance, **changes)
    copy = object.__new__(cls)
    for name, value in new.items():
        # Its __dict__, once it is asked for, takes three times the memory.
        object.__setattr__(copy, name, value)
    return copy


# To a checker of types they are those that it knows.
if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:
    dataclass, replace = _dataclass, _replace
