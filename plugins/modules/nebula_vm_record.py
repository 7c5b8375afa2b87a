#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_vm_record
short_description: Take over what nodes did and say
version_added: 0.1.0
description:
  - Brings the catalog to what the nodes reported. States, errors and history of virtual machines come from here,
    never from what was merely wanted.
  - A node without an outcome has not answered. Its machines keep that as their error, and the next run goes on with
    them.
options:
  outcomes:
    description:
      - For each host, the registered result of M(nebula.provision.nebula_deploy) with
        O(nebula.provision.nebula_deploy#module:state=applied).
      - Hosts that had a plan and whose result is missing or has no outcomes did not answer.
      - A dict, taken as JSON text.
    type: json
  observed:
    description:
      - What nodes answered when polled.
    type: list
    elements: dict
  ids:
    description: The machines to return as they are now, beside those that moved.
    type: list
    elements: int
extends_documentation_fragment:
  - nebula.provision.engine
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Record what the node did
  nebula.provision.nebula_vm_record:
    outcomes: "{{ {'host1': deployed} }}"
"""

RETURN = r"""
vms:
  description: The machines of O(ids) and those that moved, as M(nebula.provision.nebula_vm) shows them.
  returned: always
  type: list
  elements: dict
refused_answers:
  description: By host, why its answer was refused. Nothing of it was taken over, as if the host had not answered.
  returned: always
  type: dict
  version_added: 0.2.0
returning:
  description: Whether the files of images are on their way back from hosts.
  returned: always
  type: bool
  version_added: 0.2.0
failed_vms:
  description: Those whose last operation failed, a sentence each.
  returned: always
  type: list
  elements: str
stopping_vms:
  description:
    - Those of RV(failed_vms) after which a run moves no further machine.
    - A machine that went off by itself while it was to move live keeps no other one from moving.
  returned: always
  type: list
  elements: str
  version_added: 0.2.0
unfinished_vms:
  description: What is still to be done in machines that were changed while they run, a sentence each.
  returned: always
  type: list
  elements: str
  version_added: 0.2.0
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls import vm_record as call
from ansible_collections.nebula.provision.plugins.module_utils.runner import carry_out


def main() -> None:
    carry_out(AnsibleModule(**call.ARGUMENTS, supports_check_mode=True), call)


if __name__ == "__main__":
    main()
