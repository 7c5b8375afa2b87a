#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_restore
short_description: Make a backup the catalog again
version_added: 0.2.0
description:
  - Puts a copy that M(nebula.provision.nebula_backup) wrote in the place of the catalog, once it was checked, by its
    hash, in itself, and against what the nodes say.
  - What the nodes have seen since the copy was made is known from O(observed). Plan numbers and ids go on above all of
    that, so that the nodes follow the catalog again and no id is used twice.
  - Nothing is done on the nodes. Virtual machines that the catalog does not know are named and left running, and
    their addresses are given to no other one while they are there.
  - Waits for other runs that are deciding, and is refused when one has changed the catalog while it was at work.
  - What was in the catalog's place is kept beside it, as C(nebula.db.before-) and the time.
options:
  file:
    description:
      - The backup, on the front-end.
      - Without it, the newest one in O(directory).
    type: path
  directory:
    description: Where backups are kept, on the front-end.
    type: path
    default: /var/backups/nebula
  observed:
    description:
      - What the nodes answered to M(nebula.provision.nebula_deploy) with
        O(nebula.provision.nebula_deploy#module:state=audited).
    type: list
    elements: dict
    required: true
  force:
    description:
      - Whether to replace a catalog that is newer than the backup, or another one, and to go on without the answer of
        a node.
    type: bool
    default: false
  unknown:
    description:
      - What is to become of virtual machines that carry the catalog's mark and that it does not know.
      - V(keep) leaves them as they are. With V(remove), RV(plans) has what ends them, with their disks, except for
        those that the catalog which gives way has.
    type: str
    choices: [keep, remove]
    default: keep
  new_catalog:
    description:
      - Where there is no backup. Begins a catalog in which nothing is, under the UUID that the nodes carry, so that
        they follow it. All virtual machines on them are unknown to it.
    type: bool
    default: false
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Look at everything of ours on each node
  nebula.provision.nebula_deploy:
    state: audited
    host: "{{ inventory_hostname }}"
  register: audited

- name: Restore the newest backup
  nebula.provision.nebula_restore:
    observed: ["{{ audited.observed }}"]
  delegate_to: "{{ groups['nebula_frontend'][0] }}"
  run_once: true
"""

RETURN = r"""
restored:
  description: What became of the catalog.
  returned: success
  type: dict
  contains:
    file: {description: The backup. Empty with O(new_catalog=true)., type: str}
    catalog: {description: UUID of the catalog., type: str}
    plan: {description: Its newest plan from now on., type: int}
    next_id: {description: The id of the next virtual machine., type: int}
    replaced: {description: "Where the former catalog is now, empty if there was none.", type: str}
    raised:
      description:
        - Virtual machines of which the node had seen a newer decision. The next run applies what the copy says.
      type: list
      elements: str
    missing: {description: Virtual machines that are not on their host., type: list, elements: str}
    unknown:
      description:
        - Virtual machines with the catalog's mark that it does not know, with C(host), C(vm_id), C(name), C(uuid),
          C(state), the command that ends each (C(forget)), and whether RV(plans) ends it (C(removed), V(yes) or V(no)).
      type: list
      elements: dict
    held:
      description: Addresses that no virtual machine gets while an unknown one has them.
      type: list
      elements: str
    images: {description: "Images whose file was not there or differs, and what became of that.", type: dict}
refused_answers:
  description:
    - By host, why what it answered in O(observed) was refused. It counts as a host that did not answer, so that the
      catalog is restored with O(force=true) only.
  returned: success
  type: dict
  version_added: 0.2.0
plans:
  description:
    - For each host that follows the catalog, a plan as JSON text. Once M(nebula.provision.nebula_deploy) applied it,
      the host takes no plan any more that was decided before the catalog was restored.
    - With O(unknown=remove) it ends the unknown virtual machines there.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import restore as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
