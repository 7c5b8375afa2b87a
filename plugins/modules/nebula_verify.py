#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_verify
short_description: Wait until guests are up and contextualised, by their own signs
version_added: 0.1.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Waits for the guests of virtual machines on the node where it runs, for all of them at once, until something is
    found by which they are believed. One of the ways of O(by) is enough.
  - V(console), lines of the serial console since the last start. The guest of M(nebula.provision.nebula_demo_image), or
    one with the program of role C(guest_context), has to report that it is ready, without an error, with the wanted
    name and addresses. As it also tells what goes wrong, nothing else counts once it has begun to report. cloud-init
    has to show the wanted addresses in its table of network devices (C(ci-info)), and the login prompt the wanted name;
    where no address is wanted, cloud-init has to name its datasource OpenNebula.
  - V(login), a login prompt on the serial console since the last start with the machine's host name, or with its name
    where it is told no host name. Where cloud-init shows other addresses than those that are wanted, it is not enough.
  - V(agent), the QEMU guest agent, with the wanted host name, and with the wanted addresses where it tells addresses.
    Hypervisor kvm has that.
  - V(address), an answer from the machine's own MAC address, and from no other, for each address that the guest is told
    of, on the node's bridge. Asked is by raw frames (ARP; for IPv6 neighbour solicitation), so that the node needs no
    address there. A guest that may take the MAC address of another on the same bridge is taken for it.
  - For any guest a pattern can be given. It then decides alone.
  - A guest that is not believed in time fails the task, after all others were waited for. The message names what was
    tried, what was found by each way, and the options, and shows the last lines of the console. They are the guest's
    own words and may hold what a script of the context printed. Characters that do not print are escaped.
  - Who was believed by the console is remembered beside it (C(.verified)) until M(nebula.provision.nebula_deploy)
    starts or reboots the machine, since consoles rotate. It counts only where the log no longer holds the beginning of
    a boot, and for the same name, addresses and pattern.
  - In check mode consoles are read once, nobody else is asked, and nothing fails.
options:
  vms:
    description:
      - The machines, a list of dicts as M(nebula.provision.nebula_vm_record) returns them, or its JSON. Further keys
        are ignored, and so are machines without a console, as check mode predicts them.
      - C(id) and C(name) are for messages and results.
      - C(console), the path of the log. Rotated logs beside it (C(.0) to C(.2)) are read too.
      - C(hostname), the wanted host name, with or without domain. Empty for any.
      - C(addresses), the wanted IP addresses. Null for a machine without context, which is waited for only if it has a
        pattern.
      - C(nic_aliases), a list of dicts with C(parent_id) (C(nic_id) of one of C(nics)), C(ip), C(ip6) and C(ip6_ula).
      - C(nics), a list of dicts with C(bridge), C(mac), C(ip), C(ip6) and C(ip6_ula). Without it no address is asked
        for.
      - C(hypervisor) and C(uuid), for its guest agent.
    type: json
    required: true
  timeout:
    description: Seconds to wait, for all machines together.
    type: int
    default: 180
  pattern:
    description:
      - Regular expression that one line of the console since the last boot has to match.
      - C({name}), C({hostname}) and C({ip}) (the first address) stand for those of the machine.
    type: str
    default: ""
  patterns:
    description: Such regular expressions by the name of the machine. They go before O(pattern).
    type: dict
    default: {}
  by:
    description: What counts. One of it is enough. Machines with a pattern are believed by that alone.
    type: list
    elements: str
    choices: [console, login, agent, address]
    default: [console, login, agent, address]
    version_added: 0.2.0
extends_documentation_fragment:
  - nebula.provision.engine.unused
  - nebula.provision.attributes.info
  - nebula.provision.progress
"""

EXAMPLES = r"""
- name: Wait for the guests
  nebula.provision.nebula_verify:
    vms:
      - id: 0
        name: web-0
        console: /var/lib/nebula/datastores/0/0/console.log
        hostname: web-0
        addresses: [10.66.0.10]

- name: Wait for a login prompt
  nebula.provision.nebula_verify:
    vms: "{{ __nebula_vm_records }}"
    by: [login]
    timeout: 300

- name: Wait for an application's own word
  nebula.provision.nebula_verify:
    vms: "{{ __nebula_vm_records }}"
    pattern: "^{name}: ready to serve"
"""

RETURN = r"""
vms:
  description: What became of each machine, in the order of O(vms).
  returned: always
  type: list
  elements: dict
  contains:
    vm_id: {description: Id of the machine., type: int, sample: 0}
    name: {description: Its name., type: str, sample: web-0}
    verified: {description: Whether its guest was believed., type: bool, sample: true}
    seconds: {description: Seconds until it was believed or given up., type: float, sample: 3.2}
    evidence:
      description: What it was believed by, V(console), V(login), V(agent) or V(address). Empty if nothing convinced.
      type: str
      sample: console
    said:
      description: What convinced, in words. Empty if nothing did.
      type: str
      sample: "nebula-guest: web-0, 10.66.0.10/24"
    missing:
      description: What the guest did not say on its console. Empty if it was believed.
      type: list
      elements: str
    tried:
      description: What was found by each way that counts, where the guest was not believed.
      type: dict
      sample: {address: "nobody answers for 10.66.0.10 on onebr0"}
    last_lines:
      description: The last lines of the console, up to 20, where the guest was not believed.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import verify as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
