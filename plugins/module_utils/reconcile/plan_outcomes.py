# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a plan as a node takes it, and shows its outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import errors
from ..arguments import parse_json
from ..errors import InvalidValue, NebulaError
from ..model.dataclass_json import from_plain
from ..model.plan import FORMAT, Plan, VmOutcome
from ..sync import Item

REMEDY = "Run the same version of nebula.provision on every host"


def plan_for(text: str, host: str) -> Plan:
    """Return the plan. Raise InvalidValue unless it is for this host, in a form that this version knows."""
    data: Any = parse_json(text, "plan")
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise InvalidValue("option plan", f"its format is {found}, this version knows {FORMAT}", REMEDY)
    plan = from_plain(Plan, data)
    if plan.host != host:
        raise InvalidValue(
            f"plan {plan.number} on host {host}", f"it was made for {plan.host}", "Give each host its own"
        )
    return plan


def items_of_outcomes(plan: Plan, outcomes: Sequence[VmOutcome]) -> list[Item]:
    """Return name and states of each machine, and nothing else of a plan: it holds contexts and passwords."""
    shown = []
    for planned, outcome in zip(plan.vms, outcomes):
        error = None if outcome.error is None else _error(dict(outcome.error))
        name = planned.vm.name
        if error is not None and f"VM {name}" not in error.asked and f"machine {name}" not in error.asked:
            error.asked = f"VM {name} (id {planned.vm.vm_id}): {error.asked}"
        before, after = {"state": planned.previous}, {"state": outcome.state}
        if outcome.changed and before == after:
            # Changes of attributes were told when they were decided; those in the plan may be secret.
            done = [task.kind for task in planned.tasks]
            after["action"] = planned.operation or ", ".join(dict.fromkeys(done)) or "updateconf"
        shown.append(Item(planned.vm.name, before, after, error, changed=outcome.changed))
    for machine, outcome in zip(plan.given_up, outcomes[len(plan.vms) :]):
        error = None if outcome.error is None else _error(dict(outcome.error))
        if error is not None:
            error.asked = f"VM {machine.name} (id {machine.vm_id}), which was given up: {error.asked}"
        shown.append(Item(machine.name, {"state": machine.state}, {"state": outcome.state}, error, outcome.changed))
    return shown


def _error(parts: dict[str, str]) -> NebulaError:
    kind = getattr(errors, parts.get("kind", ""), NebulaError)
    return kind(parts.get("asked", ""), parts.get("found", ""), parts.get("remedy", ""))
