# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/tiers.py names each test file once and nothing else, and a change leads to the suites of what it touches."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import suites

from ansible_collections.nebula.provision.tests import tiers

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = {path.parent.name for path in (ROOT / "extensions/molecule").glob("*/molecule.yml")}


def named() -> Counter[str]:
    found = Counter([*tiers.QUICK, *tiers.TEST])
    for suite in tiers.SUITES.values():
        found.update(suite.files)
    return found


def test_each_integration_file_is_in_one_tier() -> None:
    there = {path.stem for path in (ROOT / "tests/integration").glob("test_*.py")}
    assert {name: count for name, count in named().items() if count > 1} == {}, "in more than one tier"
    assert there - set(named()) == set(), "in no tier: add them to tests/tiers.py"
    assert set(named()) - there == set(), "there is no such file"


def test_each_other_test_file_is_in_one_tier() -> None:
    outside = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.relative_to(ROOT).parts[1] not in ("unit", "integration")
    }
    assert outside == set(tiers.TEST_TOOLS)


def test_each_scenario_is_in_one_tier() -> None:
    scenarios = Counter(name for suite in tiers.SUITES.values() for name in suite.scenarios)
    scenarios.update(tiers.TEST_SCENARIOS)
    assert scenarios == Counter(SCENARIOS)


def test_what_the_tables_name_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name, suite in tiers.SUITES.items():
        for subject in suite.subjects:
            assert (ROOT / subject).exists(), f"{name}: {subject}"
        for target in suite.targets:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name}: make {target}"
        assert suite.minutes > 0 and (suite.files or suite.scenarios or suite.targets), name
    known = {*named(), *(Path(path).stem for path in tiers.TEST_TOOLS)}
    for table in (tiers.ALONE, tiers.FIRST_ALONE, tiers.LONGEST, *tiers.NEEDS.values()):
        assert set(table) <= known
    assert set(tiers.FIRST_ALONE) <= tiers.ALONE


def test_every_room_of_the_product_wants_a_suite() -> None:
    """What a change touches has long tests, or is said to have none."""
    rooms = [path for path in (ROOT / "roles").iterdir() if path.is_dir()]
    rooms += [path for path in (ROOT / "plugins/module_utils").iterdir() if path.is_dir() and path.name[0] != "_"]
    rooms += [path for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name[0] != "_"]
    wanting = {subject for suite in tiers.SUITES.values() for subject in suite.subjects}
    # A room is wanted itself, by what is in it, or by the room around it.
    for room in rooms:
        name = str(room.relative_to(ROOT))
        around = {str(parent) for parent in Path(name).parents}
        inside = any(subject.startswith(f"{name}/") for subject in wanting)
        assert name in wanting or inside or around & wanting or name in tiers.WITHOUT_SUITE, name


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({"plugins/module_utils/hypervisors/xen/xl.py": 10, "docs/guide.md": 500}, "xen"),
        ({"roles/install_os/tasks/main.yml": 3}, "install"),
        ({"tests/integration/test_bad_input.py": 1}, "site"),
        ({"tests/unit/test_tiers.py": 100, "README.md": 3}, None),
    ],
)
def test_the_most_touched_suite_comes_first(changed: dict[str, int], first: str | None) -> None:
    found = suites.touched(Counter(changed))
    assert (found[0][0] if found else None) == first
    assert [count for _name, count in found] == sorted((count for _name, count in found), reverse=True)


def test_a_change_is_counted_since_its_base(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        author = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "main")
    (tmp_path / "one").write_text("1\n")
    git("add", ".")
    git("commit", "-m", "Begin")
    (tmp_path / "one").write_text("1\n2\n3\n")
    (tmp_path / "two").write_text("1\n")
    git("add", ".")
    before, suites.ROOT = suites.ROOT, tmp_path
    try:
        assert suites.changed_lines("HEAD") == {"one": 3, "two": 2}
    finally:
        suites.ROOT = before


@pytest.mark.parametrize(("took", "times"), [("", 1), ("7", 1), (str(3 * tiers.TEST_MINUTES), 3)])
def test_what_would_not_end_in_time_is_left_out_by_name(took: str, times: int) -> None:
    environment = {**os.environ, "NEBULA_DEADLINE": "1", "NEBULA_BASE": "HEAD", "NEBULA_TEST_MINUTES": took}
    program = [sys.executable, ROOT / "tests/tools/suites.py"]
    done = subprocess.run([*program, "all"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in tiers.SUITES:
        assert f"\n{name}: left out, its {times * tiers.SUITES[name].minutes} minutes would not end" in done.stdout
