#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_info
short_description: What the catalog holds
version_added: 0.1.0
description:
  - Returns hosts, images, networks with their leases, templates and virtual machines. It changes nothing.
  - Given what the nodes answered when polled, it shows states as they are now, without recording them.
  - With V(consistency) it compares catalog, image datastore and nodes, and names each difference with its remedy.
options:
  gather:
    description:
      - What to return.
      - V(consistency) wants as O(observed) what the nodes answered to
        O(nebula.provision.nebula_deploy#module:state=audited).
    type: list
    elements: str
    choices:
      [hosts, datastores, images, networks, security_groups, routers, leases, templates, vms, history, consistency]
    default: [hosts, images, networks, vms]
  vms:
    description: Names of virtual machines to return. Without it, all.
    type: list
    elements: str
  done:
    description: Whether to return machines that have ended, too.
    type: bool
    default: false
  observed:
    description: What the nodes answered when polled.
    type: list
    elements: dict
  deep:
    description:
      - With V(consistency) in O(gather), whether to compare the content of images with the hash taken when they were
        stored. That reads all of them.
    type: bool
    default: false
    version_added: 0.2.0
  _packed:
    description:
      - Whether all is returned as one text, which takes Ansible far less time where there are many machines. The
        inventory plugin asks for that.
      - It is not for playbooks.
    type: bool
    default: false
    version_added: 0.2.0
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes.info
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: All machines
  nebula.provision.nebula_info:
    gather: [vms]
  register: info

- name: Their addresses
  ansible.builtin.debug:
    msg: "{{ info.vms | items2dict(key_name='name', value_name='ip') }}"

- name: Is everything as it should be?
  nebula.provision.nebula_info:
    gather: [consistency]
    observed: "{{ [audited.observed] }}"
"""

RETURN = r"""
hosts:
  description:
    - The hosts, with C(state), and with C(error), which is what a host that was polled and gave no answer said instead,
      its hypervisor's words included. Such a host is in C(ERROR), unless it is C(DISABLED).
  returned: if gathered
  type: list
  elements: dict
datastores:
  description:
    - The datastores, with C(path), and C(free) and C(total), the MB of their file systems. On a node that is not the
      front-end, the file system of C(system) is another one.
  returned: if gathered
  type: list
  elements: dict
images:
  description: The images.
  returned: if gathered
  type: list
  elements: dict
networks:
  description:
    - The virtual networks, with C(size), the number of their addresses, C(used), how many of them are leased or held,
      and C(held), how many are held.
  returned: if gathered
  type: list
  elements: dict
security_groups:
  description: The security groups, with the keys that M(nebula.provision.nebula_security_group) returns.
  returned: if gathered
  type: list
  elements: dict
routers:
  description:
    - The routers, with the keys that M(nebula.provision.nebula_router) returns. Interfaces and gateway also have
      C(network), and floating addresses C(internal_ip), the machine's own address, empty where there is no machine.
    - C(addresses) has all of its addresses in one list, with C(router), C(what), C(network), C(ip), C(vm) and
      C(internal_ip).
  returned: if gathered
  type: list
  elements: dict
leases:
  description:
    - The addresses that nobody else gets, with C(network), C(ip), C(ip6), C(mac), C(vm_id), C(vm) and C(nic_id).
    - C(held) says why an address is held that no machine has, or not for long. It may be of a machine that was given up
      with its host, is being ended or made anew, or that a restored catalog does not know (C(vm) is empty then).
  returned: if gathered
  type: list
  elements: dict
templates:
  description: The templates.
  returned: if gathered
  type: list
  elements: dict
vms:
  description:
    - The virtual machines, as M(nebula.provision.nebula_vm) shows them.
    - Each has its C(labels), too, which are the words of the attribute C(LABELS), and the C(attributes) of the template
      that it was made from. Values of contexts and of secret attributes are not among them.
  returned: if gathered
  type: list
  elements: dict
history:
  description: For each machine, by its id, what happened to it.
  returned: if gathered
  type: dict
consistency:
  description: How catalog, image datastore and nodes differ. Empty if nothing does.
  returned: if gathered
  type: list
  elements: dict
  contains:
    kind: {description: What kind of difference it is. One word., type: str}
    severity:
      description:
        - V(difference) if something is lost, left over or not what the catalog says.
        - V(unfinished) if a decision was not carried out yet.
      type: str
    host: {description: The host where it was found. Empty for the front-end., type: str}
    object: {description: What differs., type: str}
    found: {description: What is the case., type: str}
    remedy: {description: What to do., type: str}
    sentence: {description: All of it in one sentence., type: str}
foreign:
  description:
    - Of each host that was polled and follows another catalog, or has machines that are not the catalog's, its name
      (C(host)), the catalog that it follows (C(catalog)), and the MiB of these machines (C(foreign_memory)).
  returned: always
  type: list
  elements: dict
  version_added: 0.2.0
refused_answers:
  description:
    - By host, why what it answered in O(observed) was refused. It counts as a host that did not answer, and what is
      returned of other hosts is not concerned.
  returned: always
  type: dict
  version_added: 0.2.0
catalog:
  description: UUID of the catalog. Empty where there is none in O(root) yet.
  returned: always
  type: str
as_of:
  description:
    - When the states of virtual machines were seen, in seconds since the epoch. The oldest of all polls; 0 without
      one.
  returned: always
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import info as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
