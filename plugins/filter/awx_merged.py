# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: awx_merged
short_description: Items of a list changed by those of another that have the same name
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Each key of an item of the second list goes over that of the item of the first which has the same name. Items with
    other names come after these.
options:
  _input:
    description: The items, dicts with a C(name).
    type: list
    elements: dict
    required: true
  items:
    description: Those that change them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: The job templates with what was changed
  ansible.builtin.debug:
    msg: "{{ [{'name': 'audit', 'playbook': 'audit.yml'}] | nebula.provision.awx_merged(nebula_awx_job_templates) }}"
"""

RETURN = r"""
_value:
  description: The items.
  type: list
  elements: dict
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.job_templates import Item, merge_items


def awx_merged(ours: Sequence[Item], items: Sequence[Item]) -> list[dict[str, Any]]:
    return merge_items(ours, items)


class FilterModule:
    def filters(self) -> Filters:
        return {"awx_merged": returns_no_templates(awx_merged)}
