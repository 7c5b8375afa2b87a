# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: misspelt
short_description: Variables whose names are likely slips of this collection's
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Tells of variables whose names begin with C(nebula_), that nothing of this collection reads, and whose names are
    near one that is read. Ansible says nothing of these, and the run goes on without what they hold.
  - Names are told, values never.
options:
  _terms:
    description:
      - Hosts whose variables are looked at, beside those of the play's own host. One that the inventory does not have
        is passed over.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Say which variables are not read
  nebula.provision.nebula_changes:
    warnings: "{{ query('nebula.provision.misspelt', *groups['nebula_nodes']) }}"
"""

RETURN = r"""
_list:
  description: A sentence for each name.
  type: list
  elements: str
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.module_utils.model.object_names import nearest_word
from ansible_collections.nebula.provision.plugins.plugin_utils import payloads
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates

PREFIX = "nebula_"


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        # Every run begins with this lookup, so it is where kept payloads are brought.
        payloads.bring_payloads()
        variables = variables or {}
        hosts = variables.get("hostvars") or {}
        given = {str(name) for name in variables}
        for host in terms:
            if host in hosts:
                given.update(map(str, hosts.raw_get(host) if hasattr(hosts, "raw_get") else hosts[host]))
        known = known_variables(Path(__file__).resolve().parents[2])
        return without_templates(misspelt_names(given, known))


def misspelt_names(given: Iterable[str], known: Iterable[str]) -> list[str]:
    # All names share the prefix, so only the rest is compared.
    stems = sorted(name[len(PREFIX) :] for name in known)
    found = []
    for name in sorted(given):
        if name.startswith(PREFIX) and name.isidentifier() and name not in known:
            stem = name[len(PREFIX) :]
            # Two exchanged letters change a large part of a short name, so they are compared apart.
            turned = [each for each in stems if sorted(each) == sorted(stem)]
            near = turned[0] if turned else nearest_word(stem, stems)
            if near:
                found.append(f"{name}: nothing reads a variable of this name. {PREFIX}{near} is one that is read")
    return found


def known_variables(root: Path) -> set[str]:
    """Return the variables that roles and playbooks name. A name after a dot is a module's, and no variable."""
    found: set[str] = set()
    for path in (*root.glob("playbooks/*.yml"), *root.glob("roles/*/*/*.yml")):
        found.update(re.findall(rf"(?<![A-Za-z0-9_.]){PREFIX}\w+", path.read_text(encoding="utf-8")))
    return found
