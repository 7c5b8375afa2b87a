# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: unlisted
short_description: What the catalog has and no list names
version_added: 0.2.0
description:
  - Turns RV(nebula.provision.nebula_vm#module:pools), and the results of the other roles of the same run, into the
    lines of a report.
  - Of a kind whose role did not run, or failed, nothing is said.
options:
  _input:
    description: What the catalog has, by its names.
    type: dict
    required: true
  images:
    description: The registered result of M(nebula.provision.nebula_image).
    type: dict
  networks:
    description: The registered result of M(nebula.provision.nebula_network).
    type: dict
  templates:
    description: The registered result of M(nebula.provision.nebula_template).
    type: dict
"""

EXAMPLES = r"""
- name: What is in no list
  ansible.builtin.debug:
    msg: "{{ decided.pools | nebula.provision.unlisted(images=images_result) }}"
"""

RETURN = r"""
_value:
  description: A line for each kind.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates
from ansible_collections.nebula.provision.plugins.test.gone_wrong import gone_wrong

KINDS = ("networks", "images", "templates")
MANY = 20


def unlisted(pools: Mapping[str, Any], images: Any = None, networks: Any = None, templates: Any = None) -> list[str]:
    listed = {"images": images, "networks": networks, "templates": templates}
    left = {"virtual machines": list(pools.get("unlisted_vms") or [])}
    for kind in KINDS:
        result = listed[kind] or {}
        if kind in result and not gone_wrong(result):
            named = {item["name"] for item in result[kind]}
            left[kind] = [name for name in pools.get(kind) or [] if name not in named]
    return [f"In the catalog and in no list, {kind}: {shown(names)}" for kind, names in left.items() if names]


def shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more


class FilterModule:
    def filters(self) -> Filters:
        return {"unlisted": returns_no_templates(unlisted)}
