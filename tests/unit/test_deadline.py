# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NEBULA_DEADLINE: what could not end before it is skipped, and says so; all else runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONE = "tests/unit/plugins/module_utils/host/test_kvm_probe.py"


@pytest.mark.parametrize(("minutes", "skipped"), [(2, True), (60, False), (None, False)])
def test_what_could_not_end_in_time_is_skipped(minutes: int | None, skipped: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NEBULA_", "PYTEST_"))}
    if minutes is not None:
        environment["NEBULA_DEADLINE"] = str(time.time() + 60 * minutes)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", ONE],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert ("no time left for it before NEBULA_DEADLINE" in done.stdout) is skipped
    assert ("passed" in done.stdout) is not skipped
