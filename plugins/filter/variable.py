# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: variable
short_description: What the inventory sets for a host, or the run has registered for it
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - In C(hostvars) the facts of a host stand above the variables that the inventory has for it, and in place of results
    that the run has not registered for it. This gives a variable only if no fact of the host has its name, so that a
    host decides nothing for others by what it answers.
positional: _input, name, default
options:
  _input:
    description: The variables of the host, an entry of C(hostvars).
    type: dict
    required: true
  name:
    description: Name of the variable.
    type: str
    required: true
  default:
    description: What is taken where the variable is not set, or a fact has its name.
    type: raw
"""

EXAMPLES = r"""
- name: Show how others reach a host
  ansible.builtin.debug:
    msg: "{{ hostvars['kvm1'] | nebula.provision.variable('nebula_ovn_address', '') }}"
"""

RETURN = r"""
_value:
  description: The variable's value.
  type: raw
"""


from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


class FilterModule:
    def filters(self) -> Filters:
        return {"variable": returns_no_templates(variable_of)}
