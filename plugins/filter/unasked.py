# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: unasked
short_description: Machines as they are shown where not all hosts were asked
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - What the catalog has of a machine whose host is not in the run may be long past, so such a machine is shown as
    UNKNOWN. The catalog itself stays as it is.
positional: _input, hosts
options:
  _input:
    description: Machines, as M(nebula.provision.nebula_vm) returns them.
    type: list
    elements: dict
    required: true
  hosts:
    description: Names of the hosts that are in the run.
    type: list
    elements: str
    required: true
  sentences:
    description: Return a sentence for each host that is not in the run, in place of the machines.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the machines
  nebula.provision.nebula_table:
    columns: [id, name, host, state]
    rows: "{{ decided.vms | nebula.provision.unasked(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: The machines, or sentences.
  type: list
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def unasked(machines: Sequence[Mapping[str, Any]], hosts: Iterable[str], sentences: bool = False) -> list[Any]:
    asked = {*hosts}
    past = [vm for vm in machines if vm.get("host") and vm["host"] not in asked and vm.get("state") != "DONE"]
    if not sentences:
        return [dict(vm, state="UNKNOWN") if vm in past else vm for vm in machines]
    found: dict[str, list[str]] = {}
    for vm in past:
        found.setdefault(vm["host"], []).append(f"{vm['name']} ({vm['state']})")
    return [
        f"Host {host} is not in this run, so its machines are UNKNOWN. As of the last run that asked it: "
        f"{', '.join(names[:10])}{' and more' if len(names) > 10 else ''}"
        for host, names in sorted(found.items())
    ]


class FilterModule:
    def filters(self) -> Filters:
        return {"unasked": returns_no_templates(unasked)}
