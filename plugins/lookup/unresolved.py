# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: unresolved
short_description: Variables whose templates can't be filled in
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Tells of variables of the play which templates in them can't be filled in, such as those that name an undefined
    variable, by their place and the reason.
  - Ansible's own message of that has the variable's value, or the lines of its file around the place, with the
    passwords that stand there. This one has names only.
options:
  _terms:
    description: Names of variables. One that is not defined itself is passed over.
    type: list
    elements: str
  role:
    description: Name of a role of this collection. All variables that it takes are looked at.
    type: str
"""

EXAMPLES = r"""
- name: Stop before anything else reads the machines
  ansible.builtin.assert:
    that: query('nebula.provision.unresolved', 'nebula_vms') | length == 0
    fail_msg: "{{ query('nebula.provision.unresolved', 'nebula_vms') | join('; ') }}"
"""

RETURN = r"""
_list:
  description: A sentence for each template that can't be filled in.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.role_variables import options_of
from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import faulty_templates, reason_of


class LookupModule(LookupBase):
    def run(self, terms: Any, variables: Any = None, role: str = "", **_options: Any) -> list[str]:
        found: list[str] = []
        for name in [*terms, *(options_of(role) if role else ())]:
            if name not in (variables or {}):
                continue
            value = variables[name]
            try:
                self._templar.template(value)
            except Exception as error:
                # Each item by itself may be valid, and the list as a whole not.
                found += list(faulty_templates(value, str(name), self._templar.template)) or [
                    f"{name}: {reason_of(error)}"
                ]
        return without_templates(found)
