#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_deploy
short_description: Observe a node, or carry a plan out on it
version_added: 0.1.0
description:
  - With O(state=polled) says what really runs on this node. Nothing is changed.
  - With O(state=audited) says besides, for an audit, all that carries a mark of this collection there. Nothing is
    changed.
  - With O(state=compared) says besides in what the virtual machines that are to be adopted differ from what O(plan)
    says of them. Nothing is changed.
  - With O(state=applied) does what the front-end decided for this node, for all virtual machines of the plan at once.
    Disks, context ISO, deployment file, and the state that is wanted.
  - Applying a plan again changes nothing. A plan older than what the node has seen is refused, and so is one of another
    catalog. What is not marked as this catalog's is never touched. A plan without virtual machines does just that.
  - A virtual machine that fails does not stop the others. The task fails at the end, with RV(outcomes) of all.
options:
  state:
    description:
      - V(polled), V(audited) and V(compared) read. V(applied) carries O(plan) out.
      - V(compared) is there since 0.2.0.
    type: str
    choices: [polled, applied, audited, compared]
    default: polled
  plan:
    description:
      - The plan, one of RV(nebula.provision.nebula_vm#module:plans).
      - A dict or its JSON text. It may hold secrets and is never logged.
    type: json
  host:
    description:
      - The name of this node in the catalog. A plan for another one is refused.
    type: str
    required: true
  catalog:
    description:
      - UUID of the catalog whose virtual machines are to be found with O(state=polled) or O(state=audited).
      - That of the last plan carried out here, if it is not set.
    type: str
  hypervisor:
    description: What runs virtual machines on this node.
    type: str
    choices: [kvm, lxc, openvz, xen, xen_libvirt]
    default: kvm
  threads:
    description:
      - How many virtual machines are built at the same time.
      - Without it, or with V(0), twice the number of processors, 2 at least and 8 at most.
    type: int
    default: 0
  detach_timeout:
    description:
      - Seconds that the guest of a running virtual machine has to let go of a disk or NIC that it is to have no more.
      - If it does not, it keeps the device, and that machine alone fails.
    type: int
    default: 60
    version_added: 0.2.0
  safe_dirs:
    description: Directories below those of O(restricted_dirs) from which virtual machines boot all the same.
    type: list
    elements: path
    default: []
    version_added: 0.2.0
  restricted_dirs:
    description:
      - Directories of the node from which nothing is booted that KERNEL, INITRD or FIRMWARE name by its path. Symbolic
        links are followed before a path is looked at.
      - What is restricted besides, and what is not, is the same as with M(nebula.provision.nebula_image).
    type: list
    elements: path
    default:
      - /etc
      - /proc
      - /sys
      - /dev
      - /run
      - /var/lib/libvirt
      - /var/cache/libvirt
      - /var/log/libvirt
      - /var/lib/xen
      - /var/log/xen
    version_added: 0.2.0
extends_documentation_fragment:
  - nebula.provision.engine.root
  - nebula.provision.progress
  - nebula.provision.attributes
attributes:
  check_mode:
    details:
      - What is found on the node is compared with the plan. Nothing is tried, so an error that only the hypervisor
        would tell is not foreseen.
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: What runs here?
  nebula.provision.nebula_deploy:
    host: "{{ inventory_hostname }}"
  register: polled

- name: Carry the plan out
  nebula.provision.nebula_deploy:
    state: applied
    host: "{{ inventory_hostname }}"
    plan: "{{ decided.plans[inventory_hostname] }}"
  no_log: true
"""

RETURN = r"""
observed:
  description: The node as it is, after what was done.
  returned: success, and when virtual machines failed
  type: dict
  contains:
    host: {description: The node's name in the catalog., type: str}
    hypervisor: {description: What runs virtual machines here., type: str}
    reached: {description: Always true., type: bool}
    catalog: {description: UUID of the catalog that the node follows., type: str}
    plan_number: {description: Number of the last plan that the node accepted., type: int}
    plan_proof:
      description: What came with that plan, by which the node shows that it was given it.
      type: str
      version_added: 0.2.0
    done_number: {description: Number of the last plan that the node carried out to its end., type: int}
    memory: {description: The node's memory in MiB., type: int}
    cpu: {description: Its processors., type: float}
    foreign_memory: {description: MiB held by running virtual machines that are not the catalog's., type: int}
    foreign_ids:
      description:
        - Ids of virtual machines whose name or directory on this node is somebody else's. New machines get other ids.
      type: list
      elements: int
      version_added: 0.2.0
    ports:
      description: TCP ports from 5900 up that something else than the catalog's virtual machines listens on.
      type: list
      elements: int
    vms:
      description: The catalog's virtual machines on this node.
      type: list
      elements: dict
      contains:
        vm_id: {description: Id., type: int}
        uuid: {description: UUID., type: str}
        state: {description: "V(RUNNING), V(POWEROFF), V(SUSPENDED) or V(UNKNOWN).", type: str}
        generation: {description: The last decision about it that was acted on here., type: int}
        cpu_time: {description: "Processor time since it was started, in seconds.", type: float}
        memory: {description: "Memory that it holds, in MiB.", type: int}
        ended:
          description:
            - V(guest) for one in V(POWEROFF) that its guest ended itself, by switching off, or by a reboot where that
              ends the machine.
            - V(unknown) for one in V(POWEROFF) of which nothing tells, because it was never started, or because the
              hypervisor's log of its end is gone.
            - Empty for all others, which were ended from outside or went down with their host.
          type: str
          version_added: 0.2.0
    as_of: {description: "When this was seen, in seconds since 1970.", type: int}
    contents:
      description: SHA-256 of each file for contexts that is kept on this node.
      type: list
      elements: str
      version_added: 0.2.0
    networks:
      description:
        - UUIDs of the catalog's networks whose bridge is on this node. Null if nothing tells that, as in check mode.
      type: list
      elements: str
      version_added: 0.2.0
    facts: {description: Whether KVM works here (accelerator) and how that is known (reason)., type: dict}
    inventory:
      description:
        - Domains, directories, bridges and nftables rules of this collection, whichever catalog's they are.
        - Null unless O(state=audited) or O(state=compared).
      type: dict
    compared:
      description: For each virtual machine of O(plan) that is to be adopted, in what it differs from what is there.
      type: list
      elements: dict
      version_added: 0.2.0
      contains:
        vm_id: {description: Id., type: int}
        uuid: {description: UUID., type: str}
        generation: {description: The last decision about it that was acted on here., type: int}
        differences: {description: A sentence for each difference., type: list, elements: str}
outcomes:
  description: What became of each virtual machine of the plan, in the plan's order.
  returned: when O(state=applied)
  type: list
  elements: dict
  contains:
    vm_id: {description: Id., type: int}
    generation: {description: The decision that was acted on., type: int}
    state:
      description: The state as its hypervisor shows it, or V(PROLOG_FAILURE), V(BOOT_FAILURE), V(EPILOG_FAILURE).
      type: str
    changed: {description: Whether anything of it was changed., type: bool}
    error: {description: "What went wrong: kind, asked, found and remedy. Null if nothing did.", type: dict}
    log: {description: The last lines of its log of this run., type: list, elements: str}
    tasks:
      description:
        - What became of each thing that was to be done with its disks, with C(token), C(error), and of a saved disk
          C(size) in MiB and C(format).
      type: list
      elements: dict
      version_added: 0.2.0
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import deploy as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
