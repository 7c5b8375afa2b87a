# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: awx_job_templates
short_description: Job templates as awx.awx.job_template takes them
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Makes of each item of C(nebula_awx_job_templates) the options of module C(awx.awx.job_template), with the survey and
    the variables that its answers become.
options:
  _input:
    description: The items.
    type: list
    elements: dict
    required: true
  prefix:
    description: What goes before each name.
    type: str
    default: ""
  options:
    description: Options of all of them.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: What AWX is asked for
  ansible.builtin.debug:
    msg: "{{ nebula_awx_job_templates | nebula.provision.awx_job_templates('nebula ') }}"
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
from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.job_templates import Item, job_templates


def awx_job_templates(items: Sequence[Item], prefix: str = "", options: Item | None = None) -> list[dict[str, Any]]:
    return job_templates(items, prefix, options or {})


class FilterModule:
    def filters(self) -> Filters:
        return {"awx_job_templates": returns_no_templates(awx_job_templates)}
