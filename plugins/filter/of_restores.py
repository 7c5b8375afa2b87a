# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: of_restores
short_description: Rows of tables about backups that hosts have, and about what was restored
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Puts together what hosts answered to M(nebula.provision.nebula_machine_restore).
  - Which host it is that answers, and which machine was to be restored, the hosts do not say themselves.
options:
  _input:
    description: The variables of the hosts of the run.
    type: list
    elements: dict
    required: true
  host:
    description: The host that was asked to restore a machine. Without it, rows of backups that hosts have are returned.
    type: str
    default: ""
  machine:
    description: The name of the machine.
    type: str
    default: ""
positional: host, machine
"""

EXAMPLES = r"""
- name: Show what nodes have
  nebula.provision.nebula_table:
    columns: [machine, at, id]
    rows: "{{ (ansible_play_hosts_all | map('extract', hostvars) | nebula.provision.of_restores).rows }}"
"""

RETURN = r"""
_value:
  description: C(rows) of a table, and C(notes) below it.
  type: dict
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def of_restores(variables: Iterable[Mapping[str, Any]], host: str = "", machine: str = "") -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for each in variables:
        name = each["inventory_hostname"]
        try:
            if not host:
                rows += _listed(name, variable_of(each, "__nebula_restore_listed_there"))
            elif name == host:
                rows += _restored(name, variable_of(each, "__nebula_restore_done"), machine)
        except InvalidValue as error:
            notes.append(str(error))
    return {"rows": rows, "notes": notes}


def _listed(host: str, answer: Any) -> list[dict[str, Any]]:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.model.answers.restored_machines import read_listed

    return [{**asdict(each), "at": host} for each in read_listed(host, answer) or ()]


def _restored(host: str, answer: Any, machine: str) -> list[dict[str, Any]]:
    from ansible_collections.nebula.provision.plugins.module_utils.model.answers.restored_machines import read_restored

    found = read_restored(host, answer)
    if found is None:
        return []
    return [{**asdict(found), "name": machine, "disks": [*found.disks], "files": [*found.files], "at": host}]


class FilterModule:
    def filters(self) -> Filters:
        return {"of_restores": returns_no_templates(of_restores)}
