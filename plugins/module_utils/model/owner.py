# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says whose a machine is, as far as expressions of its context ask: $UNAME, $UID, $GNAME, $GID, $USER[…]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ..dataclass import dataclass
from ..errors import InvalidValue
from .item_reader import check_keys
from .template import Template
from .whole_numbers import whole

KEYS = ("name", "uid", "group", "gid", "attributes")
# The first user and group of every OpenNebula.
ONEADMIN, FIRST = "oneadmin", "0"


@dataclass(frozen=True)
class Owner:
    """Describes the owner of a machine.
    uid, gid: in digits; they and group are "" where nobody said.
    attributes: from the user's template, names in upper case."""

    name: str = ONEADMIN
    uid: str = FIRST
    group: str = ONEADMIN
    gid: str = FIRST
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)

    def singles(self) -> dict[str, str]:
        """Return what $UNAME and the like stand for."""
        known = {"UNAME": self.name, "UID": self.uid, "GNAME": self.group, "GID": self.gid}
        return {name: value for name, value in known.items() if value}

    def vector(self) -> dict[str, str]:
        """Return what $USER[…] can name. An OpenNebula has the attributes only; who the user is, we tell there too."""
        known = {**self.singles(), "NAME": self.name, "ID": self.uid}
        return {**{name: value for name, value in known.items() if value}, **self.attributes}


def owner_of(given: Any, where: str) -> Owner:
    """Return the owner as users write it, a dict with some of KEYS. Of others than oneadmin nothing is made up."""
    where = f"{where}: owner"
    check_keys(given, KEYS, where)
    name = _name(given, "name", where) or ONEADMIN
    group = _name(given, "group", where) or (ONEADMIN if name == ONEADMIN else "")
    attributes = given.get("attributes")
    if attributes is not None and not isinstance(attributes, Mapping):
        raise InvalidValue(f"{where}: attributes", f"it is a {type(attributes).__name__}", "Give a dict")
    return Owner(
        name=name,
        uid=_id(given, "uid", where) or (FIRST if name == ONEADMIN else ""),
        group=group,
        gid=_id(given, "gid", where) or (FIRST if group == ONEADMIN else ""),
        # Any of them may be a secret, as any variable of a context: by that name no value is shown.
        attributes=Template.from_mapping({"CONTEXT": attributes or {}}, where).vector("CONTEXT"),
    )


def _name(given: Mapping[str, Any], key: str, where: str) -> str:
    value = given.get(key)
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise InvalidValue(f"{where}: {key} {value!r}", "it is no name", "Give text, in quotes if it is a number")
    return "".join(value)


def _id(given: Mapping[str, Any], key: str, where: str) -> str:
    value = given.get(key)
    if value is None or value == "":
        return ""
    number = whole(value)
    if number is None:
        raise InvalidValue(f"{where}: {key} {value!r}", "it is no id", "Give a whole number")
    return str(number)
