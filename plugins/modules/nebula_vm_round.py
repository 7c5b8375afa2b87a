#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_vm_round
short_description: Bring machines to a list in one call, on a single host
version_added: 0.2.0
description:
  - Does what role C(vm) does by four calls, where the front-end is the only node, too. It polls the machines, decides
    what becomes of each, carries that out, and records it. Each module is called as the role calls it.
  - A round that has something to wait for ends there, such as files that are to be sent, and so does one in which
    nothing can be decided. The role's tasks then do the rest.
  - It asks what variables of role C(vm) say, so it is of use to that role only.
options:
  calls:
    description:
      - The names of variables of roles, each of which says what a task calls. The action plugin fills them in.
      - They are those that call C(nebula_deploy), C(nebula_vm), C(nebula_deploy) again and C(nebula_vm_record), in this
        order.
    type: json
    required: true
  roles:
    description: Roles whose variables have to be as their specifications say.
    type: list
    elements: str
    default: []
  found:
    description:
      - Variables of roles, each a dict, that are returned as well, filled in with the answers, by the names under which
        they are.
    type: dict
    default: {}
  after:
    description: Names under which earlier looks are registered. What they found is known to this one.
    type: list
    elements: str
    default: []
  packages:
    description:
      - Packages of the distribution that have to be installed. The action plugin gives them. Not for use in tasks.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - nebula.provision.progress
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Bring the machines to the list
  nebula.provision.nebula_vm_round:
    calls: [__nebula_poll_call, __nebula_vm_call, __nebula_act_call, __nebula_record_call]
  no_log: true
"""

RETURN = r"""
differs:
  description: What ended the round early. Empty if nothing did.
  returned: always
  type: str
facts:
  description: Results by the names under which the roles' tasks register them, made of C(answers) by the action plugin.
  returned: always
  type: dict
answers:
  description: Answers of the modules. Not in the result of a task, which has C(facts).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

# First: whatever of ours is imported after it comes compiled.
from ansible_collections.nebula.provision.plugins.module_utils import compiled  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.module_utils.calls.vm_round import ARGUMENTS, LOOK
from ansible_collections.nebula.provision.plugins.module_utils.looking import main as look


def main() -> None:
    look(AnsibleModule(**ARGUMENTS, supports_check_mode=True), LOOK)


if __name__ == "__main__":
    main()
