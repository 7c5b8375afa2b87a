#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_template
short_description: Templates of virtual machines
version_added: 0.1.0
description:
  - Checks templates and stores them in the catalog. Machines are made of them by M(nebula.provision.nebula_vm).
  - A template is compared by its meaning. Another layout, another order, V(yes) for V(YES) or V(0.50) for V(0.5)
    change nothing.
  - Machines that were made of a template stay as they are when it changes, until M(nebula.provision.nebula_vm) is run
    for them.
options:
  # begin: template.yml keys
  name:
    description: Name of the template. Without it, the C(NAME) that is in the template itself.
    type: str
  template:
    description:
      - The template in OpenNebula's own text syntax, or a dict with the same meaning. In a dict a scalar is a single
        value, a dict is a vector, and a list repeats its attribute.
      - C(MEMORY) in MB, C(CPU) as a share of processors (V(0.5) is half a one, and a whole one the default), C(VCPU) as
        a number.
      - C(DISK) with C(IMAGE) or C(IMAGE_ID), or volatile with C(TYPE) (V(fs), V(swap)), C(SIZE) in MB, C(FS) and
        C(FORMAT) (V(raw), V(qcow2)); C(TARGET), C(DEV_PREFIX), C(DRIVER), C(READONLY), C(CACHE), C(IO), C(DISCARD) and
        the limits named like C(TOTAL_IOPS_SEC). C(SIZE) above the image's makes the disk larger, below it is an error.
      - C(NIC) with C(NETWORK) or C(NETWORK_ID), C(IP), C(MAC), C(MODEL), C(TARGET).
      - C(OS) with C(BOOT) (V(disk0,nic0), or the older V(hd,cdrom,network)), C(ARCH), C(MACHINE) (V(q35) is the default
        with KVM), C(KERNEL), C(INITRD), C(KERNEL_CMD), C(ROOT), C(FIRMWARE), C(FIRMWARE_SECURE), C(SD_DISK_BUS),
        C(UUID). C(KERNEL_DS) and C(INITRD_DS) name images.
      - C(GRAPHICS) with C(TYPE) (V(vnc), V(spice)), C(LISTEN) (V(127.0.0.1) is the default), C(PORT) (V(5900) to
        V(65535), free by default), C(PASSWD), C(RANDOM_PASSWD) (whether one is made up where there is none, V(YES) by
        default), C(KEYMAP).
      - C(INPUT), C(FEATURES), C(CPU_MODEL), C(RAW) and C(CONTEXT) as in OpenNebula. Other attributes are kept as your
        own; one that looks like a slip of a known one warns.
      - A template has to have something to boot from. That is a C(DISK) with an image, C(KERNEL) or the network.
      - C(CONTEXT_FORMAT), beside C(CONTEXT), says how the context is laid out on its medium. It is V(opennebula),
        V(configdrive) or V(nocloud). C(CONTEXT_DEVICE) says what the medium is to the guest, V(cdrom) or V(disk).
      - C(FILES) in C(CONTEXT) names files of the front-end, and C(http) and C(https) URLs. C(FILES_DS) names images of
        type CONTEXT.
      - YAML reads some values as something else. A MAC address of digits, a file mode and V(YES) are taken back where
        the attribute's name says what was meant; V(1.10) and others are errors that name the quotes to add.
    type: json
  template_file:
    description:
      - Path of a file that holds the template in OpenNebula's text syntax.
      - An absolute path is on the front-end. A relative one is on the control node, and looked for beside the
        inventory, then beside the playbook, then in the working directory, and in C(files/) of each.
    type: path
  state:
    description: V(absent) removes the template. Its machines stay.
    type: str
    choices: [present, absent]
    default: present
  strict:
    description:
      - Whether an attribute that looks like a slip of a known one, or a key that a known vector does not have, is an
        error and not a warning.
    type: bool
    default: false
  # end: template.yml keys
  templates:
    description:
      - Many templates, a list of dicts with the keys above.
      - It is taken as JSON text, so that secrets in contexts reach no log.
    type: json
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: A template in OpenNebula's syntax
  nebula.provision.nebula_template:
    name: web
    template: |
      CPU     = 0.5
      MEMORY  = 512
      DISK    = [ IMAGE = "debian" ]
      NIC     = [ NETWORK = "Public" ]
      CONTEXT = [ NETWORK = "YES", HOSTNAME = "$NAME" ]

- name: The same as a dict
  nebula.provision.nebula_template:
    name: web
    template:
      CPU: 0.5
      MEMORY: 512
      DISK: [{IMAGE: debian}]
      NIC: {NETWORK: Public}
      CONTEXT: {NETWORK: true, HOSTNAME: $NAME}

- name: Many, one of them from a file on the control node
  nebula.provision.nebula_template:
    templates:
      - name: web
        template_file: templates/web.tmpl
      - name: old
        state: absent
"""

RETURN = r"""
template:
  description: The template, if one was asked for and it is there. The same keys as an item of RV(templates).
  returned: when O(templates) is not given
  type: dict
templates:
  description: The templates of the list that are there now.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id. Null in check mode for one that would be created., type: int}
    name: {description: Name., type: str}
    registered: {description: Seconds since 1970 when it was first stored., type: int}
    cpu: {description: Share of processors as the template has it., type: str}
    vcpu: {description: Virtual processors as the template has it., type: str}
    memory: {description: Memory in MB as the template has it., type: str}
    disks: {description: Image or type and size in MB of each disk., type: list, elements: dict}
    nics: {description: Network of each interface., type: list, elements: dict}
    attributes:
      description:
        - The whole template as a dict. The values of C(CONTEXT), C(RAW) and of passwords are not shown.
      type: dict
errors:
  description:
    - The items that failed, with C(name), C(asked), C(found) and C(remedy). Nothing was kept of them; the others were
      done.
  returned: on failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import template as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
