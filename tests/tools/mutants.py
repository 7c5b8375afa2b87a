#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of what goes wrong in the plugins the tests notice: small faults are put into them, one at a time.

    mutants.py [--count 200] [--seed N] [--tier test] [--jobs 2] [--report build/mutants.jsonl]
    mutants.py --survivors build/mutants.jsonl [--count 20] [--tier all]

cosmic-ray makes the faults (a comparison turned round, a branch that is never taken, a number that is one more), each
in a copy of the checkout. The seed, which is printed, chooses them among all that the operators below could make. For
each, the tests run that reach its line (by build/coverage/TIER, see measure_coverage.py), the fastest first, up to the
first that fails. A fault that no test notices survives; one in a line that no test reaches is told apart.
--survivors takes survivors of an earlier report, as many as --count and the seed choose, and tries these with the tests
of another tier. Only programs and tests of this checkout are run; it needs root wherever these do."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests" / "tools")]

from measure_coverage import DATA, reached  # noqa: E402

from ansible_collections.nebula.provision.tests import tiers  # noqa: E402

# What programmers get wrong. Of the arithmetical ones one each: x + y that became x ** y is noticed by anything.
OPERATORS = (
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt")),
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_FloorDiv", "FloorDiv_Mul")),
    *("core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/AddNot", "core/ReplaceUnaryOperator_Delete_Not"),
    *("core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/NumberReplacer"),
    *("core/ReplaceBreakWithContinue", "core/ReplaceContinueWithBreak"),
    *("core/ExceptionReplacer", "core/ZeroIterationForLoop"),
)
# A fault may make a test wait for what never comes.
MOST_SECONDS = 900
PLUGINS = "plugins/"
# How pytest ends where it knows no test of a name that it was given.
UNKNOWN_TEST = 4


def told_by(status: int) -> str:
    return f"(pytest ended with {status})"


@dataclass(frozen=True)
class Mutant:
    """occurrence: the how manyth place in the file where the operator fits. outcome: killed, survived, not reached."""

    file: str
    operator: str
    occurrence: int
    first: int
    last: int
    outcome: str = ""
    by: str = ""
    tests: int = 0
    seconds: float = 0.0
    change: str = ""


def possible(path: Path) -> list[Mutant]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    nodes = list(ast_nodes(get_ast(path.read_text(encoding="utf-8"))))
    found = []
    for name in OPERATORS:
        operator, occurrence = get_operator(name)(), 0
        for node in nodes:
            for first, last in operator.mutation_positions(node):
                found.append(Mutant(str(path.relative_to(ROOT)), name, occurrence, first[0], last[0]))
                occurrence += 1
    return found


def chosen(count: int, chance: random.Random) -> list[Mutant]:
    there = [mutant for path in sorted((ROOT / "plugins").rglob("*.py")) for mutant in possible(path)]
    return chance.sample(there, min(count, len(there)))


def mutated(mutant: Mutant, source: str) -> str | None:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    return mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)


class Reaching:
    """Which tests reach a line, the fastest first."""

    def __init__(self, tier: str) -> None:
        self.lines = reached(tier)
        self.seconds: dict[str, float] = {}
        for one in tier.split("+"):
            self.seconds |= json.loads((DATA / f"{one}.seconds.json").read_text())

    def of(self, mutant: Mutant) -> list[str]:
        lines = self.lines.get(mutant.file, {})
        found: set[str] = set().union(*(lines.get(line, set()) for line in range(mutant.first, mutant.last + 1)))
        if "" in found:
            # It runs while the file is imported, whoever did that first: then whatever reaches the file counts.
            found = found.union(*lines.values())
        if not found - {""} or "" in found:
            # What a dataclass is made of, and what Jinja calls, is seen by no measurement.
            found |= self._about(Path(mutant.file))
        return sorted((found - {""}) & self.seconds.keys(), key=lambda test: (self.seconds[test], test))

    def _about(self, file: Path) -> set[str]:
        """The unit tests that have their name from the file."""
        place = f"tests/unit/{file.parent}/test_{file.stem}"
        return {test for test in self.seconds if test.startswith((f"{place}.py::", f"{place}_"))}


