# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of a variable that Ansible may have to evaluate first; in errors are names only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shown_values import show, shown

ROOT = Path(__file__).resolve().parents[4]
WORD = "s3cr3t-Zx9"
# An error shows the lines before its own.
PLAY = """
- vars:
    another: {word}
  hosts: localhost
  gather_facts: false
  tasks:
    - {task}
"""
TASK = json.dumps(show("lookup('nebula.provision.secret', 'web')"))


def read(tmp_path: Path, variables: str) -> tuple[str, str]:
    (tmp_path / "play.yml").write_text(PLAY.format(word=WORD, task=TASK))
    (tmp_path / "variables.yml").write_text(variables or "{}")
    program = str(Path(sys.executable).parent / "ansible-playbook")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    environment.pop("PYTHONPATH", None)
    command = [program, "-i", "localhost,", "-c", "local", "-e", f"@{tmp_path}/variables.yml", f"{tmp_path}/play.yml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return shown(done.stdout) or "", done.stdout + done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        f"nebula_secrets: !unsafe 'web: {WORD}'\n",
        f"nebula_secrets: {{web: {WORD}}}\n",
        "nebula_secrets: {web: '{{ another }}'}\n",
        "nebula_secrets: '{{ {\"web\": another} }}'\n",
    ],
)
def test_a_secret_is_found_in_each_form(tmp_path, variables):
    found, output = read(tmp_path, variables)
    assert found == WORD, output


def test_a_name_that_is_not_there_is_an_error_without_values(tmp_path):
    found, output = read(tmp_path, f"nebula_secrets: {{database: {WORD}}}\n")
    text = " ".join(output.split())
    assert not found and "Secret web: nebula_secrets has no secret of this name; it has database" in text, output
    assert WORD not in output
    found, output = read(tmp_path, "")
    assert not found and "Secret web: nebula_secrets is not set" in " ".join(output.split()), output
