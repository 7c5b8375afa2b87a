# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule's scenario default as a test of `make test`; the others belong to suites (tests/tiers.py)."""

from __future__ import annotations

import pytest
from make_target import make


@pytest.mark.timeout(1500)
def test_scenario_default():
    returncode, output = make("molecule")
    print(output)  # as captured output it is shown once; in the assertion, CI would repeat it in the summary
    assert returncode == 0, "make molecule"
