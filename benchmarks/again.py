# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml (verify switched off) again, over machines that are all there: in seconds that the processors computed, in
Ansible, in the modules that it calls on this machine, and in libvirt."""

from __future__ import annotations

from collections.abc import Iterator

from measure import CPU, Row, take_turns, tell
from provisioning import LOOP_FEW, LOOP_MANY, Loop
from setting import Ours, PlaybookRun, expect_running, pings

FEW, MANY = 10, 100
# Of a bare playbook that calls ansible.builtin.ping as often as site.yml calls modules, and of one that calls it as
# often as a run with nothing to do may call modules at most.
TIMES_PINGS, TIMES_MOST = 1.75, 1.0
MOST_CALLS = 7
# Tasks that are shown, the dearest first.
SHOWN_TASKS = 15


def rows(rounds: int) -> Iterator[Row]:
    ours, loop = Ours(), Loop()
    last: dict[int, PlaybookRun] = {}

    def again(count: int) -> float:
        last[count] = ours.site(count)
        expect_running("one-", count)
        return last[count].processor

    tell(f"making {FEW} machines, and {LOOP_MANY} by a loop")
    ours.site(FEW)
    loop.make(LOOP_MANY)
    few = take_turns(
        rounds,
        {
            "site": lambda: again(FEW),
            "few": lambda: loop.make(LOOP_FEW).processor,
            "many": lambda: loop.make(LOOP_MANY).processor,
        },
    )
    loop.end(LOOP_MANY)
    tell(f"making {MANY} machines")
    ours.site(MANY)
    again(MANY)
    calls = last[MANY].calls
    many = take_turns(
        rounds,
        {
            "site": lambda: again(MANY),
            "pings": lambda: pings(calls).processor,
            "most": lambda: pings(MOST_CALLS).processor,
        },
    )
    ours.end()
    yield Row.at_most(
        f"site.yml again, {FEW} machines, beside {calls} pings", few["site"], many["pings"], CPU, TIMES_PINGS
    )
    yield Row.at_most(
        f"site.yml again, {FEW} machines, beside {MOST_CALLS} pings", few["site"], many["most"], CPU, TIMES_MOST
    )
    yield Row.fact(f"site.yml again, {MANY} machines, beside {calls} pings", many["site"], many["pings"], CPU)
    yield Row.limit(f"site.yml again, {MANY} machines: module calls", calls, MOST_CALLS, "calls")
    yield Row.exactly(f"site.yml again, {MANY} machines: what it changed", last[MANY].changed, 0, "results")
    yield Row.exactly(
        f"site.yml again, {MANY} machines: tasks, beside {FEW} machines", last[MANY].tasks, last[FEW].tasks, "tasks"
    )
    yield Row.fact(
        "site.yml again: one machine more that is there, beside a loop",
        (many["site"] - few["site"]) / (MANY - FEW),
        (few["many"] - few["few"]) / (LOOP_MANY - LOOP_FEW),
        CPU,
    )
    # By machine: what polls them, and what decides about them, grows with their number; all else should not.
    fewer = _by_task(last[FEW])
    dearest = sorted(_by_task(last[MANY]).items(), key=lambda item: -item[1])[:SHOWN_TASKS]
    for name, taken in dearest:
        yield Row.fact(f"site.yml again, {MANY} machines: {name}, beside {FEW} machines", taken, fewer.get(name), CPU)


def _by_task(run: PlaybookRun) -> dict[str, float]:
    """What those tasks computed that called a module."""
    taken: dict[str, float] = {}
    for task in run.profile:
        if task.calls:
            taken[task.name] = taken.get(task.name, 0.0) + task.processor
    return taken
