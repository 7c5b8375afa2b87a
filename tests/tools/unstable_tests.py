# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that fail, and pass when they are run once more: `run` does that, and prints UNSTABLE with the name of each.

It is also the plugin of pytest that `run` reads from: `-p unstable_tests --outcomes FILE` writes how each test went."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

# More that fail at once have a cause in common, and each second run may take minutes.
MOST = 5
PASSED, FAILED = "passed", "failed"


def run(tests: Sequence[str], options: Sequence[str], root: Path, environment: Mapping[str, str]) -> tuple[int, int]:
    """Return pytest's exit status, and how many tests were unstable: the status is 0 where all that failed passed by
    themselves afterwards.

    options: of the first run only.
    root: the directory that the tests are named from."""
    status, went = _pytest([*options, *tests], root, environment)
    failed = [test for test, outcome in went.items() if outcome == FAILED]
    # Any other status is of a run that did not come to its end, and says little of any test.
    if status != pytest.ExitCode.TESTS_FAILED or not failed:
        return status, 0
    if len(failed) > MOST:
        print(f"{len(failed)} tests failed: more than {MOST} are not run once more", flush=True)
        return status, 0
    unstable = [test for test in failed if _passes(test, root, environment)]
    return (0 if unstable == failed else status), len(unstable)


def _passes(test: str, root: Path, environment: Mapping[str, str]) -> bool:
    print(f"=== once more: {test}", flush=True)
    status, went = _pytest([test], root, environment)
    outcome = went.get(test, f"pytest ended with {status}")
    if status == 0 and outcome == PASSED:
        print(f"UNSTABLE {test}", flush=True)
        return True
    # Where no time is left, tests/conftest.py has it skipped with that reason.
    print(f"FAILED {test} (once more: {outcome})", flush=True)
    return False


def _pytest(arguments: list[str], root: Path, environment: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """Return the exit status, and how each test went; of a run that broke off, nothing."""
    with tempfile.TemporaryDirectory(prefix="nebula-outcomes-") as directory:
        outcomes = Path(directory, "outcomes.json")
        program = [sys.executable, "-m", "pytest", "-p", __name__, "--outcomes", str(outcomes)]
        status = subprocess.run([*program, *arguments], cwd=root, env=environment, check=False).returncode
        return status, json.loads(outcomes.read_text()) if outcomes.exists() else {}


# --- the plugin ---


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", metavar="FILE", help="write there, as JSON, how each test went")


def pytest_configure(config: pytest.Config) -> None:
    place = config.getoption("--outcomes")
    # Processes of xdist send their reports to the one that writes them.
    if place and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(Path(place)))


class Outcomes:
    """How each test went: passed, failed, or why it was skipped."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.went: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has three: of what it sets up, of itself, and of what it takes down."""
        if report.failed:
            self.went[report.nodeid] = FAILED
        elif report.skipped:
            self.went.setdefault(report.nodeid, _reason(report.longrepr))
        elif report.when == "call":
            self.went.setdefault(report.nodeid, PASSED)

    def pytest_sessionfinish(self) -> None:
        self.place.write_text(json.dumps(self.went))


def _reason(longrepr: Any) -> str:
    """pytest has file, line and words of a skipped test."""
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)
