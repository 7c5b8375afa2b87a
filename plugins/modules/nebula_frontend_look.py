#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_frontend_look
short_description: Whether front-end and catalog are as the variables of the roles say
version_added: 0.2.0
description:
  - Asks all modules that the roles call on the front-end whether they have something to do.
  - Where nothing is to be done, this one call has done what those tasks do, and its answers are theirs. Where something
    is, it says what, and changes nothing of it.
  - It asks what variables of this collection's roles say, so it is of use to its playbook site only.
options:
  calls:
    description:
      - The names of variables of roles, each of which says what a task calls. The action plugin fills them in.
      - Known are those that call C(nebula_frontend), C(nebula_demo_image), C(nebula_datastore), C(nebula_network),
        C(nebula_image), C(nebula_template), C(nebula_ovn_central), C(nebula_ovn), C(nebula_host) and C(nebula_vm).
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
  - nebula.provision.attributes
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Look at the front-end and its catalog
  nebula.provision.nebula_frontend_look:
    calls: [__nebula_frontend_call, __nebula_network_call]
  register: looked
"""

RETURN = r"""
differs:
  description: Whose task has something to do, and what. Empty if nothing is to be done.
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
from ansible_collections.nebula.provision.plugins.module_utils.calls.frontend_look import ARGUMENTS, LOOK
from ansible_collections.nebula.provision.plugins.module_utils.looking import main as look


def main() -> None:
    look(AnsibleModule(**ARGUMENTS, supports_check_mode=True), LOOK)


if __name__ == "__main__":
    main()
