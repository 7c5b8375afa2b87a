# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook that runs, and what of it is killed with SIGKILL, and when. In a world, where nobody else runs modules."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# controller: ansible-playbook and its forks, and nothing else. group: their sessions, as when a terminal is closed.
# module: what Ansible runs on the node. libvirtd: that. qemu-system-x86_64: all machines of the node.
VICTIMS = ("controller", "group", "module", "libvirtd", "qemu-system-x86_64")
INTERPRETER = "/usr/bin/python3"
STEP = 0.03
# Beginnings of the names of tasks that change something.
WORK = (
    "Begin the catalog", "Make the node ready", "Keep the", "Make their bridges", "Decide", "Act on", "Record",
    "Have what runs", "Remove the", "Give the nodes back",
)  # fmt: skip
# About as many tasks as they have, until one has been seen.
UNKNOWN = {"site": [("", 0.3)] * 34, "vm": [("", 0.3)] * 11, "teardown": [("", 0.3)] * 13}


@dataclass(frozen=True)
class Process:
    pid: int
    session: int
    argv: tuple[str, ...]
    start: str

    @property
    def is_controller(self) -> bool:
        return len(self.argv) > 1 and self.argv[1].endswith("/ansible-playbook")

    @property
    def is_module(self) -> bool:
        """By pipelining a module comes through the standard input."""
        return self.argv[:1] == (INTERPRETER,) and (len(self.argv) == 1 or "AnsiballZ_" in self.argv[1])

    @property
    def is_job(self) -> bool:
        """The shell that waits for a module that runs in the background."""
        return self.argv[:2] == ("/bin/sh", "-c") and "/job-" in self.argv[-1]

    def is_program(self, name: str) -> bool:
        return bool(self.argv) and os.path.basename(self.argv[0]) == name

    def kill(self) -> bool:
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # After the handle is taken: so it is the one that was looked at.
            now = look(self.pid)
            if now is None or now.start != self.start:
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def look(pid: int) -> Process | None:
    """None: it has ended, or is a kernel's."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not raw or fields[0] in ("Z", "X"):
        return None
    argv = tuple(part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0"))
    return Process(pid, int(fields[3]), argv, fields[19])


def processes() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        process = look(int(name)) if name.isdigit() else None
        if process is not None:
            yield process


def modules() -> list[Process]:
    """What still works for a run, dead or alive."""
    return [process for process in processes() if process.is_module or process.is_job]


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(STEP)
    return True


@dataclass(frozen=True)
class Moment:
    """When to kill. by: time, task, or work, which are the tasks that change something. where: after which part of the
    time, or of these tasks; within: after which part of the task."""

    by: str
    where: float
    within: float

    def __str__(self) -> str:
        return f"{self.by} {self.where:.3f} {self.within:.3f}"


class Play:
    """A run of ansible-playbook, in a session of its own."""

    def __init__(self, command: Sequence[str], directory: Path, environment: dict[str, str]) -> None:
        self.began = time.monotonic()
        self.lines: list[str] = []
        self.tasks: list[tuple[str, float]] = []
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        if self.process.stdout is None:
            return
        for line in self.process.stdout:
            self.lines.append(line)
            begun = re.match(r"TASK \[(?:[\w.]+ : )?(.*?)\] \*", line)
            if begun:
                # Role argument specs add their descriptions.
                self.tasks.append((begun[1].split(" - ")[0], time.monotonic() - self.began))

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def task(self) -> str:
        return self.tasks[-1][0] if self.tasks else "(before the first task)"

    def is_over(self) -> bool:
        return self.process.poll() is not None

    def end(self, seconds: float) -> int:
        """Wait for its end; its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise AssertionError(f"a playbook did not end in {seconds:g} s:\n{self.output[-3000:]}") from None
        # A module that outlives a killed controller may hold the pipe.
        self.reader.join(5)
        return code

    def kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def durations(self) -> list[tuple[str, float]]:
        """Each task and how long it took."""
        ends = [begun for _name, begun in self.tasks[1:]] + [time.monotonic() - self.began]
        return [(name, end - begun) for (name, begun), end in zip(self.tasks, ends)]


@dataclass
class Strike:
    """What was killed at which task. orphans: what then still worked for the run."""

    task: str
    seconds: float
    orphans: int


def strike(play: Play, victim: str, moment: Moment, known: Sequence[tuple[str, float]]) -> Strike | None:
    """Kill it at that moment, or at the next at which it is there; None: the play was over before.
    known: tasks and durations of the last such play that nobody disturbed."""
    if moment.by == "time" and known[0][0]:
        wait_until(play.is_over, moment.where * sum(duration for _name, duration in known))
    else:
        chosen = [i for i, (name, _duration) in enumerate(known) if moment.by != "work" or name.startswith(WORK)]
        index = (chosen or range(len(known)))[int(moment.where * len(chosen or known))]
        wait_until(lambda: len(play.tasks) > index or play.is_over(), 600)
        wait_until(play.is_over, moment.within * known[index][1])
    while not play.is_over():
        if _kill(victim):
            return Strike(play.task, time.monotonic() - play.began, len([p for p in modules() if p.is_module]))
        time.sleep(STEP)
    return None


def _kill(victim: str) -> bool:
    found = list(processes())
    if victim == "controller":
        return _kill_each(lambda process: process.is_controller)
    if victim == "group":
        sessions = {process.session for process in found if process.is_controller}
        return bool(sessions) and _kill_each(lambda process: process.session in sessions)
    if victim == "module":
        return sum(process.kill() for process in found if process.is_module) > 0
    return sum(process.kill() for process in found if process.is_program(victim)) > 0


def _kill_each(chosen: Callable[[Process], bool]) -> bool:
    """Until there is none: a controller may just have forked."""
    killed = False
    while True:
        victims = [process for process in processes() if chosen(process)]
        if not victims:
            return killed
        for process in victims:
            killed = process.kill() or killed
