# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one machine more costs, from nothing to running and back: by role vm, by a bare program, by a loop; and what two
machines cost, by role vm and by virt-install.

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
# What somebody would make by hand.
BY_HAND = 2
# Of what the bare program takes for as many machines as role vm makes in one run.
TIMES_BARE = 1.1
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
        end_domains("loop-", count)
        for index in range(count):
            shutil.rmtree(self.directory / str(index))

    def make_and_end(self, count: int) -> float:
        seconds = self.make(count).seconds
        expect_running("loop-", count)
        self.end(count)
        return seconds


class VirtInstall:
    """A loop of virt-install over an image: an overlay, an ISO for cloud-init, a definition and a start, each."""

    def make_and_end(self, count: int) -> float:
        directory = Path(tempfile.mkdtemp(prefix="virt-install-", dir=world()))
        directory.chmod(0o711)
        base = halting_image()
        seconds = 0.0
        for name in (f"by-hand-{index}" for index in range(count)):
            (directory / f"{name}.user-data").write_text("#cloud-config\n{}\n")
            (directory / f"{name}.meta-data").write_text(f"instance-id: {name}\nlocal-hostname: {name}\n")
            disk = f"path={directory}/{name}.qcow2,format=qcow2,bus=virtio"
            cloud_init = f"user-data={directory}/{name}.user-data,meta-data={directory}/{name}.meta-data"
            options = {
                "--connect": "qemu:///system",
                "--virt-type": "qemu",
                "--name": name,
                "--memory": "128",
                "--vcpus": "1",
                "--machine": "pc",
                "--osinfo": "detect=off,require=off",
                "--disk": f"{disk},size=0.01,backing_store={base},backing_format=qcow2",
                "--cloud-init": cloud_init,
                "--graphics": "none",
                "--network": "none",
                "--serial": f"file,path={directory}/{name}.log",
            }
            words = [word for option in options.items() for word in option]
            seconds += run(["virt-install", "--import", "--noautoconsole", *words]).seconds
        expect_running("by-hand-", count)
        end_domains("by-hand-", count)
        shutil.rmtree(directory)
        return seconds


def end_domains(prefix: str, count: int) -> None:
    for index in range(count):
        for verb in ("destroy", "undefine"):
            command = ["virsh", "-q", "-c", "qemu:///system", verb, f"{prefix}{index}"]
            subprocess.run(command, check=True, capture_output=True)


def rows(rounds: int) -> Iterator[Row]:
    ours = Ours()
    tell("preparing the node: site.yml without machines")
    ours.site()
    role, bare, loop, by_hand = ByRole(ours), Bare(), Loop(), VirtInstall()
    times = take_turns(
        rounds,
        {
            f"role vm, {BY_HAND} machines": lambda: role.make(BY_HAND),
            f"role vm, ending {BY_HAND}": role.end,
            f"virt-install, {BY_HAND} machines": lambda: by_hand.make_and_end(BY_HAND),
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
    yield Row.at_most(
        f"a whole run of {MANY} machines, beside the bare program",
        times[f"role vm, {MANY} machines"],
        times[f"bare program, {MANY} machines"],
        "s",
        TIMES_BARE,
    )
    yield Row.at_most(
        f"a whole run of {BY_HAND} machines, beside virt-install for each",
        times[f"role vm, {BY_HAND} machines"],
        times[f"virt-install, {BY_HAND} machines"],
        "s",
        1.5,
    )
    ending_role, ending_bare = (one_more(f"{who}, ending ", noun="") for who in ("role vm", "bare program"))
    yield Row.fact("ending one machine more, beside the bare program", ending_role, ending_bare, "s")
