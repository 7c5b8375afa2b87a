# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: not_as_asked
short_description: Objects that are not what was asked for
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Collects from the results of a run which objects failed or differ from their list, and why, for statistics.
  - An object is there once, with the first reason.
options:
  _input:
    description:
      - Registered results of modules by the kind of their objects, such as C(image) and the result of
        M(nebula.provision.nebula_image). Of C(vm) the differences count, too.
    type: dict
    required: true
  machines:
    description: Machines as they were recorded. One with an error is not as asked.
    type: list
    elements: dict
    default: []
  hosts:
    description: The variables of the hosts of the run. One that did not answer, or failed, is not as asked.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Count what is not as asked
  ansible.builtin.set_stats:
    data:
      differing: "{{ {'vm': decided} | nebula.provision.not_as_asked(machines=recorded.vms) | length }}"
"""

RETURN = r"""
_value:
  description: The objects, with C(object) (the kind), C(name) and C(why).
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import LONGEST
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import variable_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.test.gone_wrong import gone_wrong

WORDLESS = "a task ended without a word"
OF_HOSTS = ("__nebula_observed", "__nebula_node_networks", "__nebula_deployed")


def not_as_asked(
    results: Mapping[str, Mapping[str, Any]],
    machines: Iterable[Mapping[str, Any]] = (),
    hosts: Iterable[Mapping[str, Any]] = (),
) -> list[dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}

    def note(kind: str, name: str, why: str) -> None:
        found.setdefault((kind, name), {"object": kind, "name": name, "why": why or WORDLESS})

    for kind, result in results.items():
        errors = result.get("errors") or []
        for error in errors:
            note(kind, str(error.get("name") or "?"), sentence(error))
        if gone_wrong(result) and not errors:
            note(kind, "?", str(result.get("msg") or ""))
        for difference in result.get("differences") or []:
            note(kind, difference["name"], difference["sentence"])
    for machine in machines or []:
        if machine.get("error"):
            note("vm", machine["name"], machine["error"])
    for host in hosts:
        for name in OF_HOSTS:
            answer = variable_of(host, name) or {}
            # What a node could not do for a machine is the machine's error.
            if gone_wrong(answer) and not (name == "__nebula_deployed" and machines):
                note("host", host["inventory_hostname"], str(answer.get("msg") or "")[:LONGEST])
    return list(found.values())


def sentence(error: Mapping[str, Any]) -> str:
    asked, found, remedy = (str(error.get(part) or "") for part in ("asked", "found", "remedy"))
    reported = f"{asked}: {found}" if asked else found
    return f"{reported.removesuffix('.')}. {remedy}" if remedy else reported


class FilterModule:
    def filters(self) -> Filters:
        return {"not_as_asked": returns_no_templates(not_as_asked)}
