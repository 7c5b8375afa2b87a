# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: installer_problems
short_description: What went wrong with installations, none of them left out
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Adds to what tasks said a line for each installation that is not at its end and that none of them names, so that no
    play ends well which has not done all that was asked.
options:
  _input:
    description: What tasks said.
    type: list
    elements: str
    required: true
  installs:
    description: What M(nebula.provision.nebula_install) returned as C(installs) at the end.
    type: list
    elements: dict
    required: true
  until:
    description: The step up to which this run was to go, as C(nebula_install_until) names it.
    type: str
    choices: [installed, converted, verified]
    default: verified
positional: installs, until
"""

EXAMPLES = r"""
- name: Fail if any is not done
  ansible.builtin.assert:
    that: "{{ said | nebula.provision.installer_problems(shown.installs) | length == 0 }}"
"""

RETURN = r"""
_value:
  description: What went wrong.
  type: list
  elements: str
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates

AT_ITS_END = ("given up", "ready, and left as it is")


def installer_problems(
    reports: Iterable[Any], installs: Iterable[Mapping[str, Any]], until: str = "verified"
) -> list[str]:
    # Here, since Ansible loads each filter of a collection to find one, in each of its processes.
    from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import DUE_AFTER

    problems = [str(text) for text in reports]
    for install in installs:
        at_its_end = install["due"] in DUE_AFTER[until] or install["step"] in AT_ITS_END
        if at_its_end or _is_named(install["name"], problems):
            continue
        why = f"install {install['name']}: it is not at its end: {install['step']}"
        problems.append(install.get("error") or f"{why}. No task said why: run it again with -vvv")
    return problems


def _is_named(name: str, texts: Iterable[str]) -> bool:
    # As what is installed, as its machine, or as the machine that tries it.
    named = re.compile(rf"\b(install|verify)[ -]{re.escape(name)}(?![\w.-]*\w)")
    return any(named.search(text) for text in texts)


class FilterModule:
    def filters(self) -> Filters:
        return {"installer_problems": returns_no_templates(installer_problems)}
