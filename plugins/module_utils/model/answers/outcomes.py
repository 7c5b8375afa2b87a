# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node answers after it has carried out its plan (nebula_deploy's `outcomes`), before it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InvalidValue, StalePlan
from ..dataclass_json import from_plain
from ..move import ANSWERS
from ..plan import VmOutcome
from ..states import FAILURES
from . import answer_bounds
from .observed import MOST_ID, MOST_MEMORY, MOST_NUMBER, MOST_VMS

STATES = frozenset(("RUNNING", "POWEROFF", "SUSPENDED", "DONE", "UNKNOWN", *(state.name for state in FAILURES)))
FORMATS = frozenset(("", "raw", "qcow2", "tar"))
# Of one machine, one for each disk; and the characters of one.
MOST_NOTES, LONGEST_NOTE = 256, 1000


def read(host: str, answer: Any) -> list[VmOutcome] | None:
    """Return the outcomes in a node's registered result; None if it holds none (unreachable, killed). Raise
    InvalidValue for outcomes that no node of this version gives. A node that follows a newer plan has answered: the run
    that made that plan records what comes of it.
    host: as the request has it, "" if that is not known."""
    what = f"host {host}: what it says it did" if host else "the outcomes of a node"
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if isinstance(error, Mapping) and error.get("kind") == StalePlan.__name__:
        return []
    outcomes = answer.get("outcomes", ()) if isinstance(answer, Mapping) else answer
    if outcomes is None or outcomes == ():
        return None
    if not isinstance(answer, Mapping) or not isinstance(outcomes, (list, tuple)):
        found = f"it is a {type(outcomes).__name__}"
        raise InvalidValue(what, found, "Give the registered result of nebula_deploy")
    answer_bounds.check_size(outcomes, what)
    answer_bounds.check_count(outcomes, MOST_VMS, what, "it tells of {} machines")
    try:
        found_ = [from_plain(VmOutcome, outcome) for outcome in outcomes]
    except InvalidValue as problem:
        raise answer_bounds.refusal(what, f"{problem.asked}: {problem.found}") from None
    for outcome in found_:
        _check(outcome, what)
    return found_


def done_number(host: str, answer: Any) -> int:
    """Return the newest plan that the node had carried out when it answered; 0 if it does not say."""
    observed = answer.get("observed") if isinstance(answer, Mapping) else None
    number = observed.get("done_number") if isinstance(observed, Mapping) else None
    if not isinstance(number, int) or isinstance(number, bool):
        return 0
    answer_bounds.check_number(number, 0, MOST_NUMBER, f"host {host}: what it says it did", "done_number")
    return number


def _check(outcome: VmOutcome, what: str) -> None:
    answer_bounds.check_number(outcome.vm_id, 0, MOST_ID, what, "the id of a machine")
    answer_bounds.check_number(outcome.generation, 0, MOST_NUMBER, what, f"the generation of machine {outcome.vm_id}")
    if outcome.state not in STATES:
        raise answer_bounds.refusal(
            what, f"machine {outcome.vm_id} is {outcome.state[:40]!r}, which is no state of a machine"
        )
    if outcome.moved not in ANSWERS:
        raise answer_bounds.refusal(
            what, f"machine {outcome.vm_id} {outcome.moved[:40]!r}, which is nothing that becomes of a move"
        )
    answer_bounds.check_count(outcome.notes, MOST_NOTES, what, "it has {} notes about one machine")
    for note in outcome.notes:
        answer_bounds.check_number(len(note), 0, LONGEST_NOTE, what, "the length of a note about a machine")
    for task in outcome.tasks:
        answer_bounds.check_number(task.size, 0, MOST_MEMORY, what, "the size of a saved disk")
        if task.format not in FORMATS:
            raise answer_bounds.refusal(what, f"a saved disk has the format {task.format[:40]!r}")
