# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role and module as users run them: by Ansible, from YAML, with the action plugin that packs what may be secret."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The newest ansible-core that is tested, and the oldest that is promised where its environment was made.
PLAYBOOKS = [Path(sys.executable).parent / "ansible-playbook", ROOT / ".venv-floor/bin/ansible-playbook"]

PLAY = """
- hosts: all
  gather_facts: false
  vars:
    secret: hunter2
    nebula_root: {root}
    nebula_templates:
      - name: web
        template: |
          CPU     = 0.5
          MEMORY  = 128
          DISK    = [ IMAGE = "demo", DEV_PREFIX = "vd" ]
          CONTEXT = [ NETWORK = "YES", KEY = "{{{{ secret }}}}", BRACES = "$NAME" ]
      - name: db
        template:
          MEMORY: {memory}
          DISK:
            - IMAGE: demo
            - {{TYPE: swap, SIZE: 512}}
          NIC: {{NETWORK: Public, MAC: 52:54:00:12:34:56}}
          GRAPHICS: {{TYPE: vnc, PASSWD: "{{{{ secret }}}}", KEYMAP: no}}
          CONTEXT:
            NETWORK: YES
            DAY: 2026-11-20
            {more}
  roles:
    - nebula.provision.template
  post_tasks:
    - debug:
        var: __nebula_templates
"""


@pytest.fixture(params=PLAYBOOKS, ids=["newest", "oldest"])
def play(request, tmp_path):
    if not request.param.exists():
        pytest.skip(f"{request.param} is not there: make floor-venv")

    def run(*arguments, memory="128", more=""):
        text = PLAY.format(root=tmp_path / "nebula", memory=memory, more=more)
        (tmp_path / "play.yml").write_text(text)
        (tmp_path / "hosts").write_text("[nebula_frontend]\nfront ansible_connection=local\n")
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"),
            "LC_ALL": "C.UTF-8",
        }
        command = [
            str(request.param), "-i", str(tmp_path / "hosts"), "-e", "ansible_python_interpreter=/usr/bin/python3",
            *arguments, str(tmp_path / "play.yml"),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout + done.stderr

    (tmp_path / "nebula").mkdir()
    return run


def stored(tmp_path):
    with sqlite3.connect(tmp_path / "nebula/nebula.db") as db:
        return {name: json.loads(body) for name, body in db.execute("SELECT name, body FROM templates")}


def test_role_from_nothing(play, tmp_path):
    code, output = play("--check", "--diff", "-vvv")
    assert code == 0, output
    assert "changed=1" in output
    assert not (tmp_path / "nebula/nebula.db").exists()

    code, output = play("--diff", "-vvv")
    assert code == 0, output
    assert "changed=1" in output
    assert "hunter2" not in output
    assert "/nebula.db" not in output
    templates = stored(tmp_path)
    assert ["CONTEXT", [["NETWORK", "YES"], ["KEY", "hunter2"], ["BRACES", "$NAME"]]] in templates["web"]
    # What YAML made numbers, a boolean and a date of.
    assert ["NIC", [["NETWORK", "Public"], ["MAC", "52:54:00:12:34:56"]]] in templates["db"]
    assert ["GRAPHICS", [["TYPE", "vnc"], ["PASSWD", "hunter2"], ["KEYMAP", "no"]]] in templates["db"]
    assert ["CONTEXT", [["NETWORK", "YES"], ["DAY", "2026-11-20"]]] in templates["db"]

    code, output = play("--diff", "-vvv")
    assert code == 0, output
    assert "changed=0" in output

    code, output = play("--diff", memory="256")
    assert "changed=1" in output
    assert '+    "MEMORY": "256"' in output
    assert "hunter2" not in output


def test_what_is_wrong_is_said(play, tmp_path):
    code, output = play("-vvv", memory="lots")
    assert code != 0
    assert "template db: MEMORY = 'lots': it is not a whole number" in output
    assert "hunter2" not in output
    assert set(stored(tmp_path)) == {"web"}


def test_a_time_is_not_guessed(play):
    code, output = play(more="AT: 2026-11-20 10:00:00")
    assert code != 0
    assert "Write it in quotes" in output
    assert "CONTEXT" in output
