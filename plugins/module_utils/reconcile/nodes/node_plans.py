# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a plan out on its node."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from ...errors import NebulaError
from ...host import node_file
from ...host.progress import Reporter
from ...host.restricted_directories import Rules
from ...hypervisors.base import Driver
from ...hypervisors.carry_out.batch import Batch
from ...hypervisors.carry_out.forecast import predict
from ...hypervisors.carry_out.nic_filters import NicFilters
from ...hypervisors.poll import poll
from ...model.dataclass_json import to_plain
from ...model.plan import Plan, VmOutcome
from ...storage import shared_datastore
from ...sync import Result
from ..plan_outcomes import items_of_outcomes, plan_for
from .node_polls import driver_if_there, poll_node


def apply_plan(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Carry the plan out, and return its outcomes and what runs afterwards; in check mode predict them."""
    plan = plan_for(params["plan"], params["host"])
    if not plan.vms and not plan.given_up and not plan.leftovers:
        if not check_mode:
            node_file.follow(params["root"], plan.catalog, plan.number, plan.proof)
        return Result(payload={"outcomes": []})
    with contextlib.ExitStack() as held:
        try:
            shared_datastore.require(params["root"], plan.host, plan.datastore)
            driver = held.enter_context(driver_if_there(params["hypervisor"], check_mode))
            outcomes = _carried_out(plan, driver, params, check_mode)
        except NebulaError as error:
            if not check_mode:
                _refuse_machines(plan, params["root"], error)
            raise
        result = poll_node(params, driver, check_mode)
    result.items = items_of_outcomes(plan, outcomes)
    result.payload["outcomes"] = to_plain(outcomes)
    return result


def _refuse_machines(plan: Plan, root: str, error: NebulaError) -> None:
    """Let the hosts know whose machines were to come by a plan that failed as a whole."""
    if any(planned.move is not None for planned in plan.vms):
        # What few plans need takes its time to import.
        from ...hypervisors.carry_out.moves import refuse

        refuse(plan, root, error)


def _carried_out(plan: Plan, driver: Driver | None, params: Mapping[str, Any], check_mode: bool) -> list[VmOutcome]:
    root = params["root"]
    rules = Rules(params["restricted_dirs"], params["safe_dirs"], root)
    if check_mode or driver is None:
        observed = poll(driver, root, params["host"], plan.catalog, params["hypervisor"])
        return predict(plan, observed, driver, root, rules)
    word = "running" if all(planned.wanted == "RUNNING" for planned in plan.vms) and plan.vms else "done"
    report = functools.partial(Reporter(params["_progress_file"]).report, word=word)
    guarding = NicFilters(plan, root)
    guarding.begin()
    outcomes = Batch(plan, driver, root, params["threads"], rules, params["detach_timeout"]).apply(report)
    guarding.end(outcomes)
    return outcomes
