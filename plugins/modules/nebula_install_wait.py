#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_install_wait
short_description: Wait until installations are at their ends
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Watches virtual machines that install an operating system, on the node where they run, and waits for all of them at
    once. Role C(install_os) uses it.
  - An installation is at its end when its guest has ended the machine (by switching off, or by a reboot where that ends
    it), or when a line of the console since the last start matches a pattern.
  - Where C(marker) is set, a guest that ends its machine must have said C(nebula-install:) C(finished) on its serial
    console before. Without it the installation has failed.
  - Where C(keys) is set, a key is pressed once a second as long as nothing is written, for at most a minute. The ISO of
    Windows asks for one. It is only done where C(fresh) says that the machine was started by this run.
  - A hypervisor that does not answer is asked again for a minute.
  - A machine that was ended by somebody else, that is gone, that said what no installer recovers from, or that takes
    too long fails the task, after all others were waited for. Nothing is done to any machine.
  - In check mode it looks once, and nothing fails. What would is warned of, but for what takes too long.
options:
  installs:
    description: The installations, a list of dicts as M(nebula.provision.nebula_install) returns them (C(waits)).
    type: list
    elements: dict
    required: true
  vms:
    description:
      - Their virtual machines, as M(nebula.provision.nebula_vm_record) returns them. Installations without a machine in
        this list are left out.
    type: list
    elements: dict
    required: true
  catalog:
    description: UUID of the catalog that the machines belong to.
    type: str
    required: true
  hypervisor:
    description: What runs the machines of this node.
    type: str
    choices: [kvm, lxc, openvz, xen, xen_libvirt]
    default: kvm
extends_documentation_fragment:
  - nebula.provision.engine.unused
  - nebula.provision.attributes.info
  - nebula.provision.progress
"""

EXAMPLES = r"""
- name: Wait for the installations of this node
  nebula.provision.nebula_install_wait:
    installs: "{{ prepared.waits }}"
    vms: "{{ __nebula_vm_records | selectattr('host', 'eq', inventory_hostname) }}"
    catalog: "{{ prepared.catalog }}"
"""

RETURN = r"""
waited:
  description: What became of each installation that has a machine here.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the image that is installed., type: str, sample: debian12}
    vm_id: {description: Id of its machine., type: int, sample: 3}
    installed: {description: Whether it is at its end., type: bool, sample: true}
    how: {description: How that is known., type: str, sample: its guest ended the machine}
    seconds: {description: Seconds that it was watched., type: float, sample: 11.5}
    percent: {description: How much of the disk was written., type: int, sample: 12}
    last_lines:
      description: The last lines of the console, up to 20, where it has failed.
      type: list
      elements: str
errors:
  description: The installations that failed, with C(name), C(asked), C(found) and C(remedy).
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import install_wait as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
