# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_said
short_description: What is known of the machines of a live check
version_added: 0.2.0
description:
  - Puts together what M(nebula.provision.nebula_image_check) wants to know of the machine of each image.
options:
  _input:
    description: Machines, as image_trials makes them.
    type: list
    required: true
  images:
    description: Images as M(nebula.provision.nebula_info) returns them.
    type: list
    required: true
  records:
    description: Machines as role P(nebula.provision.vm#role) leaves them.
    type: list
    required: true
  heard:
    description: Text of the console of each machine, by its name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Put together what is known of each
  ansible.builtin.set_fact:
    said: "{{ trials | nebula.provision.image_said(info.images, __nebula_vm_records, consoles.heard) }}"
"""

RETURN = r"""
_value:
  description: By the name of the image.
  type: dict
"""

from ansible_collections.nebula.provision.plugins.plugin_utils.image_trials import image_said
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import hands_on_data


class FilterModule:
    def filters(self):
        return {"image_said": hands_on_data(image_said)}
