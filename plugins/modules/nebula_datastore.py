#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_datastore
short_description: Datastores of the catalog, and their directories
version_added: 0.2.0
description:
  - Registers datastores for images. Each is a directory below the root, C(datastores/ID). It may be a mount point, or a
    link that root made to another place, and is made where it is not there.
  - Every catalog has the datastores V(system) (0, disks of machines), V(default) (1, images) and V(files) (2, kernels,
    initrds and context files). Those that are made have ids from 100 on.
options:
  # begin: datastore.yml keys
  name:
    description: Name of the datastore.
    type: str
  type:
    description:
      - V(IMAGE) for disks, V(FILE) for images of the types C(KERNEL), C(RAMDISK) and C(CONTEXT). A new one is V(IMAGE)
        if nothing is said.
      - V(SYSTEM) for disks of machines. It is the type of datastore 0, which each host has for itself, and of those
        that are O(shared).
    type: str
    choices: [IMAGE, FILE, SYSTEM]
  capacity_check:
    description:
      - Whether an empty disk, and what a disk of a machine grows by, has to fit in full, though it takes no room yet.
        It is so if nothing is said.
      - What is stored has to fit in any case.
    type: bool
  shared:
    description:
      - Whether it is a system datastore that several hosts see, such as a directory of an NFS server. You mount it on
        each of them, where the host has its system datastore (C(datastores/0) below its root).
      - It is known by a mark, a file in it. No new machine is placed on a host of it that does not show the mark, and
        that host carries out no plan.
      - Machines move between its hosts without a copy of their disks.
    type: bool
    version_added: 0.2.0
  hosts:
    description:
      - Names of the hosts that have this O(shared) datastore. A host is in one at most, and those that are in none have
        datastore 0. A host on which machines are stays in it.
    type: list
    elements: str
    version_added: 0.2.0
  description:
    description: A description.
    type: str
  attributes:
    description: Attributes of your own. Those that are not given stay as they are, null takes one away.
    type: dict
  state:
    description: V(absent) removes one in which no images lie. Those of every catalog stay.
    type: str
    choices: [present, absent]
    default: present
  # end: datastore.yml keys
  datastores:
    description: Many datastores, a list of dicts with the keys above.
    type: list
    elements: raw
  nodes:
    description: Names of further hosts that O(hosts) may name, beside those of the catalog.
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
- name: A datastore on disks that are fast
  nebula.provision.nebula_datastore:
    name: fast
  register: made

- name: Where it is to be mounted
  ansible.builtin.debug:
    msg: "{{ made.datastore.path }}, {{ made.datastore.free }} MB free"

- name: A directory of an NFS server, which two hosts have mounted as their system datastore
  nebula.provision.nebula_datastore:
    name: nfs
    type: SYSTEM
    shared: true
    hosts: [node1, node2]

- name: Disks that are promised more than once
  nebula.provision.nebula_datastore:
    name: default
    capacity_check: false
"""

RETURN = r"""
datastore:
  description: The datastore, if one was asked for. The same keys as an item of RV(datastores).
  returned: when O(datastores) is not given and the datastore exists
  type: dict
datastores:
  description: The datastores of the list that exist, in its order.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for one that would be created., type: int}
    name: {description: Name., type: str}
    type: {description: Type., type: str, sample: IMAGE}
    capacity_check: {description: Whether empty disks have to fit., type: bool}
    description: {description: Description., type: str}
    shared:
      description: Whether it is a system datastore that several hosts see.
      type: bool
      version_added: 0.2.0
    hosts:
      description: Of a system datastore, the names of the hosts that have it.
      type: list
      elements: str
      version_added: 0.2.0
    images: {description: Number of images that lie there., type: int}
    attributes: {description: Attributes of your own., type: dict}
    path: {description: "Its directory, on the front-end or on hosts.", type: str}
    free: {description: MB that may still be written there. Null for one that hosts share., type: int}
    total: {description: MB of its file system. Null for one that hosts share., type: int}
catalog:
  description: UUID of the catalog.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import datastore as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
