# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one target of the Makefile as a person would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOWN = 20_000  # characters of a failing target's output; the end says why
# The outer make's flags and variables (ARGS above all), which are meant for pytest.
OUTER = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")


def make(target: str) -> tuple[int, str]:
    """Exit code and the end of what was printed; all of it is in build/logs/TARGET.log."""
    log = ROOT / "build/logs" / f"{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in OUTER}
    environment["NO_COLOR"] = environment["ANSIBLE_NOCOLOR"] = "1"
    with log.open("wb") as output:
        run = subprocess.run(
            ["make", "--no-print-directory", target],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return run.returncode, log.read_text(errors="replace")[-SHOWN:]
