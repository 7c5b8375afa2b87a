# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules in the background, by real ansible-playbook runs over a local connection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

ROOT = Path(__file__).resolve().parents[2]

ACTION = """
from __future__ import annotations
from ansible.plugins.action import ActionBase
from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import run_with_progress

class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        args = dict(self._task.args)
        if args.pop("plain", False):
            return self._execute_module(module_name="slow", module_args=args, task_vars=task_vars)
        return run_with_progress(self, "slow", args, task_vars, "slow")
"""

MODULE = """#!/usr/bin/python
from __future__ import annotations
import os, sys, time
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nebula.provision.plugins.module_utils.host.progress import Reporter

def main():
    module = AnsibleModule(argument_spec={
        "seconds": {"type": "float", "default": 0}, "how": {"type": "str", "default": "end"},
        "secret": {"type": "str", "no_log": True}, "pid_file": {"type": "path"}, "size": {"type": "int", "default": 0},
        "_progress_file": {"type": "path"}}, supports_check_mode=True)
    report = Reporter(module.params["_progress_file"])
    if module.params["pid_file"]:
        with open(module.params["pid_file"], "w") as file:
            file.write(str(os.getpid()))
    end = time.monotonic() + module.params["seconds"]
    while time.monotonic() < end:
        report.report(int(10 - 10 * (end - time.monotonic()) / module.params["seconds"]), 1, 10, word="running")
        time.sleep(0.05)
    if module.params["how"] == "traceback":
        sys.stderr.write("last words\\n")
        raise RuntimeError("broken inside")
    if module.params["how"] == "kill":
        os.kill(os.getpid(), 9)
    if module.params["how"] == "fail":
        module.fail_json(msg="as asked", more=[1, 2])
    module.warn("a warning")
    module.exit_json(changed=True, text="ünï \\"quoted\\" {{ x }}", nothing=None, long="x" * module.params["size"],
                     results_of=[1])

if __name__ == "__main__":
    main()
"""


@pytest.fixture(params=["newest", "floor"])
def ansible_playbook(request):
    """The ansible-playbook of this environment, and that of the oldest version promised where there is one."""
    if request.param == "newest":
        return str(Path(sys.executable).with_name("ansible-playbook"))
    found = os.environ.get("NEBULA_FLOOR_ANSIBLE", str(ROOT / ".venv-floor/bin")) + "/ansible-playbook"
    if not os.path.exists(found):
        pytest.skip("no environment with the oldest ansible-core (NEBULA_FLOOR_ANSIBLE)")
    return found


