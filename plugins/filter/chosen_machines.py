# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: chosen_machines
short_description: Machines that are named on the command line, and what is done with them
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Finds machines by names and patterns, as playbooks get them by C(-e vm=web-*).
  - With a word, as playbook C(nebula.provision.machine) gets it by C(-e do=stop), the items of RV(ignore:nebula_vms)
    that do it are returned, too.
positional: _input, pattern, word, listed
options:
  _input:
    description: Machines, as M(nebula.provision.nebula_info) returns them.
    type: list
    elements: dict
    required: true
  pattern:
    description: Names and patterns of the shell, with commas or blanks between them, or a list of them.
    type: raw
    required: true
  word:
    description: What is to be done. V(start), V(stop), V(poweroff), V(reboot), V(reset), V(suspend) or V(console).
    type: str
  listed:
    description: The list C(nebula_vms) of the inventory, whose states are compared.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Which machines are meant?
  ansible.builtin.debug:
    msg: "{{ info.vms | nebula.provision.chosen_machines('web-*, db').names }}"
"""

RETURN = r"""
_value:
  description:
    - Key C(names) has the names that were found, C(problem) what is wrong, empty if nothing is. C(wanted) are items of
      C(nebula_vms), C(undone) sentences about what the next run of the inventory's lists makes undone.
  type: dict
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import chosen_machines as machines
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def chosen_machines(
    vms: Sequence[Mapping[str, Any]], pattern: str, word: Any = None, listed: Any = None
) -> dict[str, Any]:
    names, problem = machines.machines_named(vms, pattern)
    found: dict[str, Any] = {"names": names, "wanted": [], "undone": [], "problem": problem}
    if word is None:
        return found
    found["problem"] = machines.problem_of_word(word) or problem
    if not found["problem"] and word != machines.CONSOLE:
        found.update(wanted=machines.items(names, word), undone=machines.changed_back_by_lists(names, word, listed))
    return found


class FilterModule:
    def filters(self) -> Filters:
        return {"chosen_machines": returns_no_templates(chosen_machines)}
