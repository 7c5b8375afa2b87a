# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_tags
short_description: Tags of a run that nothing of this collection has
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Tells of tags given by C(--tags) or C(--skip-tags) that no task of this collection's playbooks has. Ansible accepts
    any; with one that is misspelt a run does nothing, and ends well.
  - Which tags there are, the playbooks say themselves.
options:
  _terms:
    description: None.
"""

EXAMPLES = r"""
- name: Say which tags select nothing
  nebula.provision.nebula_changes:
    warnings: "{{ query('nebula.provision.unknown_tags') }}"
"""

RETURN = r"""
_list:
  description: A sentence for each tag.
  type: list
  elements: str
"""

from pathlib import Path

import yaml
from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.module_utils.model.names import nearest
from ansible_collections.nebula.provision.plugins.plugin_utils.untrusted import untrusted

# Ansible's own words.
SPECIAL = {"all", "always", "never", "tagged", "untagged"}
WHAT = {
    "ansible_run_tags": "--tags {tag}: no task of this collection has this tag, so that it selects none",
    "ansible_skip_tags": "--skip-tags {tag}: no task of this collection has this tag, so that it leaves none out",
}


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        given = {name: set(map(str, (variables or {}).get(name) or ())) - SPECIAL for name in WHAT}
        if not any(given.values()):
            return []
        known = known_tags(Path(__file__).resolve().parents[2])
        return untrusted([_sentence_on(name, tag, known) for name in WHAT for tag in sorted(given[name] - known)])


def _sentence_on(name, tag, known):
    # Two exchanged letters change a large part of a short word, and so does an s at its end.
    turned = [each for each in sorted(known) if sorted(each) == sorted(tag) or f"{each}s" == tag]
    near = turned[0] if turned else nearest(tag, sorted(known))
    meant = f" Did you mean {near}?" if near else ""
    return f"{WHAT[name].format(tag=tag)}.{meant} Known are {', '.join(sorted(known))}"


def known_tags(root):
    """Return the tags of all tasks, as the playbooks and roles name them."""
    found = set()
    for path in (*root.glob("playbooks/*.yml"), *root.glob("roles/*/tasks/*.yml")):
        _gather(yaml.safe_load(path.read_text(encoding="utf-8")), found)
    return found - SPECIAL


def _gather(value, found):
    if isinstance(value, list):
        for each in value:
            _gather(each, found)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "tags":
                found.update([each] if isinstance(each, str) else each)
            else:
                _gather(each, found)
