# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_snapshots
short_description: Those machines of a live check that run, with a snapshot
version_added: 0.2.0
description:
  - Adds a snapshot of its first disk to each machine that runs.
options:
  _input:
    description: Machines, as image_trials makes them.
    type: list
    required: true
  records:
    description: Machines as role P(nebula.provision.vm#role) leaves them.
    type: list
    required: true
"""

EXAMPLES = r"""
- name: Make a snapshot of each
  ansible.builtin.include_role:
    name: nebula.provision.vm
  vars:
    nebula_vms: "{{ trials | nebula.provision.image_snapshots(__nebula_vm_records) }}"
"""

RETURN = r"""
_value:
  description: Items for C(nebula_vms).
  type: list
"""

from ansible_collections.nebula.provision.plugins.plugin_utils.image_trials import image_snapshots
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import hands_on_data


class FilterModule:
    def filters(self):
        return {"image_snapshots": hands_on_data(image_snapshots)}
