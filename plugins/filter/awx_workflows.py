# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: awx_workflows
short_description: Workflows as awx.awx.workflow_job_template takes them
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes of each item of C(nebula_awx_workflows) the options of module C(awx.awx.workflow_job_template), with a survey
    that asks once what its job templates ask. Filter P(nebula.provision.awx_nodes#filter) makes those of the nodes.
options:
  _input:
    description: The items.
    type: list
    elements: dict
    required: true
  templates:
    description: All job templates, as C(nebula_awx_job_templates) has them.
    type: list
    elements: dict
    required: true
  prefix:
    description: What goes before each name of a workflow or job template.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: What AWX is asked for
  ansible.builtin.debug:
    msg: "{{ nebula_awx_workflows | nebula.provision.awx_workflows(nebula_awx_job_templates, 'nebula ') }}"
"""

RETURN = r"""
_value:
  description: Options of the module, for each.
  type: list
  elements: dict
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.job_templates import Item, workflows


def awx_workflows(items: Sequence[Item], templates: Sequence[Item], prefix: str = "") -> list[dict[str, Any]]:
    return workflows(items, templates, prefix)


class FilterModule:
    def filters(self) -> Filters:
        return {"awx_workflows": returns_no_templates(awx_workflows)}
