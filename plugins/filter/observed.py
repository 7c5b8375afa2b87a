# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: observed
short_description: Answers of polled nodes, as front-end modules take them
version_added: 0.1.0
description:
  - Turns the registered results of M(nebula.provision.nebula_deploy), one for each host, into the list for the
    option C(observed).
  - A host whose result holds no answer becomes one that was not reached, with the message of its task.
options:
  _input:
    description: The registered results, in the order of O(hosts).
    type: list
    elements: raw
    required: true
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
positional: hosts
"""

EXAMPLES = r"""
- name: What runs where
  nebula.provision.nebula_info:
    observed: >-
      {{ ansible_play_hosts_all | map('extract', hostvars, 'polled')
         | nebula.provision.observed(ansible_play_hosts_all) }}
"""

RETURN = r"""
_value:
  description: One answer for each host.
  type: list
  elements: dict
"""

from collections.abc import Iterable
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import LONGEST
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def observed(results: Iterable[Any], hosts: Iterable[str]) -> list[dict[str, Any]]:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.model.answers.observed import as_option

    answers = []
    for host, result in zip(hosts, results):
        answer = result.get("observed") if hasattr(result, "get") else None
        if answer:
            answers.append(as_option(host, answer))
        else:
            answers.append({"host": host, "reached": False, **_reason(result)})
    return answers


def _reason(result: Any) -> dict[str, Any]:
    """Return why the node gave no answer: the task's own message, if it has one."""
    message = result.get("msg") if hasattr(result, "get") else ""
    message = message[:LONGEST].strip() if isinstance(message, str) else ""
    return {"facts": {"problem": message}} if message else {}


class FilterModule:
    def filters(self) -> Filters:
        return {"observed": returns_no_templates(observed)}
