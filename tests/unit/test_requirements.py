# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever pip installs for this project is one of the files that were looked at: each has its hash, in each list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "requirements"
# Of Debian's packages apt checks the signatures.
NOT_FOR_PIP = ("bench-packages", "coverage", "debian", "firewalls")
LISTS = sorted(path.stem for path in PLACE.glob("*.txt") if path.stem not in NOT_FOR_PIP)


def named(path: Path) -> dict[str, str]:
    """Versions by name, as the list and those that it begins from say them."""
    found = {}
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            found |= named(path.parent / line[3:])
        elif line and not line.startswith("#"):
            name, _mark, version = line.partition("==")
            found[re.sub(r"[-_.]+", "-", name).lower()] = version
    return found


def exact(name: str) -> list[tuple[str, str, int]]:
    """Name, version and the number of hashes of each."""
    text = (PLACE / "exact" / f"{name}.txt").read_text()
    found = []
    for entry in re.split(r"\n(?=[^ #\n])", text)[1:]:
        head, *hashes = (line.strip(" \\") for line in entry.strip().splitlines())
        name, _mark, version = head.partition(" ;")[0].strip().partition("==")
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), head
        found.append((re.sub(r"[-_.]+", "-", name).lower(), version.strip(), len(hashes)))
    return found


def test_there_is_one_for_each_list():
    assert sorted(path.stem for path in (PLACE / "exact").iterdir()) == LISTS


@pytest.mark.parametrize("name", LISTS)
def test_what_a_list_names_is_what_is_installed(name):
    found = {package: version for package, version, _hashes in exact(name)}
    assert {package: found.get(package) for package in named(PLACE / f"{name}.txt")} == named(PLACE / f"{name}.txt")
    # A wheel and a source at least, of most.
    assert sum(hashes > 1 for _package, _version, hashes in exact(name)) >= len(found) * 0.8


@pytest.mark.parametrize("name", LISTS)
def test_no_list_says_where_it_comes_from(name):
    text = (PLACE / f"{name}.txt").read_text() + (PLACE / "exact" / f"{name}.txt").read_text()
    assert re.findall(r"://|--(?:index|extra|find|trusted)", text) == []


def test_hashes_are_asked_for():
    assert "--require-hashes -r" in (ROOT / "tests/tools/venv.sh").read_text()
    for path in ("tests/tools/venv.sh", "tests/tools/constraints.sh"):
        for line in (ROOT / path).read_text().replace("\\\n", " ").splitlines():
            assert "pip install" not in line or "--require-hashes" in line, line
