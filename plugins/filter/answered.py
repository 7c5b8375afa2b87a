# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: answered
short_description: What each node has returned, under its name
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Turns registered results, one for each host, into the list that the options
    O(nebula.provision.nebula_install#module:waited) and O(nebula.provision.nebula_install#module:verified) take.
  - Who has told is who was asked, whatever an answer says of that.
positional: _input, hosts, key
options:
  _input:
    description: The registered results, in the order of O(hosts).
    type: list
    elements: raw
    required: true
  hosts:
    description: Names of the hosts that were asked.
    type: list
    elements: str
    required: true
  key:
    description: Which part of the results is wanted.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Record what is installed
  nebula.provision.nebula_install:
    installs: "{{ installs }}"
    state: recorded
    waited: >-
      {{ ansible_play_hosts_all | map('extract', hostvars) | map('nebula.provision.variable', 'waited', {})
         | nebula.provision.answered(ansible_play_hosts_all, 'waited') }}
"""

RETURN = r"""
_value:
  description: For each host a dict with C(host), and the part under its own name.
  type: list
  elements: dict
"""

from collections.abc import Iterable
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.by_host import as_option
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def answered(results: Iterable[Any], hosts: Iterable[str], key: str) -> list[dict[str, Any]]:
    return [as_option(host, key, result) for host, result in zip(hosts, results)]


class FilterModule:
    def filters(self) -> Filters:
        return {"answered": returns_no_templates(answered)}
