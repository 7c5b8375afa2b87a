# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a template, ordered values and vectors of named values, and its forms in YAML and in the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from ..dataclass import dataclass
from ..errors import InvalidValue

Vector = tuple[tuple[str, str], ...]
Value = Union[str, Vector]

_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
# YAML may read these as fractions, and they are: everywhere else 1.10 and "1.10" are not the same.
_FRACTIONS = frozenset(("CPU", "CPU_COST", "MEMORY_COST", "DISK_COST"))
# These are whole numbers.
_WHOLE = frozenset(("MEMORY", "VCPU", "SIZE", "PORT", "IMAGE_ID", "NETWORK_ID"))
_MODES = frozenset(("MODE", "PERMISSIONS", "UMASK"))
# YAML reads 52:54:00:12:34:56 as one number of base 60, and :: forms alike.
_ADDRESSES = frozenset(("IP", "IP6", "IP6_ULA", "IP6_GLOBAL", "GATEWAY", "GATEWAY6", "NETWORK_ADDRESS", "NETWORK_MASK"))
_SECRETS = (
    "PASSWD", "PASSWORD", "PASSPHRASE", "PWD", "_PASS", "SECRET", "TOKEN", "CREDENTIALS", "API_KEY", "PRIVATE_KEY",
    "PASSWORD_BASE64", "PRIVATE_KEY_BASE64",
)  # fmt: skip


@dataclass(frozen=True)
class Template:
    """Holds attributes as (NAME, value), with value a string or a vector of (NAME, string) pairs; names are upper-case.

    Attributes of one name stand together, in their order; in a vector the first of several equal keys wins: so two
    templates that say the same in another arrangement of different names differ only in the order of names."""

    attributes: tuple[tuple[str, Value], ...] = ()

    if TYPE_CHECKING:
        # By name, in the order of the attributes: each template's own, and no field of it.
        _values: ClassVar[Mapping[str, Sequence[Value]]]

    def __post_init__(self) -> None:
        groups: dict[str, list[Value]] = {}
        for name, value in self.attributes:
            groups.setdefault(name, []).append(value if isinstance(value, str) else _without_repeated_keys(value))
        self._keep(groups)

    def _keep(self, groups: Mapping[str, Sequence[Value]]) -> None:
        object.__setattr__(self, "attributes", tuple([(n, v) for n, values in groups.items() for v in values]))
        # A machine's template is asked for some sixty names.
        object.__setattr__(self, "_values", groups)

    @classmethod
    def _of_groups(cls, groups: Mapping[str, Sequence[Value]]) -> Template:
        """Return the template of values that are as a template has them, by name. Machines' templates are derived from
        one another by the ten thousand."""
        made = object.__new__(cls)
        made._keep(groups)
        return made

    # -- reading --------------------------------------------------------------------------------------------------
    def get(self, name: str, default: str = "") -> str:
        """Return the first single value of that name."""
        for value in self._values.get(name.upper(), ()):
            if isinstance(value, str):
                return value
        return default

    def has(self, name: str) -> bool:
        return name.upper() in self._values

    def vectors(self, name: str) -> list[dict[str, str]]:
        """Return all vectors of that name, in their order."""
        return [dict(value) for value in self._values.get(name.upper(), ()) if not isinstance(value, str)]

    def vector(self, name: str) -> dict[str, str]:
        """Return the first vector of that name; empty if there is none."""
        found = self.vectors(name)
        return found[0] if found else {}

    def singles(self) -> dict[str, str]:
        """Return single values by name, the first of each."""
        found: dict[str, str] = {}
        for key, value in self.attributes:
            if isinstance(value, str):
                found.setdefault(key, value)
        return found

    def names(self) -> list[str]:
        return list(self._values)

    # -- deriving -------------------------------------------------------------------------------------------------
    def without(self, *names: str) -> Template:
        dropped = {name.upper() for name in names}
        return self._of_groups({name: values for name, values in self._values.items() if name not in dropped})

    def only(self, *names: str) -> Template:
        kept = {name.upper() for name in names}
        return self._of_groups({name: values for name, values in self._values.items() if name in kept})

    def with_vector(self, name: str, values: Mapping[str, str]) -> Template:
        return self.with_vectors(name, (values,))

    def with_vectors(self, name: str, several: Iterable[Mapping[str, str]]) -> Template:
        return self._with_values(name.upper(), [tuple((k.upper(), v) for k, v in values.items()) for values in several])

    def merge_context(self, variables: Mapping[str, str]) -> Template:
        """Return this with these variables put over CONTEXT's; {} makes an empty CONTEXT where there was none."""
        merged = {**self.vector("CONTEXT"), **{key.upper(): value for key, value in variables.items()}}
        return self.with_vector("CONTEXT", merged)

    def merged(self, other: Template) -> Template:
        """Return this with what `other` says put over it: its names replace all of the same name, CONTEXT by keys."""
        result = self
        for name in other.names():
            if name == "CONTEXT" and other.vectors(name):
                result = result.merge_context(other.vector(name))
            else:
                result = result._with_values(name, other._values[name])
        return result

    def _with_values(self, name: str, values: Iterable[Value]) -> Template:
        new = [value if isinstance(value, str) else _without_repeated_keys(value) for value in values]
        groups = {**self._values, name: new}
        if not new:
            del groups[name]
        return self._of_groups(groups)

    # -- the catalog's form ---------------------------------------------------------------------------------------
    def to_attributes(self) -> list[list[Any]]:
        """Return lists and strings for JSON, without loss."""
        return [
            [name, value if isinstance(value, str) else [[key, text] for key, text in value]]
            for name, value in self.attributes
        ]

    @classmethod
    def from_attributes(cls, data: Iterable[Any]) -> Template:
        """Return the template of which to_attributes() gave this, from JSON."""
        return cls(
            tuple(
                (str(name), value if isinstance(value, str) else tuple((str(k), str(v)) for k, v in value))
                for name, value in data
            )
        )

    # -- the form of YAML -----------------------------------------------------------------------------------------
    def to_mapping(self) -> dict[str, Any]:
        """Return a dict of the same meaning: vectors as dicts, repeated attributes as lists, values as strings."""
        found: dict[str, list[Any]] = {}
        for name, value in self.attributes:
            found.setdefault(name, []).append(value if isinstance(value, str) else dict(value))
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}

    @classmethod
    def from_mapping(cls, mapping: Mapping[Any, Any], where: str = "template") -> Template:
        """Return the template of a dict as users write it in YAML. where: names the object in errors ("template web").

        Scalars are single values, a dict is a vector, a list repeats its attribute. YAML's readings of a MAC, a file
        mode or YES as numbers and booleans are taken back where the attribute's name makes the meaning plain, and
        refused with InvalidValue where it doesn't."""
        if not isinstance(mapping, Mapping):
            raise InvalidValue(
                where, f"it is {_kind_in_words(mapping)}", "Give a dict of attributes, or OpenNebula's text"
            )
        attributes: list[tuple[str, Value]] = []
        seen: dict[str, str] = {}
        for raw_name, raw in mapping.items():
            name = attribute_name(raw_name, where)
            if name in seen:
                raise InvalidValue(
                    f"{where}: {raw_name}",
                    f"the attribute is there twice, also as {seen[name]}",
                    "Names do not differ by case; to repeat an attribute, give it a list",
                )
            seen[name] = str(raw_name)
            values = raw if isinstance(raw, (list, tuple)) else (raw,)
            attributes += [(name, _from_yaml(name, value, where)) for value in values]
        return cls(tuple(attributes))


