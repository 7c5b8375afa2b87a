# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: absent
short_description: Objects as a list that removes them
version_added: 0.1.0
description:
  - Turns objects as M(nebula.provision.nebula_info) returns them into items with their C(name) and
    C(state=absent).
options:
  _input:
    description: The objects, dicts with a C(name).
    type: list
    elements: dict
    required: true
  _options:
    description: Keyword arguments become further keys of every item, such as C(hard=true).
    type: dict
"""

EXAMPLES = r"""
- name: End every machine
  ansible.builtin.include_role:
    name: nebula.provision.vm
  vars:
    nebula_vms: "{{ info.vms | nebula.provision.absent(hard=true) }}"
"""

RETURN = r"""
_value:
  description: One item for each object.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def absent(objects: Iterable[Mapping[str, Any]], **further: Any) -> list[dict[str, Any]]:
    return [dict(further, name=item["name"], state="absent") for item in objects]


class FilterModule:
    def filters(self) -> Filters:
        return {"absent": returns_no_templates(absent)}
