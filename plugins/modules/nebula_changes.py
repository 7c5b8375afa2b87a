#!/usr/bin/python
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nebula_changes
short_description: Report what a task changed whose own answer may not be shown
version_added: 0.1.0
description:
  - A task whose result holds secrets has C(no_log), and with it Ansible hides its differences and warnings too, which
    hold none.
    This shows them in its stead.
  - It runs on the control node and changes nothing itself. Give the task it speaks for C(changed_when=false), so that
    a change is counted once.
options:
  changed:
    description: Whether the task that this speaks for changed something.
    type: bool
    default: false
  diff:
    description: Its differences, as it returned them in diff mode.
    type: list
    elements: dict
    default: []
  warnings:
    description: Its warnings.
    type: list
    elements: str
    default: []
  errors:
    description: Why this task fails. Without any it does not.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
attributes:
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Shows the differences of the other task.
    support: full
  platform:
    description: Runs on the control node.
    platforms: posix
    support: full
author:
  - nebula.provision contributors (@nebula-provision)
"""

EXAMPLES = r"""
- name: Decide
  nebula.provision.nebula_vm:
    vms: "{{ nebula_vms | nebula.provision.packed }}"
    return_plans: true
  register: decided
  changed_when: false
  no_log: true

- name: Report what was decided
  nebula.provision.nebula_changes:
    changed: "{{ decided.changed_vms | length > 0 }}"
    diff: "{{ decided.diff | default([]) }}"
    warnings: "{{ decided.warnings | default([]) }}"
"""

RETURN = r""" # """
