# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_tags
short_description: Tags of a run that nothing of its playbook has
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Tells of tags given by C(--tags) or C(--skip-tags) that no task of a playbook of this collection has. Ansible
    accepts any; with one that is misspelt, or that another playbook has, a run does nothing, and ends well.
  - Which tags there are, the playbooks and their roles say themselves.
options:
  _terms:
    description: Name of the playbook, without its collection. Without it all playbooks are meant.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Say which tags select nothing
  nebula.provision.nebula_changes:
    warnings: "{{ query('nebula.provision.unknown_tags', 'site') }}"
"""

RETURN = r"""
_list:
  description: A sentence for each tag.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.lookup import LookupBase

from ansible_collections.nebula.provision.plugins.module_utils.model.object_names import nearest_word
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates

# Ansible's own words.
SPECIAL = {"all", "always", "never", "tagged", "untagged"}
WHAT = {
    "ansible_run_tags": "--tags {tag}: no task of {where} has this tag, so that it selects none",
    "ansible_skip_tags": "--skip-tags {tag}: no task of {where} has this tag, so that it leaves none out",
}
COLLECTION = "nebula.provision"
ROLE_TASKS = ("import_role", "include_role")


class LookupModule(LookupBase):
    def run(self, terms: Iterable[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        given = {name: set(map(str, (variables or {}).get(name) or ())) - SPECIAL for name in WHAT}
        if not any(given.values()):
            return []
        root = Path(__file__).resolve().parents[2]
        playbook = next((str(term) for term in terms or () if term), "")
        known = known_tags(root, playbook)
        where = f"playbook {COLLECTION}.{playbook}" if playbook else "this collection"
        return without_templates(
            [_sentence_on(name, tag, known, where) for name in WHAT for tag in sorted(given[name] - known)]
        )


def _sentence_on(name: str, tag: str, known: Iterable[str], where: str) -> str:
    # Two exchanged letters change a large part of a short word, and so does an s at its end.
    turned = [each for each in sorted(known) if sorted(each) == sorted(tag) or f"{each}s" == tag]
    near = turned[0] if turned else nearest_word(tag, sorted(known))
    meant = f" Did you mean {near}?" if near else ""
    there = f"Known are {', '.join(sorted(known))}" if known else "It has none: run it without tags"
    return f"{WHAT[name].format(tag=tag, where=where)}.{meant} {there}"


def known_tags(root: Path, playbook: str = "") -> set[str]:
    """Return the tags of all tasks of playbooks and roles, or of one playbook and its roles."""
    found: set[str] = set()
    if not playbook:
        for path in (*root.glob("playbooks/*.yml"), *root.glob("roles/*/tasks/*.yml")):
            _gather(_read(path), found, set())
        return found - SPECIAL
    roles: set[str] = set()
    seen: set[str] = set()
    _gather(_read(root / f"playbooks/{playbook}.yml"), found, roles)
    while roles - seen:
        role = min(roles - seen)
        seen.add(role)
        for path in (root / f"roles/{role}/tasks").glob("*.yml"):
            _gather(_read(path), found, roles)
    return found - SPECIAL


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _gather(value: Any, found: set[str], roles: set[str]) -> None:
    """Add the tags that tasks, plays and roles have to found, and the names of this collection's roles to roles."""
    if isinstance(value, list):
        for each in value:
            _gather(each, found, roles)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "tags":
                found.update([each] if isinstance(each, str) else each)
                continue
            role = each if key == "role" else ""
            if key.rpartition(".")[2] in ROLE_TASKS and isinstance(each, dict):
                role = each.get("name")
            if isinstance(role, str) and role.startswith(f"{COLLECTION}."):
                roles.add(role.rpartition(".")[2])
            _gather(each, found, roles)
