# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_unasked
short_description: Why a live check makes no machine of some images
version_added: 0.2.0
description:
  - Of each image that a machine would write to for good, says so.
options:
  _input:
    description: The list of a check, as role P(nebula.provision.image_check#role) has it.
    type: list
    required: true
  images:
    description: Images as M(nebula.provision.nebula_info) returns them.
    type: list
    required: true
"""

EXAMPLES = r"""
- name: Say which images are not asked
  ansible.builtin.set_fact:
    said: "{{ nebula_image_checks | nebula.provision.image_unasked(catalog.images) }}"
"""

RETURN = r"""
_value:
  description: What O(nebula.provision.nebula_image_check#module:said) is told of these images.
  type: dict
"""

from ansible_collections.nebula.provision.plugins.plugin_utils.image_trials import image_unasked
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import hands_on_data


class FilterModule:
    def filters(self):
        return {"image_unasked": hands_on_data(image_unasked)}
