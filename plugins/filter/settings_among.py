# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: settings_among
short_description: Why a host whose facts have names of settings is left out
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Facts are what a host says of itself, and Ansible puts them above the variables that the inventory has for the host.
    A fact with the name of a variable of this collection, or of a variable by which hosts are reached, would decide in
    the inventory's place.
positional: _input, host
options:
  _input:
    description: The facts of a host, which is its variable C(ansible_facts).
    type: dict
    required: true
  host:
    description: The name of the host.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Leave hosts out whose facts have names of settings
  ansible.builtin.meta: end_host
  when: ansible_facts | nebula.provision.settings_among(inventory_hostname) | length > 0
"""

RETURN = r"""
_value:
  description: A sentence with the names, or nothing where there are none.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import forged_facts
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def settings_among(host_facts: Mapping[str, Any], host: str) -> list[str]:
    names = forged_facts.facts_named_like_settings(host_facts)
    return [forged_facts.refusal_of_host(str(host), names)] if names else []


class FilterModule:
    def filters(self) -> Filters:
        return {"settings_among": returns_no_templates(settings_among)}
