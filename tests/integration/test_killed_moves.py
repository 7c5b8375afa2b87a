# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module of either host of a move, or a program that it has started, is killed at one of its calls: before it
writes, renames, syncs, removes or connects. Afterwards at most one copy runs, and the next runs end the move with
nothing left of it.

NEBULA_MOVE_KILLS has so many kills for each host and way, spread over all of its calls; `all` has one at each."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from faults import IS_KILLED, Faults, library
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.defaults import MOVE_PORT
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import COLD, HAS_LEFT, LIVE, SOURCE, TARGET
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.tests.integration.fleet import (
    ROOT,
    Fleet,
    a_fleet,
    outcomes_of,
    without_locks,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

KILLS = os.environ.get("NEBULA_MOVE_KILLS", "12")
SEED = os.environ.get("TORTURE_SEED", "")
HOSTS = ("node1", "node2")
DATA = 1 << 20
# How many calls of its own each host has at least, or they are not seen.
LEAST = 20
# Seconds: what one host waits for the other one that was killed before, and where nobody is killed.
MEETING, LONG_MEETING = 8, 60
LIMIT = 240


def met_within(plan: Plan, seconds: int) -> Plan:
    vms = [replace(each, move=replace(each.move, meeting=seconds)) for each in plan.vms if each.move is not None]
    return replace(plan, vms=tuple(vms))


class Sweep:
    """A machine that moves to and fro."""

    def __init__(self, fleet: Fleet, way: str, role: str) -> None:
        self.fleet, self.way, self.role = fleet, way, role
        place = Path(os.environ["NEBULA_WORLD"])
        self.faults = Faults(ROOT, place)
        # Nodes have a /tmp of their own.
        self.library = shutil.copy(library(), place / "faults.so")
        for host in HOSTS:
            without_locks(fleet.hosts[host])
        vm = fleet.vm(1)
        self.vm = replace(vm, disks=(*vm.disks, Disk(1, "vdb", type="FS", size=DATA >> 20, format="raw", driver="raw")))
        self.where = HOSTS[0]
        fleet.bring(self.where, self.vm, wanted="POWEROFF")
        content = os.urandom(DATA)
        (fleet.directory(self.where, self.vm) / "disk.1").write_bytes(content)
        self.digest = hashlib.sha256(content).hexdigest()
        assert fleet.bring(self.where, self.vm)[0].error is None
        fleet.wait_for_boot(self.where, self.vm)

    def other(self) -> str:
        return next(host for host in HOSTS if host != self.where)

    def move(self, at: int) -> bool:
        """Move it, and kill at this call; 0 for none. Return whether the module was killed."""
        source, target = self.where, self.other()
        hit = source if self.role == SOURCE else target
        # However busy the machine is, nothing but the kill ends it.
        moves = self.fleet.moves(source, target, self.vm, way=self.way, hard=self.way == COLD, limit=LIMIT)
        plans = {host: met_within(plan, MEETING if at else LONG_MEETING) for host, plan in moves.items()}
        environment = self.faults.environment(at, IS_KILLED, connects=True)
        environment |= {"LD_PRELOAD": str(self.library), "PYTHONDONTWRITEBYTECODE": "1"}
        acting = self.fleet.act(plans, **{hit: environment})
        results = {host: each.result(2 * LIMIT) for host, each in acting.items()}
        # Where a program is hit that the module has started, the module says so itself.
        assert results[hit] is not None or self.faults.reached, at
        killed = self.faults.reached and results[hit] is None
        assert self.faults.processes() == []
        assert len(self.running()) < len(HOSTS), f"it runs twice after {self.faults.calls[-1]}"
        if results[source] is not None and not self.faults.reached:
            assert outcomes_of(results[source])[0].moved == HAS_LEFT, results
        self.where = self.fleet.settle(plans, self.vm)
        self.check()
        return killed

    def running(self) -> list[str]:
        """The hosts on which it does not stand still."""
        command = ("virsh", "list", "--name", "--state-running")
        return [host for host in HOSTS if "one-1" in self.fleet.hosts[host].run(*command).stdout.split()]

    def check(self) -> None:
        fleet, own = self.fleet, self.where
        assert self.running() == [own]
        left = fleet.hosts[self.other()]
        assert left.run("virsh", "list", "--all", "--name").stdout.split() == []
        for place in (f"{ROOT}/datastores/0", f"{ROOT}/moves"):
            found = left.path(place)
            assert not found.exists() or os.listdir(found) == [], (place, os.listdir(found), self.faults.calls[-4:])
        for node in fleet.hosts.values():
            assert node.run("ls", "-A", "/run/libvirt/nebula-moves", check=False).stdout == ""
            assert node.run("ss", "-Htln", f"sport = :{MOVE_PORT}").stdout == ""
        directory = fleet.directory(own, self.vm)
        assert not [name for name in os.listdir(directory) if name.startswith(".")]
        assert hashlib.sha256((directory / "disk.1").read_bytes()).hexdigest() == self.digest
        before = fleet.console(own, self.vm)
        wait_for(lambda: fleet.console(own, self.vm) != before, "the machine to go on")

    def points(self, count: int) -> Iterator[int]:
        """At which of so many calls it is killed: one in each of equal parts."""
        if KILLS == "all":
            yield from range(1, count + 1)
            return
        parts = min(int(KILLS), count)
        for part in range(parts):
            yield CHANCE.randint(part * count // parts + 1, (part + 1) * count // parts)


CHANCE = random.Random()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", [SOURCE, TARGET])
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_a_module_is_killed_at_each_call(way: str, role: str) -> None:
    seed = SEED or str(secrets.randbelow(1 << 24))
    CHANCE.seed(seed)
    print(f"TORTURE_SEED={seed} NEBULA_MOVE_KILLS={KILLS}", flush=True)
    with a_fleet() as fleet:
        sweep = Sweep(fleet, way, role)
        assert not sweep.move(0)
        count = len(sweep.faults.calls)
        assert count >= LEAST, sweep.faults.calls
        killed = 0
        points = list(sweep.points(count))
        for at in points:
            try:
                killed += sweep.move(at)
            except BaseException:
                print(f"killed at {at} of {count}: {sweep.faults.calls[-3:]}", flush=True)
                raise
        # A move has some calls more or less each time, and some are of programs that the module starts.
        assert killed >= len(points) // 2, (killed, points)
