# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module of ours reaches Python: read as a whole where Ansible pipelines, else as Ansible does it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.module_utils import compiled
from ansible_collections.nebula.provision.plugins.plugin_utils import payloads
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import (
    READ_ALL,
    CallingAction,
    printable_errors,
    read_at_once,
)

CHECKOUT = Path(__file__).resolve().parents[4]
INTERPRETER = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.called"
exec {python} "$@"
"""

TASK = {"nebula.provision.nebula_info": {"root": "{{ nebula_root }}"}}
# What the module answers where there is no catalog.
ANSWER = '"vms": []'


def called(tmp_path: Path, name: str, **environment: str) -> tuple[list[str], subprocess.CompletedProcess]:
    """The arguments that each start of the host's interpreter got, and the run of the playbook."""
    interpreter = tmp_path / name
    interpreter.write_text(INTERPRETER.format(python=sys.executable))
    interpreter.chmod(0o755)
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [TASK]}
    (tmp_path / "play.json").write_text(json.dumps([play]))
    program = [Path(sys.executable).with_name("ansible-playbook"), "-v", tmp_path / "play.json"]
    done = subprocess.run(
        [*program, "-e", f"ansible_python_interpreter='{interpreter}'", "-e", f"nebula_root={tmp_path / 'root'}"],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            **environment,
        },
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    seen = interpreter.with_name(f"{name}.called")
    return seen.read_text().splitlines() if seen.exists() else [], done


@pytest.mark.parametrize("name", ["python3", "python3.11"])
def test_python_reads_a_module_at_once(tmp_path, name):
    arguments, done = called(tmp_path, name)
    assert f"-c {READ_ALL}" in arguments, done.stdout + done.stderr
    assert ANSWER in done.stdout


@pytest.mark.parametrize("module", [b"print(__name__, sys.argv)", b"# \xc3\xa9\0\nx", "# \udce9"])
def test_a_program_runs_before_a_module_and_leaves_nothing_in_it(module):
    action = SimpleNamespace(_connection=SimpleNamespace(_shell=SimpleNamespace(quote=shlex.quote)))
    command, given = read_at_once(action, f"{sys.executable} ", module)
    before, _mark, after = given.partition(b"\0")
    assert before == Path(compiled.__file__).read_bytes()
    assert after == (module if isinstance(module, bytes) else b"# \xe9")
    text = given.partition(b"\0")[0] + b"\0import sys; print(sorted(globals()), __name__)"
    done = subprocess.run(shlex.split(command), input=text, capture_output=True, check=True)
    assert b"__main__" in done.stdout and b"Kept" not in done.stdout


def test_other_commands_are_given_what_they_are_given():
    action = SimpleNamespace(_connection=None)
    assert read_at_once(action, "/bin/sh -c 'cat'", b"input") == ("/bin/sh -c 'cat'", b"input")
    assert read_at_once(action, "/usr/bin/python3", None) == ("/usr/bin/python3", None)


def test_without_pipelining_python_gets_the_file(tmp_path):
    arguments, done = called(tmp_path, "python3", ANSIBLE_PIPELINING="0")
    assert any(argument.endswith("AnsiballZ_nebula_info.py") for argument in arguments), arguments
    assert ANSWER in done.stdout


@pytest.mark.parametrize("module", sorted(file.stem for file in (CHECKOUT / "plugins/modules").glob("nebula_*.py")))
def test_each_module_is_called_so(module):
    """A module without an action plugin would be read byte by byte, and packed in each run."""
    assert (CHECKOUT / "plugins/action" / f"{module}.py").is_file()


@pytest.mark.parametrize("kind", [AnsibleConnectionFailure, AnsibleError])
def test_what_ssh_and_a_shell_printed_is_printable(kind: type[AnsibleError]) -> None:
    with pytest.raises(kind) as caught, printable_errors():
        try:
            raise OSError("\x9b2J\nok: [kvm1]")
        except OSError as error:
            raise kind("Failed to connect: \x9b2J\u202e\nPLAY RECAP ***") from error
    assert str(caught.value).startswith("Failed to connect: \\x9b2J\\u202e\n    PLAY RECAP ***")
    assert all(line.startswith("    ") for line in str(caught.value).splitlines()[1:])
    assert not {"\x9b", "\u202e"} & {*str(caught.value)}


def test_the_answer_of_an_error_is_printable() -> None:
    """Before 2.19 it is made with the error, and Ansible prints it in the error's place."""
    with pytest.raises(AnsibleActionFail) as caught, printable_errors():
        raise AnsibleActionFail("it printed \x9b2J\nok: [kvm1]")
    assert caught.value.result.get("msg", str(caught.value)) == "it printed \\x9b2J\n    ok: [kvm1]"


def test_other_errors_stay_as_they_are() -> None:
    error = AnsibleConnectionFailure("no route to host")
    with pytest.raises(AnsibleConnectionFailure) as caught, printable_errors():
        raise error
    assert caught.value is error and str(error) == "no route to host"


@pytest.mark.parametrize("step", ["_execute_module", "_make_tmp_path"])
def test_no_step_of_a_call_prints_what_does_not_print(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_arguments: object) -> None:
        raise AnsibleConnectionFailure("it printed \x9b2J\nok: [kvm1]")

    monkeypatch.setattr(ActionBase, step, fail)
    monkeypatch.setattr(payloads, "bring_payloads", lambda: None)
    action = type("Action", (CallingAction,), {"run": None})
    made = action.__new__(action)
    made._task = SimpleNamespace(delegate_to=None)
    with pytest.raises(AnsibleConnectionFailure) as caught:
        getattr(made, step)()
    assert str(caught.value) == "it printed \\x9b2J\n    ok: [kvm1]"
