# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml (verify switched off) again, over machines that are all there."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Row, take_turns, tell
from provisioning import LOOP_FEW, LOOP_MANY, Loop
from setting import Ours, PlaybookRun, expect_running

FEW, MANY = 10, 100
LIMIT_SECONDS = 15


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
    many = take_turns(rounds, {"site": lambda: again(MANY)})
    ours.end()
    yield Row.limit(f"site.yml again, {MANY} machines", many["site"], LIMIT_SECONDS, "s")
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
