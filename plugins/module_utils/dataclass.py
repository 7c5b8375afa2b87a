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


def _made_later(cls: Any, frozen: bool) -> Any:
    def make() -> None:
        with _MAKING:
            if cls.__init__ is not begin:
                return
            dataclasses.dataclass(init=False, frozen=frozen)(cls)
            # Another thread may make an instance in this moment, so the class is never without an __init__. Its own is
            # taken from a kind of it that adds nothing.
            names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
            kind = type(cls)(cls.__name__, (cls,), names)
            cls.__init__ = dataclasses.dataclass(eq=False, repr=False, frozen=frozen)(kind).__init__

    def begin(self: Any, *arguments: Any, **named: Any) -> None:
        make()
        cls.__init__(self, *arguments, **named)

    cls.__init__ = begin
    cls.__dataclass_fields__ = _Fields(cls, make)
    return cls


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