@dataclass(frozen=True)
class StoredTemplate:
    """Describes a template of the catalog.
    id: None only in check mode, for a template that would be created.
    registered: seconds since the epoch."""

    id: Optional[int]
    name: str
    template: Template = field(default_factory=Template, repr=False)
    registered: int = 0


def attribute_name(name: Any, where: str) -> str:
    """Return the name as OpenNebula keeps it: upper-case, ONE_ before a digit or XML. Raise InvalidValue for other
    characters than [A-Za-z0-9_]."""
    upper = vector_key(name, where)
    return "ONE_" + upper if upper[0].isdigit() or upper.startswith("XML") else upper


def vector_key(name: Any, where: str) -> str:
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise InvalidValue(
            f"{where}: attribute name {name!r}", f"YAML read it as {_kind_in_words(name)}", "Write the name in quotes"
        )
    upper = str(name).upper()
    if not upper or not set(upper) <= _NAME_CHARACTERS:
        raise InvalidValue(
            f"{where}: attribute name {str(name)[:80]!r}",
            "attribute names have letters, digits and _ only",
            "Rename it" + (f", for example {_suggested_name(upper)}" if _suggested_name(upper) else ""),
        )
    return upper


def _suggested_name(upper: str) -> str:
    tidy = "".join(c if c in _NAME_CHARACTERS else "_" for c in upper[:80]).strip("_")
    return tidy if any(c.isalpha() for c in tidy) else ""


def _without_repeated_keys(pairs: Vector) -> Vector:
    if len(dict(pairs)) == len(pairs):
        return pairs
    found: dict[str, str] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return tuple(found.items())


