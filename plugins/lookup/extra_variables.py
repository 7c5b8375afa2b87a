# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: extra_variables
short_description: Which variables the command line gives by -e
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Tells what was asked of this run, by C(-e) or by the survey of an AWX job, from a variable of the same name that the
    inventory has for a purpose of its own.
options:
  _terms:
    description: Names of variables.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the machines that were asked for
  ansible.builtin.debug:
    var: vm
  when: query('nebula.provision.extra_variables', 'vm') | length > 0
"""

RETURN = r"""
_list:
  description: Those of the names that were given by C(-e).
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        given = load_extra_vars(self._loader)
        return [term for term in map(str, terms) if term in given]
