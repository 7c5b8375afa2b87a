# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job and the looks at it, by real shells; tests/integration/test_progress.py has all of it, by Ansible."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from action_stand_in import made
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.plugin_utils import background_modules
from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import (
    LONGEST,
    SHORTEST,
    _Job,
    next_look,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import READ_ALL

NEEDED = ("sh", "cat", "sleep", "mv", "rm", "mkdir", "setsid", "touch", "sed", "cut")


@pytest.mark.parametrize(
    ("cost", "seconds"), [(0.0, SHORTEST), (0.05, SHORTEST), (0.5, 10.0), (9.0, LONGEST), (-1, 2.0)]
)
def test_a_look_is_as_long_as_it_is_dear(cost, seconds):
    assert next_look(cost) == seconds


@pytest.fixture(params=["flock", "sleep"])
def programs(request, tmp_path) -> str:
    """PATH of a host that has flock(1), and of one that has not."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in (*NEEDED, "flock")[: None if request.param == "flock" else -1]:
        (place / name).symlink_to(shutil.which(name) or name)
    return str(place)


class Looks:
    def __init__(self, directory: Path, path: str) -> None:
        self.directory, self.path, self.results, self.said = directory, path, [], []
        connection = SimpleNamespace(become=None, reset=lambda: None)
        action = SimpleNamespace(
            _low_level_execute_command=self.execute, _connection=connection, _used_interpreter="/bin/sh"
        )
        self.job = _Job(action, shlex.quote(str(directory / "job")), self.said.append)

    def execute(self, command, **options):
        told = subprocess.run(
            ["/bin/sh", "-c", command], env={"PATH": self.path}, input=options.get("in_data"), capture_output=True
        )
        self.results.append(told.returncode)
        return {"rc": told.returncode, "stdout": told.stdout.decode(), "stderr": told.stderr.decode()}

    def run(self, command):
        return self.job.execute("/bin/sh -", in_data=command.encode())


def test_what_it_printed_and_how_it_ended(programs, tmp_path):
    looks = Looks(tmp_path, programs)
    result = looks.run("echo one; echo two >&2; exit 3")
    assert (result["rc"], result["stdout"].strip(), result["stderr"].strip()) == (3, "one", "two")
    assert looks.results == [0], "one command, and it waited for the end"
    assert not looks.directory.joinpath("job").exists(), "and it left nothing"


def test_a_look_ends_with_the_module(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(background_modules, "SHORTEST", 60.0)
    looks = Looks(tmp_path, programs)
    began = time.monotonic()
    assert looks.run("sleep 0.3")["rc"] == 0
    assert time.monotonic() - began < 30


def test_lines_come_from_looks_that_end_before_it(programs, tmp_path):
    looks = Looks(tmp_path, programs)
    looks.job._seconds = 0.3
    result = looks.run(f"echo half >{tmp_path}/job/progress; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done &\n"
                       f"sleep 1; touch {tmp_path}/go; wait")  # fmt: skip
    assert result["rc"] == 0 and looks.said == ["half"] and len(looks.results) >= 2
    assert not looks.directory.joinpath("job").exists()


def test_a_job_that_was_killed_is_lost_at_once(programs, tmp_path, monkeypatch):
    """Also where something that it left behind lives on."""
    monkeypatch.setattr(background_modules, "SHORTEST", 60.0)
    looks = Looks(tmp_path, programs)
    left = tmp_path / "left"
    began = time.monotonic()
    result = looks.run(f"sleep 60 & echo $! >{left}; kill -9 $(cat {tmp_path}/job/pid); wait")
    os.kill(int(left.read_text()), signal.SIGKILL)
    assert "The module was killed" in result["stderr"] and result["rc"] == 1
    assert time.monotonic() - began < 30


def test_a_process_that_got_the_number_of_a_killed_job_is_not_the_job(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(background_modules, "SHORTEST", 60.0)
    looks = Looks(tmp_path, programs)
    began = time.monotonic()
    with subprocess.Popen(["sleep", "60"]) as another:
        # Two that begin within one tick of the clock are told apart by nothing.
        began_at = int(Path(f"/proc/{another.pid}/stat").read_text().rpartition(")")[2].split()[19])
        while float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK") < began_at + 1:
            pass
        result = looks.run(f"its=$(cat {tmp_path}/job/pid); echo {another.pid} >{tmp_path}/job/pid; kill -9 $its; wait")
        another.kill()
    assert "The module was killed" in result["stderr"] and time.monotonic() - began < 30


def test_a_job_that_ended_and_that_nobody_waited_for_is_lost(programs, tmp_path, monkeypatch):
    """As in a container whose first process waits for no child."""
    monkeypatch.setattr(background_modules, "SHORTEST", 60.0)
    looks = Looks(tmp_path, programs)
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    began_at = Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[19]
    place = tmp_path / "job"
    result = looks.run(f"its=$(cat {place}/pid); echo {began_at} >{place}/began; echo {ended.pid} >{place}/pid\n"
                       f"kill -9 $its; wait")  # fmt: skip
    ended.wait()
    assert "The module was killed" in result["stderr"]


# --- what is run as a job --------------------------------------------------------------------------------------------


class Plain(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {}


def ran(args=None, hosts=("node1",), say=None, answer=None, **options):
    """What the module got, and the plugin."""
    action = made(Plain, {}, answer=answer or (lambda _arguments: {"changed": True}), **options)
    variables = {"inventory_hostname": "node1", "ansible_play_hosts_all": list(hosts)}
    result = background_modules.run_with_progress(
        action, "nebula.provision.nebula_vm", args or {}, variables, "nebula_vm", say
    )
    assert result == {"changed": True}
    return action.ran[0], action


@pytest.mark.parametrize(("options", "wraps"), [({"check_mode": True}, False), ({"async_val": 9}, True)])
def test_check_mode_and_async_are_plain_runs(options, wraps):
    found, _action = ran({"a": 1}, **options)
    assert found["module_args"] == {"a": 1} and found["wrap_async"] is wraps


def test_the_module_is_told_where_its_progress_goes(programs, tmp_path):
    arguments = {"a": 1}
    found, action = ran(arguments)
    place = found["module_args"].pop("_progress_file")
    assert found["module_args"] == {"a": 1}
    # A run leaves nothing behind in the plugin or its arguments.
    assert arguments == {"a": 1} and "_low_level_execute_command" not in vars(action)
    looks = Looks(tmp_path, programs)
    assert looks.run(f'echo "{place}"')["stdout"].strip() == str(tmp_path / "job/progress")


@pytest.mark.parametrize(
    ("asked", "home", "parent"),
    [
        ("~/.ansible/tmp", "HOME", "HOME/.ansible/tmp"),
        ("~/it's mine", "HOME", "HOME/it's mine"),
        ("/var/tmp/a b", "HOME", "HOME/var/tmp/a b"),
        ("~/.ansible/tmp", "", None),
    ],
)
def test_the_shell_that_starts_the_module_makes_the_directory(asked, home, parent, tmp_path):
    action = made(Plain, {})
    action._connection._shell.tmpdir = None
    action._make_tmp_path = None
    found = asked if asked.startswith("~") else f"{tmp_path}{asked}"
    action.get_shell_option = lambda _name, default=None: found
    word, commands = background_modules._temporary_directory(action)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{commands}printf %s {word}"],
        env={"PATH": os.environ["PATH"], "HOME": home and str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    if parent is None:
        assert done.returncode != 0 and not Path("/.ansible").exists()
        return
    assert done.stdout == parent.replace("HOME", str(tmp_path)) and Path(done.stdout).is_dir()


@pytest.mark.parametrize(("asked", "become"), [("~other/tmp", None), ("/tmp/$USER", None), ("~/.ansible/tmp", "sudo")])
def test_ansible_makes_the_directory_where_another_user_would_own_it(asked, become):
    """And where only Ansible knows what the name says."""
    action = made(Plain, {})
    shell = action._connection._shell
    shell.tmpdir = None
    action._connection.become = become
    action._make_tmp_path = lambda: setattr(shell, "tmpdir", "/tmp/a b/")
    action.get_shell_option = lambda _name, default=None: asked
    assert background_modules._temporary_directory(action) == ("'/tmp/a b'", "")


@pytest.mark.parametrize(
    ("hosts", "label"), [(("node1",), "nebula_vm"), ((), "nebula_vm"), (("node1", "node2"), "nebula_vm on node1")]
)
def test_a_line_names_its_host_where_there_are_several(hosts, label):
    said = []

    action = made(Plain, {})

    def execute(**_options):
        action._low_level_execute_command.__self__._show("half of it")
        return {"changed": True}

    action._execute_module = execute
    variables = {"inventory_hostname": "node1", "ansible_play_hosts_all": hosts}
    background_modules.run_with_progress(action, "m", {}, variables, "nebula_vm", said.append)
    assert said == [f"{label}: half of it"]


# --- what a look tells -----------------------------------------------------------------------------------------------


class Answers:
    """A host that gives these answers to commands, in their order; an error is raised."""

    def __init__(self, *answers, become=None):
        self.answers, self.commands, self.resets, self.said = list(answers), [], 0, []
        connection = SimpleNamespace(become=become, reset=self.reset, _shell=SimpleNamespace(quote=shlex.quote))
        action = SimpleNamespace(
            _low_level_execute_command=self.execute, _connection=connection, _used_interpreter="#!/usr/bin/python3"
        )
        self.job = _Job(action, "'/tmp/a b/job'", self.said.append)

    def reset(self):
        self.resets += 1

    def execute(self, command, **options):
        self.commands.append((command, options))
        answer = self.answers.pop(0) if self.answers else {"rc": 0, "stdout": ""}
        if isinstance(answer, Exception):
            raise answer
        return answer

    def told(self, *lines):
        return {"rc": 0, "stdout": "\r\n".join(lines).replace("TOKEN", self.job._token) + "\r\n"}

    def run(self, *answers):
        self.answers = [self.told(*each) if isinstance(each, tuple) else each for each in answers]
        return self.job.execute("/usr/bin/python3 /tmp/AnsiballZ_nebula_vm.py", sudoable=True)


RUNNING = ("Welcome!", "TOKEN running", "1 of 2", "TOKEN end")
DONE = ("Welcome!", "TOKEN done 0", '{"changed": true}', "TOKEN errors", "a warning", "TOKEN end", "logout")
GONE = AnsibleConnectionFailure("gone")


def test_other_text_around_an_answer_is_not_the_modules():
    host = Answers()
    result = host.run(RUNNING, RUNNING, DONE)
    assert (result["rc"], result["stdout_lines"], result["stderr_lines"]) == (0, ['{"changed": true}'], ["a warning"])
    # The same line is said once.
    assert host.said == ["1 of 2"]


@pytest.mark.parametrize(
    "command", ["mkdir -p /tmp/x", "/usr/bin/python3 --version", "chmod u+x /tmp/AnsiballZ_nebula_vm.py"]
)
def test_a_command_that_prepares_is_run_as_it_is(command):
    host = Answers({"rc": 0, "stdout": "as it is"})
    assert host.job.execute(command, sudoable=False)["stdout"] == "as it is"
    assert host.commands == [(command, {"sudoable": False})]


def test_a_network_may_fail_for_a_moment():
    host = Answers()
    assert host.run(RUNNING, GONE, GONE, RUNNING, DONE)["rc"] == 0 and host.resets == 2


def test_a_network_that_stays_away_is_an_error():
    host = Answers()
    with pytest.raises(AnsibleConnectionFailure):
        host.run(RUNNING, *[GONE] * (background_modules.LOST_LOOKS + 1))
    assert host.resets == background_modules.LOST_LOOKS


def test_the_network_is_counted_anew_after_each_answer():
    host = Answers()
    assert (
        host.run(
            RUNNING, *[GONE] * background_modules.LOST_LOOKS, RUNNING, *[GONE] * background_modules.LOST_LOOKS, DONE
        )["rc"]
        == 0
    )


def test_where_the_job_can_not_be_begun_it_runs_without_progress():
    host = Answers()
    assert host.run({"rc": 90, "stdout": ""}, {"rc": 0, "stdout": "plain"})["stdout"] == "plain"
    assert host.commands[1] == ("/usr/bin/python3 /tmp/AnsiballZ_nebula_vm.py", {"sudoable": True})


def test_a_job_that_is_lost_failed():
    result = Answers().run(("TOKEN lost", "Traceback", "TOKEN end"))
    assert result["rc"] == 1 and "Traceback" in result["stderr"] and result["stderr"].endswith("The module was killed")


@pytest.mark.parametrize("lines", [("Permission denied",), ("TOKEN done 0", "cut off"), ()])
def test_an_answer_that_is_not_whole_is_given_on_as_it_is(lines):
    host = Answers()
    assert host.run(lines) == host.told(*lines) and host.said == []


def test_what_a_later_look_may_have_lost_on_the_way_is_removed_once_it_came():
    host = Answers()
    host.run(DONE)
    assert len(host.commands) == 1
    host = Answers()
    host.run(RUNNING, DONE)
    assert [command for command, _options in host.commands[2:]] == ["rm -rf '/tmp/a b/job'"]


def test_the_modules_input_is_sent_once():
    host = Answers()
    host.answers = [host.told(*RUNNING), host.told(*DONE)]
    host.job.execute("/usr/bin/python3", in_data=b"arguments")
    (_command, first), (_look, second), _removal = host.commands
    assert first["in_data"].endswith(b"\0arguments") and second == {}
    # Python reads it at once in the background, too.
    assert READ_ALL in shlex.split(host.commands[0][0].partition("/bin/sh -c ")[2])[0]
