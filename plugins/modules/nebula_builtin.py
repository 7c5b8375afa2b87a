#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_builtin
short_description: Call a module of ansible-core on a host that is not trusted
version_added: 0.2.0
description:
  - Calls one of a few modules of C(ansible.builtin), which does on the host what it always does. Of its answer nothing
    reaches the run but what is named below. A host can't set variables by it.
  - Some of the modules read files of the control node, such as the C(src) of M(ansible.builtin.copy). They are searched
    where the module itself would search them.
options:
  module:
    description: The name of the module, without C(ansible.builtin).
    type: str
    choices: [command, copy, fetch, file, script, slurp, stat]
    required: true
  options:
    description: The module's own options, as its documentation has them. The command of a script is C(cmd).
    type: dict
    required: true
attributes:
  check_mode:
    description: Is that of the module which is called.
    support: partial
    details: M(ansible.builtin.fetch) is skipped.
  diff_mode:
    description: Is that of the module which is called.
    support: partial
    details: Only M(ansible.builtin.copy) and M(ansible.builtin.file) return differences.
  platform:
    description: Hosts with Python.
    platforms: posix
    support: full
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Read a page of the front-end
  nebula.provision.nebula_builtin:
    module: slurp
    options:
      src: /srv/www/topology.html
  register: page
"""

RETURN = r"""
content:
  description: The file as base64.
  returned: "with I(module): slurp"
  type: str
encoding:
  description: Always base64.
  returned: "with I(module): slurp"
  type: str
stat:
  description: As M(ansible.builtin.stat) returns it.
  returned: "with I(module): stat"
  type: dict
dest:
  description: The file of the control node.
  returned: "with I(module): fetch"
  type: str
checksum:
  description: SHA-1 of the file.
  returned: "with I(module): fetch"
  type: str
rc:
  description: What the program ended with.
  returned: "with I(module): command, script"
  type: int
stdout:
  description: What the program printed. Lines below the first are indented.
  returned: "with I(module): command, script"
  type: str
stdout_lines:
  description: The same as a list of lines.
  returned: "with I(module): command, script"
  type: list
  elements: str
stderr:
  description: What the program printed as errors. Lines below the first are indented.
  returned: "with I(module): command, script"
  type: str
stderr_lines:
  description: The same as a list of lines.
  returned: "with I(module): command, script"
  type: list
  elements: str
"""
