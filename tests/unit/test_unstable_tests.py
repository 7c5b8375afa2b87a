# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test of a long suite that fails has a second run where CI runs it, and only what passes then is let go: real runs
of pytest over small files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import suites
import unstable_tests

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import os, pathlib, pytest

HERE = pathlib.Path(__file__).parent

def first(name):
    seen = HERE / f"{name}.seen"
    there = seen.exists()
    seen.touch()
    return not there

@pytest.fixture
def unsteady():
    yield
    assert not first("unsteady")

def test_steady(): pass
@pytest.mark.parametrize("word", ["a::b [c]/d"])
def test_once(word): assert not first("once")
def test_taken_down(unsteady): pass
def test_always(): assert False
def test_no_time():
    if not first("no_time"):
        pytest.skip("no time left for it")
    assert False
@pytest.mark.parametrize("number", range(6))
def test_many(number): assert not first(f"many-{number}")
def test_ends_pytest(): os._exit(1)
def test_ends_its_process():
    if first("process"):
        os._exit(1)
"""
ONCE = "test_them.py::test_once[a::b [c]/d]"
Run = Callable[..., "tuple[int, int]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}/tests/tools\n")
    (tmp_path / "test_them.py").write_text(TESTS)
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    # Plugins that nothing here needs take longer to load than these tests to run.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("NEBULA_", "PYTEST_"))}
    environment = {**own, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*tests: str, options: tuple[str, ...] = ()) -> tuple[int, int]:
        return unstable_tests.run([f"test_{test}" for test in tests], options, tmp_path, environment)

    return run


def test_what_passes_at_its_second_run_is_named_and_no_failure(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    of_two_processes = ("-p", "xdist", "-n", "2")
    tests = ("them.py::test_once", "them.py::test_taken_down", "them.py::test_steady", "them.py::test_ends_its_process")
    assert run(*tests, options=of_two_processes) == (0, 3)
    told = capfd.readouterr().out.splitlines()
    unstable = {ONCE, *(f"test_{name}" for name in (tests[1], tests[3]))}
    assert {line for line in told if line.startswith("UNSTABLE")} == {f"UNSTABLE {test}" for test in unstable}


def test_what_does_not_pass_at_its_second_run_is_a_failure(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("them.py::test_once", "them.py::test_always", "them.py::test_no_time") == (1, 1)
    told = capfd.readouterr().out
    assert f"\nUNSTABLE {ONCE}\n" in told
    assert "\nFAILED test_them.py::test_always (once more: failed)\n" in told
    assert "\nFAILED test_them.py::test_no_time (once more: Skipped: no time left for it)\n" in told
    assert told.count("UNSTABLE") == 1


@pytest.mark.parametrize(
    ("tests", "status"),
    [
        (("them.py::test_many",), 1),
        # What ends otherwise is no matter of a test, even where one had failed before.
        (("them.py::test_once", "broken.py"), 2),
        (("them.py::test_once", "them.py::test_ends_pytest"), 1),
        (("them.py::test_steady",), 0),
    ],
    ids=["many failed", "one was not collected", "pytest died", "all passed"],
)
def test_other_runs_are_as_they_were(
    tests: tuple[str, ...], status: int, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*tests) == (status, 0)
    told = capfd.readouterr().out
    assert "once more:" not in told and "UNSTABLE" not in told
    assert ("6 tests failed: more than 5 are not run once more" in told) is ("test_many" in tests[0])


@pytest.mark.parametrize(("verb", "once_more"), [("touched", True), ("all", False), ("run", False)])
def test_only_what_a_change_touches_has_second_runs(
    verb: str, once_more: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def run(name: str, _arguments: list[str], *, once_more: bool = False) -> tuple[int, int]:
        asked.append((name, once_more))
        return 0, int(once_more)

    monkeypatch.setattr(suites, "run", run)
    monkeypatch.setattr(suites, "changed_lines", lambda _since: {"tests/torture": 1})
    monkeypatch.setattr(suites.tiers, "SUITES", {"torture": suites.tiers.SUITES["torture"]})
    monkeypatch.setattr("sys.argv", ["suites.py", verb, "torture"])
    monkeypatch.delenv("NEBULA_DEADLINE", raising=False)
    assert suites.main() == 0
    assert asked == [("torture", once_more)]
    assert ("UNSTABLE tests: 1" in capsys.readouterr().out) is once_more


def test_a_suite_whose_pytest_was_killed_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suites.tiers.Suite(subjects=(), minutes=1, files=("test_x",), scenarios=("default",))
    monkeypatch.setattr(suites.tiers, "SUITES", {"one": suite})
    monkeypatch.setattr(unstable_tests, "run", lambda *_arguments: (-9, 0))
    monkeypatch.setattr(subprocess, "run", lambda *_arguments, **_options: SimpleNamespace(returncode=0))
    assert suites.run("one", [], once_more=True) == (9, 0)
