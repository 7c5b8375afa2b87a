# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: ovn_unregistered
short_description: Nodes that OVN's southbound database has another chassis for
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Reads the registered results of M(nebula.provision.nebula_ovn_host). Names are those of the hosts that were asked.
positional: _input, hosts, addresses
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
  addresses:
    description: The addresses of their tunnels, in the same order. Where one is empty, the host says it itself.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Name hosts that OVN does not have
  ansible.builtin.debug:
    msg: "{{ results | nebula.provision.ovn_unregistered(names, addresses) | join(', ') }}"
"""

RETURN = r"""
_value:
  description: By the hosts' names the addresses of their tunnels.
  type: dict
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import ovn_answers
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def ovn_unregistered(results: Iterable[Any], hosts: Sequence[str], addresses: Iterable[str]) -> dict[str, str]:
    known = dict(zip(hosts, addresses))
    found = {
        host: ovn_answers.unregistered_address(known.get(host) or "", result)
        for host, result in ovn_answers.answers_by_host(results, hosts)
    }
    return {host: address for host, address in found.items() if address}


class FilterModule:
    def filters(self) -> Filters:
        return {"ovn_unregistered": returns_no_templates(ovn_unregistered)}
