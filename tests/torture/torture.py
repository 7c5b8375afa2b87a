#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills site.yml and teardown anywhere, runs them again at once, and looks whether all is as it should be.

    torture.py [--kills 200] [--seed 1] [--jobs 1] [--report FILE]        (as root)

Each job is a world of its own (tests/tools/world.py) in which one thing happens after the other: machines are made,
changed and ended by playbooks, one of which in each cycle is killed (its controller, the controller's sessions, the
module on the node, libvirtd, the machines), at a moment that the seed chooses. The next run starts while what the
killed one left may still be working; when both have ended, catalog, libvirt, processes, files and lists have to agree.

The same seed and number of jobs choose the same things; when exactly a kill meets a process is as the machine has it.
--report: one line of JSON for each cycle."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORLD = ROOT / "tests" / "tools" / "world.py"
# The distribution's libvirt.
LIBRARIES = "/usr/lib/python3/dist-packages"

# Before the imports below: as a program it has no pytest to set the path.
sys.path[:0] = [path for path in (str(ROOT / "collections"), str(ROOT / "tests" / "tools")) if path not in sys.path]
if LIBRARIES not in sys.path:
    sys.path.append(LIBRARIES)

from auditor import findings_here  # noqa: E402

from ansible_collections.nebula.provision.tests.torture.invariants import (  # noqa: E402
    Memory,
    check,
    check_nothing,
    check_temporary,
    host_state,
)
from ansible_collections.nebula.provision.tests.torture.killing import (  # noqa: E402
    UNKNOWN,
    VICTIMS,
    Moment,
    Play,
    modules,
    strike,
    wait_until,
)
from ansible_collections.nebula.provision.tests.torture.scene import Lists, Scene  # noqa: E402

PLAY_SECONDS = 600
# What a run may say instead of doing it all, where a teardown that was killed had decided to end machines of the same
# names, which hold their addresses and images until they have ended. The next run has to do it.
BEING_ENDED = "being ended"
MOST_REFUSALS = 2


