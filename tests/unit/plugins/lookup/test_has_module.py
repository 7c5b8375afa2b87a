# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Ansible finds a module: its own, one of a collection, or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
NAMES = ("ansible.builtin.copy", "nebula.provision.nebula_vm", "ansible.builtin.nosuch", "nosuch.collection.module")


def test_a_module_is_there_or_not():
    program = str(Path(sys.executable).parent / "ansible")
    message = "msg={{ query('nebula.provision.has_module', *names) }}"
    command = [program, "localhost", "-i", "localhost,", "-m", "ansible.builtin.debug", "-a", message]
    command += ["-e", f"{{names: [{', '.join(NAMES)}]}}"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "[true,true,false,false]" in "".join(done.stdout.split()), done.stdout + done.stderr
