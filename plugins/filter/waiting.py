# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: waiting
short_description: What running machines wait for
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Says of running machines what changes at their next start, in a sentence for each attribute, disk or NIC.
options:
  _input:
    description: Machines, as M(nebula.provision.nebula_vm) returns them.
    type: list
    elements: dict
    required: true
  summary:
    description: Return one sentence for all machines, or none if none waits.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Tell what waits
  ansible.builtin.debug:
    msg: "{{ decided.vms | nebula.provision.waiting }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.printable import printable
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates

# Machines that a summary names.
SHOWN = 20


def waiting(machines: Iterable[Mapping[str, Any]], summary: bool = False) -> list[str]:
    found = [vm for vm in machines if vm.get("waits")]
    if not summary:
        return [printable(_sentence(vm, part)) for vm in found for part in vm["waits"]]
    if not found:
        return []
    names = [f"{vm['name']} ({', '.join(part['part'] for part in vm['waits'])})" for vm in found[:SHOWN]]
    more = " and more" if len(found) > SHOWN else ""
    return [printable(f"{len(found)} with changes at the next start: {', '.join(names)}{more}")]


def _sentence(vm: Mapping[str, Any], part: Mapping[str, str]) -> str:
    return f"VM {vm['name']} (id {vm['id']}) {part['part']}: {part['found']} now, {part['wanted']} at its next start"


class FilterModule:
    def filters(self) -> Filters:
        return {"waiting": returns_no_templates(waiting)}