class Playbook:
    def __init__(self, directory: Path, program: str) -> None:
        self.directory, self.program = directory, program
        for name, text in (("action_plugins", ACTION), ("library", MODULE)):
            (directory / name).mkdir()
            (directory / name / "slow.py").write_text(text)
        (directory / "ansible.cfg").touch()
        self.tmp = directory / "remote_tmp"
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_REMOTE_TMP": str(self.tmp),
            "ANSIBLE_LOCAL_TEMP": str(directory / "local_tmp"),
            "ANSIBLE_ASYNC_DIR": str(directory / "async"),
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_LIBRARY": str(directory / "library"),
            "ANSIBLE_ACTION_PLUGINS": str(directory / "action_plugins"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{Path(program).parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }

    def start(self, tasks: list[dict], *arguments: str, **environment: str) -> subprocess.Popen:
        book = self.directory / "book.yml"
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        book.write_text(yaml.safe_dump([play]))
        return subprocess.Popen(
            [self.program, "-i", "localhost,", str(book), *arguments],
            cwd=self.directory, env={**self.environment, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *tasks: dict, arguments=(), **environment: str) -> tuple[int, str]:
        process = self.start([*tasks], *arguments, **environment)
        output = process.communicate(timeout=120)[0]
        return process.returncode, output

    def results(self, *tasks: dict, **environment: str) -> list[dict]:
        """The results of tasks, failed ones too, as the playbook sees them."""
        written = []
        for index, task in enumerate(tasks):
            written += [
                {**task, "register": f"r{index}", "ignore_errors": True},
                {
                    "ansible.builtin.copy": {
                        "content": f"{{{{ r{index} | to_json }}}}",
                        "dest": str(self.directory / f"r{index}"),
                    }
                },
            ]
        status, output = self.run(*written, **environment)
        assert status == 0, output
        return [json.loads((self.directory / f"r{index}").read_text()) for index in range(len(tasks))]


@pytest.fixture
def playbook(tmp_path, ansible_playbook):
    return Playbook(tmp_path, ansible_playbook)


@pytest.mark.parametrize("pipelining", ["0", "1"])
def test_the_result_is_that_of_a_plain_run(playbook, pipelining):
    background, plain = playbook.results(
        {"slow": {"size": 3_000_000}}, {"slow": {"size": 3_000_000, "plain": True}}, ANSIBLE_PIPELINING=pipelining
    )
    assert background == plain
    assert background["text"] == 'ünï "quoted" {{ x }}'
    assert background["warnings"] == ["a warning"]
    assert not [key for key in background if "job" in key or "async" in key]


@pytest.mark.parametrize("pipelining", ["0", "1"])
@pytest.mark.parametrize("how", ["fail", "traceback"])
def test_failures_are_those_of_a_plain_run(playbook, how, pipelining):
    background, plain = playbook.results(
        {"slow": {"how": how}}, {"slow": {"how": how, "plain": True}}, ANSIBLE_PIPELINING=pipelining
    )
    assert background["failed"] and background["msg"] == plain["msg"]
    assert set(background) - {"rc"} == set(plain) - {"rc"}
    # The newest ansible-core shows an exception as one message, the oldest what the module printed.
    said = ["last words" in result.get("module_stderr", "") for result in (background, plain)]
    assert said[0] == said[1]


def test_a_module_that_is_killed(playbook):
    (background,) = playbook.results({"slow": {"how": "kill", "seconds": 0.5}})
    assert background["failed"]
    assert "Killed" in background["module_stderr"] or "137" in str(background["rc"])


def test_a_job_that_is_killed_as_a_whole(playbook, tmp_path):
    pid_file = tmp_path / "pid"
    process = playbook.start([{"slow": {"seconds": 60, "pid_file": str(pid_file)}}])
    wait_for(lambda: pid_file.exists() and pid_file.read_text(), "the module's process")
    module = int(pid_file.read_text())
    shells = [int(p.read_text()) for p in playbook.tmp.rglob("job-*/pid")]
    for pid in [*shells, module]:
        os.kill(pid, signal.SIGKILL)
    output = process.communicate(timeout=30)[0]
    assert process.returncode != 0
    assert "The module was killed" in output


def test_lines_while_it_runs_and_nothing_left(playbook):
    began = time.monotonic()
    status, output = playbook.run({"slow": {"seconds": 7}})
    assert status == 0, output
    assert time.monotonic() - began < 20
    lines = [line for line in output.splitlines() if line.startswith("slow: ")]
    assert len(lines) in (2, 3)
    assert all(line.endswith(" of 10 running, 1 failed") for line in lines)
    assert list(playbook.tmp.iterdir()) == []
    assert not (playbook.directory / "async").exists()


def test_ansible_runner_sees_the_lines(playbook):
    if playbook.program != str(Path(sys.executable).with_name("ansible-playbook")):
        pytest.skip("one ansible-runner is enough")
    import ansible_runner

    play = {"hosts": "all", "connection": "local", "gather_facts": False, "tasks": [{"slow": {"seconds": 3}}]}
    done = ansible_runner.run(
        private_data_dir=str(playbook.directory), project_dir=str(playbook.directory), playbook=[play],
        inventory="localhost ansible_connection=local", envvars=playbook.environment, quiet=True,
    )  # fmt: skip
    assert done.status == "successful", done.stdout.read()
    verbose = [event["stdout"] for event in done.events if event["event"] == "verbose"]
    assert any("slow: " in text and "of 10 running" in text for text in verbose)


@pytest.mark.parametrize("pipelining", ["0", "1"])
def test_secrets_are_not_left_on_disk_while_it_runs(playbook, tmp_path, pipelining):
    pid_file = tmp_path / "pid"
    task = {"slow": {"seconds": 2, "secret": "geheim-4711", "pid_file": str(pid_file)}}
    process = playbook.start([task], ANSIBLE_PIPELINING=pipelining)
    wait_for(pid_file.exists, "the module's process")
    held = [path for path in playbook.tmp.rglob("*") if path.is_file() and b"geheim-4711" in path.read_bytes()]
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    # Without pipelining Ansible itself copies the module with its arguments, in a directory of mode 0700.
    assert not held or (pipelining == "0" and all("AnsiballZ" in path.name for path in held))
    assert list(playbook.tmp.iterdir()) == []


def test_check_mode_and_async_are_plain_runs(playbook):
    status, output = playbook.run({"slow": {"seconds": 1}}, arguments=["--check"])
    assert status == 0, output
    status, output = playbook.run({"slow": {"seconds": 1}, "async": 30, "poll": 1})
    assert status == 0, output
    assert "slow: " not in output
