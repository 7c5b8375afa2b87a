# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: answer
short_description: What somebody answered in a survey, as the lists of this collection want it
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - A survey of AWX gives text and numbers, and an empty text where somebody left a field blank. This makes of them
    numbers, truth values, lists and items of lists, and leaves out what is blank.
  - Role P(nebula.provision.awx#role) writes it into its job templates.
  - An answer stays text. A template in it is not evaluated.
options:
  _terms:
    description: Name of the variable that the survey sets. With O(keys) it is what these names begin with.
    type: list
    elements: str
    required: true
  type:
    description:
      - What becomes of the answer. V(list) takes one entry from each line, or several with commas between them.
        V(yaml) is what a text in YAML means.
    type: str
    choices: [str, int, float, bool, list, yaml]
    default: str
  blank:
    description:
      - What it is where nothing was answered. Without it, and for O(keys), it is what C(answer_blanks) has under the
        name of the variable.
    type: raw
  keys:
    description:
      - The keys of an item, and the type of each. Its answers are in variables whose names are that of the term with
        the key after it. A key that was not answered is left out.
    type: dict
"""

EXAMPLES = r"""
- name: Keep as many backups as was answered, or else ten
  ansible.builtin.import_playbook: nebula.provision.backup
  vars:
    nebula_backup_keep: "{{ lookup('nebula.provision.answer', 'answer_backup_keep', type='int', blank=10) }}"

- name: Store the image of which answer_images_name, answer_images_path and answer_images_size speak
  ansible.builtin.import_playbook: nebula.provision.site
  vars:
    nebula_images:
      - "{{ lookup('nebula.provision.answer', 'answer_images_', keys={'name': 'str', 'path': 'str', 'size': 'int'}) }}"
"""

RETURN = r"""
_raw:
  description: The value.
  type: list
  elements: raw
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.surveys.survey_answers import (
    BadAnswer,
    answer_of,
    item_of,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import HarmlessLookupError


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        keys, variables = self.get_option("keys"), variables or {}
        try:
            if keys is not None:
                found = [item_of(variables, str(term), keys) for term in terms]
            else:
                kind, blank = self.get_option("type"), self.get_option("blank")
                found = [answer_of(variables, str(term), kind, blank) for term in terms]
        except BadAnswer as error:
            raise HarmlessLookupError(str(error)) from error
        return without_templates(found)
