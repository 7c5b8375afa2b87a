# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: connection_variables
short_description: The variables that say how a host is reached
version_added: 0.2.0
description:
  - Takes of a host's variables those by which Ansible reaches it, such as C(ansible_host), C(ansible_user) and
    C(ansible_become). The others are not evaluated.
options:
  _input:
    description: The variables of a host, as C(hostvars) has them.
    type: dict
    required: true
"""

EXAMPLES = r"""
# group_vars/guests.yml: how connection plugin nebula.provision.guest reaches the node of a machine.
nebula_guest_node: "{{ hostvars['kvm1'] | nebula.provision.connection_variables }}"
"""

RETURN = r"""
_value:
  description: Some of the variables.
  type: dict
"""

from ansible_collections.nebula.provision.plugins.plugin_utils.connection_variables import variables_reaching_host
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


class FilterModule:
    def filters(self) -> Filters:
        return {"connection_variables": returns_no_templates(variables_reaching_host)}
