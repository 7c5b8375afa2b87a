# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of pytest: which lines of the plugins each test reaches, and how long the test takes.

tests/conftest.py has it run where measure_coverage.py has set NEBULA_COVERED, and coverage.py runs already. Lines are
kept by the test that reached them, whichever process did: pytest's own, a world's (in_world.py), a module's that
Ansible started."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Where files with seconds by test go.
PLACE = "NEBULA_COVERED"
_seconds: Counter[str] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    name_context(item.nodeid)
    try:
        return (yield)
    finally:
        name_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        _seconds[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    place = os.environ.get(PLACE)
    if place and _seconds:
        Path(place, f"seconds-{uuid.uuid4()}.json").write_text(json.dumps(_seconds))


def name_context(test: str) -> None:
    """What is reached from now on in this process belongs to this test."""
    import coverage

    current = coverage.Coverage.current()
    if current is not None:
        current.switch_context(test)
