# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at all that is on a node, and compares its machines with a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ...dataclass import replace
from ...hypervisors.adoption_checks import compare
from ...hypervisors.node_inventory import observe_all
from ...hypervisors.registry import open_driver
from ...sync import Result
from ..plan_outcomes import plan_for
from .node_polls import observed_view


def audit_node(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Return all that is on the node. In check mode a hypervisor has to be there as well: nothing else can be read."""
    with contextlib.closing(open_driver(params["hypervisor"])) as driver:
        found = observe_all(driver, params["root"], params["host"], params["catalog"] or "")
    return Result(payload={"observed": observed_view(found, check_mode)})


def compare_node(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Return all that is on the node, and how its machines differ from the plan."""
    plan = plan_for(params["plan"], params["host"])
    with contextlib.closing(open_driver(params["hypervisor"])) as driver:
        found = observe_all(driver, params["root"], params["host"], params["catalog"] or "")
        found = replace(found, compared=compare(plan, driver, params["root"]))
    return Result(payload={"observed": observed_view(found, check_mode)})
