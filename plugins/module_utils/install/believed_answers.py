# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Believes nodes only about installing machines that the catalog has on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..engines.ports import VmRecord
from ..model.answers import answer_bounds
from ..model.answers.installations import Waited
from ..model.answers.verified_guests import Verified
from .installation import Settings, Work
from .next_step import trial_name

T = TypeVar("T", Waited, Verified)


def refuse_foreign(works: Sequence[Work], settings: Settings) -> None:
    """Leave out the whole answer of a host that reports another host's machine, with the reason in settings.refused."""
    own = {work.name: work.record for work in works}
    trials = {trial_name(work.name): work.trial for work in works}
    settings.waited = _believed(settings.waited, own, settings.refused)
    settings.verified = _believed(settings.verified, trials, settings.refused)


def answer_under(answers: Mapping[str, Sequence[T]], name: str) -> T | None:
    """Return what was answered under the name, None if nothing was. About a machine, its own host alone answers."""
    return next((each for entries in answers.values() for each in entries if each.name == name), None)


def _believed(
    answers: Mapping[str, Sequence[T]], machines: Mapping[str, VmRecord | None], refused: dict[str, str]
) -> dict[str, Sequence[T]]:
    believed: dict[str, Sequence[T]] = {}
    for host, entries in answers.items():
        there = [(each.name, machines.get(each.name)) for each in entries]
        foreign = [(name, vm.host or "(none)") for name, vm in there if vm is not None and vm.host != host]
        if host and foreign:
            found = f"it tells of {foreign[0][0]}, whose machine is on host {foreign[0][1]}"
            refused[host] = str(answer_bounds.refusal(f"host {host}: what it says of installations", found))
        else:
            believed[host] = entries
    return believed
