# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that stands still for us goes on, whatever becomes of us, and one that somebody else has paused does not.
Here it is a file, which is there as long as the machine stands still; real ones are in tests/integration."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    InUse,
    NebulaError,
    TimedOut,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import standing_still

ROOT = Path(__file__).resolve().parents[5]
ASKED = "backup of virtual machine 7"
# Has it stand still, and says so, until it is killed.
HOLDS = """
import sys, time
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from pathlib import Path
from test_standing_still import Machine
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import standing_still
machine = Machine(Path(sys.argv[3]))
with standing_still.held(machine.pausing, str(machine.directory), "a backup"):
    print("held", flush=True)
    time.sleep(600)
"""


class Machine:
    """calls: what was asked of its hypervisor. fails: on this."""

    def __init__(self, directory: Path, run: str = "a run") -> None:
        self.directory, self.still = directory, directory / "still"
        self.calls: list[str] = []
        self.fails = ""
        words = ["sh", "-c", 'echo went >> "$0/went"; rm -f "$0/still"', str(directory)]
        self.pausing = standing_still.Pausing(run, words, self.pause, self.go_on, self.still.exists)

    def pause(self) -> None:
        self.calls.append("pause")
        self._fail("pause")
        self.still.touch()

    def go_on(self) -> bool:
        self.calls.append("go_on")
        self._fail("go_on")
        was = self.still.exists()
        self.still.unlink(missing_ok=True)
        return was

    def _fail(self, call: str) -> None:
        if self.fails == call:
            raise HypervisorError("it", "it does not want to", "Try again")

    @contextlib.contextmanager
    def held(self, **more):
        with standing_still.held(self.pausing, str(self.directory), ASKED, **more):
            yield

    def is_left(self) -> bool:
        return standing_still.is_left(str(self.directory))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def wait_for(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_it_stands_still_for_the_block_alone(machine):
    with machine.held():
        assert machine.still.exists() and machine.is_left()
    assert not machine.still.exists() and not machine.is_left()
    assert machine.calls == ["pause", "go_on"] and not (machine.directory / "went").exists()


def test_it_is_ended_before_the_block_is(machine):
    with standing_still.held(machine.pausing, str(machine.directory), ASKED) as standing:
        standing.end()
        assert not machine.still.exists() and not machine.is_left()
        # Once.
        standing.end()
    assert machine.calls == ["pause", "go_on"]
    with (
        pytest.raises(InUse, match="somebody else"),
        standing_still.held(machine.pausing, str(machine.directory), ASKED) as standing,
    ):
        machine.still.unlink()
        standing.end()
    assert not machine.is_left()


def test_what_was_read_is_whole_although_it_could_not_go_on_at_once(machine):
    ended = False
    with (
        pytest.raises(HypervisorError, match="could not be let go on at once"),
        standing_still.held(machine.pausing, str(machine.directory), ASKED) as standing,
    ):
        machine.fails = "go_on"
        standing.end()
        ended = True
    assert ended
    wait_for(lambda: not machine.still.exists() and not machine.is_left())


def test_an_error_in_the_block_is_raised_and_it_goes_on(machine):
    with pytest.raises(ValueError, match="x"), machine.held():
        raise ValueError("x")
    assert not machine.still.exists() and not machine.is_left()


def test_somebody_else_lets_it_go_on(machine):
    with pytest.raises(InUse, match="somebody else has let the machine go on"), machine.held():
        machine.still.unlink()
    assert not machine.is_left()


def test_what_somebody_else_has_paused_stays_so(machine):
    machine.still.touch()
    with machine.held():
        assert not machine.is_left()
    assert machine.still.exists() and machine.calls == []
    with pytest.raises(InUse, match="somebody else has let the machine go on"), machine.held():
        machine.still.unlink()


def test_where_it_can_not_be_paused_the_watchdog_sees_to_it(machine):
    machine.fails = "pause"
    with pytest.raises(HypervisorError, match="does not want"), machine.held():
        raise AssertionError
    wait_for(lambda: not machine.is_left())
    # More than once: the hypervisor may have had it under way.
    assert (machine.directory / "went").read_text().split() == ["went"] * 3


def test_where_it_can_not_go_on_the_watchdog_sees_to_it(machine):
    machine.fails = "go_on"
    with pytest.raises(HypervisorError, match="could not be let go on at once") as caught, machine.held():
        pass
    assert "10 minutes more" in caught.value.remedy
    wait_for(lambda: not machine.still.exists() and not machine.is_left())


def test_it_does_not_stand_still_for_ever(machine):
    with pytest.raises(TimedOut, match=r"longer than the 0\.2 s"), machine.held(longest=0.2):
        wait_for(lambda: not machine.still.exists())
    wait_for(lambda: not machine.is_left())


def begun(directory):
    places = [str(ROOT / "collections"), str(Path(__file__).parent)]
    words = [sys.executable, "-c", HOLDS, *places, str(directory)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def watchdog_of(machine):
    """The process that has the mark as an argument."""
    mark = str(machine.directory / standing_still.MARK).encode()
    for place in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):
            if mark in (place / "cmdline").read_bytes().split(b"\0"):
                return int(place.name)
    raise AssertionError("there is none")


def test_killed(machine):
    process = begun(machine.directory)
    process.kill()
    process.wait()
    wait_for(lambda: not machine.still.exists())
    # The next run waits until it is through, and then there is nothing left to do.
    assert standing_still.settle(machine.pausing, str(machine.directory), ASKED) and machine.calls == []
    assert not machine.is_left()


@pytest.mark.parametrize(
    ("run", "calls"), [("a run", ["go_on"]), ("another run", []), (None, [])], ids=["the same", "another", "none"]
)
def test_killed_with_its_watchdog(machine, run, calls):
    process = begun(machine.directory)
    os.kill(watchdog_of(machine), signal.SIGKILL)
    process.kill()
    process.wait()
    assert machine.still.exists() and machine.is_left()
    later = Machine(machine.directory, run or "")
    assert standing_still.settle(later.pausing if run else None, str(machine.directory), ASKED)
    assert later.calls == calls and not machine.is_left()
    assert not standing_still.settle(later.pausing, str(machine.directory), ASKED)


def test_another_run_has_it_stand_still(machine, monkeypatch):
    monkeypatch.setattr(standing_still, "_THROUGH", 0.1)
    with machine.held(), pytest.raises(TimedOut, match="stands still for another run"):
        standing_still.settle(machine.pausing, str(machine.directory), ASKED)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"ran": 1}), "x" * 9999])
def test_a_mark_that_says_nothing(machine, content):
    machine.still.touch()
    (machine.directory / standing_still.MARK).write_text(content)
    assert standing_still.settle(machine.pausing, str(machine.directory), ASKED)
    # Nothing was paused before it was written.
    assert machine.calls == [] and not machine.is_left()


def test_a_mark_that_is_a_link(machine):
    (machine.directory / standing_still.MARK).symlink_to("/etc/passwd")
    with pytest.raises(NebulaError, match="remove it"), machine.held():
        raise AssertionError


def test_names_of_runs(monkeypatch):
    monkeypatch.setattr(node_file, "boot_id", lambda: "a-boot")
    assert standing_still.run_of(12) == "a-boot 12"


def test_refused_with_what_to_do():
    error = standing_still.refuse(ASKED, "lxc")
    assert isinstance(error, WrongState) and error.asked == ASKED
    assert "lxc" in error.found and "nebula_machine_backup_stand_still: true" in error.remedy
