# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml (verify switched off) again, over machines that are all there."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Row, take_turns, tell
from provisioning import LOOP_FEW, LOOP_MANY, Loop
from setting import Ours, PlaybookRun, expect_running, pings

FEW, MANY = 10, 100
# Of a bare playbook that calls ansible.builtin.ping as often as site.yml calls modules.
TIMES_PINGS = 1.5
# The most module calls that a run with nothing to do may have.
MOST_CALLS = 7
# Tasks that are shown, the dearest first.
SHOWN_TASKS = 15


def rows(rounds: int) -> Iterator[Row]:
    ours, loop = Ours(), Loop()
    last: dict[int, PlaybookRun] = {}

    def again(count: int) -> float:
        last[count] = ours.site(count)
        expect_running("one-", count)
        return last[count].seconds

    tell(f"making {FEW} machines, and {LOOP_MANY} by a loop")
    ours.site(FEW)
    loop.make(LOOP_MANY)
    few = take_turns(
        1, {"site": lambda: again(FEW), "few": lambda: loop.make(LOOP_FEW), "many": lambda: loop.make(LOOP_MANY)}
    )
    loop.end(LOOP_MANY)
    tell(f"making {MANY} machines")
    ours.site(MANY)
    again(MANY)
    calls = last[MANY].calls
    many = take_turns(
        rounds,
        {"site": lambda: again(MANY), "pings": lambda: pings(calls).seconds, "most": lambda: pings(MOST_CALLS).seconds},
    )
    ours.end()
    yield Row.at_most(
        f"site.yml again, {FEW} machines, beside {calls} pings", few["site"], many["pings"], "s", TIMES_PINGS
    )
    yield Row.at_most(
        f"site.yml again, {FEW} machines, beside {MOST_CALLS} pings", few["site"], many["most"], "s", TIMES_PINGS
    )
    yield Row.fact(f"site.yml again, {MANY} machines, beside {calls} pings", many["site"], many["pings"], "s")
    yield Row.limit(f"site.yml again, {MANY} machines: module calls", calls, MOST_CALLS, "calls")
    yield Row.exactly(f"site.yml again, {MANY} machines: what it changed", last[MANY].changed, 0, "results")
    yield Row.exactly(
        f"site.yml again, {MANY} machines: tasks, beside {FEW} machines", last[MANY].tasks, last[FEW].tasks, "tasks"
    )
    yield Row.fact(
        "site.yml again: one machine more that is there, beside a loop",
        (many["site"] - few["site"]) / (MANY - FEW),
        (few["many"] - few["few"]) / (LOOP_MANY - LOOP_FEW),
        "s",
    )
    # By machine: what polls them, and what decides about them, grows with their number; all else should not.
    fewer = _seconds_by_task(last[FEW])
    dearest = sorted(_seconds_by_task(last[MANY]).items(), key=lambda item: -item[1])[:SHOWN_TASKS]
    for name, seconds in dearest:
        yield Row.fact(f"site.yml again, {MANY} machines: {name}, beside {FEW} machines", seconds, fewer.get(name), "s")


def _seconds_by_task(run: PlaybookRun) -> dict[str, float]:
    """Of those tasks that called a module."""
    seconds: dict[str, float] = {}
    for task in run.profile:
        if task.calls:
            seconds[task.name] = seconds.get(task.name, 0.0) + task.seconds
    return seconds
