#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_frontend
short_description: Begin a catalog on the front-end, repair or remove it
version_added: 0.1.0
description:
  - Makes the directories of the front-end and begins the catalog in them.
  - A front-end in a container that is thrown away after the job would lose the catalog and with it every virtual
    machine. It is refused where it can be recognised.
  - With O(state=repaired) derives anew what follows from the virtual machines of the catalog. That is leases, ports,
    uses of images, and counters. What an audit found to be wrong with them is right then.
  - With O(state=absent) removes the catalog and the files of its images. Refused while it has virtual machines.
options:
  state:
    description: Whether there is to be a catalog.
    type: str
    choices: [present, repaired, absent]
    default: present
  local:
    description: Whether the front-end is the control node itself, by a local connection.
    type: bool
    default: false
  allow_ephemeral:
    description: Take a directory that ends with the container.
    type: bool
    default: false
  transfer_key:
    description:
      - Whether nodes do not see the front-end's datastores. Then it makes the key pair by which it exchanges files of
        images with them.
    type: bool
    default: false
    version_added: 0.2.0
  nodes:
    description:
      - The names of all nodes of the inventory. Each has a mark in the catalog, by which its host is known from then
        on. M(nebula.provision.nebula_node) leaves it there.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Begin the catalog
  nebula.provision.nebula_frontend:
    local: "{{ ansible_connection | default('ssh') == 'local' }}"
  become: true
"""

RETURN = r"""
frontend:
  description: The front-end.
  returned: success
  type: dict
  contains:
    root: {description: Directory below which its files lie., type: str}
    catalog: {description: "UUID of the catalog, empty if there is none (yet).", type: str}
    transfer_key:
      description: The public half of its key. Empty without O(transfer_key), or if it is not there yet.
      type: str
      version_added: 0.2.0
    marks:
      description: The mark of each of O(nodes), by its name.
      returned: when O(state=present)
      type: dict
      version_added: 0.2.0
repaired:
  description: What was not as it follows from the virtual machines, a sentence for each.
  returned: when O(state=repaired)
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import frontend as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
