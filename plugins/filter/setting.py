# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: setting
short_description: What the inventory sets for another host
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - In C(hostvars) the facts of a host stand above its variables. This gives the host's variable only if no fact has its
    name, so that a host decides nothing for others by what it answers.
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
    description: What is taken where the inventory does not set the variable, or a fact has its name.
    type: raw
"""

EXAMPLES = r"""
- name: Show how others reach a host
  ansible.builtin.debug:
    msg: "{{ hostvars['kvm1'] | nebula.provision.setting('nebula_ovn_address', '') }}"
"""

RETURN = r"""
_value:
  description: The variable's value.
  type: raw
"""


def setting(variables, name, default=None):
    facts = variables.get("ansible_facts") or {}
    if name in facts or name.removeprefix("ansible_") in facts:
        return default
    return variables.get(name, default)


class FilterModule:
    def filters(self):
        return {"setting": setting}
