# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/tools/world.py promises to those who use it; and that, as of it, nothing stays of nodes.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import namespaces
import nodes
import pytest
import world
from in_world import in_bare_world

PROGRAM = [sys.executable, world.__file__]
BARE = [*PROGRAM, "--no-daemons"]
# Each of its nodes is a world within that world.
WITH_NODES = [sys.executable, nodes.__file__, "--nodes", "2"]
both = pytest.mark.parametrize("program", [BARE, WITH_NODES], ids=["world", "nodes"])

pytestmark = pytest.mark.root


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def in_world(*command: str) -> subprocess.CompletedProcess[str]:
    return run(*PROGRAM, *command)


def gone(directory: str) -> bool:
    name = Path(directory).name
    return not Path(directory).exists() and not any((parent / name).exists() for parent in namespaces.own_cgroups())


def test_command_sees_a_node_of_its_own():
    script = """
        ls /sys/class/net
        virsh -q -c qemu:///system list --all | wc -l
        tr '\\0' '\\n' </proc/1/cmdline | sed -n 2p
        stat -f -c %T /run
        stat -c %a "$NEBULA_WORLD"
        case $TMPDIR in "$NEBULA_WORLD"/*) stat -c %a "$TMPDIR";; esac
    """
    done = in_world("sh", "-euc", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["lo", "0", world.__file__, "tmpfs", "711", "1777"]


@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="this machine has no /dev/kvm")
def test_kvm_is_as_udev_makes_it_and_outside_as_it_was():
    before = Path("/dev/kvm").stat()
    assert in_world("--no-daemons", "stat", "-c", "%a %G", "/dev/kvm").stdout == "660 kvm\n"
    after = Path("/dev/kvm").stat()
    assert (after.st_mode, after.st_gid) == (before.st_mode, before.st_gid)


def test_exit_status_is_the_commands():
    assert in_world("--no-daemons", "sh", "-c", "exit 7").returncode == 7
    assert in_world("--no-daemons", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL


def test_orphans_are_reaped_at_once():
    # The child's parent dies at once; ps must not find it as a zombie after it has ended.
    script = """
        pid=$(sh -c '(exec sleep 0.05) >/dev/null & echo $!')
        while kill -0 "$pid" 2>/dev/null; do
            n=$((${n:-0} + 1)); [ "$n" -lt 100 ] || exit 1; sleep 0.02
        done
    """
    assert in_world("--no-daemons", "sh", "-c", script).returncode == 0


@both
def test_nothing_stays_of_what_the_command_left_running(program):
    done = run(*program, "sh", "-c", "ip link add left type bridge; sleep 1000 & echo $NEBULA_WORLD")
    assert done.returncode == 0
    assert gone(done.stdout.strip())
    assert not Path("/sys/class/net/left").exists()


@both
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_when_it_is_ended(program, number):
    command = [*program, "sh", "-c", "echo $NEBULA_WORLD; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        directory = process.stdout.readline().strip()
        process.send_signal(number)
        # The pipe ends when the last process of the world has closed it.
        assert process.stdout.read() == ""
    assert process.returncode == 128 + number
    assert gone(directory)


@both
def test_the_next_one_removes_what_a_killed_one_left(program):
    command = [*program, "sh", "-c", "echo $NEBULA_WORLD; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        directory = process.stdout.readline().strip()
        process.kill()
        assert process.stdout.read() == ""
    assert Path(directory).exists()
    assert in_world("--no-daemons", "true").returncode == 0
    assert gone(directory)


def test_a_world_within_a_world():
    done = in_world("--no-daemons", *PROGRAM, "virsh", "-q", "-c", "qemu:///system", "list", "--all")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@in_bare_world
def failing() -> None:
    subprocess.run(["ip", "link", "add", "left", "type", "bridge"], check=True)
    raise AssertionError("on purpose")


@in_bare_world
def links() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))


def test_what_a_failed_test_left_does_not_reach_the_next_one():
    with pytest.raises(AssertionError, match="on purpose"):
        failing()
    assert links() == ["lo"]
