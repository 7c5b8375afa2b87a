# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: ovn_requests
short_description: Requests for certificates of OVN, each of the host that was asked for it
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Reads the registered results of M(nebula.provision.nebula_ovn_central) and M(nebula.provision.nebula_ovn_host) with
    their state V(requested). Name and kind are those of the question, whatever an answer says of them.
  - Hosts that were not asked, or did not answer, are left out.
positional: _input, hosts, kind
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
  kind:
    description: What the certificates are for.
    type: str
    choices: [host, central]
    required: true
"""

EXAMPLES = r"""
- name: Sign them on the front-end
  nebula.provision.nebula_ovn_central:
    name: "{{ groups['nebula_frontend'][0] }}"
    catalog: "{{ catalog }}"
    requests: "{{ asked.results | nebula.provision.ovn_requests(groups['nebula_ovn_central'], 'central') }}"
    state: signed
"""

RETURN = r"""
_value:
  description: What O(nebula.provision.nebula_ovn_central#module:requests) takes.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import ovn_answers
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def ovn_requests(results: Iterable[Any], hosts: Sequence[str], kind: str) -> list[dict[str, Any]]:
    found = (ovn_answers.request(host, kind, result) for host, result in ovn_answers.answers_by_host(results, hosts))
    return [each for each in found if each is not None]


class FilterModule:
    def filters(self) -> Filters:
        return {"ovn_requests": returns_no_templates(ovn_requests)}
