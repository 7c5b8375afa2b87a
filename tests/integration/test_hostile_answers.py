# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many mutations of each message of nodes: what tests/unit/test_answers.py does with a sample in `make test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = 1500


def test_no_mutation_of_an_answer_is_more_than_its_hosts_error() -> None:
    environment = {**os.environ, "NEBULA_FUZZ": os.environ.get("NEBULA_FUZZ") or str(MUTATIONS)}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "--tb=short", "tests/unit/test_answers.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5000:]
