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
  listed:
    description: Rows of backups that the front-end has, before those of hosts.
    type: list
    elements: dict
    default: []
positional: host, machine, listed
"""

EXAMPLES = r"""
- name: Show what nodes have
  nebula.provision.nebula_table:
    columns: [machine, at, id]
    rows: "{{ (ansible_play_hosts_all | map('extract', hostvars) | nebula.provision.of_restores).rows }}"
"""

RETURN = r"""
_value:
  description:
    - C(rows) of a table, and C(notes) below it. C(columns) are those that the rows need beside others, where machines
      of several directories have one name. C(next) are sentences about what is done next with a machine.
  type: dict
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def of_restores(
    variables: Iterable[Mapping[str, Any]], host: str = "", machine: str = "", listed: Iterable[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [dict(each) for each in listed]
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
    places: dict[Any, set[Any]] = {}
    for row in rows:
        places.setdefault(row.get("machine"), set()).add(row.get("place"))
    columns = ["place=GIVE AS vm"] if any(len(each) > 1 for each in places.values()) else []
    following = [
        f"Machine {row['name']} is off. Start it: playbook nebula.provision.machine with -e vm={row['name']} "
        "-e do=start; or run playbook nebula.provision.site, which does what the inventory says of it"
        for row in rows
        if host
    ]
    return {"rows": rows, "notes": notes, "columns": columns, "next": following}


def _listed(host: str, answer: Any) -> list[dict[str, Any]]:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.model.answers.restored_machines import read_listed

    return [{**asdict(each), "at": host} for each in read_listed(host, answer) or ()]


def _restored(host: str, answer: Any, machine: str) -> list[dict[str, Any]]:
    from ansible_collections.nebula.provision.plugins.module_utils.model.answers.restored_machines import read_restored

    found = read_restored(host, answer)
    if found is None:
        return []
    from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import named_disks

    shown = {"name": machine, "time": _time_of(found.backup), "disks": named_disks(found.disks)}
    return [{**asdict(found), **shown, "files": [*found.files], "at": host}]


def _time_of(id: str) -> str:
    """Return when a backup was made, as its id says it; "" for what is no id."""
    parts = re.match(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-", id, re.ASCII)
    return "{}-{}-{}T{}:{}:{}Z".format(*parts.groups()) if parts else ""


class FilterModule:
    def filters(self) -> Filters:
        return {"of_restores": returns_no_templates(of_restores)}
