# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: awx_problems
short_description: What is wrong with job templates and workflows
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Checks the items of C(nebula_awx_job_templates) and C(nebula_awx_workflows), before AWX has any of them. AWX itself
    takes a number as default that is out of bounds, and keeps a job template whose survey it refuses.
options:
  _input:
    description: The job templates.
    type: list
    elements: dict
    required: true
  workflows:
    description: The workflows.
    type: list
    elements: dict
    required: true
  prefix:
    description: What goes before each name.
    type: str
    default: ""
  options:
    description: Options of all job templates.
    type: dict
    default: {}
  notifications:
    description: Names of notification templates, by what they tell of.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Check the data
  ansible.builtin.assert:
    that: nebula_awx_job_templates | nebula.provision.awx_problems(nebula_awx_workflows) | length == 0
"""

RETURN = r"""
_value:
  description: A sentence for each problem.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.job_templates import Item, problems


def awx_problems(
    templates: Any,
    workflows: Any,
    prefix: str = "",
    options: Item | None = None,
    notifications: Item | None = None,
) -> list[str]:
    return problems(templates, workflows, prefix, options, notifications)


class FilterModule:
    def filters(self) -> Filters:
        return {"awx_problems": returns_no_templates(awx_problems)}
