# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of running machines by playbook backup_machines, beside bare backup jobs of libvirt and a run that has
nothing to do; compressed ones beside these and zstd; and a machine restored in place, beside qemu-img convert."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from measure import MeasurementFailed, Row, run, tell
from moves import after_warm_up
from setting import CHECKOUT, HALT, HERE, SYSTEM_PYTHON, THREADS, Ours, playbook, world

MIB = 1 << 20
DISK, WRITTEN = 1024, 16
MANY, SMALL = 20, 64
FULL, INCREMENTAL, SHARE, MANY_AT_ONCE, RESTORED = 1.2, 1.3, 0.3, 1.2, 1.1
BACKUP, RESTORE = CHECKOUT / "playbooks/backup_machines.yml", CHECKOUT / "playbooks/restore_machines.yml"
TEMPLATE = """
CPU = 0.01
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "{image}", DEV_PREFIX = "vd" ]
"""


def image(mebibytes: int) -> Path:
    """A raw disk whose guest halts at once, half of it text and half of it what can't be compressed."""
    path = world() / f"filled-{mebibytes}.raw"
    if not path.exists():
        words = [f"word{number:x} ".encode() for number in range(4096)]
        chance = random.Random(1)
        with path.open("wb") as file:
            file.write(HALT.ljust(510, b"\0") + b"\x55\xaa")
            file.write(os.urandom(MIB - 512))
            for number in range(1, mebibytes):
                text = b"".join(chance.choices(words, k=MIB // 8)) if number % 2 else b""
                file.write(text.ljust(MIB, b".")[:MIB] if text else os.urandom(MIB))
    return path


class BackedUp(Ours):
    """Machines with filled disks, on this world's node, whose backups lie in a directory of it."""

    def __init__(self, count: int, mebibytes: int) -> None:
        super().__init__()
        self.count, self.mebibytes = count, mebibytes
        name = f"filled-{mebibytes}"
        self.place = world() / "machine-backups"
        self.variables |= {
            "nebula_images": [{"name": name, "type": "OS", "path": str(image(mebibytes)), "remote_src": True}],
            "nebula_templates": [{"name": name, "template": TEMPLATE.format(image=name)}],
            "nebula_vms": [{"name": f"{name}-%i", "count": count, "template": name, "state": "running"}],
            "nebula_machine_backup_directory": str(self.place),
            "nebula_machine_backup_at": "node",
            "nebula_machine_backup_compress": False,
            # What is merged is another work.
            "nebula_machine_backup_keep": {"last": 1000},
            "nebula_machine_backup_at_once": THREADS,
        }
        self.names = [f"{name}-{number}" for number in range(count)]

    def begin(self) -> None:
        playbook(CHECKOUT / "site.yml", self.variables)

    def end_all(self) -> None:
        wanted = [{**self.variables["nebula_vms"][0], "state": "absent", "hard": True}]
        playbook(CHECKOUT / "site.yml", {**self.variables, "nebula_vms": wanted, "nebula_destroy_limit": 100})
        shutil.rmtree(self.place, ignore_errors=True)

    def back_up(self, **variables: Any) -> float:
        return self._run(BACKUP, vm=",".join(self.names), **variables)

    def idle(self) -> float:
        """All that such a run does besides: in check mode nothing is read or written."""
        start = time.perf_counter()
        program = CHECKOUT / ".venv/bin/ansible-playbook"
        variables = {**self.variables, "vm": ",".join(self.names)}
        run([program, "--check", "-i", HERE / "inventory", BACKUP, "-e", json.dumps(variables)], environment())
        return time.perf_counter() - start

    def restore(self) -> float:
        return self._run(RESTORE, vm=self.names[0])

    def _run(self, path: Path, **variables: Any) -> float:
        done = playbook(path, {**self.variables, **variables})
        if not done.changed:
            raise MeasurementFailed(f"{path.name} was to change something:\n{done.output[-2000:]}")
        return done.seconds

    def stored(self) -> int:
        """The bytes of the newest backup's files."""
        found = sorted(self.place.glob("*/*.json"), key=lambda each: each.stat().st_mtime)
        newest = found[-1].name.removesuffix(".json")
        return sum(each.stat().st_size for each in self.place.glob(f"*/{newest}.disk.*"))


def environment() -> dict[str, str]:
    from setting import ansible_environment

    return ansible_environment()


def domains() -> list[str]:
    found = run(["virsh", "-q", "-c", "qemu:///system", "list", "--name"]).output.split()
    return sorted((name for name in found if name.startswith("one-")), key=lambda name: int(name[4:]))


def fresh() -> None:
    """Have nothing of the disks in memory, and nothing waiting to be written."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")


def write(domain: str, seed: list[int]) -> None:
    """Have the machine's disk written to, as its guest would, with what it did not hold before."""
    seed[0] = seed[0] % 250 + 1
    command = f'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "write -P {seed[0]} 64M {WRITTEN}M"'
    run(["virsh", "-q", "-c", "qemu:///system", "qemu-monitor-command", domain, "--hmp", command])


def bare(kind: str, names: Sequence[str], sizes: dict[str, int], threads: int = THREADS) -> float:
    place = world() / "bare-backups"
    place.mkdir(exist_ok=True)
    for old in place.glob(f"*.{kind}.qcow2"):
        old.unlink()
    program = [SYSTEM_PYTHON, HERE / "bare_backup.py", place, threads, kind, *names]
    answer = json.loads(run(list(map(str, program))).output.splitlines()[-1])
    sizes[kind] = answer["bytes"]
    return float(answer["seconds"])


def in_zstd(name: str) -> float:
    """A bare backup, compressed afterwards."""
    seconds = bare("full", [name], {})
    files = list((world() / "bare-backups").glob("*.full.qcow2"))
    return seconds + run(["zstd", "-q", "-f", "-T0", "--rm", *files]).seconds


def after(prepare: Callable[[], object], measured: Callable[[], float]) -> Callable[[], float]:
    def both() -> float:
        prepare()
        return measured()

    return both


def rows(rounds: int) -> Iterator[Row]:
    yield from _one(rounds)
    yield from _many(rounds)


def _one(rounds: int) -> Iterator[Row]:
    ours = BackedUp(2, DISK)
    tell(f"making 2 machines of {DISK} MiB")
    ours.begin()
    mine = ours.names[0]
    ours.names = [mine]
    first, second = domains()
    sizes: dict[str, int] = {}
    seed, again = [0], [0]
    stored: dict[str, int] = {}

    def incremental() -> float:
        seconds = ours.back_up()
        stored["incremental"] = ours.stored()
        return seconds

    def full(**variables: Any) -> float:
        seconds = ours.back_up(nebula_machine_backup_full=True, **variables)
        stored["full"] = ours.stored()
        return seconds

    def written(name: str, which: list[int]) -> Callable[[], None]:
        def prepare() -> None:
            write(name, which)
            fresh()

        return prepare

    turns = after_warm_up(
        rounds,
        {
            "a run without work": ours.idle,
            "full": after(fresh, full),
            "bare full": after(fresh, lambda: bare("full", [second], sizes)),
            "incremental": after(written(first, seed), incremental),
            "bare incremental": after(written(second, again), lambda: bare("incremental", [second], sizes)),
            "compressed": after(fresh, lambda: full(nebula_machine_backup_compress=True)),
            "bare and zstd": after(fresh, lambda: in_zstd(second)),
        },
    )
    idle = turns["a run without work"]
    what = f"a full backup of a running machine's {DISK} MiB"
    beside = "beside a bare backup job and a run without work"
    yield Row.at_most(f"{what}, {beside}", turns["full"], turns["bare full"] + idle, "s", FULL)
    name = f"an incremental one after {WRITTEN} MiB were written, {beside}"
    yield Row.at_most(name, turns["incremental"], turns["bare incremental"] + idle, "s", INCREMENTAL)
    name = "an incremental one, beside a full one, without a run that has no work"
    yield Row.at_most(name, turns["incremental"] - idle, turns["full"] - idle, "s", SHARE)
    yield Row.at_most("the same in bytes", stored["incremental"] / MIB, sizes["full"] / MIB, "MiB", SHARE)
    name = f"{what}, compressed, beside a bare backup job, zstd and a run without work"
    yield Row.fact(name, turns["compressed"], turns["bare and zstd"] + idle, "s")
    yield from _restored(rounds, ours, idle)


def _restored(rounds: int, ours: BackedUp, idle: float) -> Iterator[Row]:
    variables = dict(ours.variables)
    ours.variables["nebula_vms"] = [{**variables["nebula_vms"][0], "state": "poweroff", "hard": True}]
    playbook(CHECKOUT / "site.yml", ours.variables)
    ours.back_up(nebula_machine_backup_full=True)
    newest = max(ours.place.glob("*/*.disk.0.qcow2"), key=lambda each: each.stat().st_mtime)
    target = world() / "converted.qcow2"

    def convert() -> float:
        return run(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", newest, target]).seconds

    def checked() -> float:
        start = time.perf_counter()
        program = CHECKOUT / ".venv/bin/ansible-playbook"
        given = {**ours.variables, "vm": ours.names[0]}
        run([program, "--check", "-i", HERE / "inventory", RESTORE, "-e", json.dumps(given)], environment())
        return time.perf_counter() - start

    turns = after_warm_up(
        rounds,
        {"a run without work": checked, "restored": after(fresh, ours.restore), "converted": after(fresh, convert)},
    )
    peer = turns["converted"] + turns["a run without work"]
    name = f"{DISK} MiB restored in place, beside qemu-img convert and a run without work"
    yield Row.at_most(name, turns["restored"], peer, "s", RESTORED)
    ours.end_all()


def _many(rounds: int) -> Iterator[Row]:
    ours = BackedUp(MANY, SMALL)
    tell(f"making {MANY} machines of {SMALL} MiB")
    ours.begin()
    names = domains()
    turns = after_warm_up(
        rounds,
        {
            "a run without work": ours.idle,
            f"{MANY} machines": after(fresh, lambda: ours.back_up(nebula_machine_backup_full=True)),
            f"bare, {MANY} machines": after(fresh, lambda: bare("full", names, {})),
        },
    )
    peer = turns[f"bare, {MANY} machines"] + turns["a run without work"]
    name = f"{MANY} running machines of {SMALL} MiB backed up in one run, {THREADS} at once, beside bare backup jobs"
    yield Row.at_most(f"{name} and a run without work", turns[f"{MANY} machines"], peer, "s", MANY_AT_ONCE)
    ours.end_all()
