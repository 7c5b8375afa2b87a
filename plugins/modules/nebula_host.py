#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_host
short_description: Hosts of the catalog
version_added: 0.1.0
description:
  - Registers hosts, with what they have, for virtual machines to be placed on. Begins the catalog where there is none.
  - It does nothing on the hosts themselves. M(nebula.provision.nebula_node) prepares them.
options:
  # begin: host.yml keys
  name:
    description: Name of the host, as in the inventory.
    type: str
  hypervisor:
    description: What runs machines there.
    type: str
    choices: [kvm, lxc, openvz, xen, xen_libvirt]
    default: kvm
  memory:
    description: Memory in MiB that the host has.
    type: int
  cpu:
    description: Processors that the host has.
    type: float
  transfer:
    description:
      - How files of images get there. V(shared) for a host that has the front-end's datastores, V(ssh) for one that
        each file is sent to. M(nebula.provision.nebula_node) tells it.
      - It can't be changed while the host has virtual machines.
    type: str
    choices: [shared, ssh]
    version_added: 0.2.0
  reserved_memory:
    description: Memory in MiB that is kept from machines, for the host itself.
    type: int
  memory_overcommit:
    description: How often the memory may be promised. 1 promises none twice.
    type: float
  cpu_overcommit:
    description: How often the processors may be promised.
    type: float
  overhead:
    description:
      - What each machine takes of the host beside its own memory, as M(nebula.provision.nebula_node) returns it. A
        machine is placed where its memory and this fit.
    type: dict
    version_added: 0.2.0
  hardware:
    description:
      - What machines can have of the host to themselves, as M(nebula.provision.nebula_node) returns it. Processors,
        memory and huge pages for C(TOPOLOGY), devices for C(PCI), and encryption for C(MEMORY_ENCRYPTION).
    type: dict
    version_added: 0.2.0
  attributes:
    description:
      - Attributes of your own.
      - C(ISOLCPUS), numbers of processors with commas between them, keeps these from machines with a C(PIN_POLICY).
    type: dict
  catalog:
    description:
      - UUID of the catalog whose marks were found on the host, as M(nebula.provision.nebula_node) returns it. Empty if
        there were none.
      - Marks of another catalog than this one are an error; a lost or older catalog must not take over what a newer one
        made.
    type: str
  mark:
    description:
      - The mark by which the catalog knows the host, as M(nebula.provision.nebula_node) found it there. If it is that
        of another host of the catalog, both are one host, and this name is refused, unless O(renamed_from).
    type: str
    version_added: 0.2.0
  machine_id:
    description:
      - A digest of the host's machine id, as M(nebula.provision.nebula_node) returns it. It is a hint only. A warning
        names hosts of equal ids, which may be clones.
    type: str
    version_added: 0.2.0
  renamed_from:
    description:
      - The name that the host had before. With that name's O(mark), the catalog's host has the new name from now on,
        with its virtual machines and their history. It is refused while the former name is one of O(nodes).
      - Of a host that was renamed already it has no effect.
    type: str
    version_added: 0.2.0
  state:
    description:
      - V(disabled) keeps new machines from the host; those that are there go on. V(enabled) ends that, V(present)
        leaves it as it is.
      - V(absent) removes a host that has no machines.
      - V(lost) gives one up that does not come back, and all that the catalog has of its machines. Nobody ends these.
        Their addresses are held until the host was seen without them, and persistent images on datastores that it
        shared are DISABLED, unless O(gone).
    type: str
    choices: [present, enabled, disabled, absent, lost]
    default: present
  gone:
    description:
      - With O(state=lost), whether the host is gone for good, so that its machines run nowhere and never will. Then
        their addresses are free at once, and nothing of theirs is kept from others.
      - It can be said of a host that was given up before, too.
    type: bool
    default: false
    version_added: 0.2.0
  # end: host.yml keys
  hosts:
    description: Many hosts, a list of dicts with the keys above.
    type: list
    elements: raw
  nodes:
    description: The names of all nodes of the inventory. No host is renamed that is still in it by its former name.
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
- name: A host of 8 GiB
  nebula.provision.nebula_host:
    name: node1
    memory: 8192
    cpu: 4
    reserved_memory: 512

- name: One that burnt down, with all its machines
  nebula.provision.nebula_host:
    name: node7
    state: lost
    gone: true

- name: No more machines there
  nebula.provision.nebula_host:
    name: node1
    state: disabled
"""

RETURN = r"""
host:
  description: The host, if one was asked for.
  returned: when O(hosts) is not given
  type: dict
hosts:
  description: The hosts of the list.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for one that would be created., type: int}
    name: {description: Name., type: str}
    state: {description: State., type: str, sample: MONITORED}
    memory: {description: Memory in MiB., type: int}
    memory_used: {description: Memory in MiB that machines were promised., type: int}
    overhead_used: {description: "MiB that the hypervisor takes for these machines besides, at most.", type: int}
    vms: {description: Number of machines., type: int}
freed:
  description: Addresses that were held for machines of hosts given up before, and that O(gone) made free.
  returned: always
  type: list
  elements: str
  version_added: 0.2.0
catalog:
  description: UUID of the catalog.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import host as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
