# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: settings_among_facts
short_description: Why a host whose facts have names of settings is left out
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Facts are what a host says of itself, and Ansible puts them above the variables that the inventory has for the host.
    A fact would decide in the inventory's place if it had the name of a variable of this collection, of one by which
    hosts are reached, or of one that a variable of this collection refers to.
  - The filter P(nebula.provision.settings_among#filter) comes before it, since a fact can have the name of C(query).
  - A host whose settings refer by C(hostvars) to a variable of another host is left out as well where a fact of that
    host has the variable's name. Filter P(nebula.provision.variable#filter) gives there what the inventory has.
  - A variable of this collection that is meant to be filled in with a fact refers to it by C(ansible_facts).
options:
  _terms:
    description: None. The host that is looked at is the one for which this is asked.
"""

EXAMPLES = r"""
- name: Leave hosts out whose facts have names of settings
  ansible.builtin.meta: end_host
  when: query('nebula.provision.settings_among_facts') | length > 0
"""

RETURN = r"""
_raw:
  description: A sentence with the names, or nothing where there are none.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.plugin_utils import forged_facts
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        known = variables or {}
        names = forged_facts.facts_named_like_settings(known.get("ansible_facts") or {}, known)
        host = str(known.get("inventory_hostname"))
        own = [forged_facts.refusal_of_host(host, names)] if names else []
        return without_templates(
            own or forged_facts.refusals_for_others(host, forged_facts.forged_facts_of_others(known))
        )
