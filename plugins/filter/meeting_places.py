# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: meeting_places
short_description: Where each node is met by those that bring machines to it
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes the option O(nebula.provision.nebula_vm#module:meeting_places) of M(nebula.provision.nebula_vm) out of the
    variables of hosts.
  - The address is C(nebula_move_address), else C(ansible_host), else the name. The port is C(nebula_move_port), else
    49152.
options:
  _input:
    description: The variables of each host, as C(hostvars) has them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Decide what becomes of the machines
  nebula.provision.nebula_vm:
    vms: "{{ nebula_vms | to_json }}"
    move: live
    forks: "{{ ansible_forks }}"
    meeting_places: >-
      {{ groups['nebula_nodes'] | map('extract', hostvars) | nebula.provision.meeting_places | to_json }}
"""

RETURN = r"""
_value:
  description: By the name of the host, C(address) and C(port).
  type: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model import defaults
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def meeting_places(variables: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {}
    for each in variables:
        name = each["inventory_hostname"]
        found[name] = {
            "address": str(variable_of(each, "nebula_move_address") or each.get("ansible_host") or name),
            "port": int(variable_of(each, "nebula_move_port") or defaults.MOVE_PORT),
        }
    return found


class FilterModule:
    def filters(self) -> Filters:
        return {"meeting_places": returns_no_templates(meeting_places)}
