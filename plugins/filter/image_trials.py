# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_trials
short_description: Machines that say whether their images are fit
version_added: 0.2.0
description:
  - Turns the items of a live check of images into machines that role P(nebula.provision.vm#role) brings up.
  - Each has a root disk that is larger than its image, a second disk, a key, an injected file, and a start script.
options:
  _input:
    description: Items of the role's list.
    type: list
    elements: dict
    required: true
  images:
    description: Images as M(nebula.provision.nebula_info) returns them.
    type: list
    elements: dict
    required: true
  script:
    description: The start script.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say which machines these are
  ansible.builtin.set_fact:
    trials: "{{ checks | nebula.provision.image_trials(info.images, lookup('ansible.builtin.file', 'ask.sh')) }}"
"""

RETURN = r"""
_value:
  description: Items for C(nebula_vms).
  type: list
  elements: dict
"""

from ansible_collections.nebula.provision.plugins.plugin_utils.image_trials import image_trials
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import hands_on_data


class FilterModule:
    def filters(self):
        return {"image_trials": hands_on_data(image_trials)}
