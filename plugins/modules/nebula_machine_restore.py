#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_machine_restore
short_description: Restore virtual machines from backups
version_added: 0.2.0
description:
  - Restores from a backup of M(nebula.provision.nebula_machine_backup) the disks of a machine that is off, in their
    places, or makes images or a new machine of them. Role P(nebula.provision.machine_restore#role) does all of it.
  - With O(state=listed) it shows which backups there are, on the host that has them.
  - With O(state=planned) the front-end looks at the backup and the catalog, and returns what is to be done. Whatever
    stands against it is an error then, before anything is touched.
  - With O(state=imported) the front-end stores disks as images. With O(state=present) the machine's host puts the disks
    in the place of those that the machine has; a run that is killed leaves all of the old ones or all of the new ones.
  - A backup may come from anywhere. Of its template only what a machine needs is taken, and the rest is named.
options:
  state:
    description: What to do.
    type: str
    choices: [listed, planned, imported, present]
    default: present
  name:
    description:
      - The machine whose backup it is. Where several machines were called so, the directory of its backups.
      - Required with O(state=planned). With O(state=listed) it may be names and patterns of the shell, with commas
        between them, and the backups of all machines are shown without it.
    type: str
  backup:
    description: The backup's id, V(latest), or a time as V(2026-11-30T04:00:00Z), for the last one made until then.
    type: str
    default: latest
  directory:
    description: Where the backups are, on the host that O(at) says.
    type: path
    default: /var/backups/nebula-machines
  backups_datastore:
    description: Name of a datastore of type IMAGE with the backups, in place of O(directory) and O(at).
    type: str
  at:
    description: Whether the backups are on the front-end, or on the machine's host.
    type: str
    choices: [frontend, node]
    default: frontend
  disks:
    description:
      - Ids of the disks that are to be restored.
      - Without it all of them, and an error where the machine has other disks than the backup.
    type: list
    elements: int
  image:
    description: The name of the image that a disk of the backup is to become.
    type: str
  image_type:
    description: The type of that image. Without it V(OS) of the first disk, else V(DATABLOCK).
    type: str
    choices: [OS, DATABLOCK]
  persistent:
    description: Whether that image is persistent.
    type: bool
    default: false
  datastore:
    description: The datastore of images.
    type: str
  new_name:
    description: The name of the new machine that the backup is to become.
    type: str
  new_host:
    description: The host of the new machine. Without it the scheduler chooses.
    type: str
  new_state:
    description: The state of the new machine.
    type: str
    choices: [running, poweroff]
    default: running
  networks:
    description:
      - Names of networks here by those that the backup has, for a new machine.
      - Where no key that is given has sealed the backup, each network is to be named, one of the same name too.
    type: dict
  security_groups:
    description:
      - Names of security groups here by the ids that they have in the backup, for a new machine.
      - In a backup of this catalog that the key that is given has sealed, ids mean the groups that have them here.
    type: dict
  key:
    description: The key that the backup was made with.
    type: str
  luks_secrets:
    description:
      - On the machine's host, the passphrases of encrypted disks, as module M(nebula.provision.nebula_node) takes
        them, as JSON or a list.
    type: json
  secrets:
    description: Values of secrets that the backup was made without, by name, as JSON or a dict.
    type: json
  item:
    description: The machine's item in C(nebula_vms), from which secrets are taken as well.
    type: json
  frontend:
    description: The name of the front-end among hosts.
    type: str
    default: ''
  frontend_acts:
    description: Whether the front-end takes part in the task that restores disks in their places.
    type: bool
    default: false
  forks:
    description: On how many hosts Ansible acts at a time. The front-end and the machine's host act in one task.
    type: int
    default: 5
  meeting_places:
    description: Address and port by which the front-end meets each host, by its name.
    type: json
  images:
    description: What RV(images) of O(state=planned) says.
    type: json
  request:
    description: What RV(requests) of O(state=planned) has for this host.
    type: json
  safe_dirs:
    description: Directories of which files become images although they are restricted.
    type: list
    elements: path
    default: []
  hypervisor:
    description: The hypervisor of the host, with O(state=present).
    type: str
    choices: [kvm, lxc, openvz, xen, xen_libvirt]
    default: kvm
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: See which backups there are
  nebula.provision.nebula_machine_restore:
    state: listed
  register: found
  become: true

- name: Look at everything before a machine is restored in its place
  nebula.provision.nebula_machine_restore:
    state: planned
    name: web-0
    backup: "2026-11-30T04:00:00Z"
  register: planned
  become: true

- name: Restore its disks
  nebula.provision.nebula_machine_restore:
    request: "{{ planned.requests[inventory_hostname] }}"
  become: true
"""

RETURN = r"""
backups:
  description: The backups, the newest of each machine first.
  returned: with O(state=listed)
  type: list
  elements: dict
  contains:
    machine: {description: Its name then., type: str}
    vm_id: {description: Its id., type: int}
    id: {description: The backup's id., type: str}
    time: {description: When it was made (UTC)., type: str}
    kind: {description: V(full) or V(incremental)., type: str}
    size: {description: "MiB that all of its files take, as they are stored.", type: int}
    disks: {description: "Its disks, with the MiB of each.", type: str}
    consistency: {description: What the guest was doing., type: str}
    rests_on: {description: The backup without which it can't be restored., type: str}
    encrypted: {description: Whether a key is needed., type: bool}
    host: {description: The machine's host then., type: str}
    place: {description: The directory of the machine's backups., type: str}
way:
  description: V(place), V(image) or V(machine).
  returned: with O(state=planned)
  type: str
host:
  description: The machine's host, with V(place).
  returned: with O(state=planned)
  type: str
directory:
  description: Where the backups are.
  returned: with O(state=planned)
  type: str
requests:
  description:
    - What each host is asked for, as JSON by its name; where the backups are on the front-end and the machine on
      another host, of both, and they act in one task.
  returned: with O(state=planned), in its place
  type: dict
need_key:
  description: Those of them that need the O(key). Nobody gets it by this result, in which Ansible would mask it.
  returned: with O(state=planned), in its place
  type: list
  elements: str
backup:
  description: The backup's id.
  returned: with O(state=planned), else
  type: str
images:
  description: The images that are to be made of disks, with the C(size) in MiB that each is going to have.
  returned: with O(state=planned), as images or a new machine
  type: list
  elements: dict
templates:
  description: The template of a new machine, as an item of C(nebula_templates).
  returned: with O(state=planned), as a new machine
  type: list
  elements: dict
vms:
  description: The new machine, as an item of C(nebula_vms).
  returned: with O(state=planned), as a new machine
  type: list
  elements: dict
notes:
  description: What of the backup's template the new machine does not get, a sentence each.
  returned: with O(state=planned), as a new machine
  type: list
  elements: str
restored:
  description: What was restored, with C(vm_id), C(name), C(backup), C(disks) (ids) and C(files).
  returned: with O(state=present)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import machine_restore as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
