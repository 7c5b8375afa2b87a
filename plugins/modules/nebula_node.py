#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_node
short_description: Make a node ready for virtual machines, or give it back
version_added: 0.1.0
description:
  - Makes the directories that virtual machines live in, sees that libvirt runs, and finds out whether KVM works.
  - A F(/dev/kvm) proves nothing, it may hang or refuse. So a guest of a few bytes is booted with it under a time limit,
    as the user that QEMU runs as. The finding is kept until the node is rebooted, or QEMU or F(/dev/kvm) change.
  - Where neither systemd nor another service manager is, C(virtlogd) and C(libvirtd) are started by this module. It
    remembers them, and O(state=absent) ends exactly these.
  - Where systemd is, libvirt's units are started if they do not run, and C(libvirtd.service) is enabled if it does not
    start with the host, since no machine would either. O(state=absent) stops and disables what this switched on.
  - Where no udev is, F(/dev/kvm) gets the group and mode that udev would give it. O(state=absent) puts them back.
  - It installs nothing. Role P(nebula.provision.node#role) does.
options:
  state:
    description:
      - V(absent) is refused while virtual machines are there, with or without their disks. Then it removes what
        V(present) made, as far as it is empty.
    type: str
    choices: [present, absent]
    default: present
  hypervisor:
    description:
      - What runs virtual machines on this node. V(xen) makes them by C(xl), V(xen_libvirt) by libvirt.
      - V(lxc) makes containers by libvirt. V(openvz) makes them by C(vzctl), which no distribution brings; OpenVZ
        has it in a repository of its own.
    type: str
    choices: [kvm, lxc, openvz, xen, xen_libvirt]
    default: kvm
  accelerator:
    description:
      - V(auto) finds out whether KVM works, and falls back to emulation with a warning that says why it doesn't.
      - V(kvm) and V(qemu), which is emulation, are taken without a look.
    type: str
    choices: [auto, kvm, qemu]
    default: auto
  manage_services:
    description: Whether libvirt's daemons are started if they do not run, or would not with the host.
    type: bool
    default: true
  luks_secrets:
    description:
      - The passphrases of encrypted images, a list of dicts with C(uuid) (of the libvirt secret, as the image's
        C(luks_secret) names it) and C(passphrase).
      - Each becomes a secret of libvirt that nobody can read back, and is marked as this node's. Those that are marked
        so and not in the list are removed; one that a machine here needs is refused.
      - Without this option they are left as they are. O(state=absent) removes them.
      - It is taken as JSON text, so that no passphrase reaches a log.
    type: json
    version_added: 0.2.0
  transfer:
    description:
      - How files of images get here.
      - V(shared) if the front-end's datastores are here, since this host is the front-end or mounts them under the same
        path. V(ssh) if the front-end is to send each file, and to fetch what machines wrote.
      - V(auto) is V(shared) if the datastore of the catalog is here, else V(ssh).
      - With V(ssh) there is a user C(nebula), whom the front-end's key lets in, to exchange files below C(transfer) in
        O(root) and nothing else. O(state=absent) removes both, and is refused while something is to be fetched.
    type: str
    choices: [auto, shared, ssh]
    default: shared
    version_added: 0.2.0
  transfer_key:
    description: The front-end's public key, as M(nebula.provision.nebula_frontend) returned it.
    type: str
    version_added: 0.2.0
  catalog:
    description:
      - UUID of the catalog that this node follows from now on. A node that follows another one is refused.
      - With O(state=absent), the catalog whose machines have ended. Without it, the one that this node follows; empty
        for none, so that a node that follows one is refused.
    type: str
  mark:
    description:
      - The mark by which the catalog is to know this host, as M(nebula.provision.nebula_frontend) returned it. A host
        that has one keeps that. Only root reads it there.
      - It is not reported as a change.
    type: str
    version_added: 0.2.0
  datastores:
    description:
      - The list of datastores, as M(nebula.provision.nebula_datastore) takes it. If it gives this host a system
        datastore that several hosts share, and that is mounted here and has no mark yet, the mark is written. By it
        each of these hosts is known to see the same directory.
    type: list
    elements: raw
    default: []
    version_added: 0.2.0
  host:
    description: The name of this host in O(datastores).
    type: str
    version_added: 0.2.0
extends_documentation_fragment:
  - nebula.provision.engine.root
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Make the node ready
  nebula.provision.nebula_node:
  become: true

- name: Let it open an encrypted image
  nebula.provision.nebula_node:
    luks_secrets:
      - uuid: 9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11
        passphrase: "{{ vaulted_passphrase }}"
  become: true

- name: Give it back
  nebula.provision.nebula_node:
    state: absent
  become: true
"""

RETURN = r"""
node:
  description: The node. With O(state=absent) only its hypervisor.
  returned: success
  type: dict
  contains:
    hypervisor: {description: What runs virtual machines here., type: str}
    accelerator: {description: "V(kvm), or V(qemu) for emulation. Empty if it can't be known yet.", type: str}
    reason: {description: How that is known., type: str}
    memory:
      description:
        - Memory in MiB that machines could have. That is the host's, or what a container was limited to, without what
          is set aside as huge pages.
      type: int
    overhead:
      description:
        - What a machine takes of the host beside its own memory, at most. C(fixed) MiB, C(vcpu) MiB for each virtual
          processor, and the part C(share) of its memory.
      type: dict
      version_added: 0.2.0
    hardware:
      description:
        - What machines can have of it to themselves.
        - C(nodes) are its nodes of memory and processors (NUMA). Each has a C(number), C(memory) in MiB without what
          is set aside as huge pages, C(cores) as lists of numbers of processors, C(pages) as numbers of huge pages by
          their MiB, and C(distances).
        - C(iommu) is whether it has an IOMMU. C(devices) are those of PCI behind it, with C(address), C(vendor),
          C(device), C(device_class) and C(driver).
        - C(encryption) is how memory of machines can be encrypted.
      type: dict
      version_added: 0.2.0
    cpu: {description: Processors., type: float}
    versions: {description: Versions of what runs virtual machines here. Empty for what is not installed., type: dict}
    started: {description: The daemons that this run started or enabled itself., type: list, elements: str}
    catalog: {description: UUID of the catalog whose marks are here. Empty if there are none., type: str}
    root: {description: The directory that virtual machines live below., type: str}
    transfer:
      description: How files of images get here, V(shared) or V(ssh).
      type: str
      version_added: 0.2.0
    host_keys:
      description: The public host keys of its ssh server.
      type: list
      elements: str
      version_added: 0.2.0
    mark:
      description: The mark by which the catalog knows this host, under whatever name. Empty if it has none.
      type: str
      version_added: 0.2.0
    machine_id:
      description: A digest of its F(/etc/machine-id). Empty if it has none.
      type: str
      version_added: 0.2.0
  sample:
    hypervisor: kvm
    accelerator: kvm
    reason: a guest booted with it in 0.3 s as user libvirt-qemu
    memory: 64221
    overhead: {fixed: 64, vcpu: 4, share: 0.00390625}
    hardware:
      nodes:
        - {number: 0, memory: 32110, cores: [[0, 8], [1, 9]], pages: {}, distances: [10, 21]}
        - {number: 1, memory: 31087, cores: [[4, 12], [5, 13]], pages: {"2": 512}, distances: [21, 10]}
      iommu: true
      devices:
        - {address: "0000:3b:00.0", vendor: 10de, device: 1eb8, device_class: "0302", driver: vfio-pci}
      encryption: []
    cpu: 16.0
    versions: {qemu: 7.2.22, libvirt: 9.0.0}
    started: []
    catalog: 0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10
    root: /var/lib/nebula
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import node as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
