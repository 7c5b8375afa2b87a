# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: ovn_members
short_description: Central hosts of OVN, as they are set up one after the other
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Reads the registered results of M(nebula.provision.nebula_ovn_central) with C(state=requested). Names are those of
    the hosts that were asked. What else an answer says of them is not looked at.
positional: _input, hosts, addresses
options:
  _input:
    description: The registered results, in the order of O(hosts).
    type: list
    elements: raw
    required: true
  hosts:
    description: Names of the central hosts.
    type: list
    elements: str
    required: true
  addresses:
    description: Their addresses, in the same order. Where one is empty, the host says it itself.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show which of them has the databases
  ansible.builtin.debug:
    msg: "{{ (asked.results | nebula.provision.ovn_members(names, ['', '', ''])) | map(attribute='name') | first }}"
"""

RETURN = r"""
_value:
  description: What O(nebula.provision.nebula_ovn_central#module:cluster) takes, those first that have the databases.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import ovn_answers
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def ovn_members(results: Iterable[Any], hosts: Sequence[str], addresses: Iterable[str]) -> list[dict[str, Any]]:
    known = dict(zip(hosts, addresses))
    found = [
        ovn_answers.member(host, known.get(host) or "", result)
        for host, result in ovn_answers.answers_by_host(results, hosts)
        if "member" in result
    ]
    return sorted(found, key=lambda each: each["rank"])


class FilterModule:
    def filters(self) -> Filters:
        return {"ovn_members": returns_no_templates(ovn_members)}
