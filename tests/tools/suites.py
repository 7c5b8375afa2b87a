#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The long suites of tests/tiers.py: which there are, one of them, or those that a change touches.

    suites.py list                     names, minutes and subjects
    suites.py files TIER               what pytest runs for quick, test or a suite
    suites.py run NAME [ARGUMENTS]     one of them; the arguments are pytest's
    suites.py all                      all of them, one after another; the end names those that failed
    suites.py touched [--dry-run]      those whose subjects were changed, the most touched first
touched: the change is what came since $NEBULA_BASE, else since main of the remote origin where HEAD is not that
already, else since a day before the newest commit. A test that fails is run once more by itself, and where it passes
then, a line says UNSTABLE and its name, and its suite goes on (unstable_tests.py). Where $NEBULA_DEADLINE (seconds
since 1970) is set, a suite that would not end before it is left out, and named; $NEBULA_TEST_MINUTES says how long
`make test` took on this machine: the suites' minutes are taken to be as many times more."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import unstable_tests

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections")]

from ansible_collections.nebula.provision.tests import tiers  # noqa: E402


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def base() -> str:
    """The commit that the change is compared with."""
    named = os.environ.get("NEBULA_BASE")
    if named:
        return named
    common = git("merge-base", "HEAD", "origin/main")
    if common and common != git("rev-parse", "HEAD"):
        return common
    newest = git("log", "-1", "--format=%ct")
    if not newest:
        return ""
    before = datetime.fromtimestamp(int(newest), timezone.utc) - timedelta(days=1)
    return git("rev-list", "-1", f"--before={before.isoformat()}", "HEAD")


def changed_lines(since: str) -> Counter[str]:
    """Lines by file, those of the working tree included."""
    found: Counter[str] = Counter()
    for line in git("diff", "--numstat", "--no-renames", since).splitlines():
        added, removed, name = line.split("\t", 2)
        # A dash is a binary file.
        found[name] += 1 + sum(int(count) for count in (added, removed) if count.isdigit())
    return found


def touched(lines: Counter[str]) -> list[tuple[str, int]]:
    """Suites and how many lines of their subjects were changed: the most touched first, of equals the one whose subject
    says more exactly what was touched."""
    counts: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    for name, suite in tiers.SUITES.items():
        subjects = (*suite.subjects, *tiers.names(name))
        for path, count in lines.items():
            met = [subject for subject in subjects if path == subject or path.startswith(f"{subject}/")]
            if met:
                counts[name] += count
                exact[name] += count * max(map(len, met))
    return sorted(counts.items(), key=lambda item: (-item[1], -exact[item[0]]))


def run(name: str, arguments: list[str], *, once_more: bool = False) -> tuple[int, int]:
    """The exit status, and how many tests were unstable.

    arguments: pytest's; with them only the files of the suite run.
    once_more: what failed has a second run."""
    suite = tiers.SUITES[name]
    environment = {**os.environ, **dict(suite.environment)}
    statuses, unstable = [], 0
    if suite.files:
        options = ["-n", "2", "--durations=15", *arguments]
        if once_more:
            status, unstable = unstable_tests.run(tiers.names(name), options, ROOT, environment)
        else:
            command = [sys.executable, "-m", "pytest", *options, *tiers.names(name)]
            status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        statuses.append(status)
    if not arguments:
        for target in (*(f"scenario-{scenario}" for scenario in suite.scenarios), *suite.targets):
            command = ["make", "--no-print-directory", target]
            statuses.append(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)
    # What a signal ended has a negative one.
    return max(map(abs, statuses), default=0), unstable


def minutes(name: str) -> int:
    """What the suite takes here."""
    slower = float(os.environ.get("NEBULA_TEST_MINUTES") or 0) / tiers.TEST_MINUTES
    return math.ceil(tiers.SUITES[name].minutes * max(1.0, slower))


def run_several(wanted: list[str], *, once_more: bool = False) -> int:
    """Whether one failed. The last lines say how each went, and which had no time."""
    deadline = float(os.environ.get("NEBULA_DEADLINE") or "inf")
    told, failed = [], False
    for name in wanted:
        if time.time() + 60 * minutes(name) > deadline:
            told.append(f"{name}: left out, its {minutes(name)} minutes would not end before NEBULA_DEADLINE")
            continue
        print(f"=== suite {name}", flush=True)
        began = time.monotonic()
        status, unstable = run(name, [], once_more=once_more)
        failed = failed or status != 0
        how = f"{'failed' if status else 'passed'} in {(time.monotonic() - began) / 60:.1f} min"
        told.append(f"{name}: {how}{f', UNSTABLE tests: {unstable}' if unstable else ''}")
    print("\n".join(["Suites:", *(told or ["none was asked for"])]), flush=True)
    return int(failed)


def main() -> int:
    verb, *arguments = sys.argv[1:] or ["help"]
    if verb == "list":
        for name, suite in tiers.SUITES.items():
            print(f"{name:12} {suite.minutes:4} min  {' '.join(suite.subjects)}")
        return 0
    if verb == "files":
        print(*tiers.names(arguments[0]))
        return 0
    if verb == "run" and arguments and arguments[0] in tiers.SUITES:
        return run(arguments[0], arguments[1:])[0]
    if verb == "all":
        return run_several(list(tiers.SUITES))
    if verb == "touched":
        since = base()
        found = touched(changed_lines(since)) if since else [(name, 0) for name in tiers.SUITES]
        print(f"Changed since {since or 'the beginning'}:", *(f"{name} ({count} lines)" for name, count in found))
        return 0 if "--dry-run" in arguments else run_several([name for name, _count in found], once_more=True)
    print(__doc__)
    if verb == "run":
        print("Suites:", *tiers.SUITES)
    return 2


if __name__ == "__main__":
    sys.exit(main())
