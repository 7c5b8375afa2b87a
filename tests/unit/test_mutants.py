# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make coverage` and `make mutants` go by: whose test reached a line, which tests a fault is tried with, and what
the table of faults says."""

from __future__ import annotations

import json
from pathlib import Path

import measure_coverage
import mutants
import pytest
from mutants import Mutant, Reaching

FILE = "plugins/module_utils/host/systemd_units.py"
OWN = "tests/unit/plugins/module_utils/host/test_systemd_units.py::test_own"
FAST, SLOW, OTHER = (f"tests/unit/test_x.py::test_{name}" for name in ("fast", "slow", "other"))


@pytest.mark.parametrize(
    ("context", "test"),
    [
        ("", ""),
        (f"{FAST} (call)", FAST),
        (f"{FAST}[a (call) b] (setup)", f"{FAST}[a (call) b]"),
        (f"{FAST} (teardown)", FAST),
        # A process that was started by one test, and then serves another.
        (f"{FAST} (call)|{SLOW} (call)", SLOW),
        (f"{FAST}[a|b] (call)", f"{FAST}[a|b]"),
    ],
)
def test_a_line_is_the_test_s_that_ran(context: str, test: str) -> None:
    assert measure_coverage.test_of(context) == test


@pytest.fixture
def tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reaching:
    """What `make coverage` would have found, without a run of it."""
    lines = {FILE: {1: {""}, 5: {SLOW, FAST}, 6: {SLOW}, 9: {OTHER}, 12: {"tests/unit/test_gone.py::test_gone"}}}
    monkeypatch.setattr(mutants, "reached", lambda tier: lines)
    monkeypatch.setattr(mutants, "DATA", tmp_path)
    (tmp_path / "test.seconds.json").write_text(json.dumps({FAST: 0.1, SLOW: 60, OTHER: 2, OWN: 1}))
    return Reaching("test")


@pytest.mark.parametrize(
    ("first", "last", "reaching"),
    [
        (5, 5, [FAST, SLOW]),
        (6, 9, [OTHER, SLOW]),
        # Whoever imports the file reaches that line.
        (1, 1, [FAST, OWN, OTHER, SLOW]),
        # What no measurement sees is tried with the tests of the file's name.
        (7, 8, [OWN]),
        (12, 12, []),
    ],
)
def test_a_fault_is_tried_with_what_reaches_its_line_the_fastest_first(
    tests: Reaching, first: int, last: int, reaching: list[str]
) -> None:
    assert tests.of(Mutant(FILE, "core/AddNot", 0, first, last)) == reaching


def test_a_file_that_no_test_reaches_has_none(tests: Reaching) -> None:
    assert tests.of(Mutant("plugins/modules/nebula_vm.py", "core/AddNot", 0, 1, 1)) == []


def test_the_table_counts_by_package() -> None:
    found = [Mutant(FILE, "core/AddNot", 0, 1, 1, outcome=outcome) for outcome in ("killed", "killed", "survived")] + [
        Mutant("plugins/modules/nebula_vm.py", "core/AddNot", 0, 1, 1, outcome="not reached")
    ]
    rows = [line.split() for line in mutants.table(found).splitlines()]
    assert rows == [
        ["package", "killed", "survived", "not", "reached"],
        ["module_utils/host", "2", "1", "0"],
        ["modules", "0", "0", "1"],
        ["all", "2", "1", "1"],
    ]


@pytest.mark.parametrize(("value", "outcome"), [("other", "survived"), ("wrong", "killed")])
def test_a_fault_that_renames_a_test_is_not_taken_for_noticed(tmp_path: Path, value: str, outcome: str) -> None:
    """pytest runs nothing where one of the names that it was given is not there."""
    (tmp_path / "test_one.py").write_text(
        "import pytest\n"
        f"@pytest.mark.parametrize('value', ['{value}'])\n"
        "def test_it(value):\n"
        "    assert value != 'wrong'\n"
    )
    place = object.__new__(mutants.Place)
    place.root = tmp_path
    found, by = place.run(["test_one.py::test_it[right]"], 60)
    assert found == outcome
    assert by == ("test_one.py::test_it[wrong]" if outcome == "killed" else "")
