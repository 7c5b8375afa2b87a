# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: has_module
short_description: Whether a module is installed on the control node
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Says whether Ansible finds a module, before tasks are read that name it. Ansible's own error for these does not say
    what to install.
options:
  _terms:
    description: Names of modules, with their collections.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Apply it if the collection is there
  ansible.builtin.include_tasks: apply.yml
  when: lookup('nebula.provision.has_module', 'awx.awx.job_template')
"""

RETURN = r"""
_raw:
  description: A truth value for each.
  type: list
  elements: bool
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.plugins.loader import module_loader
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        return [module_loader.find_plugin(str(term)) is not None for term in terms]
