# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one machine more costs, from nothing to running and back: by role vm, by a bare program, by a loop.

The cost of one machine more is (t(many) - t(few)) / (many - few): what a run costs whatever it makes cancels out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import Row, run, take_turns, tell
from setting import HERE, SYSTEM_PYTHON, THREADS, Ours, PlaybookRun, expect_running, halting_image, playbook, world

FEW, MANY = 10, 40
LOOP_FEW, LOOP_MANY = 2, 6
# Of the bare program on an idle machine of the kind this is developed on, in seconds.
BARE_REFERENCE = 0.20


class Bare:
    """bare_libvirt.py. The times it took last to end its machines are kept, since it does both in one go."""

    def __init__(self) -> None:
        self.ended: dict[int, float] = {}

    def make(self, count: int) -> float:
        directory = world() / "bare"
        done = run([SYSTEM_PYTHON, HERE / "bare_libvirt.py", directory, halting_image(), str(count), str(THREADS)])
        said = json.loads(done.output.splitlines()[-1])
        self.ended[count] = said["ending"]
        steps = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in said["steps"].items())
        tell(f"bare program, {count} machines: {steps} each")
        return float(said["seconds"])

    def end(self, count: int) -> float:
        return self.ended[count]


class ByRole:
    """Role vm. Making and ending take turns, so that each begins from the other's end."""

    def __init__(self, ours: Ours) -> None:
        self.ours = ours

    def make(self, count: int) -> float:
        return self.ours.machines(count).seconds

    def end(self) -> float:
        return self.ours.end().seconds


class Loop:
    """ansible_loop.yml, with the environment that has community.libvirt."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="loop-", dir=world()))
        self.directory.chmod(0o711)

    def make(self, count: int) -> PlaybookRun:
        variables = {"directory": str(self.directory), "base": str(halting_image()), "count": count}
        return playbook(HERE / "ansible_loop.yml", variables, ".venv-bench")

    def end(self, count: int) -> None:
        for index in range(count):
            for verb in ("destroy", "undefine"):
                subprocess.run(
                    ["virsh", "-q", "-c", "qemu:///system", verb, f"loop-{index}"], check=True, capture_output=True
                )
            shutil.rmtree(self.directory / str(index))

    def make_and_end(self, count: int) -> float:
        seconds = self.make(count).seconds
        expect_running("loop-", count)
        self.end(count)
        return seconds


def rows(rounds: int) -> Iterator[Row]:
    ours = Ours()
    tell("preparing the node: site.yml without machines")
    ours.site()
    role, bare, loop = ByRole(ours), Bare(), Loop()
    times = take_turns(
        rounds,
        {
            f"role vm, {FEW} machines": lambda: role.make(FEW),
            f"role vm, ending {FEW}": role.end,
            f"bare program, {FEW} machines": lambda: bare.make(FEW),
            f"bare program, ending {FEW}": lambda: bare.end(FEW),
            f"loop, {LOOP_FEW} machines": lambda: loop.make_and_end(LOOP_FEW),
            f"role vm, {MANY} machines": lambda: role.make(MANY),
            f"role vm, ending {MANY}": role.end,
            f"bare program, {MANY} machines": lambda: bare.make(MANY),
            f"bare program, ending {MANY}": lambda: bare.end(MANY),
            f"loop, {LOOP_MANY} machines": lambda: loop.make_and_end(LOOP_MANY),
        },
    )

    def one_more(what: str, few: int = FEW, many: int = MANY, noun: str = " machines") -> float:
        return (times[f"{what}{many}{noun}"] - times[f"{what}{few}{noun}"]) / (many - few)

    by_role, by_bare = one_more("role vm, "), one_more("bare program, ")
    by_loop = one_more("loop, ", LOOP_FEW, LOOP_MANY)
    yield Row.at_most("one machine more by role vm, beside a bare program", by_role, by_bare, "s", 1.25)
    yield Row.at_least("one machine more by role vm, beside a loop of the usual parts", by_role, by_loop, "s", 5)
    each_by_bare = times[f"bare program, {MANY} machines"] / MANY
    yield Row.fact("the bare program itself, beside its figure on an idle machine", each_by_bare, BARE_REFERENCE, "s")
    yield Row.fact(
        f"a whole run of {MANY} machines, beside the bare program",
        times[f"role vm, {MANY} machines"],
        times[f"bare program, {MANY} machines"],
        "s",
    )
    ending_role, ending_bare = (one_more(f"{who}, ending ", noun="") for who in ("role vm", "bare program"))
    yield Row.fact("ending one machine more, beside the bare program", ending_role, ending_bare, "s")
