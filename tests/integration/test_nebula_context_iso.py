# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as users run it: by Ansible, with its action plugin, in an interpreter that may lack the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECRET = "correct horse battery staple"


def ansible(tmp_path, task, *arguments, interpreter="/usr/bin/python3"):
    playbook = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
    (tmp_path / "play.json").write_text(json.dumps(playbook))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"),
    }
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"), "-i", "target,", "-c", "local",
        "-e", f"ansible_python_interpreter={interpreter}", *arguments, str(tmp_path / "play.json"),
    ]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return run.returncode, run.stdout + run.stderr


def task(**arguments):
    return {"nebula.provision.nebula_context_iso": arguments}


@pytest.fixture
def bare_interpreter(tmp_path):
    """A Python without any library of the distribution's."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = tmp_path / "bare" / "bin" / "python3"
    assert subprocess.run([python, "-c", "import pycdlib"], capture_output=True, check=False).returncode != 0
    return str(python)


def test_by_a_playbook(tmp_path):
    dest = tmp_path / "context.iso"
    wanted = task(dest=str(dest), context={"PASSWORD": SECRET, "NETWORK": True}, files=["/etc/hostname"])
    for changed in (1, 0):
        code, output = ansible(tmp_path, wanted, "--diff", "-vvv")
        assert code == 0, output
        assert f"changed={changed}" in output
        assert "horse" not in output
    assert subprocess.run(
        ["isoinfo", "-R", "-x", "/context.sh", "-i", str(dest)], check=True, capture_output=True, text=True
    ).stdout.endswith(f"NETWORK='YES'\nPASSWORD='{SECRET}'\n")
    code, output = ansible(tmp_path, task(dest=str(dest), state="absent"), "--check")
    assert "changed=1" in output
    assert dest.exists()


def test_a_failure_is_readable_and_keeps_secrets(tmp_path):
    isos = [
        {"dest": str(tmp_path / "a.iso"), "context": {"PASSWORD": SECRET}},
        {"dest": str(tmp_path / "nowhere" / "b.iso"), "context": {"PASSWORD": SECRET}},
    ]
    code, output = ansible(tmp_path, task(isos=isos), "-vvv")
    assert code != 0
    assert "there is no directory" in output
    assert "horse" not in output
    assert (tmp_path / "a.iso").exists()


def test_another_interpreter_has_the_library(tmp_path, bare_interpreter):
    """More arguments than a pipe holds: Ansible's own way to the other interpreter would hang on them."""
    isos = [{"dest": str(tmp_path / f"{n}.iso"), "context": {"N": str(n), "FILL": "x" * 10_000}} for n in range(30)]
    code, output = ansible(tmp_path, task(isos=isos), interpreter=bare_interpreter)
    assert code == 0, output
    assert "changed=1" in output
    assert len(list(tmp_path.glob("*.iso"))) == 30


def test_no_interpreter_has_the_library(tmp_path, bare_interpreter, monkeypatch):
    """Every interpreter is kept from it: the message names the package."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "pycdlib.py").write_text("raise ImportError('taken away by a test')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    code, output = ansible(
        tmp_path, task(dest=str(tmp_path / "x.iso"), context={"A": "b"}), interpreter=bare_interpreter
    )
    assert code != 0
    assert "python3-pycdlib" in output
    assert not (tmp_path / "x.iso").exists()
