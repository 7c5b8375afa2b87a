# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_points
short_description: The points of checked images, as rows of a table
version_added: 0.2.0
description:
  - Makes a row for each point of each image.
options:
  _input:
    description: Images as M(nebula.provision.nebula_image_check) returns them.
    type: list
    required: true
"""

EXAMPLES = r"""
- name: What was found
  nebula.provision.nebula_table:
    columns: [image, point, result, why, remedy]
    rows: "{{ checked.images | nebula.provision.image_points }}"
"""

RETURN = r"""
_value:
  description: Rows with C(image), C(point), C(result), C(why) and C(remedy).
  type: list
"""

from ansible_collections.nebula.provision.plugins.plugin_utils.image_trials import image_points
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import hands_on_data


class FilterModule:
    def filters(self):
        return {"image_points": hands_on_data(image_points)}
