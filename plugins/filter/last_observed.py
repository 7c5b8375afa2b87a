# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: last_observed
short_description: What each node said last in this run, as front-end modules take it
version_added: 0.2.0
description:
  - Of each host, the answer of what was done on it, else that of its poll, for the option C(observed).
options:
  _input:
    description: The variables of each host, as C(hostvars) has them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Fetch what machines wrote
  nebula.provision.nebula_transfer:
    state: fetched
    observed: "{{ ansible_play_hosts_all | map('extract', hostvars) | nebula.provision.last_observed }}"
    hosts: "{{ ansible_play_hosts_all | map('extract', hostvars) | nebula.provision.peers }}"
"""

RETURN = r"""
_value:
  description: One answer for each host.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def last_observed(variables: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.model.answers.observed import as_option

    found = []
    for each in variables:
        name = each["inventory_hostname"]
        results = [variable_of(each, key) for key in ("__nebula_deployed", "__nebula_observed")]
        answers = [result.get("observed") for result in results if hasattr(result, "get")]
        answer = next((answer for answer in answers if answer), None)
        found.append(as_option(name, answer) if answer else {"host": name, "reached": False})
    return found


class FilterModule:
    def filters(self) -> Filters:
        return {"last_observed": returns_no_templates(last_observed)}