def _from_yaml(name: str, value: Any, where: str) -> Value:
    if isinstance(value, Mapping):
        pairs: dict[str, str] = {}
        for raw_key, raw in value.items():
            key = vector_key(raw_key, f"{where}: {name}")
            if key in pairs:
                raise InvalidValue(
                    f"{where}: {name}/{key}", "the key is there twice", "Names do not differ by case: drop one"
                )
            here = f"{where}: {name}/{key}"
            if key == "BOOT" and isinstance(raw, (list, tuple)):
                pairs[key] = ",".join(_scalar(key, item, here) for item in raw)
            else:
                pairs[key] = _scalar(key, raw, here, hidden=name == "CONTEXT")
        return tuple(pairs.items())
    return _scalar(name, value, f"{where}: {name}")


def _scalar(key: str, value: Any, where: str, hidden: bool = False) -> str:
    """Return the scalar as a string. hidden: errors don't show it, as any variable of a context may be a secret."""
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidValue(where, "its value holds a NUL character", "Encode it, for example in base64")
        # Not the object itself: Ansible's strings are of a subclass, and what is kept is plain data.
        return "".join(value)
    if value is None:
        return ""
    if isinstance(value, (Mapping, list, tuple)):
        raise InvalidValue(
            where,
            f"its value is {_kind_in_words(value)}, and vectors can't be nested",
            "Write one string, as OpenNebula has it",
        )
    if is_secret(key):
        raise InvalidValue(where, f"YAML read the value as {_kind_in_words(value)}", "Write it in quotes")
    if isinstance(value, bool):
        # Of all keymaps, only Norway's is a boolean in YAML.
        return "no" if key == "KEYMAP" and not value else ("YES" if value else "NO")
    try:
        if isinstance(value, int):
            return _integer(key, value, where)
        if isinstance(value, float):
            return _fraction(key, value, where)
    except InvalidValue:
        if not hidden:
            raise
        raise InvalidValue(where, f"YAML read the value as {_kind_in_words(value)}", "Write it in quotes") from None
    if hasattr(value, "isoformat") and not hasattr(value, "hour"):
        return str(value.isoformat())
    raise InvalidValue(where, f"YAML read the value as {_kind_in_words(value)}", "Write it in quotes")


def _integer(key: str, value: int, where: str) -> str:
    if key == "MAC" or key.endswith("_MAC"):
        groups, rest = [], value
        for _group in range(5):
            rest, group = divmod(rest, 60)
            groups.append(group)
        if 1 <= rest <= 99:
            return ":".join(f"{group:02d}" for group in [rest, *reversed(groups)])
        raise InvalidValue(where, f"YAML read it as the number {value}", f'Write {key}: "02:00:0a:00:00:01", in quotes')
    if key in _ADDRESSES:
        raise InvalidValue(where, f"YAML read the address as the number {value}", "Write it in quotes")
    if key in _MODES:
        return _mode(key, value, where)
    return str(value)


def _mode(key: str, value: int, where: str) -> str:
    """Return the mode: 0755 reaches us as 493, 755 as itself, told apart where only one is three octal digits."""
    written = str(value) if set(str(value)) <= frozenset("01234567") and value <= 777 else ""
    octal = f"0{value:o}" if 0 <= value <= 0o777 else ""
    if bool(written) == bool(octal):
        raise InvalidValue(
            where,
            f"YAML read it as the number {value}, which may be {value} or 0{value:o}",
            f'Write {key}: "0{value:o}" or {key}: "{value}", in quotes',
        )
    return written or octal


def _fraction(key: str, value: float, where: str) -> str:
    if key in _FRACTIONS and -1e15 < value < 1e15:
        return str(int(value)) if value == int(value) else repr(value)
    if key in _WHOLE:
        raise InvalidValue(f"{where} = {value!r}", "it is not a whole number", "Give a whole number")
    raise InvalidValue(
        where,
        f"YAML read it as the number {value!r}, to which 1.10 and 1.1 are the same",
        f'Write {key}: "{value!r}", in quotes, as it is meant',
    )


def is_secret(key: str) -> bool:
    """Return whether values of that name are passwords or the like."""
    return key.upper().endswith(_SECRETS)


def _kind_in_words(value: Any) -> str:
    words = {
        "bool": "a boolean",
        "int": "a number",
        "float": "a number",
        "list": "a list",
        "tuple": "a list",
        "NoneType": "nothing",
        "date": "a date",
        "datetime": "a time",
        "str": "a string",
    }
    if isinstance(value, Mapping):
        return "a dict"
    return words.get(type(value).__name__, f"of type {type(value).__name__}")
