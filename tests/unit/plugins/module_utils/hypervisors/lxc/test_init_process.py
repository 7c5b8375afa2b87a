# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The init of a container is found as the child of its controller, and told by the signal that its kind understands."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import init_process

PARENT = """
import subprocess, sys
child = subprocess.Popen(["bash", "-c", sys.argv[1]])
print(child.pid, flush=True)
child.wait()
"""
# Says that it is ready, then which signal came.
TELLS = """
import signal, sys
for number in (signal.SIGRTMIN + 3, signal.SIGINT, signal.SIGUSR2, signal.SIGTERM, signal.SIGPWR):
    signal.signal(number, lambda came, _frame: (print(int(came), flush=True), sys.exit()))
print("ready", flush=True)
signal.pause()
"""


def test_it_is_the_child_of_its_controller() -> None:
    # Its name is in brackets in what is read, and may have some of its own.
    script = "exec -a 'odd) S 1 (name' sleep 60"
    controller = subprocess.Popen([sys.executable, "-c", PARENT, script], stdout=subprocess.PIPE, text=True)
    try:
        assert controller.stdout is not None
        child = int(controller.stdout.readline())
        assert init_process.init_of_controller(controller.pid) == child
        assert init_process.init_of_controller(child) is None
        os.kill(child, signal.SIGKILL)
        controller.wait(10)
        assert init_process.init_of_controller(controller.pid) is None
    finally:
        controller.kill()
        controller.wait()
        if controller.stdout is not None:
            controller.stdout.close()


@pytest.mark.parametrize(
    ("name", "halts", "reboots"),
    [
        ("systemd", signal.SIGRTMIN + 3, signal.SIGINT),
        ("busybox", signal.SIGUSR2, signal.SIGTERM),
        ("openrc-init", signal.SIGPWR, signal.SIGINT),
    ],
)
@pytest.mark.parametrize("reboot", [False, True])
def test_each_kind_has_its_signals(tmp_path: Path, name: str, halts: int, reboots: int, reboot: bool) -> None:
    program = tmp_path / name
    shutil.copy(os.path.realpath(sys.executable), program)
    env = {**os.environ, "PYTHONHOME": sys.base_prefix}
    with subprocess.Popen([program, "-c", TELLS], stdout=subprocess.PIPE, text=True, env=env) as init:
        assert init.stdout is not None and init.stdout.readline() == "ready\n"
        init_process.signal_init(init.pid, reboot)
        assert int(init.stdout.readline()) == (reboots if reboot else halts)


def test_a_controller_is_known_by_the_name_of_its_program(tmp_path: Path) -> None:
    """Another process may have got the number of one that has ended."""
    program = tmp_path / "a_name_that_is_longer"
    shutil.copy("/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as running:
        try:
            # It has its name once it does what it is there for.
            assert running.stdin is not None and running.stdout is not None
            running.stdin.write(b"ready\n")
            assert running.stdout.readline() == b"ready\n"
            assert init_process.is_controller(running.pid, "a_name_that_is_longer")
            assert not init_process.is_controller(running.pid, "libvirt_lxc")
        finally:
            running.kill()
    assert not init_process.is_controller(running.pid, "a_name_that_is_longer")
