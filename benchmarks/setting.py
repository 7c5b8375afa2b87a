# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where benchmarks run: a world of its own (tests/tools/world.py), and ansible in it as users have it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measure import Finished, MeasurementFailed, processor_of, run

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
SYSTEM_PYTHON = "/usr/bin/python3"
# What a boot sector needs to end a guest's work at once: cli; hlt; jmp to the hlt.
HALT = b"\xfa\xf4\xeb\xfd"
# Daemons of the world that do a part of what playbooks do.
DAEMONS = ("libvirtd", "virtlogd")
# All is done when the world computes less than this part of a processor, for so many seconds, or after a patience.
QUIET, QUIET_SECONDS, PATIENCE = 0.05, 0.5, 30
# Machines worked on at once, ours and the peer's alike: starting QEMU is half waiting.
THREADS = 2 * len(os.sched_getaffinity(0))


def world() -> Path:
    """The directory of the world that this runs in."""
    try:
        return Path(os.environ["NEBULA_WORLD"])
    except KeyError:
        raise MeasurementFailed(
            "benchmarks run in a world: tests/tools/world.py COMMAND, or benchmarks/run.py"
        ) from None


def processes() -> Iterator[int]:
    """The ids of all that run in this world, which is a PID namespace of its own."""
    return (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def computed_here() -> float:
    """Seconds that whatever runs in this world, or ended in it, computed until now. Its init waits for what nobody else
    waits for."""
    return sum(map(processor_of, processes()))


def computed_until_quiet() -> float:
    """The same, when nothing goes on any more: what is started may have its own work to do, then."""
    limit, before = time.monotonic() + PATIENCE, computed_here()
    while time.monotonic() < limit:
        time.sleep(QUIET_SECONDS)
        now = computed_here()
        if now - before < QUIET * QUIET_SECONDS:
            return now
        before = now
    raise MeasurementFailed(f"{PATIENCE} s after all was started, there is still something going on in the world")


def computed_by_daemons() -> float:
    found = 0.0
    for pid in processes():
        try:
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += processor_of(pid) if name in DAEMONS else 0.0
    return found


def halting_image() -> Path:
    """A qcow2 image whose guest halts with its first instruction."""
    image = world() / "halting.qcow2"
    if not image.exists():
        raw = image.with_suffix(".raw")
        with raw.open("wb") as file:
            file.write(HALT.ljust(510, b"\0") + b"\x55\xaa")
            file.truncate(1 << 20)
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image])
        raw.unlink()
    return image


@dataclass(frozen=True)
class Task:
    """What a task of a playbook took on a host, by the clock. calls: whether it called a module there. processor:
    seconds that the task computed on all hosts, and said of the first of them."""

    name: str
    action: str
    seconds: float
    calls: bool
    processor: float = 0.0


@dataclass(frozen=True)
class PlaybookRun:
    """tasks: how many were announced. changed: of how many results. profile: what each task took, in order. processor:
    seconds that it computed, with all modules that it called on this machine, and libvirt for it. memory: MiB at the
    peak."""

    seconds: float
    tasks: int
    changed: int
    output: str
    profile: tuple[Task, ...] = ()
    processor: float = 0.0
    memory: float = 0.0

    @property
    def calls(self) -> int:
        """How many modules were called."""
        return sum(task.calls for task in self.profile)


def ansible_environment() -> dict[str, str]:
    """Settings of the checkout, files in the world, output that can be counted."""
    files = world() / "ansible"
    return {
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(files / "local"),
        "ANSIBLE_REMOTE_TMP": str(files / "remote"),
        "ANSIBLE_ASYNC_DIR": str(files / "async"),
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "LC_ALL": "C.UTF-8",
    }


def playbook(
    path: Path, variables: dict[str, Any], environment: str = ".venv", inventory: Path = HERE / "inventory"
) -> PlaybookRun:
    """Of the checkout's environment as users have it, or of the peers'."""
    program = CHECKOUT / environment / "bin/ansible-playbook"
    profile = world() / "calls.json"
    profile.unlink(missing_ok=True)
    profiled = {
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "calls",
        "NEBULA_CALLS": str(profile),
    }
    argv = [program, "-i", inventory, path, "-e", json.dumps(variables)]
    before = computed_by_daemons()
    done = run(argv, {**ansible_environment(), **profiled})
    done = replace(done, processor=done.processor + computed_by_daemons() - before)
    return counted(done, tuple(Task(**task) for task in json.loads(profile.read_bytes())))


def pings(count: int) -> PlaybookRun:
    """A bare playbook that calls ansible.builtin.ping so many times."""
    tasks = [{"name": f"Ping {number}", "ansible.builtin.ping": {}} for number in range(count)]
    written = world() / "pings.yml"
    written.write_text(json.dumps([{"hosts": "world", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    return playbook(written, {})


def counted(done: Finished, profile: tuple[Task, ...] = ()) -> PlaybookRun:
    recap = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+) ", done.output, re.MULTILINE)
    tasks = re.findall(r"^(?:TASK|RUNNING HANDLER) \[", done.output, re.MULTILINE)
    changed = sum(map(int, recap))
    return PlaybookRun(done.seconds, len(tasks), changed, done.output, profile, done.processor, done.memory)


def running_domains(prefix: str, uri: str) -> int:
    command = ["virsh", "-c", uri, "list", "--state-running", "--name"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return sum(name.startswith(prefix) for name in names)


def expect_running(prefix: str, count: int, uri: str = "qemu:///system") -> None:
    """A figure is void if the machines are not there."""
    found = running_domains(prefix, uri)
    if found != count:
        raise MeasurementFailed(f"{count} domains {prefix}* were to run, {found} do")


class Ours:
    """The collection on this world's node, as a user runs it."""

    def __init__(self, root: str | None = None) -> None:
        self.variables = {
            "nebula_root": root or str(world() / "nebula"),
            "nebula_deploy_threads": THREADS,
            "bench_image": str(halting_image()),
        }

    def site(self, count: int | None = None) -> PlaybookRun:
        """Everything, with so many machines; none at all is what prepares the node."""
        wanted = [] if count is None else [self.wanted(count)]
        return playbook(CHECKOUT / "site.yml", {**self.variables, "nebula_vms": wanted})

    def machines(self, count: int) -> PlaybookRun:
        """Exactly so many machines running, by role vm alone."""
        done = playbook(HERE / "machines.yml", {**self.variables, "nebula_vms": [self.wanted(count)]})
        expect_running("one-", count)
        return done

    def end(self) -> PlaybookRun:
        absent = {"name": "bench-%i", "state": "absent", "hard": True}
        done = playbook(
            HERE / "machines.yml", {**self.variables, "nebula_vms": [absent], "nebula_destroy_limit": "100%"}
        )
        expect_running("one-", 0)
        return done

    def wanted(self, count: int) -> dict[str, Any]:
        return {"name": "bench-%i", "count": count, "template": "halting", "state": "running"}
