# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a machine in a real dom0: while it stands still, while it is off, and brought back; and what becomes of it
when the run that has it stand still is killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from xen_host import XenHost  # noqa: E402

STEPS = (
    "deploy",
    "refuse",
    "back_up",
    "kill_run",
    "kill_all",
    "pause_by_hand",
    "shutdown",
    "back_up_off",
    "bring_back",
)
PLACE = "/root/backups"

pytestmark = pytest.mark.root


@pytest.mark.timeout(1800)
def test_a_machine_that_does_without_an_emulator(tmp_path):
    with XenHost(tmp_path) as host:
        host.load(
            PLACE,
            *(ROOT / "tests" / "tools" / name for name in ("backing_up.py", "xen_operations.py", "xen_backups.py")),
        )
        host.prepare(PLACE)
        words = ["env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/xen_backups.py", f"{PLACE}/demo", "xen", "pvh"]
        answer = host.sudo(words, check=False, timeout=1750)
        done = [json.loads(line) for line in answer.stdout.splitlines()]
        for line in done:
            print(*line.values(), sep="\t")
        assert [line for line in done if line["error"]] == [], answer.stderr
        assert [line["step"] for line in done] == list(STEPS), answer.stderr
