# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: output_directory
short_description: Where a run writes on the control node
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Turns names of directories into absolute paths on the control node. A relative one is below the directory of the
    inventory, of several inventories of the one that has the host. If the inventory is itself a directory, which
    Ansible reads with all that is in it, a relative one is beside that directory.
  - A directory that nothing can be written to, or that belongs to an installed collection, is an error, so that a run
    can say so before it begins. Nothing is made.
options:
  _terms:
    description: Names of directories.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Say where the copy goes
  ansible.builtin.debug:
    msg: "{{ lookup('nebula.provision.output_directory', 'backups') }}"
"""

RETURN = r"""
_list:
  description: The absolute paths, in the order given.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.plugin_utils import control_node_paths
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        try:
            return without_templates(
                [control_node_paths.output_directory(str(term), variables or {}) for term in terms]
            )
        except control_node_paths.NotWritable as error:
            raise AnsibleError(str(error)) from error
