# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills in variables of roles on a host, as a task of the role would.

Each process of a task compiles each template anew, and most of what it takes to ask a host goes there. So a template is
filled in once for a host, and what is no template, or only names a variable that is none, is not given to Jinja."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.lookup import unfit, unresolved
from ansible_collections.nebula.provision.plugins.plugin_utils import role_variables
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import filled_in

# What a variable begins with that is there for all hosts of a run.
SHARED = ("ansible_play", "__nebula_", "hostvars", "omit")
# A template that is the value of a variable, or a part of it.
_NAME = re.compile(r"\{\{ (\w+(?:\.\w+)*) \}\}")
# What has a meaning for Jinja, and what ansible-core before 2.19 makes another value of if a template returns it.
_OF_TEMPLATES, _CONVERTED = ("{", "#jinja2", "\n"), ("[", "True", "False")


class RoleHost:
    """Fills in templates of roles as a task of a role does on one host. own: variables of the inventory and the run."""

    def __init__(self, action: ActionBase, own: Mapping[str, Any]) -> None:
        self._action, self.own = action, own
        self.all = {**role_variables.defaults(), **own, **role_variables.variables()}
        self.templar = action._templar.copy_with_new_env(available_variables=self.all)
        self._values = _Values(self.templar)
        self._problems: dict[str, list[str]] = {}
        self._others: dict[Any, RoleHost] = {}

    def other(self, name: Any) -> RoleHost:
        """Return another host. name: a template of its name."""
        if name not in self._others:
            shared = {key: value for key, value in self.own.items() if key.startswith(SHARED)}
            own = {**self.own["hostvars"].raw_get(self.value(name)), **shared}
            self._others[name] = RoleHost(self._action, own)
        return self._others[name]

    def value(self, template: Any) -> Any:
        return self._values.template(template)

    def holds(self, condition: Any) -> bool:
        return bool(boolean(self.value(condition)))

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's options, filled in, without those whose template omits them."""
        named = {name: self._named(template) for name, template in given.items()}
        known = {name: value for name, value in named.items() if _is_returned_unchanged(value)}
        rest = filled_in({name: value for name, value in given.items() if name not in known}, self.templar, self.all)
        return {**known, **rest}

    def _named(self, template: Any) -> Any:
        """Return the variable, or the part of one, that a template consists of; None if it consists of something else,
        or of a number in a variable, which is text for ansible-core before 2.19."""
        path = _NAME.fullmatch(template) if isinstance(template, str) else None
        first, *keys = path[1].split(".") if path else ("",)
        value = self.all.get(first)
        for key in keys:
            # Where both are there, Jinja takes the method.
            if not is_plain(value) or not isinstance(value, dict) or hasattr(value, key) or key not in value:
                return None
            value = value[key]
        return value if not keys or isinstance(value, (bool, str, list, dict)) else None

    def packages(self, call: Mapping[str, Any]) -> list[str]:
        """Return the packages that the role installs before the call."""
        if "packages" not in call or not self.holds(self.all["nebula_manage_packages"]):
            return []
        return [str(name) for name in self.value(call["packages"])]

    def problems(self, role: str) -> list[str]:
        """Return what is wrong with variables of the role: they can't be filled in, or are of another kind."""
        if role not in self._problems:
            given = {"loader": self._action._loader, "templar": self._values}
            asked = [each.LookupModule(**given) for each in (unresolved, unfit)]
            self._problems[role] = [str(text) for each in asked for text in each.run([], variables=self.all, role=role)]
        return self._problems[role]


class _Values:
    """Fills in each template once. What can't be filled in is tried again, and raises again."""

    def __init__(self, templar: Any) -> None:
        self._templar = templar
        # A template stays referred to as long as its value, so that no other one gets its address.
        self._known: dict[int, tuple[Any, Any]] = {}

    def template(self, value: Any) -> Any:
        if is_plain(value):
            return value
        if id(value) not in self._known:
            self._known[id(value)] = (value, self._templar.template(value))
        return self._known[id(value)][1]


def is_plain(value: Any) -> bool:
    """Return whether a value is the same once its templates are filled in, since there is none in it."""
    if isinstance(value, str):
        return not any(mark in value for mark in _OF_TEMPLATES)
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    # Some numbers are written as no number is (.inf).
    return isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _is_returned_unchanged(value: Any) -> bool:
    """Return whether a template that consists of a variable with this value returns exactly that."""
    if isinstance(value, str):
        return is_plain(value) and not value.strip().startswith(_CONVERTED)
    return isinstance(value, (bool, int, float, list, dict)) and is_plain(value)
