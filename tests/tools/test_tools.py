# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each tool of the Makefile is a test of `make test`. What it printed is in build/logs/TARGET.log."""

from __future__ import annotations

import pytest
from make_target import make

# What is wrong most often is told first.
TARGETS = ["ruff", "yamllint", "mypy", "docs", "floor", "importer", "ansible-lint", "sanity"]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("target", TARGETS)
def test_tool(target):
    returncode, output = make(target)
    print(output)  # as captured output it is shown once; in the assertion, CI would repeat it in the summary
    assert returncode == 0, f"make {target}"
