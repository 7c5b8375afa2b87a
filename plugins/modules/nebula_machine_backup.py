#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_machine_backup
short_description: Back up the disks of virtual machines
version_added: 0.2.0
description:
  - Writes the disks of virtual machines to a directory of backups, all disks of a machine as they are at one moment,
    while the machine runs or is off. What a backup is made of, its checksums and the machine's definition are in a
    manifest beside it, with the commands that restore the disks without this collection.
  - A machine's first backup has all of its disks, the following ones what was written since, as long as its hypervisor
    knows that. Else the next one is a full one, and says why.
  - On the front-end O(state=chosen) chooses the machines, and returns what each host is asked for. With
    O(state=present) each host carries that out, the front-end and the hosts whose machines it reads in the same task.
    Playbook C(nebula.provision.backup_machines) calls both.
  - Secrets of a machine's template (passwords, any variable of its context that is not known to be none) are not in a
    backup; their names are. With O(key) they are in it, under that key.
  - In check mode O(state=present) says which machines would be backed up, and writes nothing.
options:
  state:
    description:
      - V(present) makes the backups of O(requests) on this host.
      - V(chosen) is called on the front-end. It writes nothing.
      - V(verified) reads all of the backups of O(requests) and compares them with their checksums. Where a request
        names no machine, it reads all that lie in the directory, also those of machines of other catalogs.
      - V(pruned) removes backups of these machines by the rules of O(keep). What others rest on is merged before.
    type: str
    choices: [present, chosen, verified, pruned]
    default: present
  purpose:
    description:
      - With O(state=chosen), what the machines are chosen for. For V(verified) it does not matter in which state a
        machine is, and where none is named, all that lies in the directory is read.
    type: str
    choices: [present, verified]
    default: present
  vms:
    description:
      - Names and patterns of the shell (C(web-*)), with commas or blanks between them, or a list. Without it all.
    type: raw
  owner:
    description: Only the machines of this owner, by name or pattern.
    type: str
  of_hosts:
    description: Only the machines on these hosts, by names or patterns.
    type: list
    elements: str
    default: []
  observed:
    description: What nodes answered to polls, as M(nebula.provision.nebula_vm) takes it.
    type: json
  hosts:
    description: Names of the hosts that take part in this run. Machines of others are named as left out.
    type: list
    elements: str
  frontend:
    description: Name of the front-end, as the catalog has it if it is a node as well.
    type: str
    default: ""
  frontend_acts:
    description: Whether the front-end is one of the hosts on which the task is carried out that makes the backups.
    type: bool
    default: false
  forks:
    description: On how many hosts Ansible acts at a time.
    type: int
    default: 5
  meeting_places:
    description:
      - By host, C(address) and C(port) where the front-end meets it, as filter C(meeting_places) makes them.
    type: json
  directory:
    description:
      - Directory of the backups. It is made if it is missing, for root alone. It holds nothing else, and is not below a
        directory that others may write to.
    type: path
    default: /var/backups/nebula-machines
  at:
    description:
      - On which host O(directory) is. With V(frontend) the front-end has the backups of all machines, and reads the
        disks of machines of other hosts by connections of TLS. With V(node) each node has those of its own machines,
        on whatever is mounted there.
    type: str
    choices: [frontend, node]
    default: frontend
  datastore:
    description:
      - Name of a datastore of type IMAGE. Backups are in directory C(machine_backups) of it on the front-end, in place
        of O(directory) and O(at).
    type: str
  full:
    description: Whether all backups are full ones.
    type: bool
    default: false
  consistency:
    description:
      - V(auto) has the guest's agent freeze its file systems for the moment of the backup, where there is one. V(agent)
        makes no backup of a running machine without it. V(crash) does not ask the agent.
    type: str
    choices: [auto, agent, crash]
    default: auto
  compress:
    description: Whether data are compressed, by zstd.
    type: bool
    default: true
  encrypted:
    description:
      - Whether hosts that make backups get a O(key), with O(state=chosen). In the result the key itself would be
        masked.
    type: bool
    default: false
  key:
    description:
      - A key under which the backups are encrypted. The same key is wanted to read them, and to make further ones.
    type: str
  rate:
    description: MiB a second that the data of each machine take at most. V(0) for no limit.
    type: int
    default: 0
  at_once:
    description: How many machines are backed up at a time on each host that has a directory of backups.
    type: int
    default: 2
  stand_still:
    description: Whether a machine may stand still meanwhile whose hypervisor can't read its disks while it runs.
    type: bool
    default: false
  requests:
    description:
      - What this host is asked for, as O(state=chosen) returned it. A list, or its JSON.
    type: json
  keep:
    description:
      - How many backups of each machine are kept, with O(state=pruned), and with O(state=present) of each that has a
        new one. C(last) of the newest ones, C(daily),
        C(weekly) and C(monthly) of days, weeks and months that have one, the newest one of each. A backup that one of
        them keeps stays. Without any of them all stay. With O(state=chosen) they are only checked.
    type: dict
  hypervisor:
    description: The host's hypervisor.
    type: str
    choices: [kvm, lxc, openvz, xen, xen_libvirt]
    default: kvm
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
  - nebula.provision.progress
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Choose the machines to be backed up
  nebula.provision.nebula_machine_backup:
    state: chosen
    vms: web-*
    at: node
    directory: /mnt/backups
    observed: "{{ [polled] | nebula.provision.observed(['node1']) }}"
  register: chosen
  no_log: true

