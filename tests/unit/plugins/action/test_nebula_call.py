# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests how modules are called, and what is shown of a call that fails, by the ansible-core of this Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from action_stand_in import made
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from shown_values import show, shown

from ansible_collections.nebula.provision.plugins.action import nebula_call

ROOT = Path(__file__).resolve().parents[4]
INFO = {"module": "nebula_info", "options": {"gather": [], "root": "{{ nebula_root }}"}}
BEGIN = {"module": "nebula_frontend", "options": {"root": "{{ nebula_root }}"}}
# Its answer has the catalog's networks, also where it fails.
REFUSED = {
    "module": "nebula_network",
    "options": {"networks": [{"name": "net", "bridge": "br0", "vn_mad": "no such"}], "root": "{{ nebula_root }}"},
}


@pytest.fixture
def run(tmp_path):
    """Return a function that runs tasks of nebula_call by Ansible, and returns their results and all that it printed.
    arguments: of each task
    variables: of the host
    keywords: of all tasks"""

    def ran(arguments, variables, **keywords):
        tasks = [
            {"nebula.provision.nebula_call": each, "register": f"r{number}", "ignore_errors": True, **keywords}
            for number, each in enumerate(arguments)
        ]
        tasks.append(show("[" + ", ".join(f"r{number}" for number in range(len(tasks))) + "]"))
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        given = {**here, "nebula_root": str(tmp_path / "root"), **variables}
        hosts = {"all": {"hosts": {"kvm1": given}}}
        (tmp_path / "hosts.json").write_text(json.dumps(hosts))
        (tmp_path / "play.json").write_text(json.dumps([{"hosts": "kvm1", "gather_facts": False, "tasks": tasks}]))
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-v", "-i", "hosts.json", "play.json"],
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return shown(done.stdout), done.stdout + done.stderr

    return ran


def test_a_call_is_made_by_name_or_by_what_it_is(run):
    calls = {"mine": {**INFO, "when": "{{ wanted }}", "result": "x"}, "wanted": True}
    calls |= {"not_mine": {**INFO, "when": "{{ not wanted }}"}}
    calls |= {"omitting": {**INFO, "options": {**INFO["options"], "vms": "{{ omit }}"}}}
    (named, inline, skipped, omitted), _output = run(
        [{"call": "mine"}, INFO, {"call": "not_mine"}, {"call": "omitting"}], calls
    )
    assert named["catalog"] == "" and not named["changed"] and not named["failed"]
    assert inline["catalog"] == omitted["catalog"] == ""
    assert skipped["skipped"] and "catalog" not in skipped


def test_what_cannot_be_called_is_refused_and_no_value_is_shown(run):
    secret = {**INFO, "options": {"root": "{{ 's3cret' ~ lost }}"}}
    calls = {"mine": secret, "asked": {**INFO, "when": "{{ 's3cret' ~ lost }}"}, "no_call": {"x": "s3cret"}}
    results, output = run([{"call": "mine"}, {"call": "asked"}, {"call": "no_call"}, {"call": "nowhere"}], calls)
    assert all(each["failed"] for each in results)
    for result in results[:2]:
        assert result["msg"] == "nebula_info: variable lost is undefined"
    for name, result in zip(("no_call", "nowhere"), results[2:]):
        assert result["msg"] == f"nebula_call: {name}: give the name of a call, or module and options"
    assert "s3cret" not in output + str(results)


def test_a_module_that_fails_is_shown_by_its_message_alone(run):
    (_begun, result), output = run([BEGIN, REFUSED], {})
    assert result["failed"] and "no such" in result["msg"]
    assert {*result} <= {"failed", "changed", "msg", "diff", "warnings", "exception", "failed_when_result"}
    assert "known" not in result and '"known"' not in output


def test_with_failed_when_the_whole_answer_comes(run):
    (_begun, result), _output = run([BEGIN, REFUSED], {}, failed_when=False)
    assert "no such" in result["msg"] and result["errors"] and "known" in result


def test_a_host_that_is_unreachable_is_that(run):
    nobody = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    (result,), _output = run([INFO], nobody, ignore_unreachable=True)
    assert result["unreachable"] and "127.0.0.1" in result["msg"]


@pytest.fixture
def answered(monkeypatch):
    """Return a function that gives what is left of a module's answer."""

    def run(answer, failed_when=()):
        action = made(nebula_call.ActionModule, {"module": "nebula_thing", "options": {}})
        action._task.failed_when, action._templar = failed_when, Templar(DataLoader(), variables={})
        called = SimpleNamespace(run=lambda task_vars: answer)
        monkeypatch.setattr(nebula_call, "action_of", lambda *_arguments: called)
        return action.run(task_vars={})

    return run


def test_what_was_done_before_a_failure_is_kept(answered):
    kept = {"changed": True, "diff": [{"before": "a", "after": "b"}], "warnings": ["soon full"]}
    failed = {"failed": True, "msg": "no\x1b[2J", "vms": ["s3cret"], **kept}
    assert answered(failed) == {"failed": True, "msg": "no\\x1b[2J", **kept}
    assert answered(failed, [False]) == failed
    assert answered({"changed": True, "vms": []}) == {"changed": True, "vms": []}


@pytest.mark.parametrize("answer", [{"failed": True}, {"failed": True, "msg": ""}, {"exception": "Traceback"}])
def test_a_failure_without_a_message_is_reported(answered, answer):
    assert answered(answer) == {"failed": True, "msg": "A task ended without a word: run it again with -vvv"}


def test_an_answer_of_a_host_that_became_unreachable_is_no_failure(answered):
    answer = answered({"unreachable": True, "msg": "no route", "known": []})
    assert answer == {"unreachable": True, "failed": False, "msg": "no route"}


def test_a_task_without_a_call_is_refused():
    with pytest.raises(AnsibleActionFail, match="give the name of a call, or module and options"):
        made(nebula_call.ActionModule, {"module": "nebula_info"}).run(task_vars={})