@dataclass
class Cycle:
    """One kill and what came of it. answer: what was run at once. refused: what that said where it did not do it.
    problems: what was lost, left over or used twice."""

    seed: str
    number: int
    play: str
    victim: str
    moment: str
    answer: str
    task: str = ""
    after: float = 0.0
    orphans: int = 0
    refused: list[str] = field(default_factory=list)
    again: bool = False
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Torture:
    """What happens in one world."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.scene = Scene.begin()
        self.before = host_state()
        self.memory = Memory()
        self.lists: Lists | None = None
        # Tasks and durations of the last run of each kind that nobody disturbed.
        self.known = dict(UNKNOWN)
        self.number = 0

    def cycle(self) -> Cycle:
        began = time.monotonic()
        chance = self.chance
        play, lists, victim = self._choose()
        # Most at what changes something; some of all others, too.
        by = chance.choices(("time", "work", "task"), (35, 45, 20))[0]
        moment = Moment(by, chance.random(), chance.random())
        answer, answered = self._answer(play, lists, victim)
        cycle = Cycle(self.seed, self.number, play, victim, str(moment), answer)
        self.number += 1
        try:
            self._kill(cycle, moment, lists)
            self._run_at_once(cycle, answered)
            self._look(cycle, answered)
            if answered is not None and not cycle.problems and chance.random() < 0.25:
                cycle.again = True
                self._again(cycle, answered)
        except Exception as problem:
            cycle.problems.append(f"{type(problem).__name__}: {problem}")
        self.lists = answered
        cycle.seconds = round(time.monotonic() - began, 1)
        return cycle

    def _choose(self) -> tuple[str, Lists, str]:
        """What is run, with which lists, and what of it is killed."""
        chance = self.chance
        if self.lists is None:
            play, lists = "site", Lists()
        else:
            play = chance.choices(("site", "vm", "teardown"), (55, 15, 30))[0]
            # Now and then what is there already.
            lists = self.lists if play == "teardown" or chance.random() < 0.1 else self.lists.changed(chance)
        # Role vm by itself does not start a libvirtd that was killed.
        weights = (30, 15, 30, 0 if play == "vm" else 15, 10)
        return play, lists, chance.choices(VICTIMS, weights)[0]

    def _answer(self, play: str, lists: Lists, victim: str) -> tuple[str, Lists | None]:
        """What is run at once afterwards: the same, other lists, or the end of everything."""
        chance = self.chance
        if play == "teardown":
            # Once torn down in part, what was there is made anew.
            return ("site", lists) if chance.random() < 0.2 else ("teardown", None)
        turn = chance.random()
        if turn < 0.15:
            return "teardown", None
        if turn < 0.35:
            lists = lists.changed(chance)
        return play, lists

    def _play(self, play: str, lists: Lists) -> Play:
        return Play(self.scene.command(play, lists), ROOT, self.scene.environment())

    def _kill(self, cycle: Cycle, moment: Moment, lists: Lists) -> None:
        play = self._play(cycle.play, lists)
        struck = strike(play, cycle.victim, moment, self.known[cycle.play])
        if struck is None:
            # Over before: the next thing to kill is its successor.
            cycle.victim = "nothing"
            code = play.end(PLAY_SECONDS)
            if code != 0:
                raise AssertionError(f"an undisturbed run failed:\n{play.output[-3000:]}")
            return
        cycle.task, cycle.after, cycle.orphans = struck.task, round(struck.seconds, 2), struck.orphans
        if cycle.victim in ("controller", "group"):
            play.end(60)
        else:
            play.end(PLAY_SECONDS)

    def _run_at_once(self, cycle: Cycle, lists: Lists | None) -> None:
        while True:
            orphans = bool(modules())
            play = self._play(cycle.answer, lists or Lists())
            code = play.end(PLAY_SECONDS)
            if code == 0:
                self.known[cycle.answer] = play.durations()
                return
            said = play.output[-3000:]
            if not (orphans or BEING_ENDED in said) or len(cycle.refused) >= MOST_REFUSALS:
                raise AssertionError(f"{cycle.answer} at once failed:\n{said}")
            cycle.refused.append(next((line for line in reversed(play.lines) if "fatal:" in line), said)[:600])
            wait_until(lambda: not modules(), PLAY_SECONDS)

    def _look(self, cycle: Cycle, lists: Lists | None) -> None:
        """When what the killed run left has ended too."""
        wait_until(lambda: not modules(), PLAY_SECONDS)
        cycle.problems += check_temporary(self.scene.temporary)
        if lists is None:
            cycle.problems += check_nothing(self.scene.root, self.before)
        else:
            cycle.problems += check(self.scene.root, lists.expected(), self.memory)
            cycle.problems += [f"audit: {found['sentence']}" for found in findings_here(str(self.scene.root))]

    def _again(self, cycle: Cycle, lists: Lists) -> None:
        play = self._play("site", lists)
        code = play.end(PLAY_SECONDS)
        changed = [line.strip() for line in play.lines if line.startswith("changed:") or " changed=" in line]
        if code != 0 or not any("changed=0" in line for line in changed if line.startswith("node1")):
            cycle.problems.append(f"again: code {code}, {changed}\n{play.output[-3000:]}")
        self._look(cycle, lists)


def in_world(kills: int, seed: str) -> None:
    """Cycles as lines of JSON, until there were so many kills or something is wrong."""
    torture = Torture(seed)
    done = 0
    while done < kills:
        cycle = torture.cycle()
        print(json.dumps(asdict(cycle)), flush=True)
        done += cycle.victim != "nothing"
        if cycle.problems:
            return


def job(kills: int, seed: str, tell: Callable[[dict[str, Any]], None]) -> None:
    """Worlds one after the other: one in which something was wrong is not gone on with."""
    for number in itertools.count():
        # A world is not left to itself when whoever tortures is ended, however that is.
        command = ["setpriv", "--pdeathsig", "TERM", sys.executable, str(WORLD)]
        command += ["--no-daemons", sys.executable, __file__]
        command += ["--in-world", f"{seed}.{number}", "--kills", str(kills)]
        told = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as world:
            for line in world.stdout or ():
                cycle = json.loads(line)
                told += 1
                kills -= cycle["victim"] != "nothing"
                tell(cycle)
        if kills <= 0:
            return
        if told == 0:
            raise RuntimeError(f"the world of seed {seed}.{number} ended with {world.returncode}: see above")


def torture(kills: int, seed: int, jobs: int = 1, report: Path | None = None) -> list[dict[str, Any]]:
    """All cycles; those with problems say what."""
    cycles: list[dict[str, Any]] = []

    def tell(cycle: dict[str, Any]) -> None:
        cycles.append(cycle)
        print(_line(cycle), flush=True)
        if report is not None:
            with report.open("a", encoding="utf-8") as file:
                file.write(json.dumps(cycle) + "\n")

    shares = [kills // jobs + (number < kills % jobs) for number in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(job, share, f"{seed}.{n}", tell) for n, share in enumerate(shares) if share]:
            future.result()
    return cycles


def _line(cycle: dict[str, Any]) -> str:
    said = "; ".join(cycle["problems"]) or ("refused, then done" if cycle["refused"] else "well")
    return (
        f"{cycle['seed']} #{cycle['number']}: {cycle['victim']} of {cycle['play']} at {cycle['task']!r} "
        f"({cycle['after']} s), {cycle['orphans']} orphans, then {cycle['answer']}: {said} ({cycle['seconds']} s)"
    )


def table(cycles: list[dict[str, Any]]) -> str:
    """Kills by what was killed and at which task, and what came of them."""
    killed = [cycle for cycle in cycles if cycle["victim"] != "nothing"]
    counted = Counter((cycle["victim"], cycle["play"], cycle["task"]) for cycle in killed)
    lines = [f"{'KILLED':<12}{'PLAY':<10}{'TIMES':>5}  AT"]
    lines += [f"{victim:<12}{play:<10}{times:>5}  {task}" for (victim, play, task), times in sorted(counted.items())]
    wrong = [cycle for cycle in cycles if cycle["problems"]]
    orphans = sum(cycle["orphans"] > 0 for cycle in killed)
    refused = sum(bool(cycle["refused"]) for cycle in cycles)
    again = sum(cycle["again"] for cycle in cycles)
    lines.append(
        f"{len(killed)} kills ({orphans} left a module working), {refused} answered by a refusal first, {again} looked "
        f"at by one more run, {len(wrong)} went wrong, {sum(c['seconds'] for c in cycles):.0f} s"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--in-world", metavar="SEED", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_world is not None:
        in_world(options.kills, options.in_world)
        return 0
    cycles = torture(options.kills, options.seed, options.jobs, options.report)
    print(table(cycles))
    return 1 if any(cycle["problems"] for cycle in cycles) else 0


if __name__ == "__main__":
    sys.exit(main())
