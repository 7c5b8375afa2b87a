# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: peers
short_description: How the front-end reaches each node
version_added: 0.2.0
description:
  - Makes the option C(hosts) of M(nebula.provision.nebula_transfer) out of the variables of hosts.
  - The address is C(nebula_transfer_address), else C(ansible_host), else the name. The port is C(nebula_transfer_port),
    else C(ansible_port), else 22.
options:
  _input:
    description: The variables of each host, as C(hostvars) has them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Send what the nodes lack
  nebula.provision.nebula_transfer:
    state: sent
    transfers: "{{ decided.transfers }}"
    hosts: "{{ ansible_play_hosts_all | map('extract', hostvars) | nebula.provision.peers }}"
"""

RETURN = r"""
_value:
  description: By the name of the host, C(address), C(port) and C(keys).
  type: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.host_keys import host_keys
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def peers(variables: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {}
    for each in variables:
        name = each["inventory_hostname"]
        found[name] = {
            "address": str(variable_of(each, "nebula_transfer_address") or each.get("ansible_host") or name),
            "port": int(variable_of(each, "nebula_transfer_port") or each.get("ansible_port") or 22),
            "keys": host_keys(variable_of(each, "__nebula_node")),
        }
    return found


class FilterModule:
    def filters(self) -> Filters:
        return {"peers": returns_no_templates(peers)}
