# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: between_hosts
short_description: Machines on their way to another host, and machines away from theirs
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Names the machines that move and of which no host has said yet what became of that, and those that are away from a
    host which was emptied for maintenance.
options:
  _input:
    description: Machines, as M(nebula.provision.nebula_vm) returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Name them
  ansible.builtin.debug:
    msg: "{{ decided.vms | nebula.provision.between_hosts }}"
"""

RETURN = r"""
_value:
  description: At most one sentence for each of the two.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.printable import printable
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates

# Machines that a sentence names.
SHOWN = 20


def between_hosts(machines: Iterable[Mapping[str, Any]]) -> list[str]:
    there = list(machines or [])
    moving = [f"{vm['name']} ({vm.get('host')} to {vm['moving']})" for vm in there if vm.get("moving")]
    away = [f"{vm['name']} ({vm['away']})" for vm in there if vm.get("away")]
    found = []
    if moving:
        found.append(f"{len(moving)} on their way, until both hosts have said what became of it: {_named(moving)}")
    if away:
        found.append(f"{len(away)} away from a host that was emptied for maintenance: {_named(away)}")
    return [printable(each) for each in found]


def _named(texts: list[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (" and more" if len(texts) > SHOWN else "")


class FilterModule:
    def filters(self) -> Filters:
        return {"between_hosts": returns_no_templates(between_hosts)}
