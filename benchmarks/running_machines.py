# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of KVM that run are changed: a disk and a NIC for each in one run, beside bare calls of libvirt and a run
that has nothing to do; and all are restarted, so many at a time, beside a loop of a shell that verifies the same."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import MeasurementFailed, Row, run, take_turns, tell
from setting import CHECKOUT, HERE, SYSTEM_PYTHON, THREADS, Ours, PlaybookRun, expect_running, playbook, world

sys.path.insert(0, str(CHECKOUT / "collections"))

from ansible_collections.nebula.provision.tests.integration.guests import demo

FEW, MANY = 5, 20
# Of bare calls in the same parallelism and a run without work.
TIMES_BARE = 1.2
RESTARTED, BATCH = 10, 5
TIMES_LOOP = 1.2
BRIDGE = "nbr-bench"
NETWORK = {
    "name": "bench",
    "bridge": BRIDGE,
    "network_address": "10.66.0.0",
    "network_mask": "255.255.0.0",
    "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 1000}],
}
GUEST = """
CPU = 0.01
MEMORY = 128
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "guest", DEV_PREFIX = "vd" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""


class Changed(Ours):
    """Machines that halt at once, which get devices while they run."""

    def __init__(self) -> None:
        super().__init__()
        self.variables["nebula_networks"] = [NETWORK]

    def make(self, count: int) -> float:
        return self._run(count).seconds

    def again(self, count: int) -> float:
        """A run that has nothing to do."""
        done = self._run(count)
        _expect_changed(done, False)
        return done.seconds

    def attach(self, count: int) -> float:
        more = {"disks": [{"IMAGE": "halting", "DEV_PREFIX": "vd"}, {"TYPE": "fs", "SIZE": 8, "DEV_PREFIX": "vd"}]}
        done = self._run(count, nics=[{"NETWORK": "bench"}], **more)
        _expect_changed(done, True)
        for name in names(count):
            _expect_devices(name)
        return done.seconds

    def _run(self, count: int, **keys: Any) -> PlaybookRun:
        done = playbook(HERE / "machines.yml", {**self.variables, "nebula_vms": [{**self.wanted(count), **keys}]})
        expect_running("one-", count)
        return done


class Restarted(Ours):
    """Machines with a real guest, whose consoles say when they are up."""

    def __init__(self) -> None:
        super().__init__()
        image = {"name": "guest", "type": "OS", "path": str(demo.image()), "remote_src": True}
        self.variables |= {
            "nebula_images": [image],
            "nebula_templates": [{"name": "guest", "template": GUEST}],
            "nebula_verify": True,
            "nebula_verify_by": ["console"],
        }
        self.vcpu = 1

    def wanted(self, count: int) -> dict[str, Any]:
        return {"name": "bench-%i", "count": count, "template": "guest", "state": "running", "vcpu": self.vcpu}

    def rolling(self) -> float:
        """All get another number of processors, which comes with a start."""
        self.vcpu = 3 - self.vcpu
        wanted = {"nebula_vms": [self.wanted(RESTARTED)], "nebula_restart": "rolling", "nebula_restart_batch": BATCH}
        done = playbook(CHECKOUT / "site.yml", {**self.variables, **wanted})
        expect_running("one-", RESTARTED)
        for name in domains():
            told = run(["virsh", "-q", "-c", "qemu:///system", "vcpucount", name, "--live", "--current"]).output
            if int(told.split()[-1]) != self.vcpu:
                raise MeasurementFailed(f"{name} was to be restarted with {self.vcpu} processors, and has {told}")
        return done.seconds

    def loop(self) -> float:
        place = Path(self.variables["nebula_root"]) / "datastores" / "0"
        return run([HERE / "rolling_restart.sh", BATCH, place, *domains()]).seconds


def domains() -> list[str]:
    found = run(["virsh", "-q", "-c", "qemu:///system", "list", "--name"]).output.split()
    return sorted(name for name in found if name.startswith("one-"))


def names(count: int) -> list[str]:
    found = domains()
    if len(found) != count:
        raise MeasurementFailed(f"{count} machines were to run, {len(found)} do")
    return found


def bare(count: int, media: dict[int, list[float]]) -> float:
    """On machines that have all from role vm already: a disk and a NIC more. media: gets the seconds that other media
    in their CD-ROMs take besides."""
    directory = Path(tempfile.mkdtemp(prefix="attach-", dir=world()))
    directory.chmod(0o711)
    try:
        program = [SYSTEM_PYTHON, HERE / "bare_attach.py", directory / "disks", BRIDGE, THREADS, *names(count)]
        said = json.loads(run(list(map(str, program))).output.splitlines()[-1])
    finally:
        shutil.rmtree(directory)
    tell(f"bare calls, {count} machines: disk {said['disk'] * 1000:.0f} ms, NIC {said['nic'] * 1000:.0f} ms each")
    media[count].append(said["media"])
    return float(said["seconds"])


def _expect_changed(done: PlaybookRun, wanted: bool) -> None:
    if (done.changed > 0) is not wanted:
        raise MeasurementFailed(f"the run was to change {'something' if wanted else 'nothing'}:\n{done.output[-2000:]}")


def _expect_devices(name: str) -> None:
    text = run(["virsh", "-q", "-c", "qemu:///system", "dumpxml", name]).output
    if text.count("<interface ") != 1 or text.count("device='disk'") != 2:
        raise MeasurementFailed(f"{name} was to get a disk and a NIC while it runs:\n{text}")


def rows(rounds: int) -> Iterator[Row]:
    ours = Changed()
    tell("preparing the node: site.yml without machines")
    ours.site()
    times: dict[int, dict[str, float]] = {}
    media: dict[int, list[float]] = {FEW: [], MANY: []}
    for count in (FEW, MANY):
        # Guests that halt let nothing go, so machines are made anew for each round.
        times[count] = take_turns(
            rounds,
            {
                f"making {count} machines": lambda count=count: ours.make(count),
                f"a run without work, {count} machines": lambda count=count: ours.again(count),
                f"attaching, {count} machines": lambda count=count: ours.attach(count),
                f"bare calls, {count} machines": lambda count=count: bare(count, media),
                f"ending {count} machines": lambda: ours.end().seconds,
            },
        )
    for count in (FEW, MANY):
        found = times[count]
        peer = found[f"bare calls, {count} machines"] + found[f"a run without work, {count} machines"]
        name = f"a disk and a NIC for each of {count} running machines, beside bare calls and a run without work"
        yield Row.at_most(name, found[f"attaching, {count} machines"], peer, "s", TIMES_BARE)
        # A NIC changes what the context says: bare calls that leave the guest without its address do less.
        name += ", which change the medium of the context as well"
        with_media = peer + statistics.median(media[count])
        yield Row.at_most(name, found[f"attaching, {count} machines"], with_media, "s", TIMES_BARE)
    restarted = Restarted()
    tell(f"making {RESTARTED} machines with a guest")
    restarted.site(RESTARTED)
    turns = take_turns(rounds, {"rolling": restarted.rolling, "loop": restarted.loop})
    restarted.end()
    yield Row.at_most(
        f"{RESTARTED} machines restarted, {BATCH} at a time, beside a loop of a shell",
        turns["rolling"],
        turns["loop"],
        "s",
        TIMES_LOOP,
    )
