# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: unfit
short_description: Variables that are of another kind than a role takes
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Tells of the variables of a role of this collection that are no list, number or word of those that it takes.
  - Ansible's own check of a role's arguments says the same, with the whole description of the role around it.
  - Names and kinds are told, values never. What is in a list, the role's modules look at, entry by entry.
options:
  _terms:
    description: Not used.
    type: list
    elements: str
  role:
    description: Name of a role of this collection.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Stop before the role is given what it can't take
  ansible.builtin.assert:
    that: query('nebula.provision.unfit', role='vm') | length == 0
    fail_msg: "{{ query('nebula.provision.unfit', role='vm') | join('; ') }}"
"""

RETURN = r"""
_list:
  description: A sentence for each variable.
  type: list
  elements: str
"""

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common import validation
from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.module_utils.model.object_names import did_you_mean, nearest_word
from ansible_collections.nebula.provision.plugins.plugin_utils import payloads
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.role_variables import options_of

# Ansible's own checks, so that every value that Ansible accepts is accepted.
CHECKS = {
    "bool": validation.check_type_bool,
    "dict": validation.check_type_dict,
    "float": validation.check_type_float,
    "int": validation.check_type_int,
    "list": validation.check_type_list,
    "path": validation.check_type_path,
    "str": validation.check_type_str,
}
WANTED = {
    "bool": "true or false",
    "dict": "a dict",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "a path",
    "str": "text, in quotes",
}
ENTRIES = "a list of dicts"
KINDS = ((bool, "true or false"), (int, "a number"), (float, "a number"), (str, "text"), (dict, "a dict"))


class LookupModule(LookupBase):
    def run(self, terms: Any, variables: Any = None, role: str = "", **_options: Any) -> Any:
        # Every run begins with this lookup, so it is where kept payloads are brought.
        payloads.bring_payloads()
        found = []
        for name, option in options_of(role).items():
            if name not in (variables or {}):
                continue
            try:
                value = self._templar.template(variables[name])
            except Exception:
                # Lookup unresolved reports templates that cannot be filled in.
                continue
            why = misfit(value, option)
            if why:
                found.append(f"{name}: {why}")
        return without_templates(found)


def misfit(value: Any, option: Mapping[str, Any]) -> str:
    """Return why this value does not fit the option's type; "" if it fits."""
    kind = option.get("type", "str")
    listed = kind == "list" and option.get("elements") in ("raw", "dict")
    if value is None and option.get("default") is None:
        return ""
    wanted = f"Give {ENTRIES if listed else WANTED.get(kind, kind)}"
    if listed and isinstance(value, str):
        # Values of a survey, or of -e, are text.
        return _misfit_text(value)
    if listed and not isinstance(value, (list, tuple)):
        return f"it is {kind_of(value)}. {wanted}"
    try:
        value = CHECKS[kind](value) if kind in CHECKS else value
    except (TypeError, ValueError):
        return f"it is {kind_of(value)}. {wanted}"
    known = [str(choice) for choice in option.get("choices") or ()]
    for word in map(str, value if kind == "list" else [value]):
        if known and word not in known:
            near = nearest_word(word, known)
            # Without a choice, as some have it, it is left out.
            words = ", ".join(filter(None, known)) + (", or leave it out" if "" in known else "")
            return "there is no such choice. " + did_you_mean(near) + "Known are " + words
    return ""


def _misfit_text(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError as error:
        place = f" (character {error.pos} of {len(text)})" if isinstance(error, json.JSONDecodeError) else ""
        return f"it is text, and not JSON{place}. Give {ENTRIES}, or its JSON"
    return "" if isinstance(value, list) else f"it is JSON of {kind_of(value)}. Give {ENTRIES}, or its JSON"


def kind_of(value: Any) -> str:
    if value is None:
        return "empty"
    # In Python a boolean is an int as well.
    return next((words for kind, words in KINDS if isinstance(value, kind)), "a list")
