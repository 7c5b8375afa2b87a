# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: awx_nodes
short_description: Nodes of workflows as awx.awx.workflow_job_template_node takes them
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes of each node of C(nebula_awx_workflows) the options of module C(awx.awx.workflow_job_template_node), in an
    order in which each names only those that are there. A node that AWX has, and that is not in the workflow any more,
    or is of another kind, gets C(state=absent) first.
options:
  _input:
    description: The workflows.
    type: list
    elements: dict
    required: true
  known:
    description: The nodes that AWX has, as its API shows them.
    type: list
    elements: dict
    required: true
  prefix:
    description: What goes before each name of a workflow or job template.
    type: str
    default: ""
  ids:
    description:
      - Ids by names, under C(job_template) and C(inventory_source). Where one is missing, AWX looks for the name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: What AWX is asked for
  ansible.builtin.debug:
    msg: "{{ nebula_awx_workflows | nebula.provision.awx_nodes([], 'nebula ') }}"
"""

RETURN = r"""
_value:
  description: Options of the module, for each.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.job_templates import Item, nodes


def awx_nodes(
    items: Sequence[Item], known: Iterable[Item], prefix: str = "", ids: Mapping[str, Item] | None = None
) -> list[dict[str, Any]]:
    return nodes(items, prefix, known, ids or {})


class FilterModule:
    def filters(self) -> Filters:
        return {"awx_nodes": returns_no_templates(awx_nodes)}
