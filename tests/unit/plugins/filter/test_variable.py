# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory sets for a host, whatever facts the host has."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.filter.variable import FilterModule

variable = FilterModule().filters()["variable"]


@pytest.mark.parametrize(
    ("variables", "value"),
    [
        ({"nebula_ovn": True}, True),
        ({"nebula_ovn": True, "ansible_facts": {"hostname": "a"}}, True),
        ({"nebula_ovn": True, "ansible_facts": {"nebula_ovn": True}}, "otherwise"),
        ({"ansible_facts": {}}, "otherwise"),
        ({"nebula_ovn": None}, None),
    ],
)
def test_a_variable_that_no_fact_has_the_name_of(variables: dict[str, Any], value: Any) -> None:
    assert variable(variables, "nebula_ovn", "otherwise") == value


def test_facts_are_known_without_their_prefix() -> None:
    variables = {"ansible_host": "192.0.2.9", "ansible_facts": {"host": "192.0.2.9"}}
    assert variable(variables, "ansible_host", "kvm1") == "kvm1"


LOOK = {"differs": "", "facts": {"__nebula_node": 1}}


@pytest.mark.parametrize(
    ("variables", "value"),
    [
        ({"__nebula_node_look": LOOK}, 1),
        ({"__nebula_node_look": LOOK, "__nebula_node": {}}, {}),
        ({"__nebula_node_look": {**LOOK, "facts": {}}}, "otherwise"),
        ({"__nebula_node_look": {**LOOK, "differs": "__nebula_node: something is to be done"}}, "otherwise"),
        ({"__nebula_node_look": {"skipped": True}}, "otherwise"),
        ({"__nebula_node_look": LOOK, "ansible_facts": {"__nebula_node": 2}}, "otherwise"),
        ({"__nebula_node_look": LOOK, "ansible_facts": {"__nebula_node_look": LOOK}}, "otherwise"),
    ],
)
def test_what_a_look_found_is_as_if_the_roles_had_registered_it(variables: dict[str, Any], value: Any) -> None:
    assert variable(variables, "__nebula_node", "otherwise") == value


def test_a_look_says_nothing_of_settings() -> None:
    look = {"differs": "", "facts": {"nebula_ovn": True}}
    assert variable({"__nebula_node_look": look}, "nebula_ovn", "otherwise") == "otherwise"
