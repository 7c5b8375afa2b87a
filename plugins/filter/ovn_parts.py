# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: ovn_parts
short_description: What each host has of OVN, and how that differs
version_added: 0.2.0
description:
  - Joins the registered results of M(nebula.provision.nebula_ovn_central) and M(nebula.provision.nebula_ovn_host) with
    their state V(audited).
  - Each row and finding is of the host that was asked, whatever its answer says of that.
  - A host whose result holds no answer has the state V(no answer). If it is a central host, that is a finding, too. Of
    nodes the audit has one already.
options:
  _input:
    description: The registered results of the central hosts, in the order of O(centrals).
    type: list
    elements: raw
    required: true
  centrals:
    description: Names of the central hosts.
    type: list
    elements: str
    required: true
  nodes:
    description: The registered results of the nodes, in the order of O(hosts).
    type: list
    elements: raw
    required: true
  hosts:
    description: Names of the nodes.
    type: list
    elements: str
    required: true
positional: centrals, nodes, hosts
"""

EXAMPLES = r"""
- name: What each host has of OVN
  nebula.provision.nebula_table:
    title: OVN
    columns: [host, part, state, address]
    rows: "{{ (central.results | nebula.provision.ovn_parts(names, nodes, ansible_play_hosts_all)).parts }}"
"""

RETURN = r"""
_value:
  description: With C(parts), one for each host, and C(consistency), the findings.
  type: dict
"""

from collections.abc import Iterable
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import ovn_answers
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def ovn_parts(
    results: Iterable[Any], centrals: Iterable[str], nodes: Iterable[Any], hosts: Iterable[str]
) -> dict[str, list[dict[str, Any]]]:
    parts, consistency = [], []
    for part, names, given in (("central", centrals, results), ("node", hosts, nodes)):
        for host, result in zip(names, given):
            answer = ovn_answers.part_in_ovn(host, part, result) if hasattr(result, "get") else None
            if answer:
                parts.append(answer)
                consistency += ovn_answers.findings(host, result)
            elif not (hasattr(result, "get") and result.get("skipped")):
                parts.append({"host": host, "part": part, "state": "no answer", "address": ""})
                consistency += [] if part == "node" else [_silent(host, result)]
    return {"parts": parts, "consistency": consistency}


def _silent(host: str, result: Any) -> dict[str, Any]:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import Finding
    from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain

    message = str(result.get("msg") or "").strip() if hasattr(result, "get") else ""
    finding = Finding(
        "host-silent", host, "OVN's databases and northd", message or "it gave no answer", "Find the reason"
    )
    return {**to_plain(finding), "sentence": str(finding)}


class FilterModule:
    def filters(self) -> Filters:
        return {"ovn_parts": returns_no_templates(ovn_parts)}
