# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which test runs when: the one table of it. Each test file is in exactly one tier (tests/unit/test_tiers.py):

- QUICK, and all of tests/unit: `make quick`, before each commit.
- TEST: `make test` runs these as well, as CI does with each change.
- SUITES: `make test-all` runs these, and `make test-NAME` one of them; CI runs those whose subject a change touches.

Files of tests/integration are named without their directory and ending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INTEGRATION = "tests/integration"

# They take seconds each.
QUICK: tuple[str, ...] = ()

# One whole life of every world, and what a change must not break.
TEST: tuple[str, ...] = ()
# Beside them: the tools (linters, sanity, importer, documentation), and molecule's scenario default.
TEST_TOOLS = ("tests/tools/test_tools.py", "tests/tools/test_molecule.py")


@dataclass(frozen=True)
class Suite:
    """subjects: files and directories whose change wants it. files: of tests/integration; they run at two at a time.
    target: what `make` runs instead or besides. minutes: what it takes on two slow cores, with nothing cached."""

    subjects: tuple[str, ...]
    minutes: int
    files: tuple[str, ...] = ()
    target: str = ""
    scenarios: tuple[str, ...] = ()


SUITES: dict[str, Suite] = {}

# Those that look at all loop devices and at what killed runs left, measure memory, have the stock host, or load the
# machine as much as it bears: one after another. What the others need they have in worlds, namespaces and directories
# of their own.
ALONE = frozenset(())


def names(tier: str) -> tuple[str, ...]:
    """Files of a tier, from the root of the checkout."""
    if tier == "quick":
        return ("tests/unit", *_paths(QUICK))
    if tier == "test":
        return ("tests/unit", *_paths((*QUICK, *TEST)), *TEST_TOOLS)
    return tuple(_paths(SUITES[tier].files))


def _paths(files: tuple[str, ...]) -> Iterator[str]:
    return (f"{INTEGRATION}/{name}.py" for name in files)
