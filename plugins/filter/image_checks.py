# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_checks
short_description: Images to be checked, as the module has them
version_added: 0.2.0
description:
  - Takes out of the items of role P(nebula.provision.image_check#role) what is for machines.
options:
  _input:
    description: Items of the role.
    type: list
    required: true
"""

EXAMPLES = r"""
- name: Check the images
  nebula.provision.nebula_image_check:
    images: "{{ nebula_image_checks | nebula.provision.image_checks }}"
"""

RETURN = r"""
_value:
  description: Items for M(nebula.provision.nebula_image_check).
  type: list
"""

from ansible_collections.nebula.provision.plugins.plugin_utils.image_trials import image_checks
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import hands_on_data


class FilterModule:
    def filters(self):
        return {"image_checks": hands_on_data(image_checks)}