class Place:
    """A copy of the checkout, in which one fault at a time is tried."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, directory / name
            if source.is_symlink() or source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        for environment in ROOT.glob(".venv*"):
            if environment.is_dir():
                (directory / environment.name).symlink_to(environment)

    def run(self, tests: list[str], seconds: float) -> tuple[str, str]:
        """What became of the fault, and the test that noticed it."""
        outcome = self.pytest(tests, seconds)
        if outcome == ("killed", told_by(UNKNOWN_TEST)):
            # A fault may change the tests' own names, as where a parameter is made from the plugins.
            return self.pytest(sorted({test.partition("::")[0] for test in tests}), MOST_SECONDS)
        return outcome

    def pytest(self, tests: list[str], seconds: float) -> tuple[str, str]:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
            listed.write("\n".join(tests))
            listed.flush()
            command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=no"]
            environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
            # Python tells a changed file by its second and size, which the next fault may have in common with this.
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
            process = subprocess.Popen(
                [*command, f"@{listed.name}"],
                cwd=self.root, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
            try:
                output, _none = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                # Worlds end with the process that made them.
                os.killpg(process.pid, 9)
                process.communicate()
                return "killed", "(it did not end)"
        if process.returncode == 0:
            return "survived", ""
        told = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        # Before the tests begin pytest names no test: "ERROR: not found: …".
        return "killed", told[0].split(" ", 1)[1].split(" - ")[0] if told else told_by(process.returncode)

    @contextmanager
    def with_fault(self, mutant: Mutant) -> Iterator[str]:
        """The changed line, while it is changed."""
        path = self.root / mutant.file
        source = path.read_text(encoding="utf-8")
        changed = mutated(mutant, source)
        if changed is None:
            raise ValueError(f"{mutant}: nothing to change there")
        path.write_text(changed, encoding="utf-8")
        try:
            pairs = zip(source.splitlines(), changed.splitlines())
            before, after = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
            yield f"{before.strip()} -> {after.strip()}"
        finally:
            path.write_text(source, encoding="utf-8")


def attempt(place: Place, mutant: Mutant, tests: Reaching) -> Mutant:
    reaching = tests.of(mutant)
    began = time.monotonic()
    with place.with_fault(mutant) as change:
        outcome, by = ("not reached", "") if not reaching else ("survived", "")
        # Those that have the machine to themselves wait for each other.
        beside = [test for test in reaching if Path(test.partition("::")[0]).stem not in tiers.ALONE]
        alone = [test for test in reaching if test not in set(beside)]
        for names, lock in ((beside, False), (alone, True)):
            if names and outcome == "survived":
                limit = min(MOST_SECONDS, 60 + 5 * sum(tests.seconds[name] for name in names))
                with one_at_a_time(lock):
                    outcome, by = place.run(names, limit)
    seconds = round(time.monotonic() - began, 1)
    return replace(mutant, outcome=outcome, by=by, tests=len(reaching), seconds=seconds, change=change)


@contextmanager
def one_at_a_time(wanted: bool) -> Iterator[None]:
    with (DATA / "alone.lock").open("w") as lock:
        if wanted:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def attempt_all(mutants: list[Mutant], tests: Reaching, jobs: int, report: Path) -> list[Mutant]:
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    done: list[Mutant] = []
    writing = threading.Lock()

    def work(place: Place) -> None:
        while True:
            try:
                mutant = waiting.get_nowait()
            except queue.Empty:
                return
            ended = attempt(place, mutant, tests)
            with writing:
                done.append(ended)
                with report.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(ended)) + "\n")
                by = f"  by {ended.by}" if ended.by else ""
                place_in = f"{ended.file}:{ended.first}"
                print(
                    f"{len(done):4} {ended.outcome:11} {ended.seconds:6.1f} s  {place_in}  {ended.change}{by}",
                    flush=True,
                )

    with tempfile.TemporaryDirectory(prefix="nebula-mutants-") as directory:
        # Other users' processes pass, as in a checkout.
        Path(directory).chmod(0o755)
        places = [Place(Path(directory, f"job-{number}")) for number in range(jobs)]
        threads = [threading.Thread(target=work, args=(place,)) for place in places]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return done


def table(mutants: list[Mutant]) -> str:
    packages: dict[str, Counter[str]] = {}
    for mutant in mutants:
        parts = mutant.file.split("/")
        package = "/".join(parts[1 : 3 if parts[1] == "module_utils" and len(parts) > 3 else 2])
        for name in (package, "all"):
            packages.setdefault(name, Counter())[mutant.outcome] += 1
    width = max(map(len, packages))
    outcomes = ("killed", "survived", "not reached")
    lines = [f"{'package':{width}}" + "".join(f"{outcome:>13}" for outcome in outcomes)]
    for name, counts in sorted(packages.items(), key=lambda item: (item[0] == "all", item[0])):
        lines.append(f"{name:{width}}" + "".join(f"{counts[outcome]:13}" for outcome in outcomes))
    return "\n".join(lines)


def read(report: Path) -> list[Mutant]:
    return [Mutant(**json.loads(line)) for line in report.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--tier", default="test", help="whose tests: a name of build/coverage, or several joined by +")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report", type=Path, default=ROOT / "build/mutants.jsonl")
    parser.add_argument("--survivors", type=Path, help="a report whose survivors are tried again")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    tests = Reaching(options.tier)
    if options.survivors:
        left: list[Any] = [mutant for mutant in read(options.survivors) if mutant.outcome != "killed"]
        mutants = chance.sample(left, min(options.count, len(left)))
    else:
        mutants = chosen(options.count, chance)
    options.report.unlink(missing_ok=True)
    print(table(attempt_all(mutants, tests, options.jobs, options.report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
