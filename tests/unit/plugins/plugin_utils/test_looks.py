# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job and the looks at it, by real shells; tests/integration/test_progress.py has all of it, by Ansible."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils import progress
from ansible_collections.nebula.provision.plugins.plugin_utils.progress import LONGEST, SHORTEST, _Job, next_look

NEEDED = ("sh", "cat", "sleep", "mv", "rm", "mkdir", "setsid", "touch")


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
        self.job = _Job(action, str(directory / "job"), self.said.append)

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


def test_a_look_ends_with_the_module(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SHORTEST", 60.0)
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


def test_a_job_that_was_killed_is_lost_at_once(programs, tmp_path, monkeypatch):
    """Also where something that it left behind lives on."""
    monkeypatch.setattr(progress, "SHORTEST", 60.0)
    looks = Looks(tmp_path, programs)
    left = tmp_path / "left"
    began = time.monotonic()
    result = looks.run(f"sleep 60 & echo $! >{left}; kill -9 $(cat {tmp_path}/job/pid); wait")
    os.kill(int(left.read_text()), signal.SIGKILL)
    assert "The module was killed" in result["stderr"] and result["rc"] == 1
    assert time.monotonic() - began < 30
