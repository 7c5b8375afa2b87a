# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each tool of the Makefile is a test of `make test`. What it printed is in build/logs/TARGET.log."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from make_target import make

# The slow ones first: they all run at once, on as many cores as there are.
TARGETS = ["sanity", "ansible-lint", "importer", "floor", "docs", "mypy", "yamllint", "ruff"]


@pytest.fixture(scope="module")
def runs():
    """A future per target. All start together; a test waits for its own."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield {target: pool.submit(make, target) for target in TARGETS}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("target", TARGETS[::-1])
def test_tool(target, runs):
    returncode, output = runs[target].result()
    print(output)  # as captured output it is shown once; in the assertion, CI would repeat it in the summary
    assert returncode == 0, f"make {target}"
