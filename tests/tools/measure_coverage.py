#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lines of the plugins the tests of a tier reach: measure_coverage.py TIER [arguments of pytest]

TIER is unit, quick, test, or a suite of tests/tiers.py. build/coverage/TIER keeps the data, lines by test, with
TIER.seconds.json beside it; mutants.py reads both. A table of lines by package is printed; `--tables TIER …` prints it
for data that is there, one column for each TIER, where A+B is one column for both together.

Lines are counted in every process that a test starts: coverage.py's own hook covers those of this environment, and
Ansible's hook covers its modules, which run with the distribution's coverage.py (package python3-coverage)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests" / "tools")]

from ansible_collections.nebula.provision.tests import tiers  # noqa: E402

DATA = ROOT / "build" / "coverage"
# The name of the running test, as pytest sets it: "FILE::TEST (call)".
CONTEXT = "context = ${PYTEST_CURRENT_TEST-}"
HERE = f"""
[run]
parallel = true
data_file = PLACE/lines
include = {ROOT}/plugins/*, */ansible_collections/nebula/provision/plugins/*
{CONTEXT}
"""
# A module's files lie in an archive that is gone when the data are read.
MODULES = f"""
[run]
parallel = true
include = */ansible_collections/nebula/provision/plugins/*
{CONTEXT}
"""
COMBINED = f"""
[run]
data_file = PLACE
relative_files = true
[paths]
source =
    plugins
    {ROOT}/plugins
    */ansible_collections/nebula/provision/plugins
"""


def measure(tier: str, arguments: list[str]) -> int:
    place = DATA / f"{tier}.parts"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    # Modules of a test's own users write there, too.
    place.chmod(0o1777)
    (place / "here.rc").write_text(HERE.replace("PLACE", str(place)))
    (place / "modules.rc").write_text(MODULES)
    environment = {
        **os.environ,
        "COVERAGE_PROCESS_START": str(place / "here.rc"),
        "_ANSIBLE_ANSIBALLZ_COVERAGE_CONFIG": json.dumps(
            {"config": str(place / "modules.rc"), "output": str(place / "module")}
        ),
        "NEBULA_COVERED": str(place),
    }
    command = [sys.executable, "-m", "pytest", "-n", "2", *tiers.names(tier), *arguments]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    combine(tier, place)
    return status


def combine(tier: str, place: Path) -> None:
    settings = place / "combined.rc"
    settings.write_text(COMBINED.replace("PLACE", str(DATA / tier)))
    files = [str(path) for path in place.iterdir() if path.name.startswith(("lines.", "module="))]
    coverage = [sys.executable, "-m", "coverage", "combine", f"--rcfile={settings}", "--quiet"]
    (DATA / tier).unlink(missing_ok=True)
    # As many as a command line holds.
    for start in range(0, len(files), 500):
        subprocess.run([*coverage, "--append", *files[start : start + 500]], cwd=ROOT, check=False, capture_output=True)
    seconds: dict[str, float] = {}
    for path in place.glob("seconds-*.json"):
        seconds |= json.loads(path.read_text())
    (DATA / f"{tier}.seconds.json").write_text(json.dumps(seconds, indent=1, sort_keys=True))


def reached(tier: str) -> dict[str, dict[int, set[str]]]:
    """Lines by file, each with the tests that reached it; the empty name stands for an import."""
    import coverage

    found: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in tier.split("+"):
        if not (DATA / one).exists():
            sys.exit(f"{DATA / one} is not there: run measure_coverage.py {one} first")
        data = coverage.CoverageData(str(DATA / one))
        data.read()
        for file in data.measured_files():
            name = "plugins" + file.rpartition("/plugins")[2] if "/plugins/" in f"/{file}" else file
            name = name if name.startswith("plugins/") else f"plugins/{name.partition('plugins/')[2]}"
            for line, contexts in data.contexts_by_lineno(file).items():
                found[name][line] |= {test_of(context) for context in contexts}
    return found


def test_of(context: str) -> str:
    """The test's name: of "FILE::TEST (call)", and of what a process of a test adds to that."""
    name = context.rpartition("|")[2] if "|tests/" in context else context
    for phase in (" (call)", " (setup)", " (teardown)"):
        name = name.removesuffix(phase)
    return name


def statements(path: Path) -> set[int]:
    from coverage.parser import PythonParser

    parser = PythonParser(text=path.read_text(encoding="utf-8"), filename=str(path), exclude="pragma: no cover")
    parser.parse_source()
    return set(parser.statements)


def tables(columns: list[str]) -> None:
    lines = {column: reached(column) for column in columns}
    packages: dict[str, list[int]] = defaultdict(lambda: [0] * (len(columns) + 1))
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        there = statements(path)
        # Packages of module_utils are told apart, all others are plugins of one kind.
        package = "/".join(name.split("/")[1 : 3 if "module_utils" in name and name.count("/") > 2 else 2])
        for row in (packages[package], packages["all"]):
            row[-1] += len(there)
            for index, column in enumerate(columns):
                row[index] += len(there & set(lines[column].get(name, ())))
    width = max(map(len, packages))
    print(f"{'package':{width}}  {'lines':>6}", *(f"{column:>16}" for column in columns))
    for package, (*counts, total) in sorted(packages.items(), key=lambda item: (item[0] == "all", item[0])):
        if total:
            print(f"{package:{width}}  {total:6}", *(f"{100 * count / total:14.1f} %" for count in counts))


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2
    if sys.argv[1] == "--tables":
        tables(sys.argv[2:])
        return 0
    status = measure(sys.argv[1], sys.argv[2:])
    tables([sys.argv[1]])
    return status


if __name__ == "__main__":
    sys.exit(main())
