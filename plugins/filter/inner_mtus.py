# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: inner_mtus
short_description: What OVN's tunnels leave on each host for packets of machines
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes the option O(nebula.provision.nebula_network#module:inner_mtus) of the registered results of
    M(nebula.provision.nebula_ovn_host), one for each host.
positional: _input, hosts
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
"""

EXAMPLES = r"""
- name: Show what is left for packets
  ansible.builtin.debug:
    msg: "{{ results | nebula.provision.inner_mtus(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: Bytes by the hosts' names. 0 is for a host that gave no answer, or none of this kind.
  type: dict
"""

from collections.abc import Iterable
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.tunnel_mtu import inner_mtu
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def inner_mtus(results: Iterable[Any], hosts: Iterable[str]) -> dict[str, int]:
    return {host: inner_mtu(result) for host, result in zip(hosts, results)}


class FilterModule:
    def filters(self) -> Filters:
        return {"inner_mtus": returns_no_templates(inner_mtus)}