- name: Back them up
  nebula.provision.nebula_machine_backup:
    requests: "{{ chosen.requests.node1 }}"
  become: true
"""

RETURN = r"""
requests:
  description: With O(state=chosen), by host what it is asked for. It may hold secrets.
  returned: state is chosen
  type: dict
machines:
  description: With O(state=chosen), the machines that are asked for.
  returned: state is chosen
  type: list
  elements: dict
  contains:
    vm_id: {description: Id of the machine., type: int}
    name: {description: Its name., type: str}
    host: {description: The host that it is on., type: str}
left_out:
  description: With O(state=chosen), the machines that are not backed up.
  returned: state is chosen
  type: list
  elements: dict
  contains:
    vm_id: {description: Id of the machine., type: int}
    name: {description: Its name., type: str}
    host: {description: The host that it is on., type: str}
    reason: {description: "Why, a sentence.", type: str}
directory:
  description: With O(state=chosen), the directory of the backups.
  returned: state is chosen
  type: str
at:
  description: With O(state=chosen), on which host it is, V(frontend) or V(node).
  returned: state is chosen
  type: str
everything:
  description: With O(state=chosen), whether all is read that lies there, also of machines that are no more.
  returned: state is chosen
  type: bool
purpose:
  description: With O(state=chosen), what they are chosen for.
  returned: state is chosen
  type: str
backups:
  description: What became of each machine.
  returned: state is not chosen
  type: list
  elements: dict
  contains:
    vm_id: {description: Id of the machine., type: int}
    name: {description: "Its name; of a machine of another catalog, that of its directory.", type: str}
    catalog:
      description: With O(state=verified), the UUID of the machine's catalog where it is another one; else empty.
      type: str
    host: {description: The host that it is on., type: str}
    id: {description: Id of the backup. Empty if there is none., type: str}
    kind: {description: V(full) or V(incremental)., type: str}
    reason: {description: Why it is a full one where the machine had others., type: str}
    consistency:
      description: In which moment of the guest its disks were read.
      type: str
      sample: frozen
    size: {description: Bytes of the machine's disks as the guest sees them., type: int}
    stored: {description: Bytes that the backup takes., type: int}
    seconds: {description: How long it took., type: float}
    removed: {description: The ids of older backups that were removed., type: list, elements: str}
    warnings: {description: What else is to be known of it., type: list, elements: str}
    error: {description: Why there is no backup. Empty if there is one., type: str}
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import machine_backup as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
