# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: refused_everywhere
short_description: Networks that this run has changed and no node can have so
version_added: 0.2.0
description:
  - Tells of the networks that a run has made or changed in the catalog those that each node which answered has refused.
  - A network that one of them has is kept, as its machines can be there.
options:
  _input:
    description: The registered result of M(nebula.provision.nebula_network).
    type: dict
    required: true
  nodes:
    description: The registered results of M(nebula.provision.nebula_node_network), one for each node.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Take back what no node can have
  nebula.provision.nebula_network:
    undo: "{{ networks_result | nebula.provision.refused_everywhere([node_result]) }}"
"""

RETURN = r"""
_value:
  description: What the option O(nebula.provision.nebula_network#module:undo) takes.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.answers.refused_networks import read
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates


def refused_everywhere(made: Mapping[str, Any], nodes: Iterable[Any]) -> list[dict[str, Any]]:
    answers = [names for node in nodes if (names := read(node)) is not None]
    if not answers:
        return []
    everywhere = set.intersection(*answers)
    earlier = made.get("earlier") or {}
    return [
        {"network": network, "earlier": earlier[network["name"]]}
        for network in made.get("networks") or []
        if network["name"] in everywhere and network["name"] in earlier
    ]


class FilterModule:
    def filters(self) -> Filters:
        return {"refused_everywhere": returns_no_templates(refused_everywhere)}
