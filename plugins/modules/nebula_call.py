#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_call
short_description: Call a module of this collection, and fail with its message alone
version_added: 0.2.0
description:
  - Calls a module of this collection. Where it fails, the task fails with the module's message, and Ansible prints
    nothing else of its answer, which may be as long as the catalog.
  - With C(failed_when) the task gets the whole answer, also of a module that failed, so that a later task reports it.
  - Roles of this collection call their modules by it.
options:
  call:
    description:
      - The name of a variable, a dict with C(module) and C(options) as below.
      - If it has C(when), and that is false, the task is skipped. Its other keys are for
        M(nebula.provision.nebula_frontend_look) and M(nebula.provision.nebula_node_look).
    type: str
  module:
    description: The name of the module, without C(nebula.provision).
    type: str
  options:
    description: The module's own options, as its documentation has them.
    type: dict
attributes:
  check_mode:
    description: Is that of the module which is called.
    support: full
  diff_mode:
    description: Is that of the module which is called.
    support: full
  platform:
    description: Hosts with Python.
    platforms: posix
    support: full
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Keep a host in the catalog, and say no more than why not
  nebula.provision.nebula_call:
    module: nebula_host
    options:
      name: node1
      memory: 8192
"""

RETURN = r"""
msg:
  description: The message of the module.
  returned: on failure
  type: str
"""
