# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decisions share is what they take it for."""

from __future__ import annotations

import typing

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.decision_parts import DecisionParts
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.parts import Parts


def test_the_parts_are_of_the_types_that_decisions_know(inside):
    types = typing.get_type_hints(DecisionParts)
    assert {name: type(getattr(inside.vms, name)) for name in types} == types


def test_each_is_made_once_and_by_decisions_alone(inside):
    assert not {"nics", "assembler", "ports", "capacity"} & set(vars(inside.vms))
    assert inside.vms.capacity is inside.vms.capacity
    assert {name for name in typing.get_type_hints(DecisionParts) if not hasattr(Parts, name)} == set()
